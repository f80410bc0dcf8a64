//! What each metric is called, counts, and means.

mod buffer;
mod credits;
mod functions;
mod hci;
mod latency;
mod needs;
mod probe;
mod socket;
mod times;
mod urb;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use buffer::{BUFFER_FILL, BUFFER_FULL_TIME, BUFFER_OCCUPIED, BUFFER_WOULD_BLOCK};
pub use credits::{
    COMPLETED_PACKETS, COMPLETED_PACKETS_EVENTS, SCO_FLOW_CONTROL, SLOTS_AT_SEND, SLOTS_CAPACITY,
    SLOTS_EXHAUSTED, SLOTS_FREE, SLOTS_MINIMUM, USER_CHANNEL,
};
pub use functions::{FUNCTIONS, Function, find_function};
pub use hci::{
    ANSWERS_UNMATCHED, BYTES, COMMAND_FAILURES, COMMAND_TIME, COMMANDS, COMMANDS_PENDING,
    COMMANDS_UNANSWERED, ERRORS, EVENTS, LE_EVENTS, PACKETS, SEND_FAILURES,
};
pub use latency::{ACK_TIME, ACKS_UNMATCHED, IN_FLIGHT, QUEUE_TIME, UNACKNOWLEDGED};
pub use needs::{IN_SOFTIRQ, SOMETIMES_VOID, members_of, needed_by};
pub use probe::{PROBE_DROPS, PROBE_INFO, PROBE_MISSED};
pub use socket::{SOCKET_BYTES, SOCKET_CALLS};
pub use urb::{
    URB_BYTES, URB_COMPLETED, URB_DEFERRED, URB_IN_FLIGHT, URB_ISOC_PACKETS, URB_LATENCY,
    URB_REFUSED, URB_SUBMITTED,
};

use crate::errno::is_errno_name;

/// Every metric, families in order.
pub static CATALOGUE: &[&Metric] = &[
    &SOCKET_CALLS,
    &SOCKET_BYTES,
    &BUFFER_OCCUPIED,
    &BUFFER_FILL,
    &BUFFER_WOULD_BLOCK,
    &BUFFER_FULL_TIME,
    &SLOTS_FREE,
    &SLOTS_CAPACITY,
    &SLOTS_MINIMUM,
    &SLOTS_AT_SEND,
    &SLOTS_EXHAUSTED,
    &COMPLETED_PACKETS,
    &COMPLETED_PACKETS_EVENTS,
    &SCO_FLOW_CONTROL,
    &USER_CHANNEL,
    &URB_SUBMITTED,
    &URB_REFUSED,
    &URB_COMPLETED,
    &URB_BYTES,
    &URB_IN_FLIGHT,
    &URB_LATENCY,
    &URB_ISOC_PACKETS,
    &URB_DEFERRED,
    &QUEUE_TIME,
    &ACK_TIME,
    &IN_FLIGHT,
    &UNACKNOWLEDGED,
    &ACKS_UNMATCHED,
    &PACKETS,
    &BYTES,
    &COMMANDS,
    &EVENTS,
    &LE_EVENTS,
    &COMMAND_TIME,
    &COMMANDS_PENDING,
    &COMMANDS_UNANSWERED,
    &ANSWERS_UNMATCHED,
    &COMMAND_FAILURES,
    &ERRORS,
    &SEND_FAILURES,
    &PROBE_INFO,
    &PROBE_MISSED,
    &PROBE_DROPS,
];

/// The metric of that name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Metric> {
    CATALOGUE.iter().copied().find(|metric| metric.name == name)
}

/// One metric: how it is exposed, and what its number says.
#[derive(Debug)]
pub struct Metric {
    /// Full name as Prometheus sees it, with the unit and `_total` where they belong.
    pub name: &'static str,
    /// The family, which is also the probe object that measures it.
    pub family: Family,
    /// Counter, gauge or histogram.
    pub kind: Kind,
    /// Unit of the values that a [`crate::Snapshot`] holds.
    pub unit: Unit,
    /// Labels: each series has all of them and no other.
    pub labels: &'static [Label],
    /// One line for the exposition format.
    pub help: &'static str,
    /// What the number says, and what it does not say.
    pub meaning: &'static str,
    /// Kernel functions the value is taken from, `module:function`, best source first.
    pub functions: &'static [&'static str],
    /// Where a kernel, a driver or a way of attaching makes the value mean less.
    pub caveats: &'static [&'static str],
}

/// A group of metrics that one probe object measures.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Reads and writes on Bluetooth sockets.
    Socket,
    /// Occupancy of socket send buffers.
    Buffer,
    /// Free packet slots in the controllers, and the events that free them.
    Credits,
    /// USB request blocks of the Bluetooth driver.
    Urb,
    /// Time from queue to driver, and from driver to acknowledgement.
    Latency,
    /// HCI packets, commands, events and errors.
    Hci,
    /// The probes themselves: what is attached and what was lost.
    Probe,
}

