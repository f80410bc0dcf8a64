//! Writing a snapshot.

use std::fmt::Write as _;

use super::Format;
use super::decimal::{CENTI, NANO, scaled};
use crate::catalogue::{CATALOGUE, Kind, Metric, Unit};
use crate::snapshot::{Labels, Snapshot};
use crate::value::Value;

/// Writes the series of all metrics in the catalogue, in its order.
///
/// A metric without series is left out. Kernel: none; format: prometheus.io, "Exposition formats";
/// OpenMetrics 1.0.0.
#[must_use]
pub fn encode(snapshot: &Snapshot, format: Format) -> String {
    let mut text = String::new();
    for metric in CATALOGUE {
        let mut series = snapshot.series_of(metric).peekable();
        if series.peek().is_none() {
            continue;
        }
        head(&mut text, metric, format);
        for (labels, value) in series {
            samples(&mut text, metric, format, labels, value);
        }
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

/// What stands before a metric's series.
fn head(text: &mut String, metric: &Metric, format: Format) {
    // OpenMetrics names a counter's family without the suffix of its samples.
    let family = match format {
        Format::Prometheus => metric.name,
        Format::OpenMetrics => metric.name.trim_end_matches("_total"),
    };
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram { .. } => "histogram",
    };
    let help = metric.help.replace('\\', r"\\").replace('"', r#"\""#);
    let help = match format {
        Format::Prometheus => metric.help.replace('\\', r"\\"),
        Format::OpenMetrics => help,
    };
    line(text, format_args!("# HELP {family} {help}"));
    line(text, format_args!("# TYPE {family} {kind}"));
    let unit = match metric.unit {
        Unit::Bytes => "bytes",
        Unit::Nanoseconds => "seconds",
        Unit::Percent => "ratio",
        Unit::Count => return,
    };
    if format == Format::OpenMetrics {
        line(text, format_args!("# UNIT {family} {unit}"));
    }
}

fn samples(text: &mut String, metric: &Metric, format: Format, labels: &Labels, value: &Value) {
    let name = metric.name;
    match value {
        Value::Counter(n) => {
            let n = number(metric, (*n).into());
            line(text, format_args!("{name}{} {n}", braces(labels, None)));
        }
        Value::Gauge(n) => {
            let n = number(metric, (*n).into());
            line(text, format_args!("{name}{} {n}", braces(labels, None)));
        }
        Value::Histogram {
            buckets,
            count,
            sum,
        } => {
            let mut below = 0_u64;
            for (bound, n) in buckets {
                below = below.saturating_add(*n);
                let labels = braces(labels, Some(&bound_text(metric, format, *bound)));
                line(text, format_args!("{name}_bucket{labels} {below}"));
            }
            let all = braces(labels, Some("+Inf"));
            let labels = braces(labels, None);
            line(text, format_args!("{name}_bucket{all} {count}"));
            let sum = number(metric, (*sum).into());
            line(text, format_args!("{name}_sum{labels} {sum}"));
            line(text, format_args!("{name}_count{labels} {count}"));
        }
        // Limits are expected, never observed: there is nothing to expose.
        Value::Within(_) => {}
    }
}

/// A value in the unit of the text.
fn number(metric: &Metric, value: i128) -> String {
    match metric.unit {
        Unit::Nanoseconds => scaled(value, NANO),
        Unit::Percent => scaled(value, CENTI),
        Unit::Count | Unit::Bytes => value.to_string(),
    }
}

/// An upper bound. OpenMetrics wants it to look like a float.
fn bound_text(metric: &Metric, format: Format, bound: u64) -> String {
    let text = number(metric, bound.into());
    if format == Format::OpenMetrics && !text.contains('.') {
        return text + ".0";
    }
    text
}

/// `{a="b",le="1"}`, or nothing.
fn braces(labels: &Labels, bound: Option<&str>) -> String {
    let bound = bound.map(|bound| ("le", bound));
    let pairs: Vec<_> = labels
        .iter()
        .chain(bound)
        .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
        .collect();
    if pairs.is_empty() {
        return String::new();
    }
    format!("{{{}}}", pairs.join(","))
}

fn escape(value: &str) -> String {
    value
        .replace('\\', r"\\")
        .replace('"', r#"\""#)
        .replace('\n', r"\n")
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{SLOTS_AT_SEND, SLOTS_FREE, SOCKET_BYTES};

    fn snapshot() -> Snapshot {
        let mut snapshot = Snapshot::new();
        let labels = [
            ("proto", "l2cap"),
            ("direction", "read"),
            ("origin", "user"),
        ];
        snapshot.add(&SOCKET_BYTES, &labels, 2323);
        let labels = [("hci", "hci0"), ("kind", "acl")];
        snapshot.set(&SLOTS_FREE, &labels, 7);
        snapshot.observe(&SLOTS_AT_SEND, &labels, 1);
        snapshot.observe(&SLOTS_AT_SEND, &labels, 1000);
        snapshot
    }

    /// The lines that begin so, of a metric's text.
    fn lines<'a>(text: &'a str, begin: &str) -> Vec<&'a str> {
        text.lines()
            .filter(|line| line.starts_with(begin))
            .collect()
    }

    /// Check that Prometheus' format names counters in full and bounds as they are.
    #[test]
    fn encode_for_prometheus_follows_its_rules() {
        let text = encode(&snapshot(), Format::Prometheus);
        assert_eq!(
            lines(&text, "# TYPE bluetooth_socket_bytes"),
            ["# TYPE bluetooth_socket_bytes_total counter"]
        );
        let read =
            r#"bluetooth_socket_bytes_total{direction="read",origin="user",proto="l2cap"} 2323"#;
        assert_eq!(lines(&text, "bluetooth_socket_bytes_total"), [read]);
        assert!(text.contains(r#"slots_at_send_bucket{hci="hci0",kind="acl",le="0"} 0"#));
        assert!(text.contains(r#"slots_at_send_bucket{hci="hci0",kind="acl",le="1"} 1"#));
        assert!(text.contains(r#"slots_at_send_bucket{hci="hci0",kind="acl",le="256"} 1"#));
        assert!(text.contains(r#"slots_at_send_bucket{hci="hci0",kind="acl",le="+Inf"} 2"#));
        assert!(text.contains(r#"slots_at_send_sum{hci="hci0",kind="acl"} 1001"#));
        assert!(!text.contains("# EOF") && !text.contains("# UNIT"));
    }

    /// Check that OpenMetrics gets families without suffix, units, float bounds and an end.
    #[test]
    fn encode_for_open_metrics_follows_its_rules() {
        let text = encode(&snapshot(), Format::OpenMetrics);
        assert_eq!(
            lines(&text, "# TYPE bluetooth_socket_bytes"),
            ["# TYPE bluetooth_socket_bytes counter"]
        );
        assert_eq!(
            lines(&text, "# UNIT"),
            ["# UNIT bluetooth_socket_bytes bytes"]
        );
        assert!(text.contains(r#"le="1.0"} 1"#) && text.ends_with("\n# EOF\n"));
        assert!(text.contains("\nbluetooth_socket_bytes_total{"));
    }
}
