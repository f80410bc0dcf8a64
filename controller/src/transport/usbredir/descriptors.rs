//! What the dongle says that it is.
//!
//! Spec: Core 5.4, Vol 4, Part B, 2.1: interface 0 has an interrupt endpoint for events and bulk endpoints for ACL data; interface 1 has
//! isochronous endpoints for SCO data, whose packets get longer with each alternate setting. USB 2.0, 9.6: descriptors.

use super::wire::{EpInfo, InterfaceInfo};
use crate::hci::wire::Rest;

/// Wireless controller, RF controller, Bluetooth: what drivers match.
pub(super) const CLASS: [u8; 3] = [0xe0, 0x01, 0x01];
/// pid.codes, and its identifier for tests: one that brings no quirks of any vendor with it.
pub(super) const VENDOR: u16 = 0x1209;
pub(super) const PRODUCT: u16 = 0x0001;
pub(super) const VERSION: u16 = 0x0100;

/// Endpoint addresses.
pub(super) const EVENTS_IN: u8 = 0x81;
pub(super) const ACL_IN: u8 = 0x82;
pub(super) const ACL_OUT: u8 = 0x02;
pub(super) const SCO_IN: u8 = 0x83;
pub(super) const SCO_OUT: u8 = 0x03;

/// Longest packet of the interrupt endpoint.
pub(super) const EVENT_PACKET_BYTES: usize = 16;
const CONTROL_PACKET_BYTES: u16 = 64;
const BULK_PACKET_BYTES: u16 = 64;
/// Longest isochronous packet, by alternate setting.
pub(super) const SCO_PACKET_BYTES: [u16; 7] = [0, 9, 17, 25, 33, 49, 63];

/// Transfer types: USB 2.0, 9.6.6.
const CONTROL: u8 = 0;
const ISOCHRONOUS: u8 = 1;
const BULK: u8 = 2;
const INTERRUPT: u8 = 3;
/// Of an endpoint that is not there: usbredir protocol.
const NO_ENDPOINT: u8 = 255;

const BUS_POWERED: u8 = 0x80;
const REMOTE_WAKEUP: u8 = 0x20;

/// The device descriptor.
pub(super) fn device() -> Vec<u8> {
    let [class, subclass, protocol] = CLASS;
    let ([vendor_low, vendor_high], [product_low, product_high]) =
        (VENDOR.to_le_bytes(), PRODUCT.to_le_bytes());
    let [version_low, version_high] = VERSION.to_le_bytes();
    let control_packet = CONTROL_PACKET_BYTES.to_le_bytes()[0];
    #[rustfmt::skip]
    let descriptor = vec![
        18, 1, 0x00, 0x02, class, subclass, protocol, control_packet,
        vendor_low, vendor_high, product_low, product_high, version_low, version_high, 0, 0, 0, 1,
    ];
    descriptor
}

/// The configuration descriptor and everything that belongs to it.
pub(super) fn configuration(remote_wakeup: bool) -> Vec<u8> {
    let mut below = interface(0, 0, 3);
    let event_packet = u16::try_from(EVENT_PACKET_BYTES).unwrap_or(u16::MAX);
    below.extend(endpoint(EVENTS_IN, INTERRUPT, event_packet, 1));
    below.extend(endpoint(ACL_IN, BULK, BULK_PACKET_BYTES, 0));
    below.extend(endpoint(ACL_OUT, BULK, BULK_PACKET_BYTES, 0));
    for (alt, bytes) in (0..).zip(SCO_PACKET_BYTES) {
        below.extend(interface(1, alt, 2));
        below.extend(endpoint(SCO_IN, ISOCHRONOUS, bytes, 1));
        below.extend(endpoint(SCO_OUT, ISOCHRONOUS, bytes, 1));
    }
    let [total_low, total_high] = u16::try_from(9 + below.len())
        .unwrap_or(u16::MAX)
        .to_le_bytes();
    let attributes = match remote_wakeup {
        true => BUS_POWERED | REMOTE_WAKEUP,
        false => BUS_POWERED,
    };
    let mut all = vec![9, 2, total_low, total_high, 2, 1, 0, attributes, 50];
    all.append(&mut below);
    all
}

