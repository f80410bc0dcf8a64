//! The LE Meta event: its subevents.
//!
//! Spec: Core 5.4, Vol 4, Part E, 7.7.65; each struct is the subevent of the same name, without LE.

use super::wire::{Counted, Rest, Wire, wire_struct};
use crate::le::LeAddr;
use crate::types::{BdAddr, ConnHandle, Role, Status};

/// Code of the LE Meta event.
pub(crate) const LE_META: u8 = 0x3e;

/// A subevent's parameters, and its code.
pub(crate) trait LeEvent: Wire {
    const SUBEVENT: u8;
}

/// Whether a subevent passes the host's LE event mask: bit n stands for subevent n + 1.
///
/// Spec: Core 5.4, Vol 4, Part E, 7.8.1.
pub(crate) fn passes_le_mask(subevent: u8, mask: u64) -> bool {
    (1..=64).contains(&subevent) && mask >> (subevent - 1) & 1 == 1
}

macro_rules! le_events {
    ($($(#[$meta:meta])* $code:literal struct $name:ident $fields:tt)*) => {$(
        wire_struct! { $(#[$meta])* struct $name $fields }

        impl LeEvent for $name {
            const SUBEVENT: u8 = $code;
        }
    )*};
}

wire_struct! {
    /// One report of the Advertising Report event.
    struct LegacyReport { kind: u8, addr: LeAddr, data: Counted<u8>, rssi_dbm: i8 }

    /// One report of the Extended Advertising Report event.
    struct ExtendedReport {
        kind: u16,
        addr: LeAddr,
        primary_phy: u8,
        secondary_phy: u8,
        sid: u8,
        tx_power_dbm: i8,
        rssi_dbm: i8,
        periodic_interval: u16,
        direct: LeAddr,
        data: Counted<u8>,
    }
}

le_events! {
    0x01 struct ConnectionComplete {
        status: Status,
        handle: ConnHandle,
        role: Role,
        peer: LeAddr,
        interval: u16,
        latency: u16,
        timeout: u16,
        clock_accuracy: u8,
    }
    0x02 struct AdvertisingReport { reports: Counted<LegacyReport> }
    0x03 struct ConnectionUpdateComplete {
        status: Status,
        handle: ConnHandle,
        interval: u16,
        latency: u16,
        timeout: u16,
    }
    0x04 struct ReadRemoteFeaturesComplete { status: Status, handle: ConnHandle, features: u64 }
    0x05 struct LongTermKeyRequest { handle: ConnHandle, random: u64, diversifier: u16 }
    0x07 struct DataLengthChange {
        handle: ConnHandle,
        max_tx_bytes: u16,
        max_tx_time_us: u16,
        max_rx_bytes: u16,
        max_rx_time_us: u16,
    }
    0x0a struct EnhancedConnectionComplete {
        status: Status,
        handle: ConnHandle,
        role: Role,
        peer: LeAddr,
        local_resolvable: BdAddr,
        peer_resolvable: BdAddr,
        interval: u16,
        latency: u16,
        timeout: u16,
        clock_accuracy: u8,
    }
    0x0c struct PhyUpdateComplete { status: Status, handle: ConnHandle, tx_phy: u8, rx_phy: u8 }
    0x0d struct ExtendedAdvertisingReport { count: u8, reports: Rest }
    0x11 struct ScanTimeout { nothing: () }
    0x12 struct AdvertisingSetTerminated {
        status: Status,
        set: u8,
        handle: ConnHandle,
        events: u8,
    }
    0x19 struct CisEstablished {
        status: Status,
        handle: ConnHandle,
        cig_sync_delay_us: [u8; 3],
        cis_sync_delay_us: [u8; 3],
        latency_to_peripheral_us: [u8; 3],
        latency_to_central_us: [u8; 3],
        phy_to_peripheral: u8,
        phy_to_central: u8,
        subevents: u8,
        burst_to_peripheral: u8,
        burst_to_central: u8,
        flush_to_peripheral: u8,
        flush_to_central: u8,
        pdu_to_peripheral_bytes: u16,
        pdu_to_central_bytes: u16,
        interval: u16,
    }
    0x1a struct CisRequest { acl: ConnHandle, cis: ConnHandle, cig_id: u8, cis_id: u8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the mask's bits fall on the subevents that the specification gives them.
    #[test]
    fn le_mask_bits_match_the_specification() {
        assert!(passes_le_mask(ConnectionComplete::SUBEVENT, 1));
        assert!(passes_le_mask(AdvertisingSetTerminated::SUBEVENT, 1 << 17));
        assert!(!passes_le_mask(DataLengthChange::SUBEVENT, !(1 << 6)));
        assert!(!passes_le_mask(0, u64::MAX));
    }
}