impl Family {
    /// Every family.
    pub const ALL: &[Self] = &[
        Self::Socket,
        Self::Buffer,
        Self::Credits,
        Self::Urb,
        Self::Latency,
        Self::Hci,
        Self::Probe,
    ];

    /// Name in labels, in file names and on command lines.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Socket => "socket",
            Self::Buffer => "buffer",
            Self::Credits => "credits",
            Self::Urb => "urb",
            Self::Latency => "latency",
            Self::Hci => "hci",
            Self::Probe => "probe",
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a metric's values behave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only grows while its source lives.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts values by size.
    Histogram {
        /// Inclusive upper bounds of the buckets, ascending; larger values are only in the total.
        bounds: &'static [u64],
    },
}

/// Unit of a metric's values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// A plain number of things.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds in a snapshot; exposed as seconds.
    Nanoseconds,
    /// Percent in a snapshot; exposed as a ratio.
    Percent,
}

/// One label of a metric.
#[derive(Debug)]
pub struct Label {
    /// Name of the label.
    pub name: &'static str,
    /// The values it can have.
    pub values: LabelValues,
    /// What it tells apart.
    pub help: &'static str,
}

/// Bound on the values of a label.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LabelValues {
    /// One of these.
    OneOf(&'static [&'static str]),
    /// `hci0` to `hci65535`: as many as there are devices.
    Hci,
    /// `ok`, or the name of an error number ([`crate::errno_name`]).
    Result,
    /// Name of a probe program: a C identifier of at most 63 bytes.
    Prog,
    /// `0x00` to `0xff`.
    Byte,
    /// `0x0000` to `0xffff`, of which only those in the specification's ranges occur; `vendor`;
    /// `other`.
    Opcode,
}

impl LabelValues {
    /// Is this value within the bound?
    #[must_use]
    pub fn allows(&self, value: &str) -> bool {
        match self {
            Self::OneOf(values) => values.contains(&value),
            Self::Hci => value
                .strip_prefix("hci")
                .is_some_and(|index| index.parse::<u16>().is_ok_and(|n| n.to_string() == index)),
            Self::Result => value == "ok" || is_errno_name(value),
            Self::Byte => is_hexadecimal(value, 2),
            Self::Opcode => matches!(value, "vendor" | "other") || is_hexadecimal(value, 4),
            Self::Prog => {
                (1..=63).contains(&value.len())
                    && value
                        .bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b == b'_')
            }
        }
    }
}

/// Is it `0x` and so many digits, the letters small?
fn is_hexadecimal(value: &str, digits: usize) -> bool {
    value.strip_prefix("0x").is_some_and(|number| {
        let digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        number.len() == digits && number.bytes().all(digit)
    })
}

/// Why labels do not fit a metric.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum LabelError {
    /// The metric has no such label.
    #[error("metric {metric} has no label {label}")]
    UnknownLabel {
        /// Name of the metric.
        metric: String,
        /// Name of the label.
        label: String,
    },
    /// A label of the metric is not there, or is there twice.
    #[error("metric {metric} needs label {label} exactly once, found {found}")]
    Occurrences {
        /// Name of the metric.
        metric: String,
        /// Name of the label.
        label: String,
        /// How often it is there.
        found: usize,
    },
    /// The value is outside the label's bound.
    #[error("metric {metric} does not allow {label}={value}")]
    Value {
        /// Name of the metric.
        metric: String,
        /// Name of the label.
        label: String,
        /// The value.
        value: String,
    },
}

impl Metric {
    /// Checks that `labels` are this metric's labels with values in their bounds.
    ///
    /// # Errors
    ///
    /// Says which label is too many, missing, doubled or out of its bound.
    pub fn check_labels(&self, labels: &[(&str, &str)]) -> Result<(), LabelError> {
        for (name, value) in labels {
            let label = self
                .labels
                .iter()
                .find(|label| label.name == *name)
                .ok_or_else(|| LabelError::UnknownLabel {
                    metric: self.name.to_owned(),
                    label: (*name).to_owned(),
                })?;
            if !label.values.allows(value) {
                return Err(LabelError::Value {
                    metric: self.name.to_owned(),
                    label: (*name).to_owned(),
                    value: (*value).to_owned(),
                });
            }
        }
        for label in self.labels {
            let found = labels
                .iter()
                .filter(|(name, _)| *name == label.name)
                .count();
            if found != 1 {
                return Err(LabelError::Occurrences {
                    metric: self.name.to_owned(),
                    label: label.name.to_owned(),
                    found,
                });
            }
        }
        Ok(())
    }
}