fn interface(number: u8, alt: u8, endpoints: u8) -> Vec<u8> {
    let [class, subclass, protocol] = CLASS;
    vec![9, 4, number, alt, endpoints, class, subclass, protocol, 0]
}

fn endpoint(address: u8, kind: u8, max_packet: u16, interval: u8) -> Vec<u8> {
    let [low, high] = max_packet.to_le_bytes();
    vec![7, 5, address, kind, low, high, interval]
}

/// Both interfaces, as usbredir tells them.
pub(super) fn interface_info() -> InterfaceInfo {
    let [class, subclass, protocol] = CLASS;
    let of_both = |values: [u8; 2]| {
        let mut table = [0; 32];
        table[..2].copy_from_slice(&values);
        table
    };
    InterfaceInfo {
        count: 2,
        number: of_both([0, 1]),
        class: of_both([class; 2]),
        subclass: of_both([subclass; 2]),
        protocol: of_both([protocol; 2]),
    }
}

/// The endpoints with interface 1 in this alternate setting, as usbredir tells them.
pub(super) fn endpoint_info(alt: u8) -> EpInfo {
    let sco_packet = SCO_PACKET_BYTES.get(usize::from(alt)).copied().unwrap_or(0);
    let event_packet = u16::try_from(EVENT_PACKET_BYTES).unwrap_or(u16::MAX);
    let endpoints = [
        (0x00, CONTROL, 0, 0, CONTROL_PACKET_BYTES),
        (0x80, CONTROL, 0, 0, CONTROL_PACKET_BYTES),
        (EVENTS_IN, INTERRUPT, 1, 0, event_packet),
        (ACL_IN, BULK, 0, 0, BULK_PACKET_BYTES),
        (ACL_OUT, BULK, 0, 0, BULK_PACKET_BYTES),
        (SCO_IN, ISOCHRONOUS, 1, 1, sco_packet),
        (SCO_OUT, ISOCHRONOUS, 1, 1, sco_packet),
    ];
    let (mut kinds, mut intervals, mut interfaces) = ([NO_ENDPOINT; 32], [0; 32], [0; 32]);
    let mut max_packets = [0u16; 32];
    for (address, kind, interval, interface, max_packet) in endpoints {
        let index = usize::from((address & 0x80) >> 3 | address & 0x0f);
        kinds[index] = kind;
        intervals[index] = interval;
        interfaces[index] = interface;
        max_packets[index] = max_packet;
    }
    EpInfo {
        kind: kinds,
        interval: intervals,
        interface: interfaces,
        max_packet: Rest(max_packets.iter().flat_map(|n| n.to_le_bytes()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hci::wire::Wire;

    /// Check that every descriptor is as long as it says and that the total is right.
    #[test]
    fn configuration_is_a_chain_of_descriptors() {
        let all = configuration(true);
        assert_eq!(all.len(), 200);
        assert_eq!(&all[2..4], &[200, 0]);
        assert_eq!(all[7], 0xa0);
        let (mut rest, mut kinds) = (all.as_slice(), Vec::new());
        while let Some(length) = rest.first() {
            kinds.push(rest[1]);
            rest = &rest[usize::from(*length)..];
        }
        let count = |kind| kinds.iter().filter(|k| **k == kind).count();
        assert_eq!((count(2), count(4), count(5)), (1, 8, 17));
        assert_eq!(device().len(), 18);
    }

    /// Check that the tables have the size of the protocol, and the packet sizes that of the alternate setting.
    #[test]
    fn endpoint_info_follows_the_alternate_setting() {
        let mut bytes = Vec::new();
        endpoint_info(2).encode(&mut bytes);
        assert_eq!(bytes.len(), 160);
        assert_eq!(&bytes[96 + 2 * 0x13..][..2], &[17, 0]);
        assert_eq!(bytes[0x13], ISOCHRONOUS);
        bytes.clear();
        interface_info().encode(&mut bytes);
        assert_eq!(bytes.len(), 132);
    }
}
