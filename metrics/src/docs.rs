//! The catalogue as text: what the documentation holds of it.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Serialize;

use crate::catalogue::{CATALOGUE, Family, Kind, Label, LabelValues, Metric, Unit, find_function};

/// One metric, as JSON holds it.
#[derive(Debug, Serialize)]
pub struct Entry {
    name: &'static str,
    family: Family,
    kind: &'static str,
    unit: &'static str,
    labels: Vec<LabelEntry>,
    bounds: &'static [u64],
    help: &'static str,
    meaning: &'static str,
    functions: &'static [&'static str],
    caveats: &'static [&'static str],
}

/// One label.
#[derive(Debug, Serialize)]
struct LabelEntry {
    name: &'static str,
    values: String,
    help: &'static str,
}

/// Every metric, for serialising.
#[must_use]
pub fn json() -> Vec<Entry> {
    let entry = |metric: &&'static Metric| Entry {
        name: metric.name,
        family: metric.family,
        kind: kind(metric),
        unit: unit(metric),
        labels: metric.labels.iter().map(label_entry).collect(),
        bounds: match metric.kind {
            Kind::Histogram { bounds } => bounds,
            _ => &[],
        },
        help: metric.help,
        meaning: metric.meaning,
        functions: metric.functions,
        caveats: metric.caveats,
    };
    CATALOGUE.iter().map(entry).collect()
}

/// The whole catalogue as Markdown: `docs/metrics.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Metrics\n\nMade from the catalogue in `metrics/`; do not edit. `btmetrics catalogue` \
         writes it, `BT_BLESS=1 cargo test -p metrics docs` renews it.\n\n",
    );
    text.push_str(&summary(CATALOGUE));
    text.push_str("\nTimes are in seconds, sizes in bytes. Counters and histograms appear with their first event.\n");
    for family in Family::ALL {
        let metrics: Vec<_> = CATALOGUE
            .iter()
            .copied()
            .filter(|m| m.family == *family)
            .collect();
        if !metrics.is_empty() {
            text.push_str(&section(*family, &metrics));
        }
    }
    text
}

/// The table of metrics that the README holds too.
#[must_use]
pub fn summary(metrics: &[&Metric]) -> String {
    let mut text = String::from("| metric | kind | labels | says |\n|---|---|---|---|\n");
    for metric in metrics {
        let labels: Vec<_> = metric.labels.iter().map(|label| label.name).collect();
        let labels = labels.join(", ");
        line(
            &mut text,
            format_args!(
                "| `{}` | {} | {labels} | {} |",
                metric.name,
                kind(metric),
                metric.help
            ),
        );
    }
    text
}

fn section(family: Family, metrics: &[&Metric]) -> String {
    let mut text = format!("\n## {family}\n");
    text.push_str(&functions(metrics));
    for metric in metrics {
        let name = metric.name;
        line(
            &mut text,
            format_args!("\n### `{name}`\n\n{}.\n\n{}", metric.help, metric.meaning),
        );
        text.push_str(&parameters(metric));
        for caveat in metric.caveats {
            line(&mut text, format_args!("\n- {caveat}"));
        }
    }
    text
}

/// Function, file, description, of all metrics of a family.
fn functions(metrics: &[&Metric]) -> String {
    let names: BTreeSet<&str> = metrics.iter().flat_map(|m| m.functions).copied().collect();
    if names.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n| probed | file | description |\n|---|---|---|\n");
    for function in names.into_iter().filter_map(find_function) {
        let (name, file, about) = (function.name, function.file, function.about);
        line(&mut text, format_args!("| `{name}` | `{file}` | {about} |"));
    }
    text
}

/// What a metric is made of: kind, unit, labels, bounds.
fn parameters(metric: &Metric) -> String {
    let mut text = String::from("\n| parameter | value | description |\n|---|---|---|\n");
    line(
        &mut text,
        format_args!("| kind | {} | {} |", kind(metric), unit(metric)),
    );
    for label in metric.labels {
        let values = values(label);
        line(
            &mut text,
            format_args!("| label `{}` | {values} | {} |", label.name, label.help),
        );
    }
    if let Kind::Histogram { bounds } = metric.kind {
        let bounds: Vec<String> = bounds
            .iter()
            .map(|bound| bound_text(metric.unit, *bound))
            .collect();
        line(
            &mut text,
            format_args!(
                "| buckets | {} | inclusive upper bounds |",
                bounds.join(", ")
            ),
        );
    }
    text
}

fn bound_text(unit: Unit, bound: u64) -> String {
    match unit {
        Unit::Count | Unit::Bytes => bound.to_string(),
        Unit::Nanoseconds if bound.is_multiple_of(1_000_000_000) => {
            format!("{} s", bound / 1_000_000_000)
        }
        Unit::Nanoseconds if bound.is_multiple_of(1_000_000) => format!("{} ms", bound / 1_000_000),
        Unit::Nanoseconds if bound.is_multiple_of(1_000) => format!("{} µs", bound / 1_000),
        Unit::Nanoseconds => format!("{bound} ns"),
        Unit::Percent => format!("{bound} %"),
    }
}

fn kind(metric: &Metric) -> &'static str {
    match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram { .. } => "histogram",
    }
}

fn unit(metric: &Metric) -> &'static str {
    match metric.unit {
        Unit::Count => "a number",
        Unit::Bytes => "bytes",
        Unit::Nanoseconds => "seconds",
        Unit::Percent => "ratio",
    }
}

fn label_entry(label: &Label) -> LabelEntry {
    LabelEntry {
        name: label.name,
        values: values(label),
        help: label.help,
    }
}

fn values(label: &Label) -> String {
    match label.values {
        LabelValues::OneOf(values) => values.join(", "),
        LabelValues::Hci => "hci0, hci1, …".to_owned(),
        LabelValues::Result => "ok, or an error's name".to_owned(),
        LabelValues::Prog => "a program's name".to_owned(),
        LabelValues::Byte => "0x00 to 0xff".to_owned(),
        LabelValues::Opcode => "0x0401 and so on, vendor, other".to_owned(),
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::{env, fs};

    use super::*;

    fn repository_file(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
    }

    /// Compares a file, or the part of it between two marks, with what it must be; renews it if
    /// `BT_BLESS` is set.
    fn check_or_bless(name: &str, marks: Option<(&str, &str)>, wanted: &str) {
        let path = repository_file(name);
        let text = fs::read_to_string(&path).unwrap_or_default();
        let range = match marks {
            None => 0..text.len(),
            Some((begin, end)) => {
                let at = text.find(begin).unwrap() + begin.len();
                at..at + text[at..].find(end).unwrap()
            }
        };
        if text[range.clone()] == *wanted {
            return;
        }
        let hint = "differs from the catalogue; renew it: BT_BLESS=1 cargo test -p metrics docs";
        assert!(env::var_os("BT_BLESS").is_some(), "{name} {hint}");
        let mut renewed = text;
        renewed.replace_range(range, wanted);
        fs::write(path, renewed).unwrap();
    }

    /// Check that the documentation of metrics is what the catalogue says.
    #[test]
    fn docs_file_is_made_from_the_catalogue() {
        check_or_bless("docs/metrics.md", None, &markdown());
    }

    /// Check that the README's table is what the catalogue says.
    #[test]
    fn docs_readme_table_is_made_from_the_catalogue() {
        let marks = (
            "<!-- metrics: made from the catalogue -->\n",
            "<!-- end of metrics -->",
        );
        check_or_bless("README.md", Some(marks), &summary(CATALOGUE));
    }
}
