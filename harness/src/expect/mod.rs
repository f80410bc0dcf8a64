//! What the metrics must be, from the two witnesses that are not eBPF: what the socket calls
//! returned, and the controllers' ledgers. One file a family.

mod credits;
mod hci;
mod latency;
mod scrape;
mod socket;
mod unseen;
mod urb;
mod witness;

use crate::evidence::Evidence;
use evidence::Scenario;
use metrics::{Family, Snapshot};

pub use scrape::check_scrapes;
pub use unseen::unseen;
pub use urb::check_monitor;
pub use witness::cross_check;

/// The families whose values are expected, series by series.
pub const FAMILIES: &[Family] = &[
    Family::Socket,
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
    credits::expect(&mut snapshot, scenario, evidence);
    urb::expect(&mut snapshot, scenario, evidence);
    latency::expect(&mut snapshot, scenario, evidence);
    hci::expect(&mut snapshot, scenario, evidence);
    snapshot
}