/// The label that names a device.
pub(crate) const HCI: Label = Label {
    name: "hci",
    values: LabelValues::Hci,
    help: "the device, as bluetoothctl and hciconfig name it",
};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use rstest::rstest;

    use super::*;

    /// Check that no two metrics share a name and that each can be found by it.
    #[test]
    fn catalogue_names_are_unique_and_found() {
        let names: BTreeSet<_> = CATALOGUE.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), CATALOGUE.len());
        for metric in CATALOGUE {
            assert!(find(metric.name).is_some_and(|found| std::ptr::eq(found, *metric)));
        }
        assert!(find("bluetooth_nothing").is_none());
    }

    /// Check that names follow the naming guide: prefix, counters with `_total`, the unit in the name.
    #[test]
    fn catalogue_names_follow_the_naming_guide() {
        for metric in CATALOGUE {
            let name = metric.name;
            assert!(name.starts_with("bluetooth_"), "{name}");
            assert!(
                name.bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert_eq!(
                name.ends_with("_total"),
                metric.kind == Kind::Counter,
                "{name}"
            );
            let stem = name.trim_end_matches("_total");
            assert_eq!(
                stem.ends_with("_bytes"),
                metric.unit == Unit::Bytes,
                "{name}"
            );
            assert_eq!(
                stem.ends_with("_seconds"),
                metric.unit == Unit::Nanoseconds,
                "{name}"
            );
            assert_eq!(
                stem.ends_with("_ratio"),
                metric.unit == Unit::Percent,
                "{name}"
            );
        }
    }

    /// Check that every metric says what it means, and one line of help that ends without a stop.
    #[test]
    fn catalogue_texts_are_complete() {
        for metric in CATALOGUE {
            assert!(
                !metric.help.is_empty() && !metric.help.ends_with('.'),
                "{}",
                metric.name
            );
            assert!(
                !metric.help.contains('\n') && metric.meaning.ends_with('.'),
                "{}",
                metric.name
            );
            assert!(
                metric.labels.iter().all(|label| !label.help.is_empty()),
                "{}",
                metric.name
            );
        }
    }

    /// Check that bounds of histograms ascend strictly.
    #[test]
    fn catalogue_histogram_bounds_ascend() {
        for metric in CATALOGUE {
            if let Kind::Histogram { bounds } = metric.kind {
                assert!(
                    bounds.windows(2).all(|pair| pair[0] < pair[1]),
                    "{}",
                    metric.name
                );
                assert!(!bounds.is_empty());
            }
        }
    }

    /// Check which values each kind of label bound lets through.
    #[rstest]
    #[case::hci(LabelValues::Hci, "hci0", true)]
    #[case::hci_last(LabelValues::Hci, "hci65535", true)]
    #[case::hci_beyond(LabelValues::Hci, "hci65536", false)]
    #[case::hci_zeros(LabelValues::Hci, "hci00", false)]
    #[case::hci_sign(LabelValues::Hci, "hci+1", false)]
    #[case::hci_bare(LabelValues::Hci, "hci", false)]
    #[case::result_ok(LabelValues::Result, "ok", true)]
    #[case::result_errno(LabelValues::Result, "ERESTARTSYS", true)]
    #[case::result_number(LabelValues::Result, "11", false)]
    #[case::prog(LabelValues::Prog, "hci_tx_work_fexit", true)]
    #[case::prog_empty(LabelValues::Prog, "", false)]
    #[case::prog_slash(LabelValues::Prog, "fexit/x", false)]
    #[case::byte(LabelValues::Byte, "0x3e", true)]
    #[case::byte_capital(LabelValues::Byte, "0x3E", false)]
    #[case::byte_short(LabelValues::Byte, "0xe", false)]
    #[case::opcode(LabelValues::Opcode, "0x0c03", true)]
    #[case::opcode_vendor(LabelValues::Opcode, "vendor", true)]
    #[case::opcode_bare(LabelValues::Opcode, "0c03", false)]
    #[case::one_of(LabelValues::OneOf(&["a", "b"]), "b", true)]
    #[case::none_of(LabelValues::OneOf(&["a", "b"]), "c", false)]
    fn label_values_allow_what_is_in_bounds(
        #[case] values: LabelValues,
        #[case] value: &str,
        #[case] allowed: bool,
    ) {
        assert_eq!(values.allows(value), allowed);
    }

    /// Check that labels which are missing, doubled, unknown or out of bounds are named.
    #[test]
    fn check_labels_with_wrong_labels_names_them() {
        let good = [("hci", "hci0"), ("kind", "acl")];
        assert_eq!(SLOTS_FREE.check_labels(&good), Ok(()));
        let missing = SLOTS_FREE.check_labels(&good[..1]);
        assert!(matches!(
            missing,
            Err(LabelError::Occurrences { found: 0, .. })
        ));
        let doubled = SLOTS_FREE.check_labels(&[good[0], good[1], good[1]]);
        assert!(matches!(
            doubled,
            Err(LabelError::Occurrences { found: 2, .. })
        ));
        let unknown = SLOTS_FREE.check_labels(&[good[0], good[1], ("proto", "l2cap")]);
        assert!(matches!(unknown, Err(LabelError::UnknownLabel { .. })));
        let outside = SLOTS_FREE.check_labels(&[good[0], ("kind", "amp")]);
        assert!(matches!(outside, Err(LabelError::Value { .. })));
    }
}
