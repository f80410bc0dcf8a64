//! One planted error, and what has to be said of it.

use super::{has, stale};
use crate::evidence::Evidence;
use crate::outcome::Deviation;
use controller::{Direction as Way, Entry, PacketKind};
use evidence::{CallCount, Direction, Protocol};
use metrics::catalogue::{PACKETS, SOCKET_CALLS};
use metrics::{Labels, Metric, Sample, Snapshot, Value};
use std::fmt;

/// Labels that a series has, others aside.
pub(super) type Wanted = &'static [(&'static str, &'static str)];

/// Packets of a controller's ledger.
#[derive(Debug, Clone, Copy)]
pub struct Packets {
    /// N of hciN.
    pub hci: u16,
    /// Which way.
    pub way: Way,
    /// Of which kind.
    pub kind: PacketKind,
}

/// One error, planted in what a case brought home.
#[derive(Debug, Clone, Copy)]
pub enum Plant {
    /// The probes count one more in the first series with these labels.
    OneMore(&'static Metric, Wanted),
    /// The probes take all times of the first series with these labels for half as long.
    Halved(&'static Metric, Wanted),
    /// The probes still show a series of something that is gone.
    Stale(&'static Metric, Wanted),
    /// A socket call was made that the probes did not see: one more with this result.
    Call(Protocol, Direction, &'static str),
    /// The last of these packets is not in the ledger.
    Unlisted(Packets),
    /// The last of these packets is in the ledger twice.
    ListedTwice(Packets),
    /// A process read one more event past the kernel of this hciN than it did.
    PastKernel(u16),
}

impl Plant {
    /// What the case would have brought home; `None` if it has not what the error is about.
    #[must_use]
    pub fn spoil(&self, evidence: &Evidence) -> Option<Evidence> {
        let mut spoiled = evidence.clone();
        match *self {
            Self::OneMore(metric, labels) => {
                change(&mut spoiled, metric, labels, |value| one_more(value, None))?;
            }
            Self::Halved(metric, labels) => change(&mut spoiled, metric, labels, halved)?,
            Self::Stale(metric, labels) => {
                let observed = spoiled.observed.as_mut()?;
                observed.insert(metric, labels, stale());
            }
            Self::Call(protocol, direction, result) => {
                let is_it = |call: &&mut CallCount| {
                    (call.protocol, call.direction, call.result.as_str())
                        == (protocol, direction, result)
                };
                spoiled.calls.iter_mut().find(is_it)?.calls += 1;
            }
            Self::Unlisted(packets) => {
                let (entries, last) = last_of(&mut spoiled, packets)?;
                entries.remove(last);
            }
            Self::ListedTwice(packets) => {
                let (entries, last) = last_of(&mut spoiled, packets)?;
                let again = entries.get(last)?.clone();
                entries.insert(last, again);
            }
            Self::PastKernel(hci) => spoiled.user_channel.get_mut(&hci)?.events += 1,
        }
        Some(spoiled)
    }

    /// Is it the witnesses that are made wrong, and not the probes?
    #[must_use]
    pub const fn is_in_witness(&self) -> bool {
        !matches!(self, Self::OneMore(..) | Self::Halved(..) | Self::Stale(..))
    }

    /// What has to be named for it.
    #[must_use]
    pub const fn names(&self) -> &'static str {
        match self {
            Self::OneMore(metric, _) | Self::Halved(metric, _) | Self::Stale(metric, _) => {
                metric.name
            }
            Self::Call(..) => SOCKET_CALLS.name,
            Self::Unlisted(_) | Self::ListedTwice(_) => PACKETS.name,
            Self::PastKernel(_) => "HCIGETDEVINFO evt_rx",
        }
    }

    /// The labels of what has to be named.
    fn labels(&self) -> Vec<(&'static str, String)> {
        let owned = |labels: Wanted| labels.iter().map(|(n, v)| (*n, (*v).to_owned())).collect();
        match self {
            Self::OneMore(_, labels) | Self::Halved(_, labels) | Self::Stale(_, labels) => {
                owned(labels)
            }
            Self::Call(protocol, direction, result) => vec![
                ("proto", protocol.label().to_owned()),
                ("direction", direction.label().to_owned()),
                ("result", (*result).to_owned()),
            ],
            Self::Unlisted(packets) | Self::ListedTwice(packets) => vec![
                ("hci", format!("hci{}", packets.hci)),
                ("kind", packets.kind_name().to_owned()),
                ("direction", packets.way_name().to_owned()),
            ],
            Self::PastKernel(hci) => vec![("hci", format!("hci{hci}"))],
        }
    }

    /// Does this deviation say what was planted?
    #[must_use]
    pub fn is_named_by(&self, deviation: &Deviation) -> bool {
        let labels = self.labels();
        let mut texts = labels
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"));
        deviation.metric == self.names() && texts.all(|text| deviation.labels.contains(&text))
    }

    /// Is what has to be named absent on this kernel, as foretold?
    #[must_use]
    pub fn may_be_lost(&self, evidence: &Evidence) -> bool {
        let labels = self.labels();
        let agrees = |(name, value): &(String, String)| {
            let same = labels.iter().find(|(other, _)| other == name);
            same.is_none_or(|(_, wanted)| wanted == value)
        };
        let mut lost = evidence.lost.iter();
        lost.any(|lost| lost.metric == self.names() && lost.labels.iter().all(agrees))
    }
}

impl fmt::Display for Plant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = match self {
            Self::OneMore(..) => "one more",
            Self::Halved(..) => "half as long",
            Self::Stale(..) => "stale series",
            Self::Call(..) => "call unseen",
            Self::Unlisted(_) => "packet not in the ledger",
            Self::ListedTwice(_) => "packet twice in the ledger",
            Self::PastKernel(_) => "event past the kernel",
        };
        let labels = self.labels();
        let labels = labels.iter().map(|(name, value)| format!("{name}={value}"));
        write!(f, "{how}: {}", labels.collect::<Vec<_>>().join(" "))
    }
}

impl Packets {
    const fn kind_name(self) -> &'static str {
        match self.kind {
            PacketKind::Command => "command",
            PacketKind::Acl => "acl",
            PacketKind::Sco => "sco",
            PacketKind::Event => "event",
            PacketKind::Iso => "iso",
        }
    }

