//! Values of many series at one moment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::catalogue::{Family, Kind, LabelError, Metric, find};
use crate::value::Value;

/// Labels of one series, in order of their names.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct Labels(BTreeMap<String, String>);

impl Labels {
    /// Value of the label of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, in order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

impl From<&[(&str, &str)]> for Labels {
    fn from(pairs: &[(&str, &str)]) -> Self {
        Self(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }
}

impl std::fmt::Display for Labels {
    /// Writes `{hci="hci0",kind="acl"}`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs: Vec<_> = self
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect();
        write!(f, "{{{}}}", pairs.join(","))
    }
}

/// What names one series: a metric and its labels. Ordered by metric name, then by labels.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Series {
    /// Name of the metric.
    pub metric: String,
    /// Its labels.
    pub labels: Labels,
}

/// One series and its value, as it is written down.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Sample {
    /// Name of the metric.
    pub metric: String,
    /// Its labels.
    pub labels: Labels,
    /// Its value.
    pub value: Value,
}

/// Values of many series at one moment; at most one value for each series.
///
/// Serialised as a list of [`Sample`]s in the order of [`Series`], so that equal snapshots are equal
/// bytes. Reading accepts metrics that this version does not know; [`Snapshot::problems`] names them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "Vec<Sample>", into = "Vec<Sample>")]
pub struct Snapshot {
    samples: BTreeMap<Series, Value>,
}

/// Why a sample does not agree with the catalogue.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum Problem {
    /// No metric has that name.
    #[error("no metric is called {metric}")]
    UnknownMetric {
        /// The name.
        metric: String,
    },
    /// The labels are not the metric's.
    #[error(transparent)]
    Labels(#[from] LabelError),
    /// A counter, gauge or histogram stands where another is expected, or the bounds differ.
    #[error("value of {metric}{labels} is not shaped as the metric's kind {kind:?} asks")]
    Shape {
        /// Name of the metric.
        metric: String,
        /// Labels of the series.
        labels: Labels,
        /// Kind in the catalogue.
        kind: Kind,
    },
}

impl Snapshot {
    /// A snapshot without samples.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `n` to a counter, which starts at 0.
    ///
    /// # Panics
    ///
    /// In debug builds, if `metric` is no counter or the labels are not its own; so do the other
    /// methods that change a value.
    pub fn add(&mut self, metric: &'static Metric, labels: &[(&str, &str)], n: u64) {
        if let Value::Counter(total) = self.entry(metric, labels, metric.kind == Kind::Counter) {
            *total = total.saturating_add(n);
        }
    }

    /// Sets a gauge.
    pub fn set(&mut self, metric: &'static Metric, labels: &[(&str, &str)], n: i64) {
        *self.entry(metric, labels, metric.kind == Kind::Gauge) = Value::Gauge(n);
    }

    /// Lowers a gauge to `n`, or sets it if it has no value.
    pub fn set_minimum(&mut self, metric: &'static Metric, labels: &[(&str, &str)], n: i64) {
        let lowest = match self.get(metric, labels) {
            Some(Value::Gauge(old)) => n.min(*old),
            _ => n,
        };
        self.set(metric, labels, lowest);
    }

    /// Counts one value in a histogram.
    pub fn observe(&mut self, metric: &'static Metric, labels: &[(&str, &str)], value: u64) {
        let fits = matches!(metric.kind, Kind::Histogram { .. });
        self.entry(metric, labels, fits).observe(value, 1);
    }

    /// Counts one value of a histogram that is neither below `low` nor above `high`: what is expected
    /// where it cannot be known exactly.
    pub fn observe_between(
        &mut self,
        metric: &'static Metric,
        labels: &[(&str, &str)],
        low: u64,
        high: u64,
    ) {
        let fits = matches!(metric.kind, Kind::Histogram { .. });
        self.entry(metric, labels, fits).observe_between(low, high);
    }

    /// Counts up to `times` values of a histogram, none above `high`: what is expected where even the
    /// number cannot be known.
    pub fn observe_up_to(
        &mut self,
        metric: &'static Metric,
        labels: &[(&str, &str)],
        times: u64,
        high: u64,
    ) {
        let fits = matches!(metric.kind, Kind::Histogram { .. });
        self.entry(metric, labels, fits).observe_up_to(times, high);
    }

    /// Stores a whole value, in place of any that was there.
    pub fn insert(&mut self, metric: &'static Metric, labels: &[(&str, &str)], value: Value) {
        let fits = value.fits(metric.kind);
        *self.entry(metric, labels, fits) = value;
    }

    /// The value of one series.
    #[must_use]
    pub fn get(&self, metric: &Metric, labels: &[(&str, &str)]) -> Option<&Value> {
        self.samples.get(&Series {
            metric: metric.name.to_owned(),
            labels: labels.into(),
        })
    }

    /// The value of a counter; 0 if there is no such series.
    #[must_use]
    pub fn counter(&self, metric: &Metric, labels: &[(&str, &str)]) -> u64 {
        match self.get(metric, labels) {
            Some(Value::Counter(n)) => *n,
            _ => 0,
        }
    }

