//! The state of one controller: what the host has set, and what is going on.

use std::collections::BTreeMap;

use crate::buffers::Buffers;
use crate::hci::event::Name;
use crate::hci::wire::{Block, Counted, wire_struct};
use crate::inquiry::Inquiry;
use crate::le::LeAddr;
use crate::le::advertising::{AdvertisingSet, SetId};
use crate::le::connection::Initiator;
use crate::le::iso::{Cig, PendingCis};
use crate::le::scanning::{Scan, ScanSettings};
use crate::link::Link;
use crate::page::{Page, Request};
use crate::profile::{Features, LeFeatures, LmpFeature, Profile};
use crate::sco::SyncRequest;
use crate::timers::TimerKey;
use crate::types::{BdAddr, ConnHandle, ControllerId, LinkKind, PacketKind, Role};

/// One controller.
#[derive(Debug)]
pub(crate) struct Controller {
    pub(crate) profile: Profile,
    pub(crate) settings: Settings,
    pub(crate) buffers: Buffers,
    pub(crate) links: BTreeMap<ConnHandle, Link>,
    /// Devices that are being paged.
    pub(crate) pages: BTreeMap<BdAddr, Page>,
    /// Connection requests that the host has not answered.
    pub(crate) requests: BTreeMap<BdAddr, Request>,
    /// Requests for synchronous connections that the host has not answered.
    pub(crate) sync_requests: BTreeMap<BdAddr, SyncRequest>,
    /// Devices whose name is asked for and that have not answered.
    pub(crate) names: BTreeMap<BdAddr, TimerKey>,
    /// The inquiry that is going on.
    pub(crate) inquiry: Option<Inquiry>,
    /// LE advertisers, running or not; the legacy one is always there.
    pub(crate) advertisers: BTreeMap<SetId, AdvertisingSet>,
    /// The LE scan that is going on.
    pub(crate) scan: Option<Scan>,
    /// The LE connection that is being made.
    pub(crate) initiator: Option<Initiator>,
    /// Groups of isochronous streams that the host has configured.
    pub(crate) cigs: BTreeMap<u8, Cig>,
    /// Isochronous streams that the host has not accepted or refused, by the handle that they would have.
    pub(crate) pending_cis: BTreeMap<ConnHandle, PendingCis>,
    pub(crate) random: Random,
    first_handle: u16,
}

wire_struct! {
    /// How often and how long a scan listens, in slots.
    #[derive(Default, Copy)]
    struct ScanActivity { interval_slots: u16, window_slots: u16 }

    /// Write LE Host Support.
    #[derive(Default, Copy)]
    struct LeHostSupport { enabled: u8, simultaneous: u8 }

    /// Extended inquiry response.
    #[derive(Default, Copy)]
    struct InquiryResponse { fec_required: u8, data: Block<240> }

    /// LE Write Suggested Default Data Length.
    #[derive(Default, Copy)]
    struct LeDataLength { max_bytes: u16, max_time_us: u16 }

    /// LE Set Default PHY.
    #[derive(Default, Copy)]
    struct LeDefaultPhy { all_phys: u8, tx_phys: u8, rx_phys: u8 }
}

