//! Isochronous channels: section 7.8.

use super::{Cx, commands};
use crate::hci::wire::{Counted, wire_struct};
use crate::le::iso::{CigTiming, Cis};
use crate::types::{ConnHandle, LinkKind, PacketKind, Role, Status};

commands! {
    0x2060 "LE Read Buffer Size [v2]" (41, 5) LeIso complete(read_buffer_size);
    0x2062 "LE Set CIG Parameters" (41, 7) LeIso on_number(set_cig);
    0x2064 "LE Create CIS" (42, 1) LeIso begin(create);
    0x2065 "LE Remove CIG" (42, 2) LeIso on_number(remove_cig);
    0x2066 "LE Accept CIS Request" (42, 3) LeIso begin(accept);
    0x2067 "LE Reject CIS Request" (42, 4) LeIso on_link(reject);
    0x206e "LE Setup ISO Data Path" (43, 3) LeIso on_link(set_up_path);
    0x206f "LE Remove ISO Data Path" (43, 4) LeIso on_link(remove_path);
    0x2074 "LE Set Host Feature" (44, 1) LeIso complete(set_host_feature);
}

wire_struct! {
    #[derive(Default)]
    struct BufferSizes { le_mtu: u16, le_packets: u8, iso_mtu: u16, iso_packets: u8 }

    /// One stream of Set CIG Parameters.
    struct Stream {
        cis_id: u8,
        sdu_to_peripheral_bytes: u16,
        sdu_to_central_bytes: u16,
        phys_to_peripheral: u8,
        phys_to_central: u8,
        retransmissions_to_peripheral: u8,
        retransmissions_to_central: u8,
    }

    /// Set CIG Parameters, after the group's number.
    struct Parameters {
        sdu_interval_to_peripheral_us: [u8; 3],
        sdu_interval_to_central_us: [u8; 3],
        clock_accuracy: u8,
        packing: u8,
        framing: u8,
        latency_to_peripheral_ms: u16,
        latency_to_central_ms: u16,
        streams: Counted<Stream>,
    }

    struct Wanted { cis: ConnHandle, acl: ConnHandle }

    /// Setup ISO Data Path, after the handle.
    struct Path {
        direction: u8,
        id: u8,
        coding: [u8; 5],
        delay_us: [u8; 3],
        configuration: Counted<u8>,
    }
}

/// Groups have numbers up to this one, and streams too.
const MAX_ID: u8 = 0xef;
/// Streams that one group may have.
const MAX_STREAMS: usize = 0x1f;
/// Data path through HCI.
const PATH_HCI: u8 = 0x00;
const FROM_HOST: u8 = 0;
const TO_HOST: u8 = 1;
/// The number of the feature bit that the host sets for connected isochronous streams.
const ISO_HOST_BIT: u8 = 32;

/// 7.8.2
fn read_buffer_size(cx: &mut Cx<'_>, (): ()) -> Result<BufferSizes, Status> {
    let profile = cx.profile();
    let packets = |packets: u16| u8::try_from(packets).unwrap_or(u8::MAX);
    Ok(BufferSizes {
        le_mtu: profile.le.mtu,
        le_packets: packets(profile.le.packets),
        iso_mtu: profile.iso.mtu,
        iso_packets: packets(profile.iso.packets),
    })
}

/// A stream that the host has asked for is not on the air: it is neither connected nor asked of the peer.
fn is_idle(cx: &mut Cx<'_>, handle: ConnHandle) -> bool {
    let id = cx.id;
    let connected = cx.me().links.contains_key(&handle);
    !connected && !cx.air.cis_is_pending(id, handle)
}

fn all_idle(cx: &mut Cx<'_>, cig_id: u8) -> bool {
    let cig = cx.me().cigs.get(&cig_id);
    let handles: Vec<_> = cig
        .into_iter()
        .flat_map(|cig| cig.streams.values().map(|cis| cis.handle))
        .collect();
    handles.into_iter().all(|handle| is_idle(cx, handle))
}

const fn phy(phys: u8) -> u8 {
    if phys & 2 != 0 { 2 } else { 1 }
}

/// 7.8.97: makes the group or changes it; streams that are there already keep their handles.
fn set_cig(cx: &mut Cx<'_>, cig_id: u8, wanted: Parameters) -> Result<Counted<ConnHandle>, Status> {
    let streams = wanted.streams.0;
    let fine = cig_id <= MAX_ID && streams.iter().all(|stream| stream.cis_id <= MAX_ID);
    if !fine || streams.len() > MAX_STREAMS {
        return Err(Status::INVALID_PARAMETERS);
    }
    if !all_idle(cx, cig_id) {
        return Err(Status::COMMAND_DISALLOWED);
    }
    let [low, middle, high] = wanted.sdu_interval_to_peripheral_us;
    cx.me().cigs.entry(cig_id).or_default().timing = CigTiming {
        interval_us: u32::from_le_bytes([low, middle, high, 0]),
    };
    let mut handles = Vec::new();
    for stream in streams {
        handles.push(set_cis(cx, cig_id, &stream)?);
    }
    Ok(Counted(handles))
}

