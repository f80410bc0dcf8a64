//! Packets that a fault holds back.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::air::{Air, Outgoing};
use crate::cmd;
use crate::hci::packet::DataPacket;
use crate::timers::Timer;
use crate::types::{ConnHandle, ControllerId, Opcode, PacketKind};

/// A packet that is held back, and what it is to do when its time has come.
#[derive(Debug)]
pub(crate) enum Held {
    /// A command, to be carried out.
    Command {
        id: ControllerId,
        opcode: Opcode,
        parameters: Vec<u8>,
    },
    /// Data, to be passed on.
    Data(HeldData),
    /// A packet for a host.
    ToHost(Outgoing),
}

/// A data packet with its own bytes.
#[derive(Debug)]
pub(crate) struct HeldData {
    id: ControllerId,
    kind: PacketKind,
    handle: ConnHandle,
    flags: u8,
    payload: Vec<u8>,
}

impl HeldData {
    pub(crate) fn new(id: ControllerId, kind: PacketKind, packet: DataPacket<'_>) -> Self {
        let DataPacket {
            handle,
            flags,
            payload,
        } = packet;
        Self {
            id,
            kind,
            handle,
            flags,
            payload: payload.to_vec(),
        }
    }
}

/// Everything that is held back, by number.
#[derive(Debug, Default)]
pub(crate) struct HeldPackets {
    held: BTreeMap<u64, Held>,
    last: u64,
}

impl Air {
    /// Holds a packet back for a time.
    pub(crate) fn hold(&mut self, time: Duration, packet: Held) {
        self.held.last += 1;
        let number = self.held.last;
        self.held.held.insert(number, packet);
        let at = self.now.saturating_add(time);
        self.timers.set(at, Timer::Release { number });
    }

    /// The time of a held packet has come.
    pub(crate) fn release(&mut self, number: u64) {
        match self.held.held.remove(&number) {
            Some(Held::Command {
                id,
                opcode,
                parameters,
            }) => cmd::carry_out(self, id, opcode, &parameters, None),
            Some(Held::Data(held)) => {
                let HeldData {
                    id,
                    kind,
                    handle,
                    flags,
                    payload,
                } = held;
                let payload = &payload;
                let packet = DataPacket {
                    handle,
                    flags,
                    payload,
                };
                self.forward(id, kind, packet);
            }
            Some(Held::ToHost(packet)) => self.outbox.push_back(packet),
            None => {}
        }
    }
}
