//! What of the catalogue no case asserted.

use super::Report;
use super::metrics::touched;
use metrics::catalogue::{
    BUFFER_FULL_TIME, BUFFER_WOULD_BLOCK, CATALOGUE, LabelValues, QUEUE_TIME, SEND_FAILURES,
    URB_DEFERRED, URB_REFUSED,
};
use metrics::{Family, Metric};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// A metric, and a value of one of its labels; none: the metric as a whole.
type Value = (&'static str, Option<(&'static str, &'static str)>);

/// What scenarios do not touch, and why they cannot.
struct Excuse {
    metric: &'static Metric,
    /// A label and some of its values; none: the whole metric.
    label: &'static str,
    values: &'static [&'static str],
    why: &'static str,
}

const EXCUSES: &[Excuse] = &[
    Excuse {
        metric: &BUFFER_FULL_TIME,
        label: "proto",
        values: &["rfcomm"],
        why: "RFCOMM's messages never reach a driver themselves",
    },
    Excuse {
        metric: &BUFFER_FULL_TIME,
        label: "proto",
        values: &["hci"],
        why: "what is written to a raw HCI socket goes to the driver at once",
    },
    Excuse {
        metric: &BUFFER_WOULD_BLOCK,
        label: "proto",
        values: &["hci"],
        why: "what is written to a raw HCI socket goes to the driver at once",
    },
    Excuse {
        metric: &QUEUE_TIME,
        label: "kind",
        values: &["unknown"],
        why: "what processes send past the kernel never waits in its queues",
    },
    Excuse {
        metric: &SEND_FAILURES,
        label: "kind",
        values: &["command", "acl", "iso"],
        why: "hci_vhci takes every packet, btusb these as long as the dongle is there; when it goes, so do the series",
    },
    Excuse {
        metric: &SEND_FAILURES,
        label: "kind",
        values: &["event"],
        why: "kernels take no events from processes",
    },
    Excuse {
        metric: &URB_REFUSED,
        label: "endpoint",
        values: &["control", "bulk"],
        why: "usbcore takes each of these from btusb as long as the dongle is there; when it goes, so do the series",
    },
    Excuse {
        metric: &URB_DEFERRED,
        label: "endpoint",
        values: &["isoc"],
        why: "btusb never defers voice",
    },
    Excuse {
        metric: &URB_DEFERRED,
        label: "endpoint",
        values: &["bulk"],
        why: "newer kernels do not suspend a dongle that has a link",
    },
];

impl Excuse {
    fn is_for(&self, (metric, label): &Value) -> bool {
        let of_label =
            |(name, value): &(&str, &str)| self.label == *name && self.values.contains(value);
        self.metric.name == *metric
            && (self.label.is_empty() || label.as_ref().is_some_and(of_label))
    }
}

impl Report {
    /// Which metrics, and which values of their labels, no right case of the report touched: a line each, and why that is so for those that
    /// cannot be.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        let touched = self.touched();
        let mut coverage = Coverage::default();
        for value in values() {
            let excuse = EXCUSES.iter().find(|excuse| excuse.is_for(&value));
            match (touched.contains(&value), excuse) {
                (true, None) => coverage.touched += 1,
                (true, Some(_)) => coverage.needlessly_excused.push(text(&value)),
                (false, None) => coverage.untouched.push(text(&value)),
                (false, Some(excuse)) => coverage.excused.push((text(&value), excuse.why)),
            }
        }
        coverage
    }

    fn touched(&self) -> BTreeSet<Value> {
        let mut found = BTreeSet::new();
        let wanted: Vec<Value> = values().collect();
        for result in self.results.iter().filter(|r| r.class.is_right()) {
            for metric in CATALOGUE {
                for series in touched(result, metric) {
                    let lost = &result.evidence.lost;
                    if lost.iter().any(|lost| lost.covers(&series)) {
                        continue;
                    }
                    let is_it = |(name, label): &&Value| {
                        let has =
                            |(name, value): (&str, &str)| series.labels.get(name) == Some(value);
                        *name == metric.name && label.is_none_or(has)
                    };
                    found.extend(wanted.iter().filter(is_it));
                }
            }
        }
        found
    }
}

/// Every metric, and every value of every label that has a list of them.
fn values() -> impl Iterator<Item = Value> {
    let measured = CATALOGUE.iter().filter(|m| m.family != Family::Probe);
    measured.flat_map(|metric| {
        let of_labels = metric.labels.iter().flat_map(|label| {
            let values: &[&'static str] = match label.values {
                LabelValues::OneOf(values) => values,
                _ => &[],
            };
            values.iter().map(|value| Some((label.name, *value)))
        });
        [None]
            .into_iter()
            .chain(of_labels)
            .map(|label| (metric.name, label))
    })
}

fn text((metric, label): &Value) -> String {
    match label {
        None => (*metric).to_owned(),
        Some((name, value)) => format!("{metric}{{{name}=\"{value}\"}}"),
    }
}

/// What of the catalogue was touched.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    touched: usize,
    untouched: Vec<String>,
    excused: Vec<(String, &'static str)>,
    needlessly_excused: Vec<String>,
}

impl Coverage {
    /// Is everything touched that can be, and only that excused which cannot?
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.untouched.is_empty() && self.needlessly_excused.is_empty()
    }

    /// For people.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for value in &self.untouched {
            let _ = writeln!(text, "no case touched {value}");
        }
        for value in &self.needlessly_excused {
            let _ = writeln!(text, "{value} is excused, and was touched");
        }
        for (value, why) in &self.excused {
            let _ = writeln!(text, "excused: {value}: {why}");
        }
        let all = self.touched
            + self.untouched.len()
            + self.excused.len()
            + self.needlessly_excused.len();
        let _ = writeln!(
            text,
            "{} of {all} metrics and label values touched, {} excused",
            self.touched + self.needlessly_excused.len(),
            self.excused.len()
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::samples;

    /// Check that a value of a label counts as touched when a right case expects something of a series with it, and not when the case was
    /// wrong or the series lost.
    #[test]
    fn values_are_touched_by_right_cases_alone() {
        let touched = |outcome, lost: bool| {
            let mut report = samples::report(vec![outcome]);
            if lost {
                report.results[0].evidence.lost = vec![metrics::Lost {
                    metric: "bluetooth_socket_calls_total".to_owned(),
                    labels: Vec::new(),
                    reason: String::new(),
                }];
            }
            let coverage = report.coverage();
            assert!(!coverage.is_whole());
            let named = |value: &str| coverage.untouched.iter().any(|v| v == value);
            (
                !named("bluetooth_socket_calls_total"),
                !named("bluetooth_socket_calls_total{proto=\"l2cap\"}"),
                !named("bluetooth_socket_calls_total{proto=\"sco\"}"),
            )
        };
        assert_eq!(touched(Outcome::Passed, false), (true, true, false));
        assert_eq!(touched(Outcome::Passed, true), (false, false, false));
        assert_eq!(touched(samples::differs(), false), (false, false, false));
    }

    /// Check that each excuse is for something that the catalogue has, and that nothing has two.
    #[test]
    fn excuses_are_for_what_there_is() {
        let all: Vec<Value> = values().collect();
        for excuse in EXCUSES {
            let excused = all.iter().filter(|value| excuse.is_for(value)).count();
            let wanted = excuse.values.len().max(1);
            assert!(excused >= wanted, "{}", excuse.why);
        }
        for value in &all {
            let excuses = EXCUSES.iter().filter(|excuse| excuse.is_for(value)).count();
            assert!(excuses <= 1, "{value:?}");
        }
    }
}
