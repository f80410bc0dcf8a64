//! The commands: a table from opcode to name, supported-commands bit, parameters, return parameters and handler.
//!
//! Each module holds the commands of one topic; a handler cites the section of Core 5.4, Vol 4, Part E that it follows.

mod baseband;
mod connection;
mod info;
mod inquiry;
mod iso;
mod le;
mod le_advertising;
mod le_connection;
mod le_scanning;
mod policy;
mod remote;
mod sco;
mod security;

use crate::air::Air;
use crate::faults::FaultAction;
use crate::hci::event::{CommandComplete, CommandStatus};
use crate::hci::wire::{Malformed, Reader, Rest, Wire};
use crate::held::Held;
use crate::ledger::{Detail, Direction};
use crate::link::Link;
use crate::profile::{LeFeatures, LmpFeature, Profile};
use crate::state::{Controller, Settings};
use crate::types::{BdAddr, ConnHandle, ControllerId, Opcode, PacketKind, Status};

/// One command.
pub(crate) struct Command {
    pub(crate) opcode: Opcode,
    /// The name in the specification, without `HCI_` and underscores.
    pub(crate) name: &'static str,
    /// Octet and bit in Supported Commands (6.27).
    supported: (u8, u8),
    needs: Needs,
    run: fn(&mut Cx<'_>, Reader<'_>) -> Reply,
}

/// Which controllers have a command.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Bredr,
    Sco,
    Esco,
    Le,
    LeExtended,
    LeEncryption,
    LeIso,
}

/// Who runs a command, and on what.
pub(crate) struct Cx<'a> {
    air: &'a mut Air,
    id: ControllerId,
    /// A fault has the command fail with this status before anything happens.
    refuse: Option<Status>,
}

/// How a command is answered.
enum Reply {
    /// Command Complete with these return parameters.
    Complete(Vec<u8>),
    /// Command Status; if it is success, events follow.
    Status(Status),
}

const TABLES: [&[Command]; 13] = [
    baseband::TABLE,
    connection::TABLE,
    info::TABLE,
    inquiry::TABLE,
    iso::TABLE,
    le::TABLE,
    le_advertising::TABLE,
    le_connection::TABLE,
    le_scanning::TABLE,
    policy::TABLE,
    remote::TABLE,
    sco::TABLE,
    security::TABLE,
];

fn all() -> impl Iterator<Item = &'static Command> {
    TABLES.into_iter().flatten()
}

/// The command with this number, if any controller has it.
pub(crate) fn find(opcode: Opcode) -> Option<&'static Command> {
    all().find(|command| command.opcode == opcode)
}

impl Command {
    fn is_in(&self, profile: &Profile) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Bredr => profile.has_bredr(),
            Needs::Sco => profile.has_bredr() && profile.features.has(LmpFeature::SCO_LINK),
            Needs::Esco => profile.has_bredr() && profile.features.has(LmpFeature::EXTENDED_SCO),
            Needs::Le => profile.has_le(),
            Needs::LeExtended => profile.has_le_feature(LeFeatures::EXTENDED_ADVERTISING),
            Needs::LeIso => {
                profile.has_le_feature(LeFeatures::CIS_CENTRAL)
                    || profile.has_le_feature(LeFeatures::CIS_PERIPHERAL)
            }
            Needs::LeEncryption => profile.has_le_feature(LeFeatures::ENCRYPTION),
        }
    }
}

/// Octet and bit of every command that a controller with this profile has.
fn supported(profile: &Profile) -> impl Iterator<Item = (u8, u8)> {
    all()
        .filter(|command| command.is_in(profile))
        .map(|command| command.supported)
}

/// Runs a command, sends the answer and the events, and says what it was.
pub(crate) fn run(air: &mut Air, id: ControllerId, opcode: Opcode, parameters: &[u8]) -> Detail {
    let command = find(opcode).filter(|command| command.is_in(air.profile(id)));
    let known = command.is_some();
    let struck = air
        .faults
        .strike(id, Direction::HostToController, PacketKind::Command);
    let dropped = struck == Some(FaultAction::Drop);
    match struck {
        Some(FaultAction::Drop) => {}
        Some(FaultAction::Delay(time)) => {
            let parameters = parameters.to_vec();
            let command = Held::Command {
                id,
                opcode,
                parameters,
            };
            air.hold(time, command);
        }
        other => carry_out(air, id, opcode, parameters, other),
    }
    Detail::Command {
        opcode,
        known,
        dropped,
    }
}

