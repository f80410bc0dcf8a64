//! What changed between two runs.

use super::Report;
use crate::case::CaseResult;
use crate::class::Class;
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// What changed about one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was right and is not, or a metric that was measured is absent.
    Regressed,
    /// It was right, and this time something outside the guest kept it from being told.
    NotDetermined,
    /// It was not right and is.
    Mended,
    /// It is wrong in another way.
    WrongOtherwise,
    /// There was no such case.
    New,
    /// There is no such case any more.
    Gone,
}

/// One case that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// The kernel's name.
    pub kernel: String,
    /// The scenario's name.
    pub scenario: String,
    /// How.
    pub change: Change,
    /// What it was.
    pub old: Option<Class>,
    /// What it is.
    pub new: Option<Class>,
    /// What is to be known of it now.
    pub detail: String,
}

/// Everything that changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Kernels by name whose release changed: name, old release, new release. An empty release:
    /// there is none.
    pub kernels: Vec<(String, String, String)>,
    /// Cases, regressions first.
    pub cases: Vec<Changed>,
    /// How many cases are as they were.
    pub same: usize,
}

/// Compares two runs. What was not run because the user stopped it says nothing.
#[must_use]
pub fn compare(old: &Report, new: &Report) -> Comparison {
    let key = |case: &CaseResult| (case.kernel.to_string(), case.scenario.clone());
    let told = |report: &Report| {
        let told = report
            .results
            .iter()
            .filter(|r| r.class != Class::Cancelled);
        told.map(key).collect::<BTreeSet<_>>()
    };
    let keys: BTreeSet<_> = told(old).union(&told(new)).cloned().collect();
    let mut cases = Vec::new();
    let mut same = 0;
    for (kernel, scenario) in keys {
        let find = |report: &Report| {
            let case = report.case(&kernel, &scenario);
            case.filter(|case| case.class != Class::Cancelled).cloned()
        };
        let (before, after) = (find(old), find(new));
        match change(before.as_ref(), after.as_ref()) {
            None => same += 1,
            Some(change) => cases.push(Changed {
                change,
                old: before.map(|case| case.class),
                new: after.as_ref().map(|case| case.class),
                detail: after.map(|case| case.outcome.detail()).unwrap_or_default(),
                kernel,
                scenario,
            }),
        }
    }
    cases.sort_by_key(|case| case.change);
    Comparison {
        kernels: moved_kernels(old, new),
        cases,
        same,
    }
}

fn change(old: Option<&CaseResult>, new: Option<&CaseResult>) -> Option<Change> {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (None, _) => return Some(Change::New),
        (_, None) => return Some(Change::Gone),
    };
    match (old.class.is_right(), new.class.is_right()) {
        (true, false) if !new.class.is_determined() => Some(Change::NotDetermined),
        (true, false) => Some(Change::Regressed),
        (false, true) => Some(Change::Mended),
        (false, false) if old.class != new.class => Some(Change::WrongOtherwise),
        (false, false) => None,
        // Right, but less of it: a metric that is gone is what users would notice.
        (true, true) if new.class > old.class => Some(Change::Regressed),
        (true, true) if new.class < old.class => Some(Change::Mended),
        (true, true) => None,
    }
}

fn moved_kernels(old: &Report, new: &Report) -> Vec<(String, String, String)> {
    let names: BTreeSet<&String> = old.kernels.keys().chain(new.kernels.keys()).collect();
    let release = |report: &Report, name: &str| {
        let info = report.kernels.get(name);
        info.map_or_else(String::new, |info| info.release.clone())
    };
    names
        .into_iter()
        .map(|name| (name.clone(), release(old, name), release(new, name)))
        .filter(|(_, old, new)| old != new)
        .collect()
}

impl Comparison {
    /// Is something wrong that was right?
    #[must_use]
    pub fn has_regressed(&self) -> bool {
        self.cases.iter().any(|c| c.change == Change::Regressed)
    }

