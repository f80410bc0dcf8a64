//! The text formats of Prometheus and OpenMetrics: writing a [`Snapshot`](crate::Snapshot), and
//! reading one back.
//!
//! Both directions are exact: [`parse`] of what [`encode`] wrote is the same snapshot. Nanoseconds
//! of a snapshot are seconds in the text, with as many decimals as they need.

mod decimal;
mod encode;
mod parse;

pub use encode::encode;
pub use parse::{ParseError, parse};

/// A text format.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Format {
    /// Prometheus' own, version 0.0.4.
    #[default]
    Prometheus,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// The value of `Content-Type`.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The better of the two for a client that sent this `Accept` header, or none.
    ///
    /// OpenMetrics is chosen if the client names it, with a weight above 0 that is not below that
    /// of plain text; everything else gets Prometheus' own format.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let mut open_metrics = 0.0_f64;
        let mut plain = 0.0_f64;
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            let weight = weight.map_or(1.0, |q| q.trim().parse().unwrap_or(0.0));
            if name.eq_ignore_ascii_case("application/openmetrics-text") {
                open_metrics = open_metrics.max(weight);
            } else if name.eq_ignore_ascii_case("text/plain") {
                plain = plain.max(weight);
            }
        }
        if open_metrics > 0.0 && open_metrics >= plain {
            Self::OpenMetrics
        } else {
            Self::Prometheus
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;
    use crate::catalogue::{Kind, LabelValues, Metric};
    use crate::{CATALOGUE, Snapshot, Value};

    /// Check which format each client gets.
    #[rstest]
    #[case::none("", Format::Prometheus)]
    #[case::anything("*/*", Format::Prometheus)]
    #[case::plain("text/plain;version=0.0.4", Format::Prometheus)]
    #[case::open_metrics("application/openmetrics-text", Format::OpenMetrics)]
    #[case::prometheus_2_42(
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        Format::OpenMetrics
    )]
    #[case::plain_preferred(
        "application/openmetrics-text;q=0.3, text/plain;q=0.9",
        Format::Prometheus
    )]
    #[case::refused("application/openmetrics-text;q=0", Format::Prometheus)]
    #[case::garbage(";;;q=,,=;q=x", Format::Prometheus)]
    fn accepted_header_decides_the_format(#[case] accept: &str, #[case] format: Format) {
        assert_eq!(Format::accepted(accept), format);
    }

    /// A label value that the metric allows.
    fn label_value(values: LabelValues, pick: usize) -> String {
        match values {
            LabelValues::OneOf(values) => values[pick % values.len()].to_owned(),
            LabelValues::Hci => format!("hci{}", pick % 65536),
            LabelValues::Prog => format!("prog_{pick}"),
            LabelValues::Byte => format!("{:#04x}", pick % 256),
            LabelValues::Opcode => format!("{:#06x}", pick % 65536),
            LabelValues::Result => "ok".to_owned(),
        }
    }

    fn value(metric: &Metric, numbers: &[u64]) -> Value {
        let number = |i: usize| numbers[i % numbers.len()];
        match metric.kind {
            Kind::Counter => Value::Counter(number(0)),
            Kind::Gauge => Value::Gauge(i64::from_ne_bytes(number(0).to_ne_bytes())),
            Kind::Histogram { bounds } => {
                let small = |i| number(i) % 1_000_000;
                let buckets: Vec<_> = bounds
                    .iter()
                    .zip(0..)
                    .map(|(b, i)| (*b, small(i)))
                    .collect();
                let counted: u64 = buckets.iter().map(|(_, n)| n).sum();
                Value::Histogram {
                    buckets,
                    count: counted + small(0),
                    sum: number(1),
                }
            }
        }
    }

    proptest! {
        /// Check that every snapshot of every metric comes back as it was, in both formats.
        #[test]
        fn parse_of_encoded_snapshot_is_that_snapshot(
            numbers in prop::collection::vec(any::<u64>(), 1..20),
            picks in prop::collection::vec(0..100_000_usize, 1..6),
        ) {
            let mut snapshot = Snapshot::new();
            for metric in CATALOGUE {
                for pick in &picks {
                    let labels: Vec<_> = metric
                        .labels
                        .iter()
                        .map(|label| (label.name, label_value(label.values, *pick)))
                        .collect();
                    let labels: Vec<_> = labels.iter().map(|(n, v)| (*n, v.as_str())).collect();
                    snapshot.insert(metric, &labels, value(metric, &numbers));
                }
            }
            for format in [Format::Prometheus, Format::OpenMetrics] {
                let text = encode(&snapshot, format);
                prop_assert_eq!(parse(&text).map_err(|e| e.to_string()), Ok(snapshot.clone()));
            }
        }

        /// Check that no text makes reading panic.
        #[test]
        fn parse_of_arbitrary_text_never_panics(text in "\\PC{0,300}") {
            let _ = parse(&text);
        }

        /// Check that no text that looks like samples makes reading panic.
        #[test]
        fn parse_of_sample_like_text_never_panics(
            text in r#"(bluetooth_hci_slots_at_send(_bucket|_sum|_count)?(\{[a-z"=\\,+.0-9]{0,20}\})? ?[0-9.e+-]{0,30}\n){0,8}"#
        ) {
            let _ = parse(&text);
        }
    }
}
