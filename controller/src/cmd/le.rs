//! LE setup: section 7.8.

use super::{Cx, commands};
use crate::hci::wire::wire_struct;
use crate::le::connection::{MAX_DATA_BYTES, MAX_DATA_TIME_US};
use crate::types::{BdAddr, Status};

commands! {
    0x2001 "LE Set Event Mask" (25, 0) Le write(le_event_mask);
    0x2002 "LE Read Buffer Size" (25, 1) Le complete(read_buffer_size);
    0x2003 "LE Read Local Supported Features" (25, 2) Le complete(read_features);
    0x2005 "LE Set Random Address" (25, 4) Le write(le_random_addr);
    0x200f "LE Read Filter Accept List Size" (26, 6) Le complete(read_accept_list_size);
    0x2010 "LE Clear Filter Accept List" (26, 7) Le complete(clear_accept_list);
    0x2011 "LE Add Device To Filter Accept List" (27, 0) Le complete(add_to_accept_list);
    0x2012 "LE Remove Device From Filter Accept List" (27, 1) Le complete(remove_from_accept_list);
    0x2018 "LE Rand" (27, 7) Le complete(random);
    0x201c "LE Read Supported States" (28, 3) Le complete(read_states);
    0x2023 "LE Read Suggested Default Data Length" (33, 7) Le read(le_data_length);
    0x2024 "LE Write Suggested Default Data Length" (34, 0) Le write(le_data_length);
    0x202e "LE Set Resolvable Private Address Timeout" (35, 2) Le complete(set_rpa_timeout);
    0x202f "LE Read Maximum Data Length" (35, 3) Le complete(read_max_data_length);
    0x2031 "LE Set Default PHY" (35, 5) Le write(le_default_phy);
    0x204b "LE Read Transmit Power" (38, 7) Le complete(read_transmit_power);
}

wire_struct! {
    #[derive(Default)]
    struct LeBufferSize { mtu: u16, packets: u8 }

    #[derive(Default)]
    struct MaxDataLength { tx_bytes: u16, tx_time_us: u16, rx_bytes: u16, rx_time_us: u16 }

    #[derive(Default)]
    struct PowerRange { min_dbm: i8, max_dbm: i8 }

    struct Device { kind: u8, addr: BdAddr }
}

const ACCEPT_LIST_SIZE: u8 = 16;

/// 7.8.2: none of its own means that LE shares the ACL buffers.
fn read_buffer_size(cx: &mut Cx<'_>, (): ()) -> Result<LeBufferSize, Status> {
    let le = cx.profile().le;
    Ok(LeBufferSize {
        mtu: le.mtu,
        packets: u8::try_from(le.packets).unwrap_or(u8::MAX),
    })
}

/// 7.8.3
fn read_features(cx: &mut Cx<'_>, (): ()) -> Result<u64, Status> {
    Ok(cx.me().le_features())
}

/// 7.8.14
fn read_accept_list_size(_: &mut Cx<'_>, (): ()) -> Result<u8, Status> {
    Ok(ACCEPT_LIST_SIZE)
}

/// 7.8.15
fn clear_accept_list(cx: &mut Cx<'_>, (): ()) -> Result<(), Status> {
    cx.settings().le_accept_list.clear();
    Ok(())
}

/// 7.8.16: adding what is there already changes nothing.
fn add_to_accept_list(cx: &mut Cx<'_>, device: Device) -> Result<(), Status> {
    let entry = (device.kind, device.addr);
    let list = &mut cx.settings().le_accept_list;
    if list.contains(&entry) {
        return Ok(());
    }
    if list.len() >= usize::from(ACCEPT_LIST_SIZE) {
        return Err(Status::MEMORY_EXCEEDED);
    }
    list.push(entry);
    Ok(())
}

/// 7.8.17
fn remove_from_accept_list(cx: &mut Cx<'_>, device: Device) -> Result<(), Status> {
    cx.settings()
        .le_accept_list
        .retain(|entry| *entry != (device.kind, device.addr));
    Ok(())
}

/// 7.8.23: the same numbers in every run, for each controller others.
fn random(cx: &mut Cx<'_>, (): ()) -> Result<u64, Status> {
    Ok(cx.me().random.next())
}

/// 7.8.27: all states and combinations, bits 0–41.
fn read_states(_: &mut Cx<'_>, (): ()) -> Result<u64, Status> {
    Ok(0x03ff_ffff_ffff)
}

/// 7.8.45: 1–3600 s; there is no address resolution that would use it.
fn set_rpa_timeout(_: &mut Cx<'_>, seconds: u16) -> Result<(), Status> {
    let fine = (1..=3600).contains(&seconds);
    fine.then_some(()).ok_or(Status::INVALID_PARAMETERS)
}

/// 7.8.46: what the 1M PHY and full-length packets give.
fn read_max_data_length(_: &mut Cx<'_>, (): ()) -> Result<MaxDataLength, Status> {
    let (bytes, time_us) = (MAX_DATA_BYTES, MAX_DATA_TIME_US);
    Ok(MaxDataLength {
        tx_bytes: bytes,
        tx_time_us: time_us,
        rx_bytes: bytes,
        rx_time_us: time_us,
    })
}

/// 7.8.74: 0 dBm and nothing else.
fn read_transmit_power(_: &mut Cx<'_>, (): ()) -> Result<PowerRange, Status> {
    Ok(PowerRange::default())
}