    fn of(&self, change: Change) -> impl Iterator<Item = &Changed> {
        self.cases.iter().filter(move |case| case.change == change)
    }

    /// For a terminal, a job's summary or a pull request: Markdown that reads well as it is.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let sections = [
            (Change::Regressed, "Regressed"),
            (Change::NotDetermined, "Not determined this time"),
            (Change::Mended, "Mended"),
            (Change::WrongOtherwise, "Wrong in another way"),
            (Change::New, "New"),
            (Change::Gone, "Gone"),
        ];
        let mut text = String::new();
        for (change, title) in sections {
            let count = self.of(change).count();
            if count == 0 {
                continue;
            }
            let _ = writeln!(text, "### {title} ({count})\n");
            for case in self.of(change) {
                let _ = writeln!(text, "- {}", describe(case));
            }
            text.push('\n');
        }
        if !self.kernels.is_empty() {
            let _ = writeln!(text, "### Kernels\n");
            for (name, old, new) in &self.kernels {
                let or_none = |release: &str| match release {
                    "" => "none".to_owned(),
                    release => release.to_owned(),
                };
                let _ = writeln!(text, "- {name}: {} → {}", or_none(old), or_none(new));
            }
            text.push('\n');
        }
        let _ = writeln!(text, "{} cases are as they were.", self.same);
        text
    }
}

fn describe(case: &Changed) -> String {
    let name = |class: Option<Class>| class.map_or("nothing", Class::as_str);
    let detail = match case.detail.lines().next() {
        Some(detail) => format!(": {detail}"),
        None => String::new(),
    };
    format!(
        "{} × {}: {} → {}{detail}",
        case.kernel,
        case.scenario,
        name(case.old),
        name(case.new)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::samples::{died, differs, report};
    use rstest::rstest;

    fn not_run() -> Outcome {
        Outcome::NotRun {
            error: "no network".to_owned(),
        }
    }

    fn absent() -> Outcome {
        Outcome::Absent { series: Vec::new() }
    }

    /// Check what each pair of outcomes is called, and that only regressions count as such.
    #[rstest]
    #[case::same(Outcome::Passed, Outcome::Passed, None)]
    #[case::still_wrong(differs(), differs(), None)]
    #[case::regressed(Outcome::Passed, died(), Some(Change::Regressed))]
    #[case::metric_lost(Outcome::Passed, absent(), Some(Change::Regressed))]
    #[case::outside(Outcome::Passed, not_run(), Some(Change::NotDetermined))]
    #[case::mended(differs(), Outcome::Passed, Some(Change::Mended))]
    #[case::metric_back(absent(), Outcome::Passed, Some(Change::Mended))]
    #[case::otherwise(differs(), died(), Some(Change::WrongOtherwise))]
    #[case::stopped(Outcome::Cancelled, Outcome::Passed, Some(Change::New))]
    fn pair_of_outcomes_has_its_change(
        #[case] old: Outcome,
        #[case] new: Outcome,
        #[case] expected: Option<Change>,
    ) {
        let comparison = compare(&report(vec![old]), &report(vec![new]));
        assert_eq!(comparison.cases.first().map(|c| c.change), expected);
        assert_eq!(
            comparison.has_regressed(),
            expected == Some(Change::Regressed)
        );
    }

    /// Check that a kernel that is new is new, wrong or not, and one that is gone is told.
    #[test]
    fn comparison_tells_new_and_gone_kernels() {
        let mut old = report(vec![Outcome::Passed, Outcome::Passed]);
        let mut new = report(vec![Outcome::Passed, differs(), died()]);
        old.kernels.remove("debian:7.3");
        new.results.remove(0);
        new.kernels.remove("debian:6.1");
        if let Some(info) = new.kernels.get_mut("debian:6.12") {
            info.release = "6.12.1-1-amd64".to_owned();
        }
        insta::assert_snapshot!(compare(&old, &new).to_markdown());
    }
}
