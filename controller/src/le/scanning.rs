//! Scanners: which advertisers they report, and how.
//!
//! Time is not simulated advertising event by event. A scanner that filters duplicates reports each advertiser once, and again when
//! it changes; one that does not reports it each advertising interval.
//!
//! Spec: Core 5.4, Vol 4, Part E, 7.7.65.2, 7.7.65.13, 7.8.10, 7.8.11, 7.8.64, 7.8.65.

use std::collections::BTreeMap;
use std::time::Duration;

use super::LeAddr;
use super::advertising::{AdvertisingSet, SetId, properties};
use crate::air::Air;
use crate::hci::le_event::{
    AdvertisingReport, ExtendedAdvertisingReport, ExtendedReport, LegacyReport,
};
use crate::hci::wire::{Counted, Rest};
use crate::timers::{Timer, TimerKey};
use crate::types::ControllerId;

/// What a scanner is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct ScanSettings {
    pub(crate) active: bool,
    pub(crate) filter_policy: u8,
}

/// A scan that is going on.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) extended: bool,
    pub(crate) filter_duplicates: bool,
    /// What was reported of each advertiser.
    reported: BTreeMap<(ControllerId, SetId), u64>,
    again: Option<TimerKey>,
    ends: Option<TimerKey>,
}

/// The shortest time between two reports of one advertiser, so that no interval floods the host.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);
/// Advertising data that fits into one extended report: 255 bytes less one for the subevent, one for the count, 24 for the rest.
const REPORT_BYTES: usize = 229;
const RSSI_DBM: i8 = -42;
const TX_POWER_DBM: i8 = 0;
/// Extended event type: it is a scan response; more data follows.
const SCAN_RESPONSE: u16 = 1 << 3;
const MORE_DATA: u16 = 1 << 5;

impl Air {
    /// Begins a scan in place of any other, and reports what is on the air.
    pub(crate) fn start_scan(
        &mut self,
        id: ControllerId,
        extended: bool,
        filter_duplicates: bool,
        duration: Option<Duration>,
    ) {
        self.stop_scan(id);
        let ends = duration.map(|time| {
            let at = self.now.saturating_add(time);
            self.timers.set(at, Timer::ScanEnds { id })
        });
        self.get_mut(id).scan = Some(Scan {
            extended,
            filter_duplicates,
            reported: BTreeMap::new(),
            again: None,
            ends,
        });
        self.scan_round(id);
    }

    /// Ends a scan. `false` if there was none.
    pub(crate) fn stop_scan(&mut self, id: ControllerId) -> bool {
        let Some(scan) = self.get_mut(id).scan.take() else {
            return false;
        };
        for timer in scan.again.into_iter().chain(scan.ends) {
            self.timers.cancel(timer);
        }
        true
    }

    /// Reports every advertiser, and sees to it that this happens again if duplicates are wanted.
    pub(crate) fn scan_round(&mut self, id: ControllerId) {
        let on_air = self.advertisers_but(id);
        let shortest = on_air.iter().map(|(.., set)| set.interval).min();
        for (advertiser, which, _) in on_air {
            self.report(id, advertiser, which);
        }
        let interval = Duration::from_micros(625) * shortest.unwrap_or(0x0800);
        let at = self.now.saturating_add(interval.max(SHORTEST_INTERVAL));
        let wanted = |scan: &&mut Scan| !scan.filter_duplicates;
        if self.get_mut(id).scan.as_mut().filter(wanted).is_none() {
            return;
        }
        let timer = self.timers.set(at, Timer::ScanAgain { id });
        if let Some(scan) = &mut self.get_mut(id).scan {
            scan.again = Some(timer);
        }
    }

    /// All advertisers on the air that `id` can hear.
    pub(crate) fn advertisers_but(
        &self,
        id: ControllerId,
    ) -> Vec<(ControllerId, SetId, AdvertisingSet)> {
        let others = self.ids().filter(|other| *other != id);
        let sets = others.flat_map(|other| {
            let sets = self.get(other).advertisers.iter();
            sets.map(move |(which, set)| (other, *which, set))
        });
        sets.filter(|(.., set)| set.enabled)
            .map(|(other, which, set)| (other, which, set.clone()))
            .collect()
    }

