//! Which metrics are exact on which kernels, from a report.

use super::Report;
use crate::case::CaseResult;
use metrics::catalogue::CATALOGUE;
use metrics::{Family, Lost, Metric, Series};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What stands above the table.
const HEAD: &str = "# Metrics on each kernel

Made from a report: `cargo xtask test-kernels --group all --report FOLDER`, then `cargo xtask report FOLDER/report.json --metrics > \
docs/kernels.md`. [metrics.md](metrics.md) says what each metric means.

*exact*: scenarios touched it, and every value was the one that socket calls and controllers' ledgers give. *reduced*: exact as well, but \
the series with these labels are absent. *absent*: all are. *wrong*: some value was not right. *–*: no scenario touched it. Why something \
is absent stands below the table. What the probes say of themselves (`bluetooth_probe_*`) is asserted in every case, and has no row.
";

impl Report {
    /// A Markdown page with a table of metrics × kernels.
    #[must_use]
    pub fn metrics(&self) -> String {
        let kernels = self.kernel_names();
        let mut reasons = Reasons::default();
        let mut text = format!("{HEAD}\n{}\n", self.basis());
        let _ = writeln!(text, "| metric | {} |", kernels.join(" | "));
        let _ = writeln!(text, "|---|{}", "---|".repeat(kernels.len()));
        // What probes say of themselves is asserted in each case in another way.
        let measured = CATALOGUE.iter().filter(|m| m.family != Family::Probe);
        for metric in measured {
            let cells = kernels.iter().map(|kernel| {
                let own = |result: &&CaseResult| result.kernel.to_string() == *kernel;
                Cell::of(self.results.iter().filter(own), metric).text(&mut reasons)
            });
            let cells: Vec<String> = cells.collect();
            let _ = writeln!(text, "| `{}` | {} |", metric.name, cells.join(" | "));
        }
        for (reason, number) in reasons.in_order() {
            let _ = write!(text, "\n{number}. {reason}");
        }
        text.trim_end().to_owned() + "\n"
    }

    /// What the table rests on, in a sentence.
    fn basis(&self) -> String {
        let right = self.results.iter().filter(|r| r.class.is_right()).count();
        let scenarios: BTreeSet<&str> = self.results.iter().map(|r| r.scenario.as_str()).collect();
        format!(
            "{} scenarios on {} kernels: {right} of {} cases right.\n",
            scenarios.len(),
            self.kernel_names().len(),
            self.results.len()
        )
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

/// One metric on one kernel.
#[derive(Debug, Default)]
struct Cell<'a> {
    /// Some series of it was measured and right.
    asserted: bool,
    /// Some series of it was measured in a case that did not come out right.
    wrong: bool,
    /// What was missing in some case, and measured in none.
    lost: BTreeSet<&'a Lost>,
}

impl<'a> Cell<'a> {
    fn of(results: impl Iterator<Item = &'a CaseResult>, metric: &Metric) -> Self {
        let mut cell = Self::default();
        let mut measured = Vec::new();
        for result in results {
            let lost = &result.evidence.lost;
            cell.lost
                .extend(lost.iter().filter(|lost| lost.metric == metric.name));
            for series in touched(result, metric) {
                if lost.iter().any(|lost| lost.covers(&series)) {
                    continue;
                }
                cell.asserted |= result.class.is_right();
                cell.wrong |= !result.class.is_right();
                measured.push(series);
            }
        }
        // Another kernel module may come later: then what is lost in one case is measured in the next.
        cell.lost
            .retain(|lost| !measured.iter().any(|series| lost.covers(series)));
        cell
    }

    fn text(&self, reasons: &mut Reasons) -> String {
        let wholly = self.lost.iter().find(|lost| lost.labels.is_empty());
        match (self.wrong, wholly, self.asserted) {
            (true, _, _) => "wrong".to_owned(),
            (false, Some(lost), _) => format!("absent ({})", reasons.number(&lost.reason)),
            (false, None, false) => "–".to_owned(),
            (false, None, true) if self.lost.is_empty() => "exact".to_owned(),
            (false, None, true) => format!("reduced: {}", self.exceptions(reasons)),
        }
    }

