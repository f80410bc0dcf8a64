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
    /// What is known of a histogram whose values are known within limits. Expected, never observed.
    Within(Within),
}

/// Limits of a histogram: how many values there are, and how large each is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Within {
    /// Inclusive upper bound, and how many values are in this bucket and those below it, at least
    /// and at most.
    pub buckets: Vec<(u64, u64, u64)>,
    /// How many values there are, those above the last bound included, at least and at most.
    pub count: (u64, u64),
    /// Sum of all values, at least and at most.
    pub sum: (u64, u64),
}

impl Within {
    /// Is this histogram within the limits?
    fn admits(&self, buckets: &[(u64, u64)], count: u64, sum: u64) -> bool {
        let mut below = 0_u64;
        let bounds = self.buckets.iter().map(|(bound, _, _)| bound);
        bounds.eq(buckets.iter().map(|(bound, _)| bound))
            && (self.count.0..=self.count.1).contains(&count)
            && (self.sum.0..=self.sum.1).contains(&sum)
            && self.buckets.iter().zip(buckets).all(|(limits, (_, n))| {
                let (_, at_least, at_most) = *limits;
                below = below.saturating_add(*n);
                (at_least..=at_most).contains(&below)
            })
    }

    /// Counts one value that is neither below `low` nor above `high`.
    fn observe(&mut self, low: u64, high: u64) {
        for (bound, at_least, at_most) in &mut self.buckets {
            *at_least += u64::from(high <= *bound);
            *at_most += u64::from(low <= *bound);
        }
        self.count.0 += 1;
        self.count.1 += 1;
        self.sum.0 = self.sum.0.saturating_add(low);
        self.sum.1 = self.sum.1.saturating_add(high);
    }
}

impl Within {
    /// Counts up to `times` values that are not above `high`.
    fn observe_up_to(&mut self, times: u64, high: u64) {
        for (_, _, at_most) in &mut self.buckets {
            *at_most = at_most.saturating_add(times);
        }
        self.count.1 = self.count.1.saturating_add(times);
        self.sum.1 = self.sum.1.saturating_add(high.saturating_mul(times));
    }
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
            (Self::Within(within), Kind::Histogram { bounds }) => {
                within.buckets.iter().map(|(bound, _, _)| bound).eq(bounds)
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
            Self::Within(within) => within.count.1 == 0,
        }
    }

    /// Is the observed value what this one asks for: equal, or within its limits?
    #[must_use]
    pub fn admits(&self, observed: &Self) -> bool {
        match (self, observed) {
            (
                Self::Within(within),
                Self::Histogram {
                    buckets,
                    count,
                    sum,
                },
            ) => within.admits(buckets, *count, *sum),
            (_, Self::Within(_)) => false,
            _ => self == observed,
        }
    }

    /// Counts one value that is neither below `low` nor above `high`: a histogram becomes its limits.
    /// Has no effect on a counter or a gauge.
    pub(crate) fn observe_between(&mut self, low: u64, high: u64) {
        if let Some(within) = self.limits() {
            within.observe(low, high);
        }
    }

    /// Counts up to `times` values that are not above `high`, as [`Self::observe_between`] does.
    pub(crate) fn observe_up_to(&mut self, times: u64, high: u64) {
        if let Some(within) = self.limits() {
            within.observe_up_to(times, high);
        }
    }

    /// The limits of a histogram, which it becomes if it is not yet; `None` of other values.
    fn limits(&mut self) -> Option<&mut Within> {
        if let Self::Histogram {
            buckets,
            count,
            sum,
        } = self
        {
            let mut below = 0_u64;
            let cumulate = |(bound, n): &(u64, u64)| {
                below = below.saturating_add(*n);
                (*bound, below, below)
            };
            *self = Self::Within(Within {
                buckets: buckets.iter().map(cumulate).collect(),
                count: (*count, *count),
                sum: (*sum, *sum),
            });
        }
        match self {
            Self::Within(within) => Some(within),
            _ => None,
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
    /// Writes `23`, or for a histogram `12 values, sum 40 {≤0: 4, ≤8: 8}` without the empty buckets,
    /// or for limits `12 values, sum 30 to 50 {up to 4: 2 to 5}` without the buckets that are free.
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
            Self::Within(Within {
                buckets,
                count,
                sum: (low, high),
            }) => {
                let bound = |(bound, at_least, at_most): &(u64, u64, u64)| {
                    let free = *at_least == 0 && *at_most == count.1;
                    (!free && *at_least < count.0)
                        .then(|| format!("up to {bound}: {at_least} to {at_most}"))
                };
                let bounds: Vec<_> = buckets.iter().filter_map(bound).collect();
                let bounds = bounds.join(", ");
                let count = match count {
                    (least, most) if least == most => least.to_string(),
                    (least, most) => format!("{least} to {most}"),
                };
                write!(f, "{count} values, sum {low} to {high} {{{bounds}}}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const KIND: Kind = Kind::Histogram {
        bounds: &[10, 100, 1000],
    };

    fn histogram(values: &[u64]) -> Value {
        let mut histogram = Value::zero(KIND);
        values.iter().for_each(|value| histogram.observe(*value, 1));
        histogram
    }

    /// One value between 50 and 400, one between 20 and 60, one that is exactly 7.
    fn limits() -> Value {
        let mut limits = histogram(&[7]);
        limits.observe_between(50, 400);
        limits.observe_between(20, 60);
        limits
    }

    /// Check that values within their limits pass, and that each way to be outside is found.
    #[rstest]
    #[case::lowest(&[7, 50, 20], true)]
    #[case::highest(&[7, 400, 60], true)]
    #[case::one_too_few(&[7, 400], false)]
    #[case::one_too_many(&[7, 50, 20, 20], false)]
    #[case::too_small_in_sum(&[7, 49, 20], false)]
    #[case::too_large_in_sum(&[7, 400, 61], false)]
    #[case::one_in_a_bucket_too_low(&[7, 10, 100], false)]
    #[case::one_in_a_bucket_too_high(&[7, 101, 101], false)]
    #[case::exact_one_elsewhere(&[11, 50, 20], false)]
    fn limits_admit_what_is_within(#[case] values: &[u64], #[case] admitted: bool) {
        assert_eq!(limits().admits(&histogram(values)), admitted);
    }

    /// Check that values that may or may not be there are admitted up to their number and size.
    #[rstest]
    #[case::none(&[7, 50, 20], true)]
    #[case::both(&[7, 50, 20, 5, 90], true)]
    #[case::three(&[7, 50, 20, 5, 5, 5], false)]
    #[case::too_large_in_sum(&[7, 400, 60, 100, 101], false)]
    fn limits_admit_what_may_be_there(#[case] values: &[u64], #[case] admitted: bool) {
        let mut limits = limits();
        limits.observe_up_to(2, 100);
        assert_eq!(limits.admits(&histogram(values)), admitted);
    }

    /// Check that limits are no observation, and that no limits fit another metric's buckets.
    #[test]
    fn limits_are_never_observed() {
        assert!(!limits().admits(&limits()));
        assert!(!histogram(&[7]).admits(&limits()));
        assert!(limits().fits(KIND));
        assert!(!limits().fits(Kind::Histogram { bounds: &[10, 100] }));
        assert!(!limits().is_untouched());
    }

    /// Check that limits are written with the buckets that they bind.
    #[test]
    fn limits_are_written_with_buckets_that_bind() {
        assert_eq!(
            limits().to_string(),
            "3 values, sum 77 to 467 {up to 10: 1 to 1, up to 100: 2 to 3}"
        );
    }
}