    /// Reports one advertiser to a scanner, if it is to hear it (again).
    pub(crate) fn report(&mut self, scanner: ControllerId, advertiser: ControllerId, which: SetId) {
        let Some(set) = self.get(advertiser).advertisers.get(&which).cloned() else {
            return;
        };
        let addr = self.advertised_addr(advertiser, &set);
        let settings = self.get(scanner).settings.scan;
        let accepted = settings.filter_policy & 1 == 0 || self.get(scanner).accepts(addr);
        let for_us = !set.has(properties::DIRECTED) || self.is_own(scanner, set.peer);
        let Some(scan) = &mut self.get_mut(scanner).scan else {
            return;
        };
        let heard = scan.extended || set.has(properties::LEGACY);
        if !(set.enabled && heard && accepted && for_us) {
            return;
        }
        let seen = scan.reported.insert((advertiser, which), set.generation);
        if scan.filter_duplicates && seen == Some(set.generation) {
            return;
        }
        let response = settings.active && set.has(properties::SCANNABLE);
        if scan.extended {
            self.report_extended(scanner, addr, &set, response);
        } else {
            self.report_legacy(scanner, addr, &set, response);
        }
    }

    /// Whether an address is one of the controller's own.
    pub(crate) fn is_own(&self, id: ControllerId, addr: LeAddr) -> bool {
        let controller = self.get(id);
        match addr.kind & 1 {
            0 => addr.addr == controller.profile.addr,
            _ => addr.addr == controller.settings.le_random_addr,
        }
    }

    fn report_legacy(
        &mut self,
        scanner: ControllerId,
        addr: LeAddr,
        set: &AdvertisingSet,
        response: bool,
    ) {
        use properties::{CONNECTABLE, DIRECTED, SCANNABLE};
        let kind = match set.properties & (CONNECTABLE | SCANNABLE | DIRECTED) {
            kind if kind & DIRECTED != 0 => 1,
            kind if kind & CONNECTABLE != 0 => 0,
            kind if kind & SCANNABLE != 0 => 2,
            _ => 3,
        };
        let first = (kind, &set.data);
        let second = response.then_some((4, &set.scan_response));
        for (kind, data) in [Some(first), second].into_iter().flatten() {
            let report = LegacyReport {
                kind,
                addr,
                data: Counted(data.clone()),
                rssi_dbm: RSSI_DBM,
            };
            let reports = Counted(vec![report]);
            self.le_event(scanner, &AdvertisingReport { reports });
        }
    }

    fn report_extended(
        &mut self,
        scanner: ControllerId,
        addr: LeAddr,
        set: &AdvertisingSet,
        response: bool,
    ) {
        let kind = set.properties & !properties::HIGH_DUTY & 0x001f;
        let mut packets = vec![(kind, &set.data)];
        if response {
            packets.push((kind | SCAN_RESPONSE, &set.scan_response));
        }
        for (kind, data) in packets {
            let mut chunks = data.chunks(REPORT_BYTES).peekable();
            let mut chunk = chunks.next().unwrap_or_default();
            loop {
                let next = chunks.next();
                let more = if next.is_some() { MORE_DATA } else { 0 };
                let report = extended_report(kind | more, addr, set, chunk);
                let reports = Rest(report);
                self.le_event(scanner, &ExtendedAdvertisingReport { count: 1, reports });
                match next {
                    Some(next) => chunk = next,
                    None => break,
                }
            }
        }
    }
}

fn extended_report(kind: u16, addr: LeAddr, set: &AdvertisingSet, data: &[u8]) -> Vec<u8> {
    use crate::hci::wire::Wire as _;
    let legacy = set.has(properties::LEGACY);
    let directed = set.has(properties::DIRECTED);
    let report = ExtendedReport {
        kind,
        addr,
        primary_phy: set.phys.0.max(1),
        secondary_phy: if legacy { 0 } else { set.phys.1.max(1) },
        sid: if legacy { 0xff } else { set.sid },
        tx_power_dbm: TX_POWER_DBM,
        rssi_dbm: RSSI_DBM,
        periodic_interval: 0,
        direct: if directed {
            set.peer
        } else {
            LeAddr::default()
        },
        data: Counted(data.to_vec()),
    };
    let mut bytes = Vec::new();
    report.encode(&mut bytes);
    bytes
}
