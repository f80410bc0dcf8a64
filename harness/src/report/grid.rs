//! The heat map: what became of each metric on each kernel, over all scenarios.

use super::Report;
use crate::case::CaseResult;
use crate::class::Class;
use crate::outcome::{Deviation, Outcome};
use metrics::{CATALOGUE, Family, Metric, Series, Value};
use std::collections::BTreeSet;

/// What became of a metric on a kernel. Best first; the worst of all scenarios counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    /// No scenario touches it.
    Untouched,
    /// Every value is right.
    Exact,
    /// Some series are absent, as predicted; every other value is right.
    Absent,
    /// A scenario that would have told did not come to its end.
    Unknown,
    /// A value is wrong.
    Wrong,
}

impl Verdict {
    pub(super) const ALL: [Self; 5] = [
        Self::Exact,
        Self::Absent,
        Self::Wrong,
        Self::Unknown,
        Self::Untouched,
    ];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Untouched => "untouched",
            Self::Exact => "exact",
            Self::Absent => "absent",
            Self::Unknown => "not determined",
            Self::Wrong => "wrong",
        }
    }

    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Untouched => "·",
            Self::Exact => "✓",
            Self::Absent => "◌",
            Self::Unknown => "?",
            Self::Wrong => "✗",
        }
    }
}

/// One value.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) scenario: String,
    pub(super) labels: String,
    pub(super) expected: String,
    pub(super) observed: String,
    pub(super) exact: bool,
}

/// One metric on one kernel.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) verdict: Verdict,
    pub(super) lines: Vec<Line>,
    /// Why something is absent or not determined.
    pub(super) reasons: BTreeSet<String>,
}

/// The metrics that some case of the report touches or should touch, families in order.
pub(super) fn metrics(report: &Report) -> Vec<&'static Metric> {
    let touched = |metric: &&Metric| {
        let in_case = |case: &CaseResult| {
            let expected = case.expected.series_of(metric).next().is_some();
            let observed = case.evidence.observed.as_ref();
            expected || observed.is_some_and(|o| o.series_of(metric).next().is_some())
        };
        metric.family != Family::Probe && report.results.iter().any(in_case)
    };
    CATALOGUE.iter().copied().filter(touched).collect()
}

/// One metric on one kernel, over all scenarios.
pub(super) fn cell(report: &Report, kernel: &str, metric: &Metric) -> Cell {
    let mut cell = Cell {
        verdict: Verdict::Untouched,
        lines: Vec::new(),
        reasons: BTreeSet::new(),
    };
    let cases = report.results.iter();
    for case in cases.filter(|case| case.kernel.to_string() == kernel) {
        let verdict = look(&mut cell, case, metric);
        cell.verdict = cell.verdict.max(verdict);
    }
    cell
}

fn look(cell: &mut Cell, case: &CaseResult, metric: &Metric) -> Verdict {
    match case.class {
        Class::NotApplicable => return Verdict::Untouched,
        Class::Exact | Class::Absent | Class::Splat | Class::Assertion => {}
        class => {
            let detail = case.outcome.detail();
            let reason = format!("{}: {class} {detail}", case.scenario);
            cell.reasons.insert(reason);
            return Verdict::Unknown;
        }
    }
    let lines = lines(case, metric);
    let mut verdict = Verdict::Untouched;
    for line in &lines {
        let one = if line.exact {
            Verdict::Exact
        } else {
            Verdict::Wrong
        };
        verdict = verdict.max(one);
    }
    cell.lines.extend(lines);
    for lost in case
        .evidence
        .lost
        .iter()
        .filter(|l| l.metric == metric.name)
    {
        cell.reasons.insert(lost.reason.clone());
        verdict = verdict.max(Verdict::Absent);
    }
    verdict
}

fn lines(case: &CaseResult, metric: &Metric) -> Vec<Line> {
    let differences: &[Deviation] = match &case.outcome {
        Outcome::Differs { differences } => differences,
        _ => &[],
    };
    let observed = case.evidence.observed.as_ref();
    let of_metric = |series: &&Series| series.metric == metric.name;
    let expected = case.expected.iter().map(|(series, _)| series);
    let observed_series = observed.into_iter().flat_map(|o| o.iter().map(|(s, _)| s));
    let all: BTreeSet<&Series> = expected.chain(observed_series).filter(of_metric).collect();
    let value =
        |found: Option<&Value>| found.map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let find = |snapshot: &metrics::Snapshot, wanted: &Series| {
        let found = snapshot.iter().find(|(series, _)| *series == wanted);
        found.map(|(_, value)| value.clone())
    };
    all.into_iter()
        .filter(|series| !case.evidence.lost.iter().any(|lost| lost.covers(series)))
        .map(|series| {
            let labels = series.labels.to_string();
            let wrong = |d: &Deviation| d.metric == metric.name && d.labels == labels;
            Line {
                scenario: case.scenario.clone(),
                expected: value(find(&case.expected, series).as_ref()),
                observed: value(observed.and_then(|o| find(o, series)).as_ref()),
                exact: !differences.iter().any(wrong),
                labels,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::samples::{died, differs, report};
    use metrics::catalogue::{SLOTS_FREE, SOCKET_CALLS};
    use rstest::rstest;

    /// Check that a wrong value makes its metric wrong and no other, and that a death leaves all
    /// of them undetermined.
    #[rstest]
    #[case("debian:6.1", &SOCKET_CALLS, Verdict::Exact)]
    #[case("debian:6.12", &SOCKET_CALLS, Verdict::Wrong)]
    #[case("debian:6.12", &SLOTS_FREE, Verdict::Exact)]
    #[case("debian:7.3", &SLOTS_FREE, Verdict::Unknown)]
    fn cell_has_the_worst_verdict(
        #[case] kernel: &str,
        #[case] metric: &Metric,
        #[case] expected: Verdict,
    ) {
        let report = report(vec![Outcome::Passed, differs(), died()]);
        assert_eq!(cell(&report, kernel, metric).verdict, expected);
    }

    /// Check that columns are those metrics that a scenario touches.
    #[test]
    fn metrics_are_those_that_are_touched() {
        let names: Vec<_> = metrics(&report(vec![Outcome::Passed]))
            .iter()
            .map(|metric| metric.name)
            .collect();
        assert_eq!(names, [SOCKET_CALLS.name, SLOTS_FREE.name]);
    }
}
