//! The air: controllers that hear each other, their clock, and their boundary with the hosts.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::time::Duration;

use crate::buffers::{AckPolicy, Completed};
use crate::cmd;
use crate::faults::{Fault, FaultAction, Faults};
use crate::hci::event::{Event, HardwareError, LeMeta, NumberOfCompletedPackets, passes_mask};
use crate::hci::le_event::{LE_META, LeEvent, ScanTimeout, passes_le_mask};
use crate::hci::packet::{DataPacket, HostPacket, event_packet};
use crate::hci::wire::{Counted, Rest};
use crate::held::{Held, HeldPackets};
use crate::ledger::{CompletedLink, Detail, Direction, Entry, Ledger, PacketHead};
use crate::pairing::Pairings;
use crate::profile::Profile;
use crate::state::Controller;
use crate::timers::{Timer, Timers};
use crate::types::{BdAddr, ConnHandle, ControllerId, PacketKind, Status};

/// Sees every packet as it crosses the boundary, bytes and all.
pub trait Tap: Debug + Send {
    /// A packet, with its H4 indicator.
    fn packet(&mut self, id: ControllerId, direction: Direction, time: Duration, packet: &[u8]);

    /// Writes out what is buffered, and reports the first error there was.
    ///
    /// # Errors
    /// What went wrong since the last call.
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A packet on its way to a host.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    pub(crate) controller: ControllerId,
    pub(crate) kind: PacketKind,
    pub(crate) packet: Vec<u8>,
    pub(crate) detail: Detail,
    /// No fault strikes it (any more).
    pub(crate) exempt: bool,
}

/// Controllers within reach of each other.
///
/// Methods that take a [`ControllerId`] panic if it is another air's and out of range here.
#[derive(Debug, Default)]
pub struct Air {
    controllers: Vec<Controller>,
    pub(crate) now: Duration,
    pub(crate) timers: Timers,
    pub(crate) outbox: VecDeque<Outgoing>,
    pub(crate) faults: Faults,
    pub(crate) held: HeldPackets,
    pub(crate) pairings: Pairings,
    ledger: Ledger,
    tap: Option<Box<dyn Tap>>,
}

/// Spec: Core 5.4, Vol 4, Part E, 7.7.19: the event has 255 bytes for a count and 4 bytes a handle.
const HANDLES_PER_EVENT: usize = 63;
/// What follows a packet that a fault has made too long.
const FILLER: u8 = 0xa5;

impl Air {
    /// An empty air whose clock stands at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// An air whose ledger keeps no more than this many entries. Sums stay complete.
    pub fn with_ledger_limit(limit: usize) -> Self {
        Self {
            ledger: Ledger::with_limit(Some(limit)),
            ..Self::default()
        }
    }

    /// Adds a controller.
    pub fn add(&mut self, profile: Profile) -> ControllerId {
        let id = ControllerId(self.controllers.len());
        self.controllers.push(Controller::new(id, profile));
        id
    }

    /// The controllers, in the order they were added.
    pub fn ids(&self) -> impl Iterator<Item = ControllerId> + use<> {
        (0..self.controllers.len()).map(ControllerId)
    }

    /// What a controller is.
    pub fn profile(&self, id: ControllerId) -> &Profile {
        &self.get(id).profile
    }

    /// Takes one packet from a host: an H4 indicator and the packet, nothing more or less. Bytes that are no packet are ignored and
    /// counted.
    pub fn from_host(&mut self, id: ControllerId, packet: &[u8], now: Duration) {
        self.advance(now);
        if let Some(tap) = &mut self.tap {
            tap.packet(id, Direction::HostToController, self.now, packet);
        }
        let (kind, detail) = match HostPacket::parse(packet) {
            Ok(HostPacket::Command { opcode, parameters }) => (
                Some(PacketKind::Command),
                cmd::run(self, id, opcode, parameters),
            ),
            Ok(HostPacket::Acl(data)) => self.data(id, PacketKind::Acl, data),
            Ok(HostPacket::Sco(data)) => self.data(id, PacketKind::Sco, data),
            Ok(HostPacket::Iso(data)) => self.data(id, PacketKind::Iso, data),
            Err(_) => (None, Detail::Malformed),
        };
        self.ledger.write(Entry {
            time: self.now,
            controller: id,
            direction: Direction::HostToController,
            kind,
            length_bytes: packet.len().saturating_sub(1),
            head: PacketHead::of(packet.get(1..).unwrap_or_default()),
            detail,
        });
    }

