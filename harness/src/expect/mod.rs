//! What the metrics must be, from the two witnesses that are not eBPF: what the socket calls
//! returned, and the controllers' ledgers. One file a family.

mod credits;
mod scrape;
mod socket;
mod witness;

use crate::evidence::Evidence;
use evidence::Scenario;
use metrics::{Family, Snapshot};

pub use scrape::check_scrapes;
pub use witness::cross_check;

/// The families whose values are expected, series by series.
pub const FAMILIES: &[Family] = &[Family::Socket, Family::Credits];

/// The expected snapshot of a scenario, given what its witnesses saw.
#[must_use]
pub fn expect(scenario: &Scenario, evidence: &Evidence) -> Snapshot {
    let mut snapshot = Snapshot::new();
    socket::expect(&mut snapshot, scenario, evidence);
    credits::expect(&mut snapshot, scenario, evidence);
    snapshot
}
