//! Misbehaviour on demand, as data.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ledger::Direction;
use crate::types::{ControllerId, PacketKind, Status};

/// What goes wrong. An action that makes no sense for a packet leaves it unharmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FaultAction {
    /// The packet is lost inside the controller. From the host: it crosses the boundary, holds a buffer and is acknowledged, but goes
    /// nowhere (a command is never answered). To the host: it never crosses.
    Drop,
    /// The packet is held back for this long while others overtake it. From the host: it crosses, and is acknowledged as ever, but
    /// reaches the peer later (a command is carried out and answered later). To the host: it crosses later.
    Delay(Duration),
    /// From the host: data reaches the peer twice; a command is carried out once and answered twice. To the host: it crosses twice.
    Duplicate,
    /// A command is not carried out, and is answered with this status.
    Error(Status),
    /// A command is carried out, but its answer says that the host may send so many more commands. 0: none, until an event says otherwise.
    CommandCredits(u8),
    /// Data from the host is acknowledged this many times more than once.
    ExtraAcks(u16),
    /// A packet to the host is cut off after this many bytes (H4 indicator not counted). Its header still announces all of them.
    Truncate(u16),
    /// A packet to the host is followed by this many bytes that its header does not announce.
    Extend(u16),
}

/// One packet that something happens to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The controller that misbehaves.
    pub controller: ControllerId,
    /// Which way the packet goes.
    pub direction: Direction,
    /// Which packets count.
    pub kind: PacketKind,
    /// How many such packets pass unharmed first, from when the fault is set.
    pub after: u64,
    /// What happens to the next one.
    pub action: FaultAction,
}

/// The faults that have yet to happen.
#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) {
        self.0.push(fault);
    }

    /// Counts a packet, and says what happens to it.
    pub(crate) fn strike(
        &mut self,
        controller: ControllerId,
        direction: Direction,
        kind: PacketKind,
    ) -> Option<FaultAction> {
        let meant =
            |f: &Fault| (f.controller, f.direction, f.kind) == (controller, direction, kind);
        let struck = self
            .0
            .iter()
            .position(|fault| meant(fault) && fault.after == 0);
        let struck = struck.map(|at| self.0.remove(at).action);
        let waiting = self
            .0
            .iter_mut()
            .filter(|fault| meant(fault) && fault.after > 0);
        waiting.for_each(|fault| fault.after -= 1);
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a fault hits the packet it is meant for, once, and no other kind or direction.
    #[test]
    fn strike_hits_the_packet_after_the_given_number() {
        let id = ControllerId(0);
        let (direction, kind) = (Direction::HostToController, PacketKind::Acl);
        let action = FaultAction::Drop;
        let mut faults = Faults::default();
        faults.add(Fault {
            controller: id,
            direction,
            kind,
            after: 2,
            action,
        });
        let other = Direction::ControllerToHost;
        assert_eq!(faults.strike(id, other, kind), None);
        assert_eq!(faults.strike(ControllerId(1), direction, kind), None);
        let hits: Vec<bool> = (0..5)
            .map(|_| faults.strike(id, direction, kind).is_some())
            .collect();
        assert_eq!(hits, [false, false, true, false, false]);
    }
}
