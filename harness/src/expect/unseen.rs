//! What the probes themselves say that they could not count.

use crate::outcome::Deviation;
use metrics::catalogue::{PROBE_DROPS, PROBE_MISSED};
use metrics::{Snapshot, Value};

/// Events that a program did not get or could not count: the family's counters are then too low, even
/// where no series shows it.
#[must_use]
pub fn unseen(observed: &Snapshot) -> Vec<Deviation> {
    [&PROBE_DROPS, &PROBE_MISSED]
        .into_iter()
        .flat_map(|metric| {
            observed
                .series_of(metric)
                .map(move |series| (metric, series))
        })
        .filter(|(_, (_, value))| **value != Value::Counter(0))
        .map(|(metric, (labels, value))| Deviation {
            metric: metric.name.to_owned(),
            labels: labels.to_string(),
            expected: "0".to_owned(),
            observed: value.to_string(),
        })
        .collect()
}
