//! Reading a snapshot.

use std::collections::BTreeMap;

use thiserror::Error;

use super::decimal::{CENTI, NANO, unscaled};
use crate::catalogue::{Kind, LabelError, Metric, Unit, find};
use crate::snapshot::Snapshot;
use crate::value::Value;

/// Why text is not a snapshot of this catalogue.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum ParseError {
    /// A line is neither a comment nor `name{labels} value`.
    #[error("line {line} is no sample: {text:?}")]
    Sample {
        /// Its number, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// The catalogue has no such metric.
    #[error("line {line}: no metric is called {name}")]
    UnknownMetric {
        /// Number of the line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
    /// Labels are not those of the metric.
    #[error("line {line}: {source}")]
    Labels {
        /// Number of the line, from 1.
        line: usize,
        /// What is wrong.
        source: LabelError,
    },
    /// A number is not one that the metric can have.
    #[error("line {line}: {text:?} is not a number that {metric} can have")]
    Number {
        /// Number of the line, from 1.
        line: usize,
        /// Name of the metric.
        metric: String,
        /// What stands in its place.
        text: String,
    },
    /// The same series twice.
    #[error("line {line}: this series was there before")]
    Twice {
        /// Number of the line, from 1.
        line: usize,
    },
    /// Buckets, sum and count of a histogram do not belong together.
    #[error("the parts of histogram {metric}{{{labels}}} are not complete and ascending")]
    Histogram {
        /// Name of the metric.
        metric: String,
        /// Labels of the series.
        labels: String,
    },
}

/// Reads text in either format. Comments are passed over.
///
/// # Errors
///
/// Names the first line that is not a sample of a metric in the catalogue.
pub fn parse(text: &str) -> Result<Snapshot, ParseError> {
    let mut snapshot = Snapshot::new();
    let mut histograms: BTreeMap<(&'static str, Pairs), Parts> = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let sample = sample(line).ok_or_else(|| ParseError::Sample {
            line: number,
            text: line.to_owned(),
        })?;
        let (metric, part) = metric_of(sample.name).ok_or_else(|| ParseError::UnknownMetric {
            line: number,
            name: sample.name.to_owned(),
        })?;
        match part {
            Part::Whole => whole(&mut snapshot, number, metric, &sample)?,
            part => {
                let (labels, bound) = without_bound(sample.labels.clone());
                let parts = histograms.entry((metric.name, labels)).or_default();
                parts.add(number, metric, part, bound, sample.value)?;
            }
        }
    }
    for ((name, labels), parts) in histograms {
        let metric = find(name).expect("it was found before");
        finish(&mut snapshot, metric, &labels, parts)?;
    }
    Ok(snapshot)
}

/// Names and values of labels, in order.
type Pairs = Vec<(String, String)>;

/// One line: a name, labels, a value.
struct SampleLine<'a> {
    name: &'a str,
    labels: Pairs,
    value: &'a str,
}

/// What a sample's name says about it.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Whole,
    Bucket,
    Sum,
    Count,
}

fn sample(line: &str) -> Option<SampleLine<'_>> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    let (labels, rest) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (Pairs::new(), rest),
    };
    let value = rest.strip_prefix(' ')?;
    (!value.is_empty() && !value.contains(' ')).then_some(SampleLine {
        name,
        labels,
        value,
    })
}

/// Reads `a="b",c="d"}` and gives what follows.
fn labels(mut rest: &str) -> Option<(Pairs, &str)> {
    let mut pairs = Pairs::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            pairs.sort();
            return Some((pairs, rest));
        }
        let (name, after) = rest.split_once("=\"")?;
        let (value, after) = quoted(after)?;
        pairs.push((name.to_owned(), value));
        rest = match after.strip_prefix(',') {
            Some(after) => after,
            None if after.starts_with('}') => after,
            None => return None,
        };
    }
}

/// Reads up to the closing quote and gives what follows.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                c @ ('\\' | '"') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

fn metric_of(name: &str) -> Option<(&'static Metric, Part)> {
    let parts = [
        ("", Part::Whole),
        ("_bucket", Part::Bucket),
        ("_sum", Part::Sum),
        ("_count", Part::Count),
    ];
    parts.into_iter().find_map(|(suffix, part)| {
        let metric = find(name.strip_suffix(suffix)?)?;
        let histogram = matches!(metric.kind, Kind::Histogram { .. });
        (histogram == (part != Part::Whole)).then_some((metric, part))
    })
}

fn whole(
    snapshot: &mut Snapshot,
    line: usize,
    metric: &'static Metric,
    sample: &SampleLine<'_>,
) -> Result<(), ParseError> {
    let labels = borrowed(&sample.labels);
    check(line, metric, &labels)?;
    let number = number(line, metric, sample.value)?;
    let value = match metric.kind {
        Kind::Counter => u64::try_from(number).map(Value::Counter),
        _ => i64::try_from(number).map(Value::Gauge),
    };
    let value = value
        .ok()
        .ok_or_else(|| bad_number(line, metric, sample.value))?;
    if snapshot.get(metric, &labels).is_some() {
        return Err(ParseError::Twice { line });
    }
    snapshot.insert(metric, &labels, value);
    Ok(())
}

