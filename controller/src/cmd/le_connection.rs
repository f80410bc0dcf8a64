//! LE connections: section 7.8.

use super::le_scanning::PerPhy;
use super::{Cx, commands};
use crate::hci::le_event::ReadRemoteFeaturesComplete;
use crate::hci::wire::wire_struct;
use crate::le::connection::Initiator;
use crate::le::{ConnectionTiming, LeAddr, TimingWish};
use crate::types::{ConnHandle, LinkKind, Role, Status};

commands! {
    0x200d "LE Create Connection" (26, 4) Le begin(create);
    0x200e "LE Create Connection Cancel" (26, 5) Le complete(cancel);
    0x2013 "LE Connection Update" (27, 2) Le begin(update);
    0x2014 "LE Set Host Channel Classification" (27, 3) Le write(le_channels);
    0x2015 "LE Read Channel Map" (27, 4) Le on_link(read_channels);
    0x2016 "LE Read Remote Features" (27, 5) Le begin(read_remote_features);
    0x2022 "LE Set Data Length" (33, 6) Le on_link(set_data_length);
    0x2030 "LE Read PHY" (35, 4) Le on_link(read_phy);
    0x2032 "LE Set PHY" (35, 6) Le begin(set_phy);
    0x2043 "LE Extended Create Connection" (37, 7) LeExtended begin(create_extended);
}

wire_struct! {
    struct Timing {
        min_interval: u16,
        max_interval: u16,
        latency: u16,
        timeout: u16,
        min_event_length: u16,
        max_event_length: u16,
    }

    struct Create {
        scan_interval: u16,
        scan_window: u16,
        filter_policy: u8,
        peer: LeAddr,
        own_kind: u8,
        timing: Timing,
    }

    struct OnePhy { scan_interval: u16, scan_window: u16, timing: Timing }

    struct CreateExtended {
        filter_policy: u8,
        own_kind: u8,
        peer: LeAddr,
        phys: PerPhy<OnePhy>,
    }

    struct Phys { all: u8, tx: u8, rx: u8, options: u16 }

    #[derive(Default)]
    struct PhysInUse { tx: u8, rx: u8 }
}

impl Timing {
    fn settle(&self) -> Result<ConnectionTiming, Status> {
        let wish = TimingWish {
            min_interval: self.min_interval,
            max_interval: self.max_interval,
            latency: self.latency,
            timeout: self.timeout,
        };
        wish.settle().ok_or(Status::INVALID_PARAMETERS)
    }
}

/// An LE link by its handle.
fn check_le(cx: &mut Cx<'_>, handle: ConnHandle) -> Result<(), Status> {
    match cx.link(handle)?.kind {
        LinkKind::Le => Ok(()),
        _ => Err(Status::UNKNOWN_CONNECTION),
    }
}

/// 7.8.12
fn create(cx: &mut Cx<'_>, wanted: Create) -> Result<(), Status> {
    let timing = wanted.timing.settle()?;
    initiate(
        cx,
        wanted.filter_policy,
        wanted.peer,
        wanted.own_kind,
        timing,
    )
}

/// 7.8.66: the timing of the first PHY.
fn create_extended(cx: &mut Cx<'_>, wanted: CreateExtended) -> Result<(), Status> {
    let first = wanted.phys.0.first().ok_or(Status::INVALID_PARAMETERS)?;
    let timing = first.timing.settle()?;
    initiate(
        cx,
        wanted.filter_policy,
        wanted.peer,
        wanted.own_kind,
        timing,
    )
}

fn initiate(
    cx: &mut Cx<'_>,
    filter_policy: u8,
    peer: LeAddr,
    own_kind: u8,
    timing: ConnectionTiming,
) -> Result<(), Status> {
    if cx.me().initiator.is_some() {
        return Err(Status::COMMAND_DISALLOWED);
    }
    let peer = (filter_policy == 0).then_some(peer);
    if peer.is_some_and(|peer| cx.me().le_link_to(peer.addr).is_some()) {
        return Err(Status::CONNECTION_EXISTS);
    }
    cx.me().initiator = Some(Initiator {
        peer,
        own_kind,
        timing,
    });
    cx.air.try_connecting();
    Ok(())
}

/// 7.8.13
fn cancel(cx: &mut Cx<'_>, (): ()) -> Result<(), Status> {
    let initiator = cx.me().initiator.take();
    initiator.ok_or(Status::COMMAND_DISALLOWED)?;
    cx.air
        .le_connection_failed(cx.id, Status::UNKNOWN_CONNECTION);
    Ok(())
}

/// 7.8.18: the central's right; there is no connection parameters request procedure.
fn update(cx: &mut Cx<'_>, (handle, timing): (ConnHandle, Timing)) -> Result<(), Status> {
    check_le(cx, handle)?;
    let timing = timing.settle()?;
    cx.peer(handle)?;
    if cx.link(handle)?.role != Role::Central {
        return Err(Status::UNSUPPORTED_REMOTE_FEATURE);
    }
    cx.air.update_timing(cx.id, handle, timing);
    Ok(())
}

/// 7.8.20: all channels but those that this host has ruled out.
fn read_channels(cx: &mut Cx<'_>, handle: ConnHandle, (): ()) -> Result<[u8; 5], Status> {
    check_le(cx, handle)?;
    Ok(cx.settings().le_channels)
}

/// 7.8.21
fn read_remote_features(cx: &mut Cx<'_>, handle: ConnHandle) -> Result<(), Status> {
    check_le(cx, handle)?;
    let peer = cx.peer(handle)?;
    let event = ReadRemoteFeaturesComplete {
        status: Status::SUCCESS,
        handle,
        features: cx.air.get(peer).le_features(),
    };
    cx.air.le_event(cx.id, &event);
    Ok(())
}

/// 7.8.33
fn set_data_length(
    cx: &mut Cx<'_>,
    handle: ConnHandle,
    (bytes, time_us): (u16, u16),
) -> Result<(), Status> {
    check_le(cx, handle)?;
    if !(27..=251).contains(&bytes) || !(328..=17040).contains(&time_us) {
        return Err(Status::INVALID_PARAMETERS);
    }
    cx.air.set_data_length(cx.id, handle, bytes, time_us);
    Ok(())
}

/// 7.8.47
fn read_phy(cx: &mut Cx<'_>, handle: ConnHandle, (): ()) -> Result<PhysInUse, Status> {
    check_le(cx, handle)?;
    let le = cx.link(handle)?.le;
    Ok(PhysInUse {
        tx: le.tx_phy,
        rx: le.rx_phy,
    })
}

/// 7.8.49: 2M if the host prefers it, else 1M.
fn set_phy(cx: &mut Cx<'_>, (handle, wanted): (ConnHandle, Phys)) -> Result<(), Status> {
    check_le(cx, handle)?;
    cx.peer(handle)?;
    let choose = |any: bool, phys: u8| if !any && phys & 2 != 0 { 2 } else { 1 };
    let tx = choose(wanted.all & 1 != 0, wanted.tx);
    let rx = choose(wanted.all & 2 != 0, wanted.rx);
    cx.air.set_phys(cx.id, handle, tx, rx);
    Ok(())
}