    /// Sum of all counters of one metric.
    #[must_use]
    pub fn total(&self, metric: &Metric) -> u64 {
        self.series_of(metric)
            .map(|(_, value)| if let Value::Counter(n) = value { *n } else { 0 })
            .fold(0, u64::saturating_add)
    }

    /// All series of one metric, in order.
    pub fn series_of(&self, metric: &Metric) -> impl Iterator<Item = (&Labels, &Value)> {
        let name = metric.name;
        self.samples
            .iter()
            .filter(move |(series, _)| series.metric == name)
            .map(|(series, value)| (&series.labels, value))
    }

    /// All series, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&Series, &Value)> {
        self.samples.iter()
    }

    /// How many series there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Is there no series?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// The samples of these families alone. Metrics that the catalogue does not know are left out.
    #[must_use]
    pub fn restrict(&self, families: &[Family]) -> Self {
        self.filter(|series, _| find(&series.metric).is_some_and(|m| families.contains(&m.family)))
    }

    /// The samples for which `keep` says yes.
    #[must_use]
    pub fn filter(&self, keep: impl Fn(&Series, &Value) -> bool) -> Self {
        let samples = self
            .samples
            .iter()
            .filter(|(series, value)| keep(series, value));
        Self {
            samples: samples
                .map(|(series, value)| (series.clone(), value.clone()))
                .collect(),
        }
    }

    /// Everything in which the samples disagree with the catalogue; empty if all is well.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        self.samples
            .iter()
            .filter_map(|(series, value)| problem(series, value))
            .collect()
    }

    /// The value of a series, made if it is not there.
    fn entry(
        &mut self,
        metric: &'static Metric,
        labels: &[(&str, &str)],
        fits: bool,
    ) -> &mut Value {
        debug_assert!(fits, "metric {} is a {:?}", metric.name, metric.kind);
        debug_assert_eq!(metric.check_labels(labels), Ok(()));
        self.samples
            .entry(Series {
                metric: metric.name.to_owned(),
                labels: labels.into(),
            })
            .or_insert_with(|| Value::zero(metric.kind))
    }

    /// Value of a series by its key, for comparing.
    pub(crate) fn at(&self, series: &Series) -> Option<&Value> {
        self.samples.get(series)
    }
}

/// The first thing in which one sample disagrees with the catalogue.
fn problem(series: &Series, value: &Value) -> Option<Problem> {
    let Some(metric) = find(&series.metric) else {
        return Some(Problem::UnknownMetric {
            metric: series.metric.clone(),
        });
    };
    let labels: Vec<_> = series.labels.iter().collect();
    if let Err(error) = metric.check_labels(&labels) {
        return Some(error.into());
    }
    (!value.fits(metric.kind)).then(|| Problem::Shape {
        metric: series.metric.clone(),
        labels: series.labels.clone(),
        kind: metric.kind,
    })
}

impl From<Vec<Sample>> for Snapshot {
    /// Of several samples of one series the last one stays.
    fn from(samples: Vec<Sample>) -> Self {
        let keyed = samples.into_iter().map(
            |Sample {
                 metric,
                 labels,
                 value,
             }| { (Series { metric, labels }, value) },
        );
        Self {
            samples: keyed.collect(),
        }
    }
}

