//! Link policy: section 7.2.

use super::{Cx, commands};
use crate::hci::wire::wire_struct;
use crate::link::Mode;
use crate::types::{BdAddr, ConnHandle, Role, Status};

commands! {
    0x0803 "Sniff Mode" (4, 2) Bredr begin(sniff);
    0x0804 "Exit Sniff Mode" (4, 3) Bredr begin(exit_sniff);
    0x0809 "Role Discovery" (4, 7) Bredr on_link(discover_role);
    0x080b "Switch Role" (5, 0) Bredr begin(switch_role);
    0x080c "Read Link Policy Settings" (5, 1) Bredr on_link(read_policy);
    0x080d "Write Link Policy Settings" (5, 2) Bredr on_link(write_policy);
    0x080e "Read Default Link Policy Settings" (5, 3) Bredr read(default_link_policy);
    0x080f "Write Default Link Policy Settings" (5, 4) Bredr write(default_link_policy);
}

wire_struct! {
    struct Sniff {
        handle: ConnHandle,
        max_interval_slots: u16,
        min_interval_slots: u16,
        attempt: u16,
        timeout: u16,
    }

    struct SwitchRole { addr: BdAddr, role: Role }
}

const ALLOW_ROLE_SWITCH: u16 = 1 << 0;
const ALLOW_SNIFF: u16 = 1 << 2;

/// 7.2.2: the longest interval that the host allows.
fn sniff(cx: &mut Cx<'_>, sniff: Sniff) -> Result<(), Status> {
    cx.peer(sniff.handle)?;
    let link = cx.link(sniff.handle)?;
    if link.policy & ALLOW_SNIFF == 0 || link.mode == Mode::Sniff {
        return Err(Status::COMMAND_DISALLOWED);
    }
    if sniff.min_interval_slots > sniff.max_interval_slots {
        return Err(Status::INVALID_PARAMETERS);
    }
    cx.air
        .change_mode(cx.id, sniff.handle, Mode::Sniff, sniff.max_interval_slots);
    Ok(())
}

/// 7.2.3
fn exit_sniff(cx: &mut Cx<'_>, handle: ConnHandle) -> Result<(), Status> {
    cx.peer(handle)?;
    if cx.link(handle)?.mode != Mode::Sniff {
        return Err(Status::COMMAND_DISALLOWED);
    }
    cx.air.change_mode(cx.id, handle, Mode::Active, 0);
    Ok(())
}

/// 7.2.7
fn discover_role(cx: &mut Cx<'_>, handle: ConnHandle, (): ()) -> Result<u8, Status> {
    cx.link(handle).map(|link| link.role as u8)
}

/// 7.2.8
fn switch_role(cx: &mut Cx<'_>, switch: SwitchRole) -> Result<(), Status> {
    let link = cx.me().link_to(switch.addr);
    let (handle, link) = link.ok_or(Status::UNKNOWN_CONNECTION)?;
    if link.policy & ALLOW_ROLE_SWITCH == 0 {
        return Err(Status::COMMAND_DISALLOWED);
    }
    if cx.me().role_to(switch.addr) != Some(switch.role) {
        cx.air.switch_roles(cx.id, handle);
    }
    Ok(())
}

/// 7.2.9
fn read_policy(cx: &mut Cx<'_>, handle: ConnHandle, (): ()) -> Result<u16, Status> {
    cx.link(handle).map(|link| link.policy)
}

/// 7.2.10
fn write_policy(cx: &mut Cx<'_>, handle: ConnHandle, policy: u16) -> Result<(), Status> {
    cx.link(handle).map(|link| link.policy = policy)
}
