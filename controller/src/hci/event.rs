//! The events that the controller sends.
//!
//! Spec: Core 5.4, Vol 4, Part E, 7.7; each struct is the event of the same name.

use super::wire::{Block, Counted, Rest, Wire, wire_struct};
use crate::types::{BdAddr, ConnHandle, Opcode, Role, Status};

/// An event's parameters, and its code.
pub(crate) trait Event: Wire {
    const CODE: u8;
}

/// Whether an event with this code passes the host's event mask.
///
/// Bit n of the mask stands for event n + 1. Command Complete, Command Status and Number Of Completed Packets have no bit, nor has
/// anything from 0x3f up (those are in page 2).
///
/// Spec: Core 5.4, Vol 4, Part E, 7.3.1.
pub(crate) fn passes_mask(code: u8, mask: u64) -> bool {
    match code {
        0x0e | 0x0f | 0x13 | 0 | 0x3f.. => true,
        bit => mask >> (bit - 1) & 1 == 1,
    }
}

macro_rules! events {
    ($($(#[$meta:meta])* $code:literal struct $name:ident $fields:tt)*) => {$(
        wire_struct! { $(#[$meta])* struct $name $fields }

        impl Event for $name {
            const CODE: u8 = $code;
        }
    )*};
}

/// A device name: UTF-8, filled with zeroes.
pub(crate) type Name = Block<248>;

events! {
    0x01 struct InquiryComplete { status: Status }
    0x02 struct InquiryResult {
        count: u8,
        addr: BdAddr,
        repetition: u8,
        reserved: [u8; 2],
        class: [u8; 3],
        clock_offset: u16,
    }
    0x03 struct ConnectionComplete {
        status: Status,
        handle: ConnHandle,
        addr: BdAddr,
        link_type: u8,
        encryption: u8,
    }
    0x04 struct ConnectionRequest { addr: BdAddr, class: [u8; 3], link_type: u8 }
    0x05 struct DisconnectionComplete { status: Status, handle: ConnHandle, reason: Status }
    0x06 struct AuthenticationComplete { status: Status, handle: ConnHandle }
    0x07 struct RemoteNameRequestComplete { status: Status, addr: BdAddr, name: Name }
    0x08 struct EncryptionChange { status: Status, handle: ConnHandle, enabled: u8 }
    0x0b struct ReadRemoteSupportedFeaturesComplete {
        status: Status,
        handle: ConnHandle,
        features: [u8; 8],
    }
    0x0c struct ReadRemoteVersionInformationComplete {
        status: Status,
        handle: ConnHandle,
        version: u8,
        company: u16,
        subversion: u16,
    }
    0x0e struct CommandComplete { commands: u8, opcode: Opcode, returned: Rest }
    0x0f struct CommandStatus { status: Status, commands: u8, opcode: Opcode }
    0x10 struct HardwareError { code: u8 }
    0x12 struct RoleChange { status: Status, addr: BdAddr, role: Role }
    0x13 struct NumberOfCompletedPackets { completed: Counted<(ConnHandle, u16)> }
    0x14 struct ModeChange { status: Status, handle: ConnHandle, mode: u8, interval_slots: u16 }
    0x16 struct PinCodeRequest { addr: BdAddr }
    0x17 struct LinkKeyRequest { addr: BdAddr }
    0x18 struct LinkKeyNotification { addr: BdAddr, key: [u8; 16], kind: u8 }
    0x1a struct DataBufferOverflow { link_type: u8 }
    0x1c struct ReadClockOffsetComplete { status: Status, handle: ConnHandle, offset: u16 }
    0x1d struct ConnectionPacketTypeChanged {
        status: Status,
        handle: ConnHandle,
        packet_types: u16,
    }
    0x22 struct InquiryResultWithRssi {
        count: u8,
        addr: BdAddr,
        repetition: u8,
        reserved: u8,
        class: [u8; 3],
        clock_offset: u16,
        rssi_dbm: i8,
    }
    0x23 struct ReadRemoteExtendedFeaturesComplete {
        status: Status,
        handle: ConnHandle,
        page: u8,
        max_page: u8,
        features: [u8; 8],
    }
    0x2c struct SynchronousConnectionComplete {
        status: Status,
        handle: ConnHandle,
        addr: BdAddr,
        link_type: u8,
        interval_slots: u8,
        retransmission_window_slots: u8,
        rx_packet_bytes: u16,
        tx_packet_bytes: u16,
        air_mode: u8,
    }
    0x2f struct ExtendedInquiryResult {
        count: u8,
        addr: BdAddr,
        repetition: u8,
        reserved: u8,
        class: [u8; 3],
        clock_offset: u16,
        rssi_dbm: i8,
        response: Block<240>,
    }
    0x30 struct EncryptionKeyRefreshComplete { status: Status, handle: ConnHandle }
    0x31 struct IoCapabilityRequest { addr: BdAddr }
    0x32 struct IoCapabilityResponse {
        addr: BdAddr,
        capability: u8,
        oob: u8,
        authentication: u8,
    }
    0x33 struct UserConfirmationRequest { addr: BdAddr, value: u32 }
    0x36 struct SimplePairingComplete { status: Status, addr: BdAddr }
    0x38 struct LinkSupervisionTimeoutChanged { handle: ConnHandle, timeout_slots: u16 }
    0x3e struct LeMeta { subevent: u8, parameters: Rest }
    0x3d struct RemoteHostSupportedFeaturesNotification { addr: BdAddr, features: [u8; 8] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the mask's bits fall on the events that the specification gives them.
    #[test]
    fn event_mask_bits_match_the_specification() {
        assert!(passes_mask(ConnectionComplete::CODE, 1 << 2));
        assert!(!passes_mask(ConnectionComplete::CODE, !(1 << 2)));
        assert!(passes_mask(
            ReadRemoteExtendedFeaturesComplete::CODE,
            1 << 34
        ));
        assert!(passes_mask(LinkSupervisionTimeoutChanged::CODE, 1 << 55));
        assert!(passes_mask(
            RemoteHostSupportedFeaturesNotification::CODE,
            1 << 60
        ));
        assert!(passes_mask(CommandComplete::CODE, 0));
        assert!(passes_mask(NumberOfCompletedPackets::CODE, 0));
    }
}