    /// Takes note of a packet that a host sent and that got lost on the way: it has crossed the host's boundary, and never arrives.
    pub fn lost_from_host(&mut self, id: ControllerId, packet: &[u8], now: Duration) {
        self.advance(now);
        if let Some(tap) = &mut self.tap {
            tap.packet(id, Direction::HostToController, self.now, packet);
        }
        let (kind, detail) = match HostPacket::parse(packet) {
            Ok(HostPacket::Command { opcode, .. }) => (
                Some(PacketKind::Command),
                Detail::Command {
                    opcode,
                    known: opcode.name().is_some(),
                    dropped: true,
                },
            ),
            Ok(HostPacket::Acl(data)) => (
                Some(PacketKind::Acl),
                self.data_lost(id, PacketKind::Acl, data),
            ),
            Ok(HostPacket::Sco(data)) => (
                Some(PacketKind::Sco),
                self.data_lost(id, PacketKind::Sco, data),
            ),
            Ok(HostPacket::Iso(data)) => (
                Some(PacketKind::Iso),
                self.data_lost(id, PacketKind::Iso, data),
            ),
            Err(_) => (None, Detail::Malformed),
        };
        self.ledger.write(Entry {
            time: self.now,
            controller: id,
            direction: Direction::HostToController,
            kind,
            length_bytes: packet.len().saturating_sub(1),
            head: PacketHead::of(packet.get(1..).unwrap_or_default()),
            detail,
        });
    }

    fn data(
        &mut self,
        id: ControllerId,
        kind: PacketKind,
        packet: DataPacket<'_>,
    ) -> (Option<PacketKind>, Detail) {
        (Some(kind), self.data_from_host(id, kind, packet))
    }

    /// The next packet for a host, with its H4 indicator; to be called until it gives `None`. The packet has crossed with that.
    pub fn to_host(&mut self) -> Option<(ControllerId, Vec<u8>)> {
        loop {
            let next = self.outbox.pop_front()?;
            let Some(Outgoing {
                controller,
                kind,
                packet,
                detail,
                ..
            }) = self.spoil(next)
            else {
                continue;
            };
            let direction = Direction::ControllerToHost;
            if let Some(tap) = &mut self.tap {
                tap.packet(controller, direction, self.now, &packet);
            }
            self.ledger.write(Entry {
                time: self.now,
                controller,
                direction,
                kind: Some(kind),
                length_bytes: packet.len().saturating_sub(1),
                head: PacketHead::of(packet.get(1..).unwrap_or_default()),
                detail,
            });
            return Some((controller, packet));
        }
    }

    /// Lets a fault strike a packet for a host; `None` if it is not to cross now.
    fn spoil(&mut self, mut next: Outgoing) -> Option<Outgoing> {
        if std::mem::replace(&mut next.exempt, true) {
            return Some(next);
        }
        let direction = Direction::ControllerToHost;
        match self.faults.strike(next.controller, direction, next.kind) {
            Some(FaultAction::Drop) => return None,
            Some(FaultAction::Delay(time)) => {
                self.hold(time, Held::ToHost(next));
                return None;
            }
            Some(FaultAction::Duplicate) => self.outbox.push_front(next.clone()),
            Some(FaultAction::Truncate(bytes)) => next.packet.truncate(1 + usize::from(bytes)),
            Some(FaultAction::Extend(bytes)) => {
                let length = next.packet.len() + usize::from(bytes);
                next.packet.resize(length, FILLER);
            }
            Some(
                FaultAction::Error(_) | FaultAction::CommandCredits(_) | FaultAction::ExtraAcks(_),
            )
            | None => {}
        }
        Some(next)
    }

