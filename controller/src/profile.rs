//! What a controller is: address, version, features, buffers.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::buffers::AckPolicy;
use crate::types::BdAddr;

/// The length and number of one kind of data buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferSize {
    /// The longest payload that a packet from the host may have, in bytes. SCO has one byte for it: more than 255 is reported as 255.
    pub mtu: u16,
    /// How many packets the controller holds. LE and ISO have one byte for it: more than 255 is reported as 255.
    pub packets: u16,
}

impl BufferSize {
    /// No buffers of this kind.
    pub const NONE: Self = Self { mtu: 0, packets: 0 };
}

/// Version numbers, as in Read Local Version Information.
///
/// Spec: Core 5.4, Vol 4, Part E, 7.4.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Core specification version: 0x0b is 5.2.
    pub core: u8,
    /// Revision of the HCI implementation.
    pub hci_revision: u16,
    /// Company identifier. 0xffff is for tests.
    pub company: u16,
    /// Revision of the LMP implementation.
    pub lmp_subversion: u16,
}

/// One LMP feature: a page of the feature mask, and a bit in it.
///
/// Spec: Core 5.4, Vol 2, Part C, 3.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LmpFeature {
    page: u8,
    bit: u8,
}

macro_rules! lmp_features {
    ($($(#[$doc:meta])* $name:ident = ($page:literal, $byte:literal, $bit:literal);)*) => {
        impl LmpFeature {
            $($(#[$doc])* pub const $name: Self = Self { page: $page, bit: $byte * 8 + $bit };)*
        }
    };
}

lmp_features! {
    /// Packets of three slots.
    THREE_SLOT_PACKETS = (0, 0, 0);
    /// Packets of five slots.
    FIVE_SLOT_PACKETS = (0, 0, 1);
    /// Encryption.
    ENCRYPTION = (0, 0, 2);
    /// Role switch.
    ROLE_SWITCH = (0, 0, 5);
    /// Sniff mode.
    SNIFF_MODE = (0, 0, 7);
    /// SCO links.
    SCO_LINK = (0, 1, 3);
    /// HV2 packets.
    HV2_PACKETS = (0, 1, 4);
    /// HV3 packets.
    HV3_PACKETS = (0, 1, 5);
    /// CVSD coding.
    CVSD = (0, 2, 0);
    /// Transparent synchronous data.
    TRANSPARENT_SYNCHRONOUS_DATA = (0, 2, 3);
    /// EDR ACL at 2 Mb/s.
    EDR_ACL_2M = (0, 3, 1);
    /// EDR ACL at 3 Mb/s.
    EDR_ACL_3M = (0, 3, 2);
    /// Inquiry results with RSSI.
    RSSI_WITH_INQUIRY = (0, 3, 6);
    /// Extended SCO.
    EXTENDED_SCO = (0, 3, 7);
    /// EV4 packets.
    EV4_PACKETS = (0, 4, 0);
    /// EV5 packets.
    EV5_PACKETS = (0, 4, 1);
    /// No BR/EDR at all.
    BREDR_NOT_SUPPORTED = (0, 4, 5);
    /// LE as well.
    LE_SUPPORTED = (0, 4, 6);
    /// EDR ACL packets of three slots.
    EDR_ACL_THREE_SLOT = (0, 4, 7);
    /// EDR ACL packets of five slots.
    EDR_ACL_FIVE_SLOT = (0, 5, 0);
    /// EDR eSCO at 2 Mb/s.
    EDR_ESCO_2M = (0, 5, 5);
    /// EDR eSCO at 3 Mb/s.
    EDR_ESCO_3M = (0, 5, 6);
    /// EDR eSCO packets of three slots.
    EDR_ESCO_THREE_SLOT = (0, 5, 7);
    /// Extended inquiry response.
    EXTENDED_INQUIRY_RESPONSE = (0, 6, 0);
    /// LE and BR/EDR to one peer at once.
    SIMULTANEOUS_LE_BREDR = (0, 6, 1);
    /// Secure Simple Pairing.
    SECURE_SIMPLE_PAIRING = (0, 6, 3);
    /// Packets that are not flushed automatically.
    NON_FLUSHABLE_PBF = (0, 6, 6);
    /// Link Supervision Timeout Changed event.
    LSTO_CHANGED_EVENT = (0, 7, 0);
    /// Feature pages beyond the first.
    EXTENDED_FEATURES = (0, 7, 7);
    /// The host uses Secure Simple Pairing.
    SSP_HOST = (1, 0, 0);
    /// The host uses LE.
    LE_HOST = (1, 0, 1);
    /// The host uses LE and BR/EDR to one peer at once.
    SIMULTANEOUS_LE_HOST = (1, 0, 2);
    /// The host uses Secure Connections.
    SECURE_CONNECTIONS_HOST = (1, 0, 3);
    /// Secure Connections.
    SECURE_CONNECTIONS = (2, 1, 0);
}

/// LMP feature masks, page by page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Features {
    pages: [u64; 3],
}

impl Features {
    /// The last page.
    pub const MAX_PAGE: u8 = 2;

    /// These features and no other.
    pub fn of(features: &[LmpFeature]) -> Self {
        features
            .iter()
            .fold(Self::default(), |all, feature| all.with(*feature, true))
    }

    /// The same with one feature set or cleared.
    #[must_use]
    pub fn with(mut self, feature: LmpFeature, on: bool) -> Self {
        if let Some(page) = self.pages.get_mut(usize::from(feature.page)) {
            let bit = 1 << feature.bit;
            *page = if on { *page | bit } else { *page & !bit };
        }
        self
    }

    /// Whether the feature is there.
    pub fn has(&self, feature: LmpFeature) -> bool {
        let page = self
            .pages
            .get(usize::from(feature.page))
            .copied()
            .unwrap_or(0);
        page >> feature.bit & 1 == 1
    }

    /// A page as on the wire; `None` beyond the last.
    pub fn page(&self, number: u8) -> Option<[u8; 8]> {
        self.pages
            .get(usize::from(number))
            .map(|page| page.to_le_bytes())
    }
}

/// LE features, bit n of the specification's list as bit n of the number.
///
/// Spec: Core 5.4, Vol 6, Part B, 4.6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeFeatures(pub u64);

impl LeFeatures {
    /// LE encryption.
    pub const ENCRYPTION: u64 = 1 << 0;
    /// Data packets longer than 27 bytes.
    pub const DATA_LENGTH: u64 = 1 << 5;
    /// The 2 Mb/s PHY.
    pub const PHY_2M: u64 = 1 << 8;
    /// Extended advertising: the commands with advertising sets, and the extended forms of scanning and connecting.
    pub const EXTENDED_ADVERTISING: u64 = 1 << 12;
    /// Connected isochronous streams as central.
    pub const CIS_CENTRAL: u64 = 1 << 28;
    /// Connected isochronous streams as peripheral.
    pub const CIS_PERIPHERAL: u64 = 1 << 29;
    /// The host does isochronous channels: not the profile's to say, the host sets it.
    pub const ISO_HOST: u64 = 1 << 32;

    /// Whether all of these features are there.
    pub const fn has(self, features: u64) -> bool {
        self.0 & features == features
    }
}

/// What one controller is and how it behaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Public device address.
    pub addr: BdAddr,
    /// Version numbers.
    pub version: Version,
    /// LMP features; page 1 (the host's) is worked out from what the host writes.
    pub features: Features,
    /// LE features.
    pub le_features: LeFeatures,
    /// ACL buffers of BR/EDR (and of LE, if that has none of its own).
    pub acl: BufferSize,
    /// SCO buffers.
    pub sco: BufferSize,
    /// LE buffers; [`BufferSize::NONE`] shares the ACL buffers.
    pub le: BufferSize,
    /// ISO buffers.
    pub iso: BufferSize,
    /// When the controller acknowledges data packets.
    pub ack: AckPolicy,
    /// How long a BR/EDR link that it opens may be silent before both ends take it for lost, unless the host sets another time.
    pub supervision_timeout: Duration,
    /// The first connection handle it gives out. `None` chooses one that differs from the other controllers'.
    pub first_handle: Option<u16>,
}

/// Spec: Core 5.4, Vol 4, Part E, 6.21: the default.
const SUPERVISION_TIMEOUT: Duration = Duration::from_secs(20);

const BREDR: &[LmpFeature] = &[
    LmpFeature::THREE_SLOT_PACKETS,
    LmpFeature::FIVE_SLOT_PACKETS,
    LmpFeature::ENCRYPTION,
    LmpFeature::ROLE_SWITCH,
    LmpFeature::SNIFF_MODE,
    LmpFeature::SCO_LINK,
    LmpFeature::HV2_PACKETS,
    LmpFeature::HV3_PACKETS,
    LmpFeature::CVSD,
    LmpFeature::TRANSPARENT_SYNCHRONOUS_DATA,
    LmpFeature::EDR_ACL_2M,
    LmpFeature::EDR_ACL_3M,
    LmpFeature::RSSI_WITH_INQUIRY,
    LmpFeature::EXTENDED_SCO,
    LmpFeature::EV4_PACKETS,
    LmpFeature::EV5_PACKETS,
    LmpFeature::EDR_ESCO_2M,
    LmpFeature::EDR_ESCO_3M,
    LmpFeature::EDR_ACL_THREE_SLOT,
    LmpFeature::EDR_ACL_FIVE_SLOT,
    LmpFeature::EXTENDED_INQUIRY_RESPONSE,
    LmpFeature::SECURE_SIMPLE_PAIRING,
    LmpFeature::NON_FLUSHABLE_PBF,
    LmpFeature::LSTO_CHANGED_EVENT,
    LmpFeature::EXTENDED_FEATURES,
];

const LE: u64 = LeFeatures::ENCRYPTION
    | LeFeatures::DATA_LENGTH
    | LeFeatures::PHY_2M
    | LeFeatures::EXTENDED_ADVERTISING
    | LeFeatures::CIS_CENTRAL
    | LeFeatures::CIS_PERIPHERAL;

impl Profile {
    /// BR/EDR alone: 5.2, 7 ACL buffers of 1021 bytes, 8 SCO buffers of 60.
    pub fn bredr(addr: BdAddr) -> Self {
        Self {
            addr,
            version: Version {
                core: 0x0b,
                hci_revision: 1,
                company: 0xffff,
                lmp_subversion: 1,
            },
            features: Features::of(BREDR),
            le_features: LeFeatures::default(),
            acl: BufferSize {
                mtu: 1021,
                packets: 7,
            },
            sco: BufferSize {
                mtu: 60,
                packets: 8,
            },
            le: BufferSize::NONE,
            iso: BufferSize::NONE,
            ack: AckPolicy::Immediate,
            supervision_timeout: SUPERVISION_TIMEOUT,
            first_handle: None,
        }
    }

    /// BR/EDR and LE: 5.2, 7 ACL buffers of 1021 bytes, 8 SCO buffers of 60, 5 LE buffers and 6 ISO buffers of 251.
    pub fn dual_mode(addr: BdAddr) -> Self {
        let bredr = Self::bredr(addr);
        let features = bredr.features.with(LmpFeature::LE_SUPPORTED, true);
        Self {
            features: features.with(LmpFeature::SIMULTANEOUS_LE_BREDR, true),
            le_features: LeFeatures(LE),
            le: BufferSize {
                mtu: 251,
                packets: 5,
            },
            iso: BufferSize {
                mtu: 251,
                packets: 6,
            },
            ..bredr
        }
    }

    /// LE without BR/EDR: 5.2, 5 LE buffers and 6 ISO buffers of 251.
    pub fn le_only(addr: BdAddr) -> Self {
        let features = [
            LmpFeature::BREDR_NOT_SUPPORTED,
            LmpFeature::LE_SUPPORTED,
            LmpFeature::EXTENDED_FEATURES,
        ];
        Self {
            features: Features::of(&features),
            acl: BufferSize::NONE,
            sco: BufferSize::NONE,
            ..Self::dual_mode(addr)
        }
    }

    /// BR/EDR and LE with so few and short buffers that a host runs out at once: 2 ACL buffers of 192 bytes, 2 SCO of 48, 2 LE of 27,
    /// 2 ISO of 48.
    pub fn small_buffers(addr: BdAddr) -> Self {
        let two = |mtu| BufferSize { mtu, packets: 2 };
        Self {
            acl: two(192),
            sco: two(48),
            le: two(27),
            iso: two(48),
            ..Self::dual_mode(addr)
        }
    }

    /// Whether it does BR/EDR.
    pub fn has_bredr(&self) -> bool {
        !self.features.has(LmpFeature::BREDR_NOT_SUPPORTED)
    }

    /// Whether it does LE, and has these features.
    pub fn has_le_feature(&self, features: u64) -> bool {
        self.has_le() && self.le_features.has(features)
    }

    /// Whether it does LE.
    pub fn has_le(&self) -> bool {
        self.features.has(LmpFeature::LE_SUPPORTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a feature sets the bit that the specification gives it, and only that one.
    #[test]
    fn features_of_one_sets_its_bit() {
        let features = Features::of(&[LmpFeature::LE_SUPPORTED]);
        assert_eq!(features.page(0), Some([0, 0, 0, 0, 0x40, 0, 0, 0]));
        assert_eq!(features.page(2), Some([0; 8]));
        assert_eq!(features.page(3), None);
        assert!(features.has(LmpFeature::LE_SUPPORTED) && !features.has(LmpFeature::SSP_HOST));
    }
}
