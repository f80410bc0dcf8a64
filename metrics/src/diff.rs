//! What differs between two snapshots.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::snapshot::{Labels, Series, Snapshot};
use crate::value::Value;

/// One series whose value is not what was expected.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// Name of the metric.
    pub metric: String,
    /// Labels of the series.
    pub labels: Labels,
    /// The value that was expected; `None`: no such series was.
    pub expected: Option<Value>,
    /// The value that was observed; `None`: no such series was.
    pub observed: Option<Value>,
}

impl std::fmt::Display for Difference {
    /// Writes `bluetooth_x_total{a="b"}: expected 23, observed nothing`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Option<Value>| match value {
            Some(value) => value.to_string(),
            None => "nothing".to_owned(),
        };
        let Self {
            metric,
            labels,
            expected,
            observed,
        } = self;
        write!(
            f,
            "{metric}{labels}: expected {}, observed {}",
            text(expected),
            text(observed)
        )
    }
}

/// Every series in which the two differ, in order. A value that is expected within limits
/// ([`Value::Within`]) differs if the observed one is outside them.
///
/// A counter at 0 or an empty histogram equals a series that is not there: such series appear with
/// their first event. A gauge at 0 does not: it says that something exists and is 0.
#[must_use]
pub fn diff(expected: &Snapshot, observed: &Snapshot) -> Vec<Difference> {
    let keys = |snapshot: &Snapshot| {
        snapshot
            .iter()
            .map(|(s, _)| s.clone())
            .collect::<BTreeSet<_>>()
    };
    keys(expected)
        .union(&keys(observed))
        .filter(|series| !agree(touched(expected, series), touched(observed, series)))
        .map(|series| Difference {
            metric: series.metric.clone(),
            labels: series.labels.clone(),
            expected: expected.at(series).cloned(),
            observed: observed.at(series).cloned(),
        })
        .collect()
}

fn agree(expected: Option<&Value>, observed: Option<&Value>) -> bool {
    match (expected, observed) {
        (Some(expected), Some(observed)) => expected.admits(observed),
        (Some(Value::Within(within)), None) => within.count.0 == 0,
        (expected, observed) => expected.is_none() && observed.is_none(),
    }
}

fn touched<'a>(snapshot: &'a Snapshot, series: &Series) -> Option<&'a Value> {
    snapshot.at(series).filter(|value| !value.is_untouched())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::catalogue::{COMPLETED_PACKETS_EVENTS, SLOTS_AT_SEND, SLOTS_FREE};

    const HCI0: &[(&str, &str)] = &[("hci", "hci0")];
    const ACL: &[(&str, &str)] = &[("hci", "hci0"), ("kind", "acl")];

    fn with(change: impl Fn(&mut Snapshot)) -> Snapshot {
        let mut snapshot = Snapshot::new();
        change(&mut snapshot);
        snapshot
    }

    /// Check that one event more, one less, a wrong and a surplus series are each found.
    #[rstest]
    #[case::one_more(Some(23), Some(24), true)]
    #[case::one_less(Some(23), Some(22), true)]
    #[case::equal(Some(23), Some(23), false)]
    #[case::missing(Some(23), None, true)]
    #[case::surplus(None, Some(1), true)]
    #[case::zero_is_absent(Some(0), None, false)]
    #[case::absent_is_zero(None, Some(0), false)]
    fn diff_of_counters_finds_each_deviation(
        #[case] expected: Option<u64>,
        #[case] observed: Option<u64>,
        #[case] differs: bool,
    ) {
        let snapshot = |n: Option<u64>| {
            with(|s| {
                n.into_iter()
                    .for_each(|n| s.add(&COMPLETED_PACKETS_EVENTS, HCI0, n))
            })
        };
        let differences = diff(&snapshot(expected), &snapshot(observed));
        assert_eq!(differences.len(), usize::from(differs));
    }

    /// Check that a gauge of 0 is not the same as no gauge.
    #[test]
    fn diff_of_zero_gauge_and_none_differs() {
        let zero = with(|s| s.set(&SLOTS_FREE, ACL, 0));
        let differences = diff(&zero, &Snapshot::new());
        assert_eq!(
            differences[0].to_string(),
            r#"bluetooth_hci_slots_free{hci="hci0",kind="acl"}: expected 0, observed nothing"#
        );
    }

    /// Check that a histogram outside its limits is found, and one within them is not.
    #[test]
    fn diff_of_limits_finds_what_is_outside() {
        let limits = with(|s| s.observe_between(&SLOTS_AT_SEND, ACL, 4, 9));
        let observed = |n| with(|s| s.observe(&SLOTS_AT_SEND, ACL, n));
        assert_eq!(diff(&limits, &observed(5)), []);
        assert_eq!(diff(&limits, &observed(3)).len(), 1);
        assert_eq!(diff(&limits, &Snapshot::new()).len(), 1);
        assert_eq!(diff(&Snapshot::new(), &observed(5)).len(), 1);
    }

    /// Check that two histograms with equal count and sum but other buckets differ.
    #[test]
    fn diff_of_histograms_with_equal_totals_differs_by_bucket() {
        let even = with(|s| {
            [2, 2]
                .iter()
                .for_each(|n| s.observe(&SLOTS_AT_SEND, ACL, *n))
        });
        let spread = with(|s| {
            [1, 3]
                .iter()
                .for_each(|n| s.observe(&SLOTS_AT_SEND, ACL, *n))
        });
        let differences = diff(&even, &spread);
        assert_eq!(differences.len(), 1);
        assert_eq!(
            differences[0].to_string(),
            "bluetooth_hci_slots_at_send{hci=\"hci0\",kind=\"acl\"}: expected 2 values, sum 4 {≤2: \
             2}, observed 2 values, sum 4 {≤1: 1, ≤3: 1}"
        );
    }
}