    /// The labels whose series are absent, those with one reason together: `no kind=iso (2)`.
    fn exceptions(&self, reasons: &mut Reasons) -> String {
        let mut by_reason: BTreeMap<usize, Vec<String>> = BTreeMap::new();
        for lost in &self.lost {
            let labels = lost
                .labels
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            let labels = labels.collect::<Vec<_>>().join(",");
            let number = reasons.number(&lost.reason);
            by_reason.entry(number).or_default().push(labels);
        }
        let texts = by_reason
            .iter()
            .map(|(number, labels)| format!("no {} ({number})", labels.join("; ")));
        texts.collect::<Vec<_>>().join(", ")
    }
}

/// The series of a metric that a case expects something of.
pub(super) fn touched<'a>(
    result: &'a CaseResult,
    metric: &'a Metric,
) -> impl Iterator<Item = Series> + 'a {
    let series = result.expected.series_of(metric);
    let touched = series.filter(|(_, value)| !value.is_untouched());
    touched.map(|(labels, _)| Series {
        metric: metric.name.to_owned(),
        labels: labels.clone(),
    })
}

#[cfg(test)]
mod tests {
    use crate::outcome::Outcome;
    use crate::report::{Report, samples};
    use metrics::catalogue::{SLOTS_FREE, SOCKET_CALLS};
    use metrics::{Lost, Metric};
    use rstest::rstest;
    use std::fs;
    use std::path::Path;

    fn lost(metric: &Metric, labels: &[(&str, &str)], reason: &str) -> Lost {
        let labels = labels
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        Lost {
            metric: metric.name.to_owned(),
            labels: labels.collect(),
            reason: reason.to_owned(),
        }
    }

    /// The cell of a metric in a report of one case.
    fn cell(report: &Report, metric: &Metric) -> String {
        let text = report.metrics();
        let row = text
            .lines()
            .find(|line| line.starts_with(&format!("| `{}` |", metric.name)));
        row.unwrap().split(" | ").nth(1).unwrap().replace(" |", "")
    }

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
            text.contains("| `bluetooth_urb_completed_total` | –"),
            "{text}"
        );
    }

    /// Check that a metric of which nothing is measured is absent, whatever was expected of it, and that one of which some series are missing
    /// is exact without them.
    #[rstest]
    #[case::whole(lost(&SOCKET_CALLS, &[], "why"), "absent (1)")]
    #[case::other_series(lost(&SOCKET_CALLS, &[("proto", "iso"), ("direction", "read")], "why"), "reduced: no proto=iso,direction=read (1)")]
    #[case::other_metric(lost(&SLOTS_FREE, &[], "why"), "exact")]
    #[case::measured_all_the_same(lost(&SOCKET_CALLS, &[("proto", "l2cap")], "why"), "–")]
    fn lost_series_are_told(#[case] lost: Lost, #[case] wanted: &str) {
        let mut report = samples::report(vec![Outcome::Passed]);
        report.results[0].evidence.lost = vec![lost];
        assert_eq!(cell(&report, &SOCKET_CALLS), wanted);
    }

    /// Check that what is lost in one case and measured in another is measured: its module came later.
    #[test]
    fn series_of_a_module_that_comes_later_are_measured() {
        let mut report = samples::report(vec![Outcome::Passed, Outcome::Passed]);
        report.results[1].kernel = report.results[0].kernel.clone();
        report.results[1].evidence.lost = vec![lost(&SOCKET_CALLS, &[], "not loaded")];
        assert_eq!(cell(&report, &SOCKET_CALLS), "exact");
    }

    /// Check that the page in the documentation has every metric that it can have.
    #[test]
    fn page_of_kernels_has_every_metric() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kernels.md");
        let page = fs::read_to_string(path).unwrap();
        let rows = |text: &str| -> Vec<String> {
            let rows = text.lines().filter_map(|l| l.strip_prefix("| `"));
            rows.filter_map(|l| Some(l.split_once('`')?.0.to_owned()))
                .collect()
        };
        let wanted = rows(&samples::report(Vec::new()).metrics());
        assert_eq!(rows(&page), wanted, "renew it, as its head says");
    }
}