impl From<Snapshot> for Vec<Sample> {
    fn from(snapshot: Snapshot) -> Self {
        let samples = snapshot.samples.into_iter();
        samples
            .map(|(Series { metric, labels }, value)| Sample {
                metric,
                labels,
                value,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::{SLOTS_AT_SEND, SLOTS_FREE, SLOTS_MINIMUM, SOCKET_BYTES, SOCKET_CALLS};

    const ACL: &[(&str, &str)] = &[("hci", "hci0"), ("kind", "acl")];
    const READ: &[(&str, &str)] = &[
        ("proto", "l2cap"),
        ("direction", "read"),
        ("origin", "user"),
    ];

    /// Check that counters add up, gauges are replaced, and minima only fall.
    #[test]
    fn snapshot_methods_change_values_by_kind() {
        let mut snapshot = Snapshot::new();
        snapshot.add(&SOCKET_BYTES, READ, 101);
        snapshot.add(&SOCKET_BYTES, READ, 23);
        snapshot.set(&SLOTS_FREE, ACL, 8);
        snapshot.set(&SLOTS_FREE, ACL, 7);
        for n in [5, 3, 4] {
            snapshot.set_minimum(&SLOTS_MINIMUM, ACL, n);
        }
        assert_eq!(snapshot.counter(&SOCKET_BYTES, READ), 124);
        assert_eq!(snapshot.get(&SLOTS_FREE, ACL), Some(&Value::Gauge(7)));
        assert_eq!(snapshot.get(&SLOTS_MINIMUM, ACL), Some(&Value::Gauge(3)));
        assert_eq!(snapshot.total(&SOCKET_BYTES), 124);
        assert_eq!(snapshot.problems(), []);
    }

    /// Check that the order in which labels are given does not matter.
    #[test]
    fn labels_in_another_order_name_the_same_series() {
        let mut snapshot = Snapshot::new();
        snapshot.set(&SLOTS_FREE, &[ACL[1], ACL[0]], 8);
        assert_eq!(snapshot.get(&SLOTS_FREE, ACL), Some(&Value::Gauge(8)));
        assert_eq!(snapshot.len(), 1);
    }

    /// Check that a histogram puts a value at its bound in that bucket, and one beyond in the total.
    #[test]
    fn observe_at_and_beyond_bounds_counts_exactly() {
        let mut snapshot = Snapshot::new();
        for value in [0, 0, 1, 9, 10, 257] {
            snapshot.observe(&SLOTS_AT_SEND, ACL, value);
        }
        let Some(Value::Histogram {
            buckets,
            count,
            sum,
        }) = snapshot.get(&SLOTS_AT_SEND, ACL)
        else {
            panic!("no histogram");
        };
        let filled: Vec<_> = buckets.iter().filter(|(_, n)| *n > 0).copied().collect();
        assert_eq!(filled, [(0, 2), (1, 1), (10, 2)]);
        assert_eq!((*count, *sum), (6, 277));
    }

    /// Check that a label outside its bound is refused where debug assertions are on.
    #[test]
    fn add_with_value_out_of_bounds_panics_in_debug() {
        let attempt = std::panic::catch_unwind(|| {
            Snapshot::new().add(
                &SOCKET_CALLS,
                &[
                    ("proto", "tcp"),
                    ("direction", "read"),
                    ("result", "ok"),
                    ("origin", "user"),
                ],
                1,
            );
        });
        assert_eq!(attempt.is_err(), cfg!(debug_assertions));
    }

    /// Check that restricting to a family keeps that family alone.
    #[test]
    fn restrict_to_family_keeps_it_alone() {
        let mut snapshot = Snapshot::new();
        snapshot.add(&SOCKET_BYTES, READ, 1);
        snapshot.set(&SLOTS_FREE, ACL, 8);
        let credits = snapshot.restrict(&[Family::Credits]);
        assert_eq!(
            credits
                .iter()
                .map(|(s, _)| s.metric.as_str())
                .collect::<Vec<_>>(),
            ["bluetooth_hci_slots_free"]
        );
    }

    /// Check the written form, which other programs read.
    #[test]
    fn snapshot_as_json_is_a_sorted_list_of_samples() {
        let mut snapshot = Snapshot::new();
        snapshot.add(&SOCKET_BYTES, READ, 101);
        snapshot.set(&SLOTS_FREE, ACL, 8);
        let json = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(
            json,
            r#"[{"metric":"bluetooth_hci_slots_free","labels":{"hci":"hci0","kind":"acl"},"value":{"gauge":8}},{"metric":"bluetooth_socket_bytes_total","labels":{"direction":"read","origin":"user","proto":"l2cap"},"value":{"counter":101}}]"#
        );
        assert_eq!(serde_json::from_str::<Snapshot>(&json).unwrap(), snapshot);
    }

    /// Check that samples that the catalogue does not know are read, and named as problems.
    #[test]
    fn problems_of_foreign_samples_name_each() {
        let json = r#"[{"metric":"bluetooth_future_total","labels":{},"value":{"counter":1}},
            {"metric":"bluetooth_hci_slots_free","labels":{"hci":"hci0","kind":"acl"},"value":{"counter":1}},
            {"metric":"bluetooth_hci_slots_free","labels":{"hci":"usb0","kind":"acl"},"value":{"gauge":1}}]"#;
        let snapshot: Snapshot = serde_json::from_str(json).unwrap();
        let problems = snapshot.problems();
        assert!(matches!(problems[0], Problem::UnknownMetric { .. }));
        assert!(matches!(problems[1], Problem::Shape { .. }));
        assert!(matches!(
            problems[2],
            Problem::Labels(LabelError::Value { .. })
        ));
    }

    proptest! {
        /// Check that arbitrary text never makes reading a snapshot panic.
        #[test]
        fn snapshot_from_arbitrary_text_never_panics(text in "\\PC*") {
            let _ = serde_json::from_str::<Snapshot>(&text);
        }

        /// Check that a histogram's total is the number and the sum of what was observed.
        #[test]
        fn observe_any_values_keeps_count_and_sum(values in prop::collection::vec(0u64..1000, 0..50)) {
            let mut snapshot = Snapshot::new();
            for value in &values {
                snapshot.observe(&SLOTS_AT_SEND, ACL, *value);
            }
            if let Some(Value::Histogram { buckets, count, sum }) = snapshot.get(&SLOTS_AT_SEND, ACL) {
                prop_assert_eq!(*count, values.len() as u64);
                prop_assert_eq!(*sum, values.iter().sum::<u64>());
                let small = values.iter().filter(|v| **v <= 256).count() as u64;
                prop_assert_eq!(buckets.iter().map(|(_, n)| n).sum::<u64>(), small);
            } else {
                prop_assert!(values.is_empty());
            }
        }
    }
}
