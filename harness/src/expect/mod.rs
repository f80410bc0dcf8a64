//! What the metrics must be, from the two witnesses that are not eBPF: what the socket calls
//! returned, and the controllers' ledgers. One file a family.

mod buffer;
mod command_credits;
mod credits;
mod driver_packets;
mod hci;
mod latency;
mod process;
mod refused;
mod refused_voice;
mod scrape;
mod socket;
mod unseen;
mod urb;
mod usb;
mod witness;

use crate::evidence::Evidence;
use controller::{Detail, Entry, Profile};
use evidence::Scenario;
use metrics::{Family, Snapshot};

pub(crate) use refused_voice::refused_frames;
pub use scrape::check_scrapes;
pub use unseen::unseen;
pub use usb::check_usb;
pub use witness::cross_check;

/// The families whose values are expected, series by series.
pub const FAMILIES: &[Family] = &[
    Family::Socket,
    Family::Buffer,
    Family::Credits,
    Family::Urb,
    Family::Latency,
    Family::Hci,
];

/// The expected snapshot of a scenario, given what its witnesses saw.
#[must_use]
pub fn expect(scenario: &Scenario, evidence: &Evidence) -> Snapshot {
    let mut snapshot = Snapshot::new();
    socket::expect(&mut snapshot, scenario, evidence);
    buffer::expect(&mut snapshot, scenario, evidence);
    credits::expect(&mut snapshot, scenario, evidence);
    urb::expect(&mut snapshot, scenario, evidence);
    latency::expect(&mut snapshot, scenario, evidence);
    hci::expect(&mut snapshot, scenario, evidence);
    refused::expect(&mut snapshot, scenario);
    driver_packets::expect(&mut snapshot, scenario);
    refused_voice::expect(&mut snapshot, scenario, evidence);
    snapshot
}

/// When a packet crossed.
fn nanoseconds(entry: &Entry) -> i64 {
    i64::try_from(entry.time.as_nanos()).expect("a run is shorter than 292 years")
}

/// A report of completed packets that a step has a controller send for one link, whether there is such a link or not: for how many packets.
fn reported_at_will(entry: &Entry) -> Option<u16> {
    match (&entry.detail, entry.head.bytes()) {
        // Spec: Core 5.4, Vol 4, Part E, 7.7.19.
        (Detail::Injected, [0x13, 5, 1, _, _, low, high]) => {
            Some(u16::from_le_bytes([*low, *high]))
        }
        _ => None,
    }
}

/// The devices that were there at the end: N of hciN, what the controller is, and what crossed since it was plugged in.
///
/// Guests have no other devices, so the n-th controller of a scenario is hciN.
fn devices<'a>(
    scenario: &'a Scenario,
    evidence: &'a Evidence,
) -> impl Iterator<Item = (u16, &'a Profile, &'a [Entry])> {
    evidence.ledgers.iter().filter_map(|(hci, entries)| {
        let profile = scenario.controllers.get(usize::from(*hci))?;
        Some((*hci, profile, entries.as_slice()))
    })
}