    const fn way_name(self) -> &'static str {
        match self.way {
            Way::HostToController => "sent",
            Way::ControllerToHost => "received",
        }
    }

    fn are(self, entry: &Entry) -> bool {
        entry.kind == Some(self.kind) && entry.direction == self.way
    }
}

fn last_of(evidence: &mut Evidence, packets: Packets) -> Option<(&mut Vec<Entry>, usize)> {
    let entries = evidence.ledgers.get_mut(&packets.hci)?;
    let last = entries.iter().rposition(|entry| packets.are(entry))?;
    Some((entries, last))
}

/// Changes the first series with these labels.
fn change(
    evidence: &mut Evidence,
    metric: &Metric,
    labels: Wanted,
    how: impl Fn(&Value) -> Value,
) -> Option<()> {
    let observed = evidence.observed.take()?;
    let mut samples: Vec<Sample> = observed.into();
    let is_it = |sample: &&mut Sample| is_series(&sample.metric, &sample.labels, metric, labels);
    let sample = samples.iter_mut().find(is_it)?;
    sample.value = how(&sample.value);
    evidence.observed = Some(Snapshot::from(samples));
    Some(())
}

fn is_series(name: &str, of: &Labels, metric: &Metric, labels: Wanted) -> bool {
    name == metric.name && has(of, labels)
}

/// One more of it: a value above all bounds of a histogram, and as many of them as its limits leave room for.
pub(super) fn one_more(value: &Value, expected: Option<&Value>) -> Value {
    match value {
        Value::Counter(n) => Value::Counter(n + 1),
        Value::Gauge(n) => Value::Gauge(n + 1),
        Value::Histogram {
            buckets,
            count,
            sum,
        } => {
            let most = match expected {
                Some(Value::Within(within)) => within.count.1,
                _ => *count,
            };
            Value::Histogram {
                buckets: buckets.clone(),
                count: most + 1,
                sum: *sum,
            }
        }
        Value::Within(within) => Value::Within(within.clone()),
    }
}

/// Every time half as long, or so: buckets are 1, 2, 5, 10 and so on.
fn halved(value: &Value) -> Value {
    let Value::Histogram {
        buckets,
        count,
        sum,
    } = value
    else {
        return value.clone();
    };
    let counts = buckets.iter().skip(1).map(|(_, n)| *n);
    let above = count - buckets.iter().map(|(_, n)| n).sum::<u64>();
    let mut shifted: Vec<(u64, u64)> = buckets
        .iter()
        .zip(counts.chain([above]))
        .map(|((bound, _), n)| (*bound, n))
        .collect();
    if let (Some(first), Some((_, n))) = (shifted.first_mut(), buckets.first()) {
        first.1 += n;
    }
    Value::Histogram {
        buckets: shifted,
        count: *count,
        sum: sum / 2,
    }
}
