//! Synchronous connections: section 7.1.

use super::connection::check_rejection;
use super::{Cx, commands};
use crate::hci::wire::wire_struct;
use crate::sco::{AirMode, SyncWish};
use crate::types::{BdAddr, ConnHandle, Status};

commands! {
    0x0407 "Add SCO Connection" (0, 6) Sco begin(add);
    0x0428 "Setup Synchronous Connection" (16, 3) Esco begin(set_up);
    0x0429 "Accept Synchronous Connection Request" (16, 4) Esco begin(accept);
    0x042a "Reject Synchronous Connection Request" (16, 5) Esco begin(reject);
    0x043d "Enhanced Setup Synchronous Connection" (29, 3) Esco begin(set_up_enhanced);
    0x043e "Enhanced Accept Synchronous Connection Request" (29, 4) Esco begin(accept_enhanced);
}

wire_struct! {
    struct Add { handle: ConnHandle, packet_types: u16 }

    /// What both Setup and Accept Synchronous Connection Request say, after the handle or the address.
    struct Wish {
        tx_bytes_per_second: u32,
        rx_bytes_per_second: u32,
        max_latency_ms: u16,
        voice_setting: u16,
        retransmission: u8,
        packet_types: u16,
    }

    /// A coding format, a company and its codec.
    struct Coding { format: u8, company: u16, codec: u16 }

    /// What both enhanced commands say, after the handle or the address.
    struct EnhancedWish {
        tx_bytes_per_second: u32,
        rx_bytes_per_second: u32,
        tx_coding: Coding,
        rx_coding: Coding,
        tx_codec_frame_bytes: u16,
        rx_codec_frame_bytes: u16,
        input_bytes_per_second: u32,
        output_bytes_per_second: u32,
        input_coding: Coding,
        output_coding: Coding,
        input_sample_bits: u16,
        output_sample_bits: u16,
        input_pcm_format: u8,
        output_pcm_format: u8,
        input_pcm_position: u8,
        output_pcm_position: u8,
        input_data_path: u8,
        output_data_path: u8,
        input_unit_bits: u8,
        output_unit_bits: u8,
        max_latency_ms: u16,
        packet_types: u16,
        retransmission: u8,
    }

    struct Reject { addr: BdAddr, reason: Status }
}

/// 64 kb/s each way, or whatever the controller likes.
fn check_bandwidth(tx: u32, rx: u32) -> Result<(), Status> {
    let fine = |bytes_per_second| matches!(bytes_per_second, 8000 | u32::MAX);
    if fine(tx) && fine(rx) {
        Ok(())
    } else {
        Err(Status::UNSUPPORTED)
    }
}

impl Wish {
    fn check(&self) -> Result<SyncWish, Status> {
        check_bandwidth(self.tx_bytes_per_second, self.rx_bytes_per_second)?;
        Ok(SyncWish {
            packet_types: self.packet_types,
            max_latency_ms: self.max_latency_ms,
            retransmission: self.retransmission,
            air_mode: AirMode::of_voice_setting(self.voice_setting),
        })
    }
}

impl EnhancedWish {
    fn check(&self) -> Result<SyncWish, Status> {
        check_bandwidth(self.tx_bytes_per_second, self.rx_bytes_per_second)?;
        if self.tx_coding != self.rx_coding {
            return Err(Status::UNSUPPORTED);
        }
        let air_mode = AirMode::of_coding_format(self.tx_coding.format);
        Ok(SyncWish {
            packet_types: self.packet_types,
            max_latency_ms: self.max_latency_ms,
            retransmission: self.retransmission,
            air_mode: air_mode.ok_or(Status::UNSUPPORTED)?,
        })
    }
}

/// The command of Core 1.1, deprecated since 1.2: bits 5–7 stand for HV1–HV3.
fn add(cx: &mut Cx<'_>, add: Add) -> Result<(), Status> {
    let wish = SyncWish::sco(add.packet_types >> 5, cx.settings().voice_setting);
    cx.air.ask_sync(cx.id, add.handle, wish, true)
}

/// 7.1.26
fn set_up(cx: &mut Cx<'_>, (handle, wish): (ConnHandle, Wish)) -> Result<(), Status> {
    cx.air.ask_sync(cx.id, handle, wish.check()?, false)
}

/// 7.1.27
fn accept(cx: &mut Cx<'_>, (addr, wish): (BdAddr, Wish)) -> Result<(), Status> {
    cx.air.accept_sync(cx.id, addr, Some(wish.check()?))
}

/// 7.1.28
fn reject(cx: &mut Cx<'_>, reject: Reject) -> Result<(), Status> {
    check_rejection(reject.reason)?;
    let there = cx.air.reject_sync(cx.id, reject.addr, reject.reason);
    there.then_some(()).ok_or(Status::UNKNOWN_CONNECTION)
}

/// 7.1.45
fn set_up_enhanced(
    cx: &mut Cx<'_>,
    (handle, wish): (ConnHandle, EnhancedWish),
) -> Result<(), Status> {
    cx.air.ask_sync(cx.id, handle, wish.check()?, false)
}

/// 7.1.46
fn accept_enhanced(cx: &mut Cx<'_>, (addr, wish): (BdAddr, EnhancedWish)) -> Result<(), Status> {
    cx.air.accept_sync(cx.id, addr, Some(wish.check()?))
}