/// What the host can set; a reset puts back the defaults of the specification.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) event_mask: u64,
    pub(crate) event_mask_page_2: u64,
    pub(crate) le_event_mask: u64,
    pub(crate) scan_enable: u8,
    pub(crate) page_timeout_slots: u16,
    pub(crate) accept_timeout_slots: u16,
    pub(crate) class: [u8; 3],
    pub(crate) name: Name,
    pub(crate) voice_setting: u16,
    pub(crate) sync_flow_control: u8,
    pub(crate) authentication_enable: u8,
    pub(crate) page_scan: ScanActivity,
    pub(crate) inquiry_scan: ScanActivity,
    pub(crate) page_scan_type: u8,
    pub(crate) inquiry_scan_type: u8,
    pub(crate) inquiry_mode: u8,
    pub(crate) inquiry_codes: Counted<[u8; 3]>,
    pub(crate) inquiry_tx_power_dbm: i8,
    pub(crate) inquiry_response: InquiryResponse,
    pub(crate) default_link_policy: u16,
    pub(crate) simple_pairing: u8,
    pub(crate) secure_connections: u8,
    pub(crate) le_host: LeHostSupport,
    pub(crate) le_data_length: LeDataLength,
    pub(crate) le_default_phy: LeDefaultPhy,
    pub(crate) le_random_addr: BdAddr,
    pub(crate) le_accept_list: Vec<(u8, BdAddr)>,
    pub(crate) le_channels: [u8; 5],
    /// The host does isochronous channels.
    pub(crate) le_iso_host: bool,
    pub(crate) scan: ScanSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            event_mask: 0x0000_1fff_ffff_ffff,
            event_mask_page_2: 0,
            le_event_mask: 0x1f,
            scan_enable: 0,
            page_timeout_slots: 0x2000,
            accept_timeout_slots: 0x1f40,
            class: [0; 3],
            name: Name::default(),
            voice_setting: 0x0060,
            sync_flow_control: 0,
            authentication_enable: 0,
            page_scan: ScanActivity {
                interval_slots: 0x0800,
                window_slots: 0x0012,
            },
            inquiry_scan: ScanActivity {
                interval_slots: 0x1000,
                window_slots: 0x0012,
            },
            page_scan_type: 0,
            inquiry_scan_type: 0,
            inquiry_mode: 0,
            inquiry_codes: Counted(vec![GENERAL_INQUIRY]),
            inquiry_tx_power_dbm: 0,
            inquiry_response: InquiryResponse::default(),
            default_link_policy: 0,
            simple_pairing: 0,
            secure_connections: 0,
            le_host: LeHostSupport::default(),
            le_data_length: LeDataLength {
                max_bytes: 27,
                max_time_us: 328,
            },
            le_default_phy: LeDefaultPhy::default(),
            le_random_addr: BdAddr::default(),
            le_accept_list: Vec::new(),
            le_channels: [0xff, 0xff, 0xff, 0xff, 0x1f],
            le_iso_host: false,
            scan: ScanSettings::default(),
        }
    }
}

/// The general inquiry access code, 0x9e8b33.
const GENERAL_INQUIRY: [u8; 3] = [0x33, 0x8b, 0x9e];

const INQUIRY_SCAN: u8 = 0x01;
const PAGE_SCAN: u8 = 0x02;

impl Controller {
    pub(crate) fn new(id: ControllerId, profile: Profile) -> Self {
        let first_handle = profile.first_handle.unwrap_or_else(|| first_handle(id));
        Self {
            settings: Settings::default(),
            buffers: Buffers::new(&profile),
            links: BTreeMap::new(),
            pages: BTreeMap::new(),
            requests: BTreeMap::new(),
            sync_requests: BTreeMap::new(),
            names: BTreeMap::new(),
            inquiry: None,
            advertisers: BTreeMap::from([(SetId::Legacy, AdvertisingSet::legacy())]),
            scan: None,
            initiator: None,
            cigs: BTreeMap::new(),
            pending_cis: BTreeMap::new(),
            random: Random::new(id),
            first_handle: first_handle.min(ConnHandle::MAX.get()),
            profile,
        }
    }

    /// Whether it hears pages.
    pub(crate) fn page_scan(&self) -> bool {
        self.profile.has_bredr() && self.settings.scan_enable & PAGE_SCAN != 0
    }

    /// Whether packets of such a link take buffers that the host counts.
    pub(crate) fn counts(&self, kind: LinkKind) -> bool {
        kind.packet_kind() != PacketKind::Sco || self.sync_flow_control()
    }

    /// Whether it hears inquiries.
    pub(crate) fn inquiry_scan(&self) -> bool {
        self.profile.has_bredr() && self.settings.scan_enable & INQUIRY_SCAN != 0
    }

    /// Whether synchronous data is counted and acknowledged.
    pub(crate) fn sync_flow_control(&self) -> bool {
        self.settings.sync_flow_control != 0
    }