/// Does what a command wants, and sends the answer and the events; a fault may make it fail or be answered twice.
pub(crate) fn carry_out(
    air: &mut Air,
    id: ControllerId,
    opcode: Opcode,
    parameters: &[u8],
    fault: Option<FaultAction>,
) {
    let command = find(opcode).filter(|command| command.is_in(air.profile(id)));
    let refuse = match fault {
        Some(FaultAction::Error(status)) => Some(status),
        _ => None,
    };
    let first_event = air.outbox.len();
    let cx = &mut Cx { air, id, refuse };
    let reply = match command {
        Some(command) => (command.run)(cx, Reader::new(parameters)),
        None => Reply::Status(refuse.unwrap_or(Status::UNKNOWN_COMMAND)),
    };
    answer(air, id, opcode, reply, first_event, fault);
}

/// Sends the answer, ahead of the events that the command has set off.
fn answer(
    air: &mut Air,
    id: ControllerId,
    opcode: Opcode,
    reply: Reply,
    first_event: usize,
    fault: Option<FaultAction>,
) {
    let events = air.outbox.split_off(first_event);
    let commands = match fault {
        Some(FaultAction::CommandCredits(commands)) => commands,
        _ => 1,
    };
    let (subevent, opcode_of) = (None, Some(opcode));
    match reply {
        Reply::Complete(returned) => {
            let detail = Detail::Event {
                code: 0x0e,
                subevent,
                opcode: opcode_of,
                flushed: None,
            };
            let event = CommandComplete {
                commands,
                opcode,
                returned: Rest(returned),
            };
            air.event_with(id, &event, detail);
        }
        Reply::Status(status) => {
            let detail = Detail::Event {
                code: 0x0f,
                subevent,
                opcode: opcode_of,
                flushed: None,
            };
            air.event_with(
                id,
                &CommandStatus {
                    status,
                    commands,
                    opcode,
                },
                detail,
            );
        }
    }
    let twice = fault == Some(FaultAction::Duplicate);
    let again = air.outbox.back().filter(|_| twice).cloned();
    air.outbox.extend(again);
    air.outbox.extend(events);
}

impl Cx<'_> {
    fn me(&mut self) -> &mut Controller {
        self.air.get_mut(self.id)
    }

    fn settings(&mut self) -> &mut Settings {
        &mut self.me().settings
    }

    fn profile(&self) -> &Profile {
        self.air.profile(self.id)
    }

    fn link(&mut self, handle: ConnHandle) -> Result<&mut Link, Status> {
        self.me()
            .links
            .get_mut(&handle)
            .ok_or(Status::UNKNOWN_CONNECTION)
    }

    /// The controller at the other end, if it is still there.
    fn peer(&mut self, handle: ConnHandle) -> Result<ControllerId, Status> {
        let link = self.link(handle)?;
        match link.lost {
            None => Ok(link.peer.controller),
            Some(_) => Err(Status::LMP_TIMEOUT),
        }
    }
}

