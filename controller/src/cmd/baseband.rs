//! Controller and baseband: section 7.3. Most of it is settings that the host writes and may read back.

use super::{Cx, commands};
use crate::hci::event::{LinkSupervisionTimeoutChanged, Name};
use crate::hci::wire::{Rest, wire_struct};
use crate::timers::{in_slots, slots};
use crate::types::{BdAddr, ConnHandle, PacketKind, Role, Status};

commands! {
    0x0c01 "Set Event Mask" (5, 6) Nothing write(event_mask);
    0x0c03 "Reset" (5, 7) Nothing complete(reset);
    0x0c05 "Set Event Filter" (6, 0) Bredr complete(set_event_filter);
    0x0c0d "Read Stored Link Key" (6, 5) Bredr complete(read_stored_link_key);
    0x0c12 "Delete Stored Link Key" (6, 7) Bredr complete(delete_stored_link_key);
    0x0c13 "Write Local Name" (7, 0) Bredr write(name);
    0x0c14 "Read Local Name" (7, 1) Bredr read(name);
    0x0c15 "Read Connection Accept Timeout" (7, 2) Bredr read(accept_timeout_slots);
    0x0c16 "Write Connection Accept Timeout" (7, 3) Bredr complete(write_accept_timeout);
    0x0c17 "Read Page Timeout" (7, 4) Bredr read(page_timeout_slots);
    0x0c18 "Write Page Timeout" (7, 5) Bredr complete(write_page_timeout);
    0x0c19 "Read Scan Enable" (7, 6) Bredr read(scan_enable);
    0x0c1a "Write Scan Enable" (7, 7) Bredr complete(write_scan_enable);
    0x0c1b "Read Page Scan Activity" (8, 0) Bredr read(page_scan);
    0x0c1c "Write Page Scan Activity" (8, 1) Bredr write(page_scan);
    0x0c1d "Read Inquiry Scan Activity" (8, 2) Bredr read(inquiry_scan);
    0x0c1e "Write Inquiry Scan Activity" (8, 3) Bredr write(inquiry_scan);
    0x0c1f "Read Authentication Enable" (8, 4) Bredr read(authentication_enable);
    0x0c20 "Write Authentication Enable" (8, 5) Bredr write(authentication_enable);
    0x0c23 "Read Class of Device" (9, 0) Bredr read(class);
    0x0c24 "Write Class of Device" (9, 1) Bredr write(class);
    0x0c25 "Read Voice Setting" (9, 2) Bredr read(voice_setting);
    0x0c26 "Write Voice Setting" (9, 3) Bredr write(voice_setting);
    0x0c2d "Read Transmit Power Level" (10, 2) Nothing on_link(read_transmit_power);
    0x0c2e "Read Synchronous Flow Control Enable" (10, 3) Sco read(sync_flow_control);
    0x0c2f "Write Synchronous Flow Control Enable" (10, 4) Sco complete(write_sync_flow_control);
    0x0c36 "Read Link Supervision Timeout" (11, 0) Bredr on_link(read_supervision_timeout);
    0x0c37 "Write Link Supervision Timeout" (11, 1) Bredr on_link(write_supervision_timeout);
    0x0c38 "Read Number Of Supported IAC" (11, 2) Bredr complete(read_number_of_codes);
    0x0c39 "Read Current IAC LAP" (11, 3) Bredr read(inquiry_codes);
    0x0c3a "Write Current IAC LAP" (11, 4) Bredr write(inquiry_codes);
    0x0c42 "Read Inquiry Scan Type" (12, 4) Bredr read(inquiry_scan_type);
    0x0c43 "Write Inquiry Scan Type" (12, 5) Bredr write(inquiry_scan_type);
    0x0c44 "Read Inquiry Mode" (12, 6) Bredr read(inquiry_mode);
    0x0c45 "Write Inquiry Mode" (12, 7) Bredr write(inquiry_mode);
    0x0c46 "Read Page Scan Type" (13, 0) Bredr read(page_scan_type);
    0x0c47 "Write Page Scan Type" (13, 1) Bredr write(page_scan_type);
    0x0c51 "Read Extended Inquiry Response" (17, 0) Bredr read(inquiry_response);
    0x0c52 "Write Extended Inquiry Response" (17, 1) Bredr write(inquiry_response);
    0x0c55 "Read Simple Pairing Mode" (17, 5) Bredr read(simple_pairing);
    0x0c56 "Write Simple Pairing Mode" (17, 6) Bredr write(simple_pairing);
    0x0c58 "Read Inquiry Response Transmit Power Level" (18, 0) Bredr read(inquiry_tx_power_dbm);
    0x0c59 "Write Inquiry Transmit Power Level" (18, 1) Bredr write(inquiry_tx_power_dbm);
    0x0c63 "Set Event Mask Page 2" (22, 2) Nothing write(event_mask_page_2);
    0x0c6c "Read LE Host Support" (24, 5) Le read(le_host);
    0x0c6d "Write LE Host Support" (24, 6) Le write(le_host);
    0x0c79 "Read Secure Connections Host Support" (32, 2) Bredr read(secure_connections);
    0x0c7a "Write Secure Connections Host Support" (32, 3) Bredr write(secure_connections);
}