    /// When something is to happen next, if no host does anything.
    pub fn next_deadline(&self) -> Option<Duration> {
        let acks = self
            .controllers
            .iter()
            .filter_map(|controller| controller.buffers.next_due());
        acks.chain(self.timers.next()).min()
    }

    /// Lets time pass, to `now`; everything that is due by then happens, in order. A time in the past changes nothing.
    pub fn advance(&mut self, now: Duration) {
        while let Some(deadline) = self.next_deadline().filter(|deadline| *deadline <= now) {
            self.now = self.now.max(deadline);
            if let Some(timer) = self.timers.pop_due(self.now) {
                self.fire(timer);
            }
            self.ids().for_each(|id| self.complete_due(id));
        }
        self.now = self.now.max(now);
    }

    fn fire(&mut self, timer: Timer) {
        match timer {
            Timer::Page { pager, addr } => self.page_timeout(pager, addr),
            Timer::Accept { acceptor, addr } => {
                self.reject(acceptor, addr, Status::ACCEPT_TIMEOUT);
            }
            Timer::RemoteName { asker, addr } => {
                self.end_name_request(asker, addr, Status::PAGE_TIMEOUT);
            }
            Timer::AcceptSync { acceptor, addr } => {
                self.reject_sync(acceptor, addr, Status::ACCEPT_TIMEOUT);
            }
            Timer::AcceptCis { acceptor, handle } => self.cis_accept_timeout(acceptor, handle),
            Timer::Inquiry { id } => self.inquiry_timeout(id),
            Timer::Advertising { id, which } => self.advertising_timeout(id, which),
            Timer::ScanAgain { id } => self.scan_round(id),
            Timer::ScanEnds { id } => {
                self.stop_scan(id);
                self.le_event(id, &ScanTimeout { nothing: () });
            }
            Timer::Pairing { number } => self.pairing_timeout(number),
            Timer::Release { number } => self.release(number),
            Timer::Supervision { id, handle } => self.supervision_timeout(id, handle),
        }
    }

    /// Sets when a controller acknowledges data packets that are yet to come: on one link, or on all that have no policy of their own.
    /// Packets that are outstanding stay so until [`Air::flush_acks`] (or count in a batch).
    pub fn set_ack_policy(
        &mut self,
        id: ControllerId,
        link: Option<ConnHandle>,
        policy: AckPolicy,
    ) {
        self.get_mut(id).buffers.set_policy(link, policy);
    }

    /// Acknowledges everything that is outstanding, except on links whose policy is [`AckPolicy::Never`].
    pub fn flush_acks(&mut self, id: ControllerId) {
        let completed = self.get_mut(id).buffers.flush();
        self.completed_packets(id, &completed);
    }

    /// Acknowledges packets of a link that the host has not sent. Nothing happens without such a link.
    pub fn complete_extra(&mut self, id: ControllerId, handle: ConnHandle, packets: u16) {
        let controller = self.get(id);
        let Some(link) = controller.links.get(&handle) else {
            return;
        };
        let pool = controller.buffers.pool(link.kind);
        self.completed_packets(
            id,
            &[Completed {
                handle,
                pool,
                packets,
            }],
        );
    }

    /// Has something go wrong with a packet to come.
    pub fn add_fault(&mut self, fault: Fault) {
        self.faults.add(fault);
    }

    /// Sends Hardware Error, unless the host has masked it.
    pub fn hardware_error(&mut self, id: ControllerId, code: u8) {
        self.event(id, &HardwareError { code });
    }

    /// Sends any bytes to the host as if they were a packet (H4 indicator first; without a known one, they are nothing and stay here).
    pub fn inject(&mut self, id: ControllerId, packet: Vec<u8>) {
        let kind = packet.first().copied().and_then(PacketKind::from_indicator);
        let Some(kind) = kind else {
            return;
        };
        self.outbox.push_back(Outgoing {
            controller: id,
            kind,
            packet,
            detail: Detail::Injected,
            exempt: true,
        });
    }

