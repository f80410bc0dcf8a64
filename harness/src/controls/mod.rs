//! Negative controls: each case that came out right is judged again with errors planted in what it brought home, and each error has to be
//! noticed, as itself. A case in which one is not proves nothing, however green it is.
//!
//! Every value of every case is planted one too many, and left out. Besides, each scenario has errors of its own ([`table`]), in what it
//! is about. The ways in which a whole run can go wrong are planted in guests (`tests/vm/can_fail.rs`).

mod plant;
pub mod table;

pub use plant::{Packets, Plant};

use crate::case::{deviation, values};
use crate::evidence::Evidence;
use crate::expect::{cross_check, expect};
use crate::outcome::Deviation;
use evidence::Scenario;
use metrics::{Labels, Sample, Series, Snapshot, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What became of the errors that were planted in one case.
#[derive(Debug, Default)]
pub struct Controls {
    /// How many were noticed.
    pub noticed: usize,
    /// Those that were not, as what is wrong with the case.
    pub unnoticed: Vec<Deviation>,
}

impl Controls {
    fn note(&mut self, unnoticed: Option<Deviation>) {
        match unnoticed {
            None => self.noticed += 1,
            Some(deviation) => self.unnoticed.push(deviation),
        }
    }
}

/// Plants every error that can be planted in what a right case brought home.
#[must_use]
pub fn plant(scenario: &Scenario, evidence: &Evidence, expected: &Snapshot) -> Controls {
    let mut controls = Controls::default();
    each_value(evidence, expected, &mut controls);
    for plant in table::of(&scenario.name) {
        if plant.may_be_lost(evidence) {
            continue;
        }
        controls.note(unnoticed(plant, scenario, evidence, expected));
    }
    controls
}

/// One planted error; `None` if it was noticed.
#[must_use]
pub fn unnoticed(
    plant: &Plant,
    scenario: &Scenario,
    evidence: &Evidence,
    expected: &Snapshot,
) -> Option<Deviation> {
    let Some(spoiled) = plant.spoil(evidence) else {
        return Some(blind(plant, "something to plant it in", "nothing"));
    };
    let found = if plant.is_in_witness() {
        let expected = expect(scenario, &spoiled);
        let mut found = values(&spoiled, &expected);
        found.extend(cross_check(scenario, &spoiled));
        found
    } else {
        values(&spoiled, expected)
    };
    let named = |deviation: &Deviation| plant.is_named_by(deviation);
    // What the probes are wrong in is wrong alone; a witness that is wrong is so in all that it says.
    let rest_is_right = plant.is_in_witness() || found.iter().all(named);
    if found.iter().any(named) && rest_is_right {
        return None;
    }
    let found: BTreeSet<&str> = found.iter().map(|d| d.metric.as_str()).collect();
    let found: Vec<&str> = found.into_iter().collect();
    Some(blind(plant, plant.names(), &found.join(", ")))
}

fn blind(plant: &Plant, expected: &str, observed: &str) -> Deviation {
    let labels = format!("{{planted=\"{plant}\"}}");
    deviation("control", &labels, expected, observed)
}

/// Every value one too many, and every value left out: all at once, as each has to be noticed by itself.
fn each_value(evidence: &Evidence, expected: &Snapshot, controls: &mut Controls) {
    let Some(observed) = &evidence.observed else {
        return;
    };
    let wanted: BTreeMap<&Series, &Value> = expected.iter().collect();
    let samples: Vec<Sample> = observed.clone().into();
    let (mut more, mut all, mut needed) = (Vec::new(), Vec::new(), Vec::new());
    for mut sample in samples {
        let series = series(&sample);
        let Some(wanted) = wanted.get(&series) else {
            continue;
        };
        if !sample.value.is_untouched() && !admits_none(wanted) {
            needed.push(series.clone());
        }
        sample.value = plant::one_more(&sample.value, Some(wanted));
        more.push(sample);
        all.push(series);
    }
    each_is_named(evidence, expected, more.into(), &all, "one more", controls);
    let none = Snapshot::new();
    each_is_named(evidence, expected, none, &needed, "left out", controls);
}

/// A writer may have found the buffer full or not: limits that leave that open miss no series.
const fn admits_none(expected: &Value) -> bool {
    matches!(expected, Value::Within(within) if within.count.0 == 0)
}

fn each_is_named(
    evidence: &Evidence,
    expected: &Snapshot,
    observed: Snapshot,
    planted: &[Series],
    how: &str,
    controls: &mut Controls,
) {
    let spoiled = Evidence {
        observed: Some(observed),
        lost: evidence.lost.clone(),
        ..Evidence::default()
    };
    let found: BTreeSet<(String, String)> = values(&spoiled, expected)
        .into_iter()
        .map(|deviation| (deviation.metric, deviation.labels))
        .collect();
    for Series { metric, labels } in planted {
        let is_named = found.contains(&(metric.clone(), labels.to_string()));
        let about = format!("{{planted=\"{how}: {metric}{labels}\"}}");
        let blind = || deviation("control", &about, metric, "nothing");
        controls.note((!is_named).then(blind));
    }
}

fn series(sample: &Sample) -> Series {
    Series {
        metric: sample.metric.clone(),
        labels: sample.labels.clone(),
    }
}

/// Does the series have all of these labels?
fn has(labels: &Labels, wanted: &[(&str, &str)]) -> bool {
    let mut wanted = wanted.iter();
    wanted.all(|(name, value)| labels.get(name) == Some(value))
}

/// As the value of a metric that is gone is put in.
fn stale() -> Value {
    Value::Counter(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::{Direction, PacketKind};
    use evidence::{CallCount, Direction as CallDirection, Protocol};
    use metrics::catalogue::{ACK_TIME, PACKETS, SLOTS_FREE, SOCKET_CALLS};
    use rstest::rstest;

    const CALL: Plant = Plant::Call(Protocol::L2cap, CallDirection::Write, "ok");
    const PACKET: Plant = Plant::Unlisted(Packets {
        hci: 0,
        way: Direction::HostToController,
        kind: PacketKind::Acl,
    });

    fn call() -> CallCount {
        CallCount {
            protocol: Protocol::L2cap,
            direction: CallDirection::Write,
            result: "ok".to_owned(),
            calls: 23,
            bytes: 2323,
        }
    }

    /// A run of one kind of call, whose probes saw all of them.
    fn evidence() -> Evidence {
        let mut evidence = Evidence {
            calls: vec![call()],
            ..Evidence::default()
        };
        evidence.observed = Some(expected(&evidence));
        evidence
    }

    fn scenario() -> Scenario {
        crate::scenarios::all().remove(0)
    }

    fn expected(evidence: &Evidence) -> Snapshot {
        expect(&scenario(), evidence)
    }

    /// Check that errors are noticed, as themselves, where the values are compared.
    #[rstest]
    #[case::call(CALL)]
    #[case::value(Plant::OneMore(&SOCKET_CALLS, &[("proto", "l2cap"), ("result", "ok")]))]
    #[case::stale(Plant::Stale(&PACKETS, &[("hci", "hci0"), ("kind", "acl"), ("direction", "sent")]))]
    fn planted_error_is_noticed(#[case] plant: Plant) {
        let evidence = evidence();
        let found = unnoticed(&plant, &scenario(), &evidence, &expected(&evidence));
        assert_eq!(found, None);
    }

    /// Check that an error that cannot be planted, and one that nothing is compared with, make the case wrong.
    #[rstest]
    #[case::no_such_packet(PACKET)]
    #[case::no_such_series(Plant::OneMore(&SLOTS_FREE, &[]))]
    #[case::no_such_times(Plant::Halved(&ACK_TIME, &[]))]
    #[case::no_such_device(Plant::PastKernel(0))]
    fn error_that_cannot_be_planted_is_told(#[case] plant: Plant) {
        let evidence = evidence();
        let found = unnoticed(&plant, &scenario(), &evidence, &expected(&evidence));
        let found = found.unwrap();
        assert_eq!(found.metric, "control");
        assert!(found.expected.contains("something"), "{found:?}");
    }

    /// Check that what is expected within limits that leave everything open is told, as it proves nothing.
    #[test]
    fn error_that_is_not_noticed_is_told() {
        let evidence = evidence();
        let mut open = expected(&evidence);
        let labels = [
            ("proto", "l2cap"),
            ("direction", "write"),
            ("origin", "user"),
            ("result", "ok"),
        ];
        open.insert(&SOCKET_CALLS, &labels, Value::Counter(24));
        let plant = Plant::OneMore(&SOCKET_CALLS, &[("result", "ok")]);
        let found = unnoticed(&plant, &scenario(), &evidence, &open).unwrap();
        assert!(found.expected.contains(SOCKET_CALLS.name), "{found:?}");
    }

    /// Check that every value that is compared is planted one too many and left out.
    #[test]
    fn each_value_is_planted_twice() {
        let evidence = evidence();
        let mut controls = Controls::default();
        each_value(&evidence, &expected(&evidence), &mut controls);
        // Calls and bytes.
        assert_eq!((controls.noticed, controls.unnoticed), (4, Vec::new()));
    }

    /// Check that times that are halved stay the same number of times.
    #[test]
    fn times_halved_are_as_many() {
        let mut snapshot = Snapshot::new();
        for ns in [9_000, 30_000, 20_000_000_000] {
            snapshot.observe(&ACK_TIME, &[("hci", "hci0"), ("kind", "acl")], ns);
        }
        let evidence = Evidence {
            observed: Some(snapshot),
            ..Evidence::default()
        };
        let spoiled = Plant::Halved(&ACK_TIME, &[]).spoil(&evidence).unwrap();
        let spoiled = spoiled.observed.unwrap();
        let (_, value) = spoiled.iter().next().unwrap();
        let Value::Histogram {
            buckets,
            count,
            sum,
        } = value
        else {
            panic!("{value:?}")
        };
        let counted: Vec<_> = buckets.iter().filter(|(_, n)| *n > 0).collect();
        assert_eq!(counted, [&(10_000, 1), &(20_000, 1), &(10_000_000_000, 1)]);
        assert_eq!((*count, *sum), (3, 10_000_019_500));
    }
}