wire_struct! {
    struct StoredLinkKey { addr: BdAddr, all: u8 }

    #[derive(Default)]
    struct StoredLinkKeys { max: u16, read: u16 }
}

/// 7.3.2: links end without a word; the host forgets them by itself.
fn reset(cx: &mut Cx<'_>, (): ()) -> Result<(), Status> {
    cx.air.reset(cx.id);
    Ok(())
}

/// 7.3.3: there are no filters but "none".
fn set_event_filter(_: &mut Cx<'_>, (kind, _): (u8, Rest)) -> Result<(), Status> {
    if kind == 0 {
        Ok(())
    } else {
        Err(Status::UNSUPPORTED)
    }
}

/// 7.3.8: this controller stores no keys.
fn read_stored_link_key(_: &mut Cx<'_>, _: StoredLinkKey) -> Result<StoredLinkKeys, Status> {
    Ok(StoredLinkKeys::default())
}

/// 7.3.10: and so has none to delete.
fn delete_stored_link_key(_: &mut Cx<'_>, _: StoredLinkKey) -> Result<u16, Status> {
    Ok(0)
}

/// 7.3.14: 0x0001–0xb540.
fn write_accept_timeout(cx: &mut Cx<'_>, slots: u16) -> Result<(), Status> {
    if !(0x0001..=0xb540).contains(&slots) {
        return Err(Status::INVALID_PARAMETERS);
    }
    cx.settings().accept_timeout_slots = slots;
    Ok(())
}

/// 7.3.16: 0x0001–0xffff.
fn write_page_timeout(cx: &mut Cx<'_>, slots: u16) -> Result<(), Status> {
    if slots == 0 {
        return Err(Status::INVALID_PARAMETERS);
    }
    cx.settings().page_timeout_slots = slots;
    Ok(())
}

/// 7.3.18: inquiry scan (bit 0), page scan (bit 1).
fn write_scan_enable(cx: &mut Cx<'_>, scans: u8) -> Result<(), Status> {
    if scans > 3 {
        return Err(Status::INVALID_PARAMETERS);
    }
    cx.settings().scan_enable = scans;
    cx.air.scan_changed(cx.id);
    Ok(())
}

/// 7.3.35: 0 dBm, current and maximum.
fn read_transmit_power(cx: &mut Cx<'_>, handle: ConnHandle, which: u8) -> Result<i8, Status> {
    cx.link(handle)?;
    if which > 1 {
        Err(Status::INVALID_PARAMETERS)
    } else {
        Ok(0)
    }
}

/// 7.3.37: not while there are synchronous links.
fn write_sync_flow_control(cx: &mut Cx<'_>, enable: u8) -> Result<(), Status> {
    if enable > 1 {
        return Err(Status::INVALID_PARAMETERS);
    }
    let mut links = cx.me().links.values();
    if links.any(|link| link.kind.packet_kind() == PacketKind::Sco) {
        return Err(Status::COMMAND_DISALLOWED);
    }
    cx.settings().sync_flow_control = enable;
    Ok(())
}

/// 7.3.41
fn read_supervision_timeout(cx: &mut Cx<'_>, handle: ConnHandle, (): ()) -> Result<u16, Status> {
    cx.link(handle)
        .map(|link| in_slots(link.supervision_timeout))
}

/// 7.3.42: the central sets it for both ends.
fn write_supervision_timeout(
    cx: &mut Cx<'_>,
    handle: ConnHandle,
    timeout_slots: u16,
) -> Result<(), Status> {
    let link = cx.link(handle)?;
    if link.role != Role::Central {
        return Err(Status::COMMAND_DISALLOWED);
    }
    link.supervision_timeout = slots(timeout_slots);
    let (peer, lost) = (link.peer, link.lost.is_some());
    if lost {
        return Ok(());
    }
    if let Some(link) = cx.air.get_mut(peer.controller).links.get_mut(&peer.handle) {
        link.supervision_timeout = slots(timeout_slots);
    }
    let event = LinkSupervisionTimeoutChanged {
        handle: peer.handle,
        timeout_slots,
    };
    cx.air.event(peer.controller, &event);
    Ok(())
}

/// 7.3.43
fn read_number_of_codes(_: &mut Cx<'_>, (): ()) -> Result<u8, Status> {
    Ok(2)
}

/// That a name is as long as the specification says.
const _: () = assert!(size_of::<Name>() == 248);