fn set_cis(cx: &mut Cx<'_>, cig_id: u8, stream: &Stream) -> Result<ConnHandle, Status> {
    let free = cx.me().free_handle();
    let cig = cx.me().cigs.entry(cig_id).or_default();
    let before = cig.streams.get(&stream.cis_id).map(|cis| cis.handle);
    let handle = before.or(free).ok_or(Status::REJECTED_LIMITED_RESOURCES)?;
    let cis = Cis {
        handle,
        sdu_to_peripheral_bytes: stream.sdu_to_peripheral_bytes,
        sdu_to_central_bytes: stream.sdu_to_central_bytes,
        phy_to_peripheral: phy(stream.phys_to_peripheral),
        phy_to_central: phy(stream.phys_to_central),
    };
    cig.streams.insert(stream.cis_id, cis);
    Ok(handle)
}

/// 7.8.99: all streams are checked before the first one is asked for.
fn create(cx: &mut Cx<'_>, wanted: Counted<Wanted>) -> Result<(), Status> {
    let mut asked = Vec::new();
    for Wanted { cis, acl } in wanted.0 {
        let ids = cx.me().stream_of(cis).ok_or(Status::UNKNOWN_CONNECTION)?;
        let link = cx.link(acl)?;
        if link.kind != LinkKind::Le || link.role != Role::Central {
            return Err(Status::UNKNOWN_CONNECTION);
        }
        if !is_idle(cx, cis) || asked.contains(&(ids, acl)) {
            return Err(Status::CONNECTION_EXISTS);
        }
        asked.push((ids, acl));
    }
    for (ids, acl) in asked {
        cx.air.ask_cis(cx.id, ids, acl);
    }
    Ok(())
}

/// 7.8.100: not while a stream of it is on the air.
fn remove_cig(cx: &mut Cx<'_>, cig_id: u8, (): ()) -> Result<(), Status> {
    if !all_idle(cx, cig_id) {
        return Err(Status::COMMAND_DISALLOWED);
    }
    let removed = cx.me().cigs.remove(&cig_id);
    removed.map(|_| ()).ok_or(Status::UNKNOWN_CONNECTION)
}

/// 7.8.101
fn accept(cx: &mut Cx<'_>, handle: ConnHandle) -> Result<(), Status> {
    let there = cx.air.accept_cis(cx.id, handle);
    there.then_some(()).ok_or(Status::UNKNOWN_CONNECTION)
}

/// 7.8.102
fn reject(cx: &mut Cx<'_>, handle: ConnHandle, why: Status) -> Result<(), Status> {
    let there = cx.air.reject_cis(cx.id, handle, why);
    there.then_some(()).ok_or(Status::UNKNOWN_CONNECTION)
}

fn paths<'a>(
    cx: &'a mut Cx<'_>,
    handle: ConnHandle,
) -> Result<&'a mut crate::link::DataPaths, Status> {
    let link = cx.link(handle)?;
    match link.kind.packet_kind() {
        PacketKind::Iso => Ok(&mut link.paths),
        _ => Err(Status::UNKNOWN_CONNECTION),
    }
}

/// 7.8.109: through HCI only.
fn set_up_path(cx: &mut Cx<'_>, handle: ConnHandle, wanted: Path) -> Result<(), Status> {
    let paths = paths(cx, handle)?;
    let path = match wanted.direction {
        FROM_HOST => &mut paths.from_host,
        TO_HOST => &mut paths.to_host,
        _ => return Err(Status::INVALID_PARAMETERS),
    };
    if wanted.id != PATH_HCI {
        return Err(Status::UNSUPPORTED);
    }
    if std::mem::replace(path, true) {
        return Err(Status::COMMAND_DISALLOWED);
    }
    Ok(())
}

/// 7.8.110: a bit for each direction.
fn remove_path(cx: &mut Cx<'_>, handle: ConnHandle, directions: u8) -> Result<(), Status> {
    let paths = paths(cx, handle)?;
    let named = |direction: u8| directions >> direction & 1 == 1;
    let missing = named(FROM_HOST) && !paths.from_host || named(TO_HOST) && !paths.to_host;
    if missing || directions == 0 {
        return Err(Status::COMMAND_DISALLOWED);
    }
    paths.from_host &= !named(FROM_HOST);
    paths.to_host &= !named(TO_HOST);
    Ok(())
}

/// 7.8.115
fn set_host_feature(cx: &mut Cx<'_>, (bit, value): (u8, u8)) -> Result<(), Status> {
    if bit != ISO_HOST_BIT {
        return Err(Status::UNSUPPORTED);
    }
    cx.settings().le_iso_host = value != 0;
    Ok(())
}
