//! The value of one series.

use serde::{Deserialize, Serialize};

use crate::catalogue::Kind;

/// The value of one series, in the metric's unit.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Value {
    /// A number that only grows.
    Counter(u64),
    /// A number that goes up and down.
    Gauge(i64),
    /// Values counted by size.
    Histogram {
        /// Inclusive upper bound, and how many values are in this bucket alone (not cumulative).
        buckets: Vec<(u64, u64)>,
        /// How many values there are, those above the last bound included.
        count: u64,
        /// Sum of all values.
        sum: u64,
    },
}

impl Value {
    /// A value that no event has touched, shaped as the metric's kind asks.
    #[must_use]
    pub fn zero(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter(0),
            Kind::Gauge => Self::Gauge(0),
            Kind::Histogram { bounds } => Self::Histogram {
                buckets: bounds.iter().map(|bound| (*bound, 0)).collect(),
                count: 0,
                sum: 0,
            },
        }
    }

    /// Does it have the shape that the metric's kind asks for, the bounds included?
    #[must_use]
    pub fn fits(&self, kind: Kind) -> bool {
        match (self, kind) {
            (Self::Counter(_), Kind::Counter) | (Self::Gauge(_), Kind::Gauge) => true,
            (Self::Histogram { buckets, .. }, Kind::Histogram { bounds }) => {
                buckets.iter().map(|(bound, _)| bound).eq(bounds)
            }
            _ => false,
        }
    }

    /// Is this a counter or histogram that no event has touched? Such a series equals an absent one.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        match self {
            Self::Counter(n) => *n == 0,
            Self::Gauge(_) => false,
            Self::Histogram {
                buckets,
                count,
                sum,
            } => *count == 0 && *sum == 0 && buckets.iter().all(|(_, n)| *n == 0),
        }
    }

    /// Counts `value` `times` times. Has no effect on a counter or a gauge.
    pub(crate) fn observe(&mut self, value: u64, times: u64) {
        let Self::Histogram {
            buckets,
            count,
            sum,
        } = self
        else {
            return;
        };
        if let Some((_, n)) = buckets.iter_mut().find(|(bound, _)| value <= *bound) {
            *n = n.saturating_add(times);
        }
        *count = count.saturating_add(times);
        *sum = sum.saturating_add(value.saturating_mul(times));
    }
}

impl std::fmt::Display for Value {
    /// Writes `23`, or for a histogram `12 values, sum 40 {≤0: 4, ≤8: 8}` without the empty buckets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Counter(n) => write!(f, "{n}"),
            Self::Gauge(n) => write!(f, "{n}"),
            Self::Histogram {
                buckets,
                count,
                sum,
            } => {
                write!(f, "{count} values, sum {sum} {{")?;
                let filled: Vec<_> = buckets
                    .iter()
                    .filter(|(_, n)| *n != 0)
                    .map(|(bound, n)| format!("≤{bound}: {n}"))
                    .collect();
                write!(f, "{}}}", filled.join(", "))
            }
        }
    }
}
