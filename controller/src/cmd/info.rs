//! Informational and status parameters: sections 7.4 and 7.5.

use super::{Cx, commands};
use crate::hci::wire::{Block, Counted, wire_struct};
use crate::profile::Features;
use crate::types::{BdAddr, ConnHandle, Status};

commands! {
    0x1001 "Read Local Version Information" (14, 3) Nothing complete(read_version);
    0x1002 "Read Local Supported Commands" (14, 4) Nothing complete(read_commands);
    0x1003 "Read Local Supported Features" (14, 5) Nothing complete(read_features);
    0x1004 "Read Local Extended Features" (14, 6) Nothing complete(read_extended_features);
    0x1005 "Read Buffer Size" (14, 7) Nothing complete(read_buffer_size);
    0x1009 "Read BD_ADDR" (15, 1) Nothing complete(read_address);
    0x100b "Read Local Supported Codecs" (29, 5) Bredr complete(read_codecs);
    0x1405 "Read RSSI" (15, 5) Nothing on_link(read_rssi);
    0x1407 "Read Clock" (15, 7) Bredr complete(read_clock);
}

wire_struct! {
    #[derive(Default)]
    struct LocalVersion {
        core: u8,
        hci_revision: u16,
        lmp: u8,
        company: u16,
        lmp_subversion: u16,
    }

    #[derive(Default)]
    struct ExtendedFeatures { page: u8, max_page: u8, features: [u8; 8] }

    #[derive(Default)]
    struct BufferSizes { acl_mtu: u16, sco_mtu: u8, acl_packets: u16, sco_packets: u16 }

    #[derive(Default)]
    struct Codecs { standard: Counted<u8>, vendor: Counted<u32> }

    #[derive(Default)]
    struct Clock { handle: ConnHandle, half_slots: u32, accuracy: u16 }
}

/// 7.4.1
fn read_version(cx: &mut Cx<'_>, (): ()) -> Result<LocalVersion, Status> {
    let version = cx.profile().version;
    Ok(LocalVersion {
        core: version.core,
        hci_revision: version.hci_revision,
        lmp: version.core,
        company: version.company,
        lmp_subversion: version.lmp_subversion,
    })
}

/// 7.4.2
fn read_commands(cx: &mut Cx<'_>, (): ()) -> Result<Block<64>, Status> {
    let mut bits = Block::<64>::default();
    for (octet, bit) in super::supported(cx.profile()) {
        if let Some(octet) = bits.0.get_mut(usize::from(octet)) {
            *octet |= 1 << bit;
        }
    }
    Ok(bits)
}

/// 7.4.3
fn read_features(cx: &mut Cx<'_>, (): ()) -> Result<[u8; 8], Status> {
    cx.me().features().page(0).ok_or(Status::INVALID_PARAMETERS)
}

/// 7.4.4
fn read_extended_features(cx: &mut Cx<'_>, page: u8) -> Result<ExtendedFeatures, Status> {
    let features = cx
        .me()
        .features()
        .page(page)
        .ok_or(Status::INVALID_PARAMETERS)?;
    Ok(ExtendedFeatures {
        page,
        max_page: Features::MAX_PAGE,
        features,
    })
}

/// 7.4.5
fn read_buffer_size(cx: &mut Cx<'_>, (): ()) -> Result<BufferSizes, Status> {
    let profile = cx.profile();
    Ok(BufferSizes {
        acl_mtu: profile.acl.mtu,
        sco_mtu: u8::try_from(profile.sco.mtu).unwrap_or(u8::MAX),
        acl_packets: profile.acl.packets,
        sco_packets: profile.sco.packets.min(u8::MAX.into()),
    })
}

/// 7.4.6
fn read_address(cx: &mut Cx<'_>, (): ()) -> Result<BdAddr, Status> {
    Ok(cx.profile().addr)
}

/// 7.4.8: CVSD (2) and transparent (3), by their numbers in Assigned Numbers, 2.11.
fn read_codecs(_: &mut Cx<'_>, (): ()) -> Result<Codecs, Status> {
    Ok(Codecs {
        standard: Counted(vec![0x02, 0x03]),
        vendor: Counted::default(),
    })
}

/// 7.5.4: 0 dB, in the middle of the golden range.
fn read_rssi(cx: &mut Cx<'_>, handle: ConnHandle, (): ()) -> Result<i8, Status> {
    cx.link(handle).map(|_| 0)
}

/// 7.5.6: all controllers share one clock; it has 28 bits of half slots (312.5 µs).
fn read_clock(cx: &mut Cx<'_>, (handle, which): (ConnHandle, u8)) -> Result<Clock, Status> {
    if which != 0 {
        cx.link(handle)?;
    }
    let half_slots = (cx.air.now.as_nanos() / 312_500) & 0x0fff_ffff;
    Ok(Clock {
        handle,
        half_slots: u32::try_from(half_slots).unwrap_or(0),
        accuracy: 0,
    })
}