/// What was seen of one histogram.
#[derive(Default)]
struct Parts {
    line: usize,
    /// Upper bound and how many values are not above it.
    buckets: BTreeMap<u64, u64>,
    infinite: Option<u64>,
    sum: Option<u64>,
    count: Option<u64>,
}

impl Parts {
    fn add(
        &mut self,
        line: usize,
        metric: &Metric,
        part: Part,
        bound: Option<String>,
        text: &str,
    ) -> Result<(), ParseError> {
        self.line = line;
        let bad = || bad_number(line, metric, text);
        let plain = || text.parse::<u64>().ok().ok_or_else(bad);
        let before = match (part, bound.as_deref()) {
            (Part::Bucket, Some("+Inf")) => self.infinite.replace(plain()?),
            (Part::Bucket, Some(bound)) => {
                let bound = bound.strip_suffix(".0").unwrap_or(bound);
                let bound = u64::try_from(number(line, metric, bound)?);
                self.buckets.insert(bound.ok().ok_or_else(bad)?, plain()?)
            }
            (Part::Sum, None) => {
                let sum = u64::try_from(number(line, metric, text)?);
                self.sum.replace(sum.ok().ok_or_else(bad)?)
            }
            (Part::Count, None) => self.count.replace(plain()?),
            _ => return Err(bad()),
        };
        before.map_or(Ok(()), |_| Err(ParseError::Twice { line }))
    }

    /// The value, if all its parts were there and fit.
    fn value(self) -> Option<Value> {
        let (count, sum) = (self.count?, self.sum?);
        let mut below = 0;
        let mut buckets = Vec::new();
        for (bound, n) in self.buckets {
            buckets.push((bound, n.checked_sub(below)?));
            below = n;
        }
        (self.infinite == Some(count) && below <= count).then_some(Value::Histogram {
            buckets,
            count,
            sum,
        })
    }
}

fn finish(
    snapshot: &mut Snapshot,
    metric: &'static Metric,
    labels: &Pairs,
    parts: Parts,
) -> Result<(), ParseError> {
    let pairs = borrowed(labels);
    check(parts.line, metric, &pairs)?;
    let value = parts.value().filter(|value| value.fits(metric.kind));
    let value = value.ok_or_else(|| ParseError::Histogram {
        metric: metric.name.to_owned(),
        labels: pairs
            .iter()
            .map(|(name, value)| format!("{name}={value:?}"))
            .collect::<Vec<_>>()
            .join(","),
    })?;
    snapshot.insert(metric, &pairs, value);
    Ok(())
}

fn without_bound(labels: Pairs) -> (Pairs, Option<String>) {
    let (bounds, labels): (Pairs, Pairs) = labels.into_iter().partition(|(name, _)| name == "le");
    (labels, bounds.into_iter().next().map(|(_, bound)| bound))
}

fn borrowed(labels: &Pairs) -> Vec<(&str, &str)> {
    labels
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect()
}

fn check(line: usize, metric: &Metric, labels: &[(&str, &str)]) -> Result<(), ParseError> {
    metric
        .check_labels(labels)
        .map_err(|source| ParseError::Labels { line, source })
}

/// A number in the unit of a snapshot.
fn number(line: usize, metric: &Metric, text: &str) -> Result<i128, ParseError> {
    let number = match metric.unit {
        Unit::Nanoseconds => unscaled(text, NANO),
        Unit::Percent => unscaled(text, CENTI),
        Unit::Count | Unit::Bytes => text.parse().ok(),
    };
    number.ok_or_else(|| bad_number(line, metric, text))
}

fn bad_number(line: usize, metric: &Metric, text: &str) -> ParseError {
    ParseError::Number {
        line,
        metric: metric.name.to_owned(),
        text: text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Check that each thing that is wrong is named with its line.
    #[rstest]
    #[case::no_value("# x\nbluetooth_x", "line 2 is no sample: \"bluetooth_x\"")]
    #[case::foreign("go_goroutines 3", "line 1: no metric is called go_goroutines")]
    #[case::label(
        r#"bluetooth_hci_slots_free{hci="hci0"} 3"#,
        "line 1: metric bluetooth_hci_slots_free needs label kind exactly once, found 0"
    )]
    #[case::number(
        r#"bluetooth_hci_slots_free{hci="hci0",kind="acl"} many"#,
        "line 1: \"many\" is not a number that bluetooth_hci_slots_free can have"
    )]
    #[case::twice(
        "bluetooth_hci_slots_free{hci=\"hci0\",kind=\"acl\"} 3\nbluetooth_hci_slots_free{kind=\"acl\",hci=\"hci0\"} 3",
        "line 2: this series was there before"
    )]
    #[case::histogram_cut(
        "bluetooth_hci_slots_at_send_sum{hci=\"hci0\",kind=\"acl\"} 3",
        "the parts of histogram bluetooth_hci_slots_at_send{hci=\"hci0\",kind=\"acl\"} are not complete and ascending"
    )]
    fn parse_of_wrong_text_names_the_line(#[case] text: &str, #[case] message: &str) {
        let error = parse(text).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