    /// Cuts a link: both hosts notice when the supervision timeout has passed.
    pub fn lose_link(&mut self, id: ControllerId, handle: ConnHandle) {
        self.cut(id, handle);
    }

    /// The links of a controller: handle, peer.
    pub fn links(&self, id: ControllerId) -> impl Iterator<Item = (ConnHandle, BdAddr)> {
        self.get(id)
            .links
            .iter()
            .map(|(handle, link)| (*handle, link.peer.addr))
    }

    /// The time on the clock that the ledger's entries are stamped by.
    pub const fn now(&self) -> Duration {
        self.now
    }

    /// What has crossed so far.
    pub const fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What has crossed since the last call, and begins anew.
    pub fn take_ledger(&mut self) -> Ledger {
        self.ledger.take()
    }

    /// Shows every packet to `tap` from now on.
    pub fn set_tap(&mut self, tap: Box<dyn Tap>) {
        self.tap = Some(tap);
    }

    /// Gives the tap back.
    pub fn take_tap(&mut self) -> Option<Box<dyn Tap>> {
        self.tap.take()
    }

    pub(crate) fn get(&self, id: ControllerId) -> &Controller {
        self.controllers
            .get(id.0)
            .expect("an id is made by the air that it is used with")
    }

    pub(crate) fn get_mut(&mut self, id: ControllerId) -> &mut Controller {
        self.controllers
            .get_mut(id.0)
            .expect("an id is made by the air that it is used with")
    }

    /// Sends an event, unless the host has masked it.
    pub(crate) fn event<E: Event>(&mut self, to: ControllerId, event: &E) {
        let detail = Detail::Event {
            code: E::CODE,
            subevent: None,
            opcode: None,
            flushed: None,
        };
        self.event_with(to, event, detail);
    }

    /// Sends an LE Meta event, unless the host has masked it or this subevent.
    pub(crate) fn le_event<E: LeEvent>(&mut self, to: ControllerId, event: &E) {
        if !passes_le_mask(E::SUBEVENT, self.get(to).settings.le_event_mask) {
            return;
        }
        let mut parameters = Vec::new();
        event.encode(&mut parameters);
        let (subevent, parameters) = (E::SUBEVENT, Rest(parameters));
        let detail = Detail::Event {
            code: LE_META,
            subevent: Some(subevent),
            opcode: None,
            flushed: None,
        };
        let meta = LeMeta {
            subevent,
            parameters,
        };
        self.event_with(to, &meta, detail);
    }

    /// Sends an event, unless the host has masked it, and says in the ledger more about it than its code.
    pub(crate) fn event_with<E: Event>(&mut self, to: ControllerId, event: &E, detail: Detail) {
        if !passes_mask(E::CODE, self.get(to).settings.event_mask) {
            return;
        }
        let mut parameters = Vec::new();
        event.encode(&mut parameters);
        self.outbox.push_back(Outgoing {
            controller: to,
            kind: PacketKind::Event,
            packet: event_packet(E::CODE, &parameters),
            detail,
            exempt: false,
        });
    }

    /// Acknowledges what is due.
    pub(crate) fn complete_due(&mut self, id: ControllerId) {
        let now = self.now;
        let completed = self.get_mut(id).buffers.take_due(now);
        self.completed_packets(id, &completed);
    }

    /// Sends Number Of Completed Packets for buffers that have been freed.
    fn completed_packets(&mut self, id: ControllerId, completed: &[Completed]) {
        for chunk in completed.chunks(HANDLES_PER_EVENT) {
            let counts = chunk
                .iter()
                .map(|done| (done.handle, done.packets))
                .collect();
            let buffers = &self.get(id).buffers;
            let entry = |done: &Completed| CompletedLink {
                handle: done.handle,
                pool: done.pool,
                packets: done.packets,
                slots_after: buffers.free(done.pool),
            };
            let links = chunk.iter().map(entry).collect();
            let event = NumberOfCompletedPackets {
                completed: Counted(counts),
            };
            self.event_with(id, &event, Detail::Completed { links });
        }
    }
}