    /// Group and number of the configured stream with this handle.
    pub(crate) fn stream_of(&self, handle: ConnHandle) -> Option<(u8, u8)> {
        let streams = self.cigs.iter().flat_map(|(cig_id, cig)| {
            let streams = cig.streams.iter();
            streams.map(move |(cis_id, cis)| (cis.handle, (*cig_id, *cis_id)))
        });
        let mut streams = streams.filter(|(there, _)| *there == handle);
        streams.next().map(|(_, ids)| ids)
    }

    /// Whether a link has this handle, or will have it.
    fn is_taken(&self, handle: ConnHandle) -> bool {
        self.links.contains_key(&handle)
            || self.pending_cis.contains_key(&handle)
            || self.stream_of(handle).is_some()
    }

    /// A handle that no link has.
    pub(crate) fn free_handle(&self) -> Option<ConnHandle> {
        let last = ConnHandle::MAX.get();
        let candidates = (self.first_handle..=last).chain(0..self.first_handle);
        candidates
            .map(ConnHandle)
            .find(|handle| !self.is_taken(*handle))
    }

    /// The ACL link to a peer.
    pub(crate) fn link_to(&self, addr: BdAddr) -> Option<(ConnHandle, &Link)> {
        let mut links = self.links.iter();
        let is_it = |link: &Link| link.kind == LinkKind::Acl && link.peer.addr == addr;
        links
            .find(|(_, link)| is_it(link))
            .map(|(handle, link)| (*handle, link))
    }

    /// The LE link to a peer.
    pub(crate) fn le_link_to(&self, addr: BdAddr) -> Option<ConnHandle> {
        let mut links = self.links.iter();
        let is_it = |link: &Link| link.kind == LinkKind::Le && link.peer.addr == addr;
        links
            .find(|(_, link)| is_it(link))
            .map(|(handle, _)| *handle)
    }

    /// Whether a device is in the filter accept list.
    pub(crate) fn accepts(&self, addr: LeAddr) -> bool {
        let LeAddr { kind, addr } = addr.identity();
        let list = &self.settings.le_accept_list;
        list.contains(&(kind, addr))
    }

    /// The LE features, with the bit that the host sets.
    ///
    /// Spec: Core 5.4, Vol 6, Part B, 4.6.33.1.
    pub(crate) fn le_features(&self) -> u64 {
        let host = if self.settings.le_iso_host {
            LeFeatures::ISO_HOST
        } else {
            0
        };
        self.profile.le_features.0 | host
    }

    /// The features, with the host's page worked out from what it has written.
    ///
    /// Spec: Core 5.4, Vol 2, Part C, 3.2 (page 1).
    pub(crate) fn features(&self) -> Features {
        let settings = &self.settings;
        [
            (LmpFeature::SSP_HOST, settings.simple_pairing),
            (LmpFeature::LE_HOST, settings.le_host.enabled),
            (
                LmpFeature::SIMULTANEOUS_LE_HOST,
                settings.le_host.simultaneous,
            ),
            (
                LmpFeature::SECURE_CONNECTIONS_HOST,
                settings.secure_connections,
            ),
        ]
        .into_iter()
        .fold(self.profile.features, |features, (feature, on)| {
            features.with(feature, on != 0)
        })
    }

    /// The role on the link to a peer.
    pub(crate) fn role_to(&self, addr: BdAddr) -> Option<Role> {
        self.link_to(addr).map(|(_, link)| link.role)
    }
}

/// Handles of different controllers differ, so that one taken for the other shows.
fn first_handle(id: ControllerId) -> u16 {
    let step = u16::try_from(id.index() % 14).unwrap_or(0);
    0x0001 + 0x0100 * step
}

/// Numbers that look random and are the same in every run. Nothing here needs to be secret.
///
/// The generator is SplitMix64: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", 2014.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    fn new(id: ControllerId) -> Self {
        Self(u64::try_from(id.index()).unwrap_or(u64::MAX))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