/// A command that is answered with a status and `R`.
fn complete<P: Wire, R: Wire + Default>(
    cx: &mut Cx<'_>,
    r: Reader<'_>,
    handler: impl FnOnce(&mut Cx<'_>, P) -> Result<R, Status>,
) -> Reply {
    let result = match (cx.refuse, P::decode_all(r)) {
        (Some(status), _) => Err(status),
        (None, Ok(parameters)) => handler(cx, parameters),
        (None, Err(Malformed)) => Err(Status::INVALID_PARAMETERS),
    };
    complete_with(&(), result)
}

/// A command whose first parameter comes back after the status: a handle or an address.
fn echo<K: Wire + Default + Copy, P: Wire, R: Wire + Default>(
    cx: &mut Cx<'_>,
    r: Reader<'_>,
    handler: impl FnOnce(&mut Cx<'_>, K, P) -> Result<R, Status>,
) -> Reply {
    match <(K, P)>::decode_all(r) {
        Ok((key, parameters)) => {
            let result = match cx.refuse {
                Some(status) => Err(status),
                None => handler(cx, key, parameters),
            };
            complete_with(&key, result)
        }
        Err(Malformed) => complete_with(&K::default(), Err::<R, _>(Status::INVALID_PARAMETERS)),
    }
}

/// Status, key and return parameters; the latter are zero after an error.
fn complete_with<R: Wire + Default>(key: &impl Wire, result: Result<R, Status>) -> Reply {
    let (status, returned) = match result {
        Ok(returned) => (Status::SUCCESS, returned),
        Err(status) => (status, R::default()),
    };
    let mut bytes = Vec::new();
    status.encode(&mut bytes);
    key.encode(&mut bytes);
    returned.encode(&mut bytes);
    Reply::Complete(bytes)
}

/// A command that is answered with Command Status, and with events of its own later.
fn begin<P: Wire>(
    cx: &mut Cx<'_>,
    r: Reader<'_>,
    handler: impl FnOnce(&mut Cx<'_>, P) -> Result<(), Status>,
) -> Reply {
    let result = match (cx.refuse, P::decode_all(r)) {
        (Some(status), _) => Err(status),
        (None, Ok(parameters)) => handler(cx, parameters),
        (None, Err(Malformed)) => Err(Status::INVALID_PARAMETERS),
    };
    Reply::Status(result.err().unwrap_or(Status::SUCCESS))
}

/// The rows of a table: `opcode "name" (octet, bit) needs form(handler)`. Forms:
/// `complete(f)`, `f(cx, parameters) -> Result<returned, Status>`;
/// `on_link(f)`, `on_peer(f)`, `on_number(f)`, the same with a handle, an address or a byte that comes back after the status;
/// `begin(f)`, `f(cx, parameters) -> Result<(), Status>`, answered with Command Status;
/// `read(x)` and `write(x)`, a field of the settings.
macro_rules! commands {
    ($($opcode:literal $name:literal ($octet:literal, $bit:literal) $needs:ident $form:ident($what:ident);)*) => {
        pub(super) const TABLE: &[$crate::cmd::Command] = &[$($crate::cmd::Command {
            opcode: $crate::types::Opcode($opcode),
            name: $name,
            supported: ($octet, $bit),
            needs: $crate::cmd::Needs::$needs,
            run: $crate::cmd::commands!(@ $form $what),
        }),*];
    };
    (@ complete $f:ident) => { |cx, r| $crate::cmd::complete(cx, r, $f) };
    (@ begin $f:ident) => { |cx, r| $crate::cmd::begin(cx, r, $f) };
    (@ on_link $f:ident) => {
        |cx, r| $crate::cmd::echo::<$crate::types::ConnHandle, _, _>(cx, r, $f)
    };
    (@ on_peer $f:ident) => {
        |cx, r| $crate::cmd::echo::<$crate::types::BdAddr, _, _>(cx, r, $f)
    };
    (@ on_number $f:ident) => { |cx, r| $crate::cmd::echo::<u8, _, _>(cx, r, $f) };
    (@ read $field:ident) => {
        |cx, r| $crate::cmd::complete(cx, r, |cx, ()| Ok(cx.settings().$field.clone()))
    };
    (@ write $field:ident) => {
        |cx, r| $crate::cmd::complete(cx, r, |cx, value| {
            cx.settings().$field = value;
            Ok(())
        })
    };
}

pub(crate) use commands;

/// The address of a link's peer, for events that name it.
fn peer_addr(cx: &mut Cx<'_>, handle: ConnHandle) -> Result<BdAddr, Status> {
    cx.link(handle).map(|link| link.peer.addr)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Check that no two commands share a number or a supported-commands bit.
    #[test]
    fn tables_have_no_duplicates() {
        let opcodes: HashSet<_> = all().map(|command| command.opcode).collect();
        let bits: HashSet<_> = all().map(|command| command.supported).collect();
        assert_eq!((opcodes.len(), bits.len()), (all().count(), all().count()));
        assert!(all().all(|command| command.supported.0 < 64 && command.supported.1 < 8));
    }
}
