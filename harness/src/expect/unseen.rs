//! What the probes themselves say that they could not count.

use crate::evidence::Evidence;
use crate::outcome::Deviation;
use controller::{Entry, PacketKind};
use metrics::catalogue::{PROBE_DROPS, PROBE_MISSED};
use metrics::{Labels, Metric, Snapshot, Value};

/// Events that a program did not get or could not count: the family's counters are then too low, even
/// where no series shows it. Only what cannot be counted, since no host can make sense of it, has to be
/// there, and no more often than it came.
#[must_use]
pub fn unseen(observed: &Snapshot, evidence: &Evidence) -> Vec<Deviation> {
    let senseless = evidence.ledgers.values().flatten().filter(is_senseless);
    let senseless = u64::try_from(senseless.count()).expect("a count fits");
    [&PROBE_DROPS, &PROBE_MISSED]
        .into_iter()
        .flat_map(|metric| {
            observed
                .series_of(metric)
                .map(move |series| (metric, series))
        })
        .map(|(metric, (labels, value))| {
            (metric, labels, value, expected(metric, labels, senseless))
        })
        .filter(|(_, _, value, expected)| **value != Value::Counter(*expected))
        .map(|(metric, labels, value, expected)| Deviation {
            metric: metric.name.to_owned(),
            labels: labels.to_string(),
            expected: expected.to_string(),
            observed: value.to_string(),
        })
        .collect()
}

fn expected(metric: &Metric, labels: &Labels, senseless: u64) -> u64 {
    let of = |name| labels.get(name).unwrap_or_default();
    let is_it =
        metric.name == PROBE_DROPS.name && (of("family"), of("reason")) == ("hci", "malformed");
    if is_it { senseless } else { 0 }
}

/// An answer that does not say to what, or an LE event that does not say which.
/// Spec: Core 5.4, Vol 4, Part E, 7.7.14, 7.7.15, 7.7.65.
fn is_senseless(entry: &&Entry) -> bool {
    let least = match (entry.kind, entry.head.bytes()) {
        (Some(PacketKind::Event), [0x0e, ..]) => 5,
        (Some(PacketKind::Event), [0x0f, ..]) => 6,
        (Some(PacketKind::Event), [0x3e, ..]) => 3,
        _ => 0,
    };
    entry.length_bytes < least
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::{ControllerId, Detail, Direction, PacketHead};
    use rstest::rstest;
    use std::time::Duration;

    fn injected(packet: &[u8]) -> Entry {
        Entry {
            time: Duration::ZERO,
            controller: ControllerId::from_index(0),
            direction: Direction::ControllerToHost,
            kind: Some(PacketKind::Event),
            length_bytes: packet.len(),
            head: PacketHead::of(packet),
            detail: Detail::Injected,
        }
    }

    /// Check that events that nobody can make sense of are expected as such, once each, and nothing else.
    #[rstest]
    #[case::as_often(2, &[])]
    #[case::too_seldom(1, &["1"])]
    #[case::too_often(3, &["3"])]
    fn senseless_events_are_expected(#[case] drops: u64, #[case] differing: &[&str]) {
        let packets: [&[u8]; 3] = [&[0x3e, 0], &[0x0e, 1, 1], &[0x0e, 3, 1, 0xff, 0xff]];
        let mut evidence = Evidence::default();
        let entries = packets.into_iter().map(injected);
        evidence.ledgers.insert(0, entries.collect());
        let mut observed = Snapshot::new();
        let labels = [("family", "hci"), ("reason", "malformed")];
        observed.add(&PROBE_DROPS, &labels, drops);
        let found = unseen(&observed, &evidence);
        let found: Vec<_> = found.iter().map(|d| d.observed.as_str()).collect();
        assert_eq!(found, differing);
    }
}
