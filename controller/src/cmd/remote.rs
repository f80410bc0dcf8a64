//! What a host asks about a peer: section 7.1.

use super::{Cx, commands, peer_addr};
use crate::hci::event::{
    ReadClockOffsetComplete, ReadRemoteExtendedFeaturesComplete,
    ReadRemoteSupportedFeaturesComplete, ReadRemoteVersionInformationComplete,
    RemoteHostSupportedFeaturesNotification,
};
use crate::hci::wire::wire_struct;
use crate::profile::Features;
use crate::types::{BdAddr, ConnHandle, Status};

commands! {
    0x0419 "Remote Name Request" (2, 3) Bredr begin(request_name);
    0x041a "Remote Name Request Cancel" (2, 4) Bredr on_peer(cancel_name);
    0x041b "Read Remote Supported Features" (2, 5) Bredr begin(read_features);
    0x041c "Read Remote Extended Features" (2, 6) Bredr begin(read_extended_features);
    0x041d "Read Remote Version Information" (2, 7) Nothing begin(read_version);
    0x041f "Read Clock Offset" (3, 0) Bredr begin(read_clock_offset);
}

wire_struct! {
    struct NameRequest {
        addr: BdAddr,
        page_scan_repetition: u8,
        reserved: u8,
        clock_offset: u16,
    }
}

/// 7.1.19: the peer's host features come first, if the name took a connection of its own (7.7.50).
fn request_name(cx: &mut Cx<'_>, request: NameRequest) -> Result<(), Status> {
    let addr = request.addr;
    if cx.me().names.contains_key(&addr) {
        return Err(Status::COMMAND_DISALLOWED);
    }
    if cx.me().link_to(addr).is_none()
        && let Some(peer) = cx.air.reachable(cx.id, addr)
    {
        let features = cx.air.get(peer).features().page(1).unwrap_or_default();
        cx.air.event(
            cx.id,
            &RemoteHostSupportedFeaturesNotification { addr, features },
        );
    }
    cx.air.ask_name(cx.id, addr);
    Ok(())
}

/// 7.1.20
fn cancel_name(cx: &mut Cx<'_>, addr: BdAddr, (): ()) -> Result<(), Status> {
    let there = cx
        .air
        .end_name_request(cx.id, addr, Status::UNKNOWN_CONNECTION);
    there.then_some(()).ok_or(Status::UNKNOWN_CONNECTION)
}

/// 7.1.21
fn read_features(cx: &mut Cx<'_>, handle: ConnHandle) -> Result<(), Status> {
    let peer = cx.peer(handle)?;
    let features = cx.air.get(peer).features().page(0).unwrap_or_default();
    let status = Status::SUCCESS;
    cx.air.event(
        cx.id,
        &ReadRemoteSupportedFeaturesComplete {
            status,
            handle,
            features,
        },
    );
    Ok(())
}

/// 7.1.22
fn read_extended_features(cx: &mut Cx<'_>, (handle, page): (ConnHandle, u8)) -> Result<(), Status> {
    let peer = cx.peer(handle)?;
    let features = cx
        .air
        .get(peer)
        .features()
        .page(page)
        .ok_or(Status::INVALID_PARAMETERS)?;
    let (status, max_page) = (Status::SUCCESS, Features::MAX_PAGE);
    let event = ReadRemoteExtendedFeaturesComplete {
        status,
        handle,
        page,
        max_page,
        features,
    };
    cx.air.event(cx.id, &event);
    Ok(())
}

/// 7.1.23
fn read_version(cx: &mut Cx<'_>, handle: ConnHandle) -> Result<(), Status> {
    let peer = cx.peer(handle)?;
    let version = cx.air.profile(peer).version;
    let event = ReadRemoteVersionInformationComplete {
        status: Status::SUCCESS,
        handle,
        version: version.core,
        company: version.company,
        subversion: version.lmp_subversion,
    };
    cx.air.event(cx.id, &event);
    Ok(())
}

/// 7.1.24: all controllers share one clock.
fn read_clock_offset(cx: &mut Cx<'_>, handle: ConnHandle) -> Result<(), Status> {
    peer_addr(cx, handle)?;
    let status = Status::SUCCESS;
    cx.air.event(
        cx.id,
        &ReadClockOffsetComplete {
            status,
            handle,
            offset: 0,
        },
    );
    Ok(())
}
