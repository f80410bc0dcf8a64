//! Throughput against none loaded, from transfers that stand side by side in time.
//!
//! The machine's speed wanders by more than the probes cost. So each load is measured between two stretches
//! without probes, and compared with the mean of these; what counts is the median of such ratios.

use serde::Serialize;
use std::collections::BTreeMap;

/// What stands for no probes.
const NONE: &str = "none";

/// Ratios in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Share {
    /// The smallest.
    pub min: f64,
    /// The one in the middle; of two, their mean.
    pub median: f64,
    /// The largest.
    pub max: f64,
    /// How many there are.
    pub rounds: usize,
}

impl Share {
    fn of(mut ratios: Vec<f64>) -> Option<Self> {
        ratios.sort_by(f64::total_cmp);
        let rounds = ratios.len();
        let (min, max) = (*ratios.first()?, *ratios.last()?);
        let median = f64::midpoint(ratios[(rounds - 1) / 2], ratios[rounds / 2]);
        let [min, median, max] = [min, median, max].map(|ratio| (ratio * 1000.0).round() / 10.0);
        Some(Self {
            min,
            median,
            max,
            rounds,
        })
    }
}

/// Throughput of each load against that without probes just before and after it.
pub(super) fn shares(timed: &[(String, u64)]) -> BTreeMap<String, Share> {
    let mut shares = BTreeMap::new();
    for (load, ratios) in ratios(timed) {
        shares.extend(Share::of(ratios).map(|share| (load, share)));
    }
    shares
}

/// Throughput of one load against that of another, round by round.
pub(super) fn share_against(timed: &[(String, u64)], load: &str, other: &str) -> Option<Share> {
    let ratios = ratios(timed);
    let pairs = ratios.get(load)?.iter().zip(ratios.get(other)?);
    Share::of(pairs.map(|(one, other)| one / other).collect())
}

/// The ratios of each load, in the order of the rounds.
fn ratios(timed: &[(String, u64)]) -> BTreeMap<String, Vec<f64>> {
    let mut ratios: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for around in stretches(timed).windows(3) {
        let [(before, first), (load, time), (after, second)] = around else {
            continue;
        };
        if before == NONE && after == NONE && load != NONE {
            let ratio = f64::midpoint(*first, *second) / time;
            ratios.entry(load.clone()).or_default().push(ratio);
        }
    }
    ratios
}

/// The median time of each run of transfers with the same load.
fn stretches(timed: &[(String, u64)]) -> Vec<(String, f64)> {
    let same = timed.chunk_by(|one, next| one.0 == next.0);
    let median = |times: &[(String, u64)]| {
        let mut sorted: Vec<u64> = times.iter().map(|(_, ns)| *ns).collect();
        sorted.sort_unstable();
        let middle = sorted[(sorted.len() - 1) / 2];
        #[expect(clippy::cast_precision_loss, reason = "2^53 ns are a hundred days")]
        let middle = middle.max(1) as f64;
        (times[0].0.clone(), middle)
    };
    same.map(median).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed(times: &[(&str, u64)]) -> Vec<(String, u64)> {
        let own = |(load, ns): &(&str, u64)| ((*load).to_owned(), *ns);
        times.iter().map(own).collect()
    }

    /// Check that a machine that becomes slower all the time does not look like a cost.
    #[test]
    fn drift_is_no_cost() {
        let times = timed(&[
            ("none", 100),
            ("all", 110),
            ("none", 120),
            ("plain", 130),
            ("none", 140),
            ("all", 150),
            ("none", 160),
        ]);
        let shares = shares(&times);
        let all = shares["all"];
        assert_eq!((all.min, all.median, all.max), (100.0, 100.0, 100.0));
        assert_eq!((all.rounds, shares["plain"].rounds), (2, 1));
    }

    /// Check that of each stretch the median counts, and that two loads are compared round by round.
    #[test]
    fn medians_of_stretches_are_compared() {
        let round = [
            ("none", 100),
            ("all", 900),
            ("all", 125),
            ("all", 120),
            ("none", 100),
            ("plain", 200),
            ("none", 100),
        ];
        let times = timed(&round);
        assert_eq!(shares(&times)["all"].median, 80.0);
        assert_eq!(shares(&times)["plain"].median, 50.0);
        let against = share_against(&times, "all", "plain").unwrap();
        assert_eq!((against.median, against.rounds), (160.0, 1));
        assert_eq!(share_against(&times, "all", "socket"), None);
    }

    /// Check that what was not measured between two stretches without probes does not count.
    #[test]
    fn half_a_round_is_no_ratio() {
        assert!(shares(&timed(&[("none", 1), ("all", 2)])).is_empty());
        assert!(shares(&[]).is_empty());
    }
}
