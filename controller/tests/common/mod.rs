//! A host in bytes: what tests send to controllers and take from them.

#![allow(dead_code, reason = "each test file uses a part of it")]

pub(crate) mod readers;

use std::time::Duration;

use bt_hci::FromHciBytes as _;
use bt_hci::event::{Event, EventPacket};
use controller::{Air, BdAddr, ConnHandle, ControllerId, PacketKind, Profile};

pub(crate) const EVENT: u8 = 0x04;
pub(crate) const SUCCESS: u8 = 0;

/// Two controllers of one air, and the hosts that they serve.
pub(crate) struct Pair {
    pub(crate) air: Air,
    pub(crate) a: ControllerId,
    pub(crate) b: ControllerId,
    pub(crate) now: Duration,
}

pub(crate) fn addr(last: u8) -> BdAddr {
    BdAddr::from_wire([last, 0x53, 0x00, 0x5e, 0x00, 0x00])
}

/// Whether somebody else's parser reads an event (without its H4 indicator) to the last byte.
pub(crate) fn second_opinion(event: &[u8]) -> bool {
    let event = EventPacket::from_hci_bytes_complete(event).map(Event::try_from);
    matches!(event, Ok(Ok(_)))
}

/// Packets that a fault has broken are not asked about.
fn ask_second_opinion(packet: &[u8]) {
    if let [EVENT, event @ ..] = packet
        && let [_, length, parameters @ ..] = event
        && usize::from(*length) == parameters.len()
    {
        assert!(second_opinion(event), "{packet:02x?}");
    }
}

impl Pair {
    /// Two controllers with the same profile but for the address; the second hears pages.
    pub(crate) fn new(change: impl Fn(&mut Profile)) -> Self {
        let mut air = Air::new();
        let [a, b] = [1, 2].map(|last| {
            let mut profile = Profile::dual_mode(addr(last));
            change(&mut profile);
            air.add(profile)
        });
        let mut pair = Self {
            air,
            a,
            b,
            now: Duration::ZERO,
        };
        for id in [a, b] {
            pair.command(id, 0x0c03, &[]);
            pair.command(id, 0x0c01, &[0xff; 8]);
        }
        pair.command(b, 0x0c1a, &[2]);
        pair.sent();
        pair.air.take_ledger();
        pair
    }

    pub(crate) fn command(&mut self, id: ControllerId, opcode: u16, parameters: &[u8]) {
        let [low, high] = opcode.to_le_bytes();
        let length = u8::try_from(parameters.len()).unwrap();
        let packet = [&[1, low, high, length], parameters].concat();
        self.air.from_host(id, &packet, self.now);
    }

    pub(crate) fn acl(&mut self, id: ControllerId, handle: ConnHandle, flags: u8, payload: &[u8]) {
        let [low, high] = (handle.get() | u16::from(flags) << 12).to_le_bytes();
        let [length_low, length_high] = u16::try_from(payload.len()).unwrap().to_le_bytes();
        let header = [
            PacketKind::Acl.indicator(),
            low,
            high,
            length_low,
            length_high,
        ];
        self.air
            .from_host(id, &[&header, payload].concat(), self.now);
    }

    /// Lets time pass.
    pub(crate) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.air.advance(self.now);
    }

    /// Everything that has gone to the hosts.
    pub(crate) fn sent(&mut self) -> Vec<(ControllerId, Vec<u8>)> {
        let sent: Vec<_> = std::iter::from_fn(|| self.air.to_host()).collect();
        sent.iter()
            .for_each(|(_, packet)| ask_second_opinion(packet));
        sent
    }

    /// The events of one code that have gone to one host: their parameters.
    pub(crate) fn events(&mut self, id: ControllerId, code: u8) -> Vec<Vec<u8>> {
        let sent = self.sent().into_iter();
        let events = sent.filter(|(to, packet)| *to == id && packet.starts_with(&[EVENT, code]));
        events
            .map(|(_, packet)| packet.into_iter().skip(3).collect())
            .collect()
    }

    /// Has A page B and B accept, and gives both handles. Nothing of it is left in the outbox or the ledger.
    pub(crate) fn connect(&mut self) -> (ConnHandle, ConnHandle) {
        self.create_connection();
        self.accept();
        self.sent();
        self.air.take_ledger();
        self.handles()
    }

    /// The handles of the first link at both ends.
    pub(crate) fn handles(&self) -> (ConnHandle, ConnHandle) {
        let [a, b] = [self.a, self.b].map(|id| self.air.links(id).next().unwrap().0);
        (a, b)
    }

    pub(crate) fn create_connection(&mut self) {
        let rest = [0x18, 0xcc, 0x02, 0x00, 0x00, 0x00, 0x01];
        self.command(self.a, 0x0405, &[&addr(2).to_wire()[..], &rest].concat());
    }

    pub(crate) fn accept(&mut self) {
        self.command(self.b, 0x0409, &[&addr(1).to_wire()[..], &[1]].concat());
    }

    pub(crate) fn disconnect(&mut self, id: ControllerId, handle: ConnHandle, reason: u8) {
        let [low, high] = handle.get().to_le_bytes();
        self.command(id, 0x0406, &[low, high, reason]);
    }
}
