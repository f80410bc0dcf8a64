//! Connections: creating, accepting, refusing, ending. Section 7.1.

use super::{Cx, commands};
use crate::hci::event::ConnectionPacketTypeChanged;
use crate::hci::wire::wire_struct;
use crate::types::{BdAddr, ConnHandle, Role, Status};

commands! {
    0x0405 "Create Connection" (0, 4) Bredr begin(create);
    0x0406 "Disconnect" (0, 5) Nothing begin(disconnect);
    0x0408 "Create Connection Cancel" (0, 7) Bredr on_peer(cancel);
    0x0409 "Accept Connection Request" (1, 0) Bredr begin(accept);
    0x040a "Reject Connection Request" (1, 1) Bredr begin(reject);
    0x040f "Change Connection Packet Type" (1, 6) Bredr begin(change_packet_type);
}

wire_struct! {
    struct Create {
        addr: BdAddr,
        packet_types: u16,
        page_scan_repetition: u8,
        reserved: u8,
        clock_offset: u16,
        allow_role_switch: u8,
    }

    struct Disconnect { handle: ConnHandle, reason: Status }

    struct Accept { addr: BdAddr, role: Role }

    struct Reject { addr: BdAddr, reason: Status }

    struct ChangePacketType { handle: ConnHandle, packet_types: u16 }
}

/// 7.1.5
fn create(cx: &mut Cx<'_>, create: Create) -> Result<(), Status> {
    let me = cx.me();
    if me.link_to(create.addr).is_some() {
        return Err(Status::CONNECTION_EXISTS);
    }
    if me.pages.contains_key(&create.addr) || me.requests.contains_key(&create.addr) {
        return Err(Status::COMMAND_DISALLOWED);
    }
    cx.air
        .page(cx.id, create.addr, create.allow_role_switch != 0);
    Ok(())
}

/// 7.1.6
fn disconnect(cx: &mut Cx<'_>, disconnect: Disconnect) -> Result<(), Status> {
    let Disconnect { handle, reason } = disconnect;
    cx.link(handle)?;
    match reason {
        Status::AUTHENTICATION_FAILURE
        | Status::REMOTE_USER_TERMINATED
        | Status::REMOTE_LOW_RESOURCES
        | Status::REMOTE_POWER_OFF
        | Status::UNSUPPORTED_REMOTE_FEATURE
        | Status::UNIT_KEY_NOT_SUPPORTED
        | Status::UNACCEPTABLE_PARAMETERS => {
            cx.air.close(cx.id, handle, reason);
            Ok(())
        }
        _ => Err(Status::INVALID_PARAMETERS),
    }
}

/// 7.1.7: Connection Complete follows with the status that the specification gives.
fn cancel(cx: &mut Cx<'_>, addr: BdAddr, (): ()) -> Result<(), Status> {
    if cx.air.cancel_page(cx.id, addr) {
        let status = Status::UNKNOWN_CONNECTION;
        cx.air
            .connection_complete(cx.id, addr, status, ConnHandle::default());
        return Ok(());
    }
    match cx.me().link_to(addr) {
        Some(_) => Err(Status::CONNECTION_EXISTS),
        None => Err(Status::UNKNOWN_CONNECTION),
    }
}

/// 7.1.8
fn accept(cx: &mut Cx<'_>, accept: Accept) -> Result<(), Status> {
    if cx.me().sync_requests.contains_key(&accept.addr) {
        return cx.air.accept_sync(cx.id, accept.addr, None);
    }
    let there = cx.air.accept(cx.id, accept.addr, accept.role);
    there.then_some(()).ok_or(Status::UNKNOWN_CONNECTION)
}

/// 7.1.9
fn reject(cx: &mut Cx<'_>, reject: Reject) -> Result<(), Status> {
    check_rejection(reject.reason)?;
    let there = cx.air.reject(cx.id, reject.addr, reject.reason)
        || cx.air.reject_sync(cx.id, reject.addr, reject.reason);
    there.then_some(()).ok_or(Status::UNKNOWN_CONNECTION)
}

/// The reasons that a host may give for refusing a connection.
pub(super) fn check_rejection(reason: Status) -> Result<(), Status> {
    match reason {
        Status::REJECTED_LIMITED_RESOURCES
        | Status::REJECTED_SECURITY
        | Status::REJECTED_ADDRESS => Ok(()),
        _ => Err(Status::INVALID_PARAMETERS),
    }
}

/// 7.1.14
fn change_packet_type(cx: &mut Cx<'_>, change: ChangePacketType) -> Result<(), Status> {
    let ChangePacketType {
        handle,
        packet_types,
    } = change;
    cx.link(handle)?;
    let status = Status::SUCCESS;
    cx.air.event(
        cx.id,
        &ConnectionPacketTypeChanged {
            status,
            handle,
            packet_types,
        },
    );
    Ok(())
}
