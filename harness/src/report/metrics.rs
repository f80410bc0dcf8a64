//! Which metrics are exact on which kernels, from a report.

use super::Report;
use crate::case::CaseResult;
use metrics::catalogue::CATALOGUE;
use metrics::{Family, Lost, Metric};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

impl Report {
    /// A Markdown table of metrics × kernels. *exact*: cases asserted it, and each value was right; *exact but …*: the series with these labels
    /// are absent; *absent*: all are; *wrong*: a value was; *–*: no case asserted it. Why something is absent stands below.
    #[must_use]
    pub fn metrics(&self) -> String {
        let kernels = self.kernel_names();
        let mut reasons = Reasons::default();
        let mut text = format!(
            "| metric | {} |\n|---|{}\n",
            kernels.join(" | "),
            "---|".repeat(kernels.len())
        );
        // What probes say of themselves is asserted in each case in another way.
        let measured = CATALOGUE.iter().filter(|m| m.family != Family::Probe);
        for metric in measured {
            let cells = kernels.iter().map(|kernel| {
                let own = |result: &&CaseResult| result.kernel.to_string() == *kernel;
                cell(self.results.iter().filter(own), metric, &mut reasons)
            });
            let cells: Vec<String> = cells.collect();
            let _ = writeln!(text, "| `{}` | {} |", metric.name, cells.join(" | "));
        }
        for (reason, number) in reasons.in_order() {
            let _ = write!(text, "\n{number}. {reason}");
        }
        text.trim_end().to_owned() + "\n"
    }
}

/// Why something is absent, numbered as met.
#[derive(Default)]
struct Reasons(BTreeMap<String, usize>);

impl Reasons {
    fn number(&mut self, reason: &str) -> usize {
        let next = self.0.len() + 1;
        *self.0.entry(reason.to_owned()).or_insert(next)
    }

    fn in_order(&self) -> Vec<(&str, usize)> {
        let mut all: Vec<_> = self
            .0
            .iter()
            .map(|(reason, n)| (reason.as_str(), *n))
            .collect();
        all.sort_by_key(|(_, number)| *number);
        all
    }
}

fn cell<'a>(
    results: impl Iterator<Item = &'a CaseResult>,
    metric: &Metric,
    reasons: &mut Reasons,
) -> String {
    let mut asserted = false;
    let mut wrong = false;
    let mut lost: BTreeSet<&Lost> = BTreeSet::new();
    for result in results {
        lost.extend(
            result
                .evidence
                .lost
                .iter()
                .filter(|lost| lost.metric == metric.name),
        );
        let here = result.expected.series_of(metric).next().is_some();
        asserted |= here && result.class.is_right();
        wrong |= here && !result.class.is_right();
    }
    // Another kernel module may come later: then what was lost at first is measured.
    let wholly = lost.iter().find(|lost| lost.labels.is_empty());
    match (wrong, wholly, asserted) {
        (true, _, _) => "wrong".to_owned(),
        (false, Some(lost), false) => format!("absent ({})", reasons.number(&lost.reason)),
        (false, _, false) => "–".to_owned(),
        (false, _, true) => format!("exact{}", exceptions(&lost, reasons)),
    }
}

/// The labels whose series are absent: `, but kind=iso (2)`.
fn exceptions(lost: &BTreeSet<&Lost>, reasons: &mut Reasons) -> String {
    let mut text = String::new();
    for lost in lost {
        let labels = lost
            .labels
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        let labels = labels.collect::<Vec<_>>().join(",");
        let sign = if text.is_empty() { ", but" } else { "," };
        let _ = write!(text, "{sign} {labels} ({})", reasons.number(&lost.reason));
    }
    text
}

#[cfg(test)]
mod tests {
    use crate::outcome::Outcome;
    use crate::report::samples;

    /// Check that each metric has a row, that what no case asserted says so, and that there is a column for each kernel.
    #[test]
    fn metrics_of_a_report_have_a_row_each() {
        let report = samples::report(vec![Outcome::Passed]);
        let text = report.metrics();
        let rows = text
            .lines()
            .filter(|line| line.starts_with("| `bluetooth_"));
        let columns = report.kernel_names().len();
        for row in rows {
            assert_eq!(row.matches(" | ").count(), columns, "{row}");
        }
        assert!(
            text.contains("| `bluetooth_urb_completed_total` |"),
            "{text}"
        );
    }
}
