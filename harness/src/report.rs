//! What a run came to, for people and for machines.

use crate::case::CaseResult;
use crate::machine::Accel;
use crate::outcome::{DeathClass, Outcome};
use comfy_table::{Table, presets};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::time::Duration;

/// Version of the JSON that [`Report`] is written as.
pub const SCHEMA: &str = "bluetooth-metrics.report/1";

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Who executed the guests.
    pub accel: Accel,
    /// Why.
    pub accel_reason: String,
    /// From the first kernel to the last judgement.
    pub total: Duration,
    /// One per kernel and scenario, kernels in the order that was asked for.
    pub results: Vec<CaseResult>,
}

/// Exit codes of `test-kernels`, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything as expected.
    Passed = 0,
    /// A metric differs, or a scenario could not be carried out.
    Differs = 1,
    /// A guest did not live to the end.
    Died = 3,
    /// Something that is needed is missing: no case ran, or not all did.
    CouldNotRun = 4,
    /// The user stopped it.
    Cancelled = 130,
}

impl Report {
    /// What the process should return.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let any = |wanted: fn(&Outcome) -> bool| self.results.iter().any(|r| wanted(&r.outcome));
        if any(|outcome| *outcome == Outcome::Cancelled) {
            Exit::Cancelled
        } else if any(|outcome| matches!(outcome, Outcome::NotRun { .. }))
            || self.results.is_empty()
        {
            Exit::CouldNotRun
        } else if any(|outcome| matches!(outcome, Outcome::Died { .. })) {
            Exit::Died
        } else if any(|outcome| *outcome != Outcome::Passed) {
            Exit::Differs
        } else {
            Exit::Passed
        }
    }

    /// For a terminal: a table kernels × scenarios, then everything that is wrong.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.table());
        for result in self
            .results
            .iter()
            .filter(|result| result.outcome != Outcome::Passed)
        {
            describe(&mut text, result);
        }
        let passed = self
            .results
            .iter()
            .filter(|r| r.outcome == Outcome::Passed)
            .count();
        let _ = writeln!(
            text,
            "\n{passed} of {} passed in {:.1} s ({}: {})",
            self.results.len(),
            self.total.as_secs_f64(),
            self.accel,
            self.accel_reason,
        );
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let scenarios = ordered(self.results.iter().map(|result| result.scenario.as_str()));
        let header = ["kernel", "release"]
            .into_iter()
            .chain(scenarios.iter().copied());
        table.set_header(header);
        for kernel in ordered(self.results.iter().map(|result| result.kernel.to_string())) {
            let cases: Vec<&CaseResult> = self
                .results
                .iter()
                .filter(|r| r.kernel.to_string() == kernel)
                .collect();
            let release = cases.iter().find_map(|case| case.evidence.release.clone());
            let mut row = vec![kernel, release.unwrap_or_else(|| "–".to_owned())];
            row.extend(scenarios.iter().map(|scenario| {
                let case = cases.iter().find(|case| case.scenario == *scenario);
                case.map_or_else(|| "–".to_owned(), |case| cell(case))
            }));
            table.add_row(row);
        }
        table
    }
}

/// Distinct values in the order of their first appearance.
fn ordered<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

fn cell(case: &CaseResult) -> String {
    let total = Duration::from_millis(case.timings.total_ms());
    match &case.outcome {
        Outcome::Passed => format!("exact  {:.1} s", total.as_secs_f64()),
        Outcome::Differs { differences } => format!("DIFFERS ({})", differences.len()),
        Outcome::Failed { .. } => "FAILED".to_owned(),
        Outcome::Died { class, .. } => format!("DIED ({class})"),
        Outcome::NotRun { .. } => "not run".to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
    }
}

fn describe(text: &mut String, result: &CaseResult) {
    let _ = writeln!(text, "\n{} × {}", result.kernel, result.scenario);
    match &result.outcome {
        Outcome::Passed => {}
        Outcome::Differs { differences } => {
            for d in differences {
                let _ = writeln!(
                    text,
                    "  {}{}\n    expected {}\n    observed {}",
                    d.metric, d.labels, d.expected, d.observed
                );
            }
        }
        Outcome::Failed { step, error } => {
            let _ = writeln!(text, "  could not carry out: {step}\n  {error}");
        }
        Outcome::Died {
            class,
            phase,
            detail,
        } => {
            let _ = writeln!(text, "  {class} while {phase}: {detail}");
            describe_console(text, *class, &result.evidence.console);
        }
        Outcome::NotRun { error } => {
            let _ = writeln!(text, "  not run: {error}");
        }
        Outcome::Cancelled => {
            let _ = writeln!(text, "  cancelled while {}", result.evidence.phase);
        }
    }
    let again = format!("--kernel {} --scenario {}", result.kernel, result.scenario);
    let _ = writeln!(text, "  again: cargo xtask test-kernels {again}");
}

/// The last lines; for a panic, from where it begins.
fn describe_console(text: &mut String, class: DeathClass, console: &[String]) {
    let from = match class {
        DeathClass::Panic => {
            let panic = console
                .iter()
                .position(|line| line.contains("Kernel panic"));
            panic.unwrap_or(0).saturating_sub(5)
        }
        _ => console.len().saturating_sub(15),
    };
    for line in console.iter().skip(from).take(25) {
        let _ = writeln!(text, "  | {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drive::Timings;
    use crate::evidence::Evidence;
    use crate::outcome::Deviation;
    use metrics::Snapshot;
    use rstest::rstest;

    fn report(outcomes: Vec<Outcome>) -> Report {
        let results = outcomes
            .into_iter()
            .zip(["debian:6.1", "debian:6.12", "debian:7.3"]);
        let results = results.map(|(outcome, kernel)| CaseResult {
            kernel: kernel.parse().unwrap(),
            scenario: "l2cap-seqpacket".to_owned(),
            outcome,
            timings: Timings {
                boot_ms: Some(1700),
                ..Timings::default()
            },
            expected: Snapshot::new(),
            evidence: Evidence {
                release: Some(format!("{}.0-1-amd64", &kernel[7..])),
                phase: "connecting".to_owned(),
                console: vec!["[ 1.0] Kernel panic - not syncing: x".to_owned()],
                ..Evidence::default()
            },
        });
        Report {
            schema: SCHEMA.to_owned(),
            accel: Accel::Tcg,
            accel_reason: "no /dev/kvm".to_owned(),
            total: Duration::from_millis(12_340),
            results: results.collect(),
        }
    }

    fn differs() -> Outcome {
        Outcome::Differs {
            differences: vec![Deviation {
                metric: "bluetooth_socket_calls_total".to_owned(),
                labels: r#"{direction="write",proto="l2cap"}"#.to_owned(),
                expected: "23".to_owned(),
                observed: "24".to_owned(),
            }],
        }
    }

    fn died() -> Outcome {
        Outcome::Died {
            class: DeathClass::Panic,
            phase: "connecting".to_owned(),
            detail: "Kernel panic - not syncing: x".to_owned(),
        }
    }

    /// Check that the worst outcome decides what the process returns.
    #[rstest]
    #[case::all(vec![Outcome::Passed, Outcome::Passed], Exit::Passed)]
    #[case::differs(vec![Outcome::Passed, differs()], Exit::Differs)]
    #[case::failed(vec![Outcome::Failed { step: String::new(), error: String::new() }], Exit::Differs)]
    #[case::died(vec![differs(), died()], Exit::Died)]
    #[case::not_run(vec![died(), Outcome::NotRun { error: String::new() }], Exit::CouldNotRun)]
    #[case::cancelled(vec![died(), Outcome::Cancelled], Exit::Cancelled)]
    #[case::none(vec![], Exit::CouldNotRun)]
    fn exit_is_that_of_the_worst(#[case] outcomes: Vec<Outcome>, #[case] expected: Exit) {
        assert_eq!(report(outcomes).exit(), expected);
    }

    /// Check what people read.
    #[test]
    fn text_names_every_difference_and_death() {
        insta::assert_snapshot!(report(vec![Outcome::Passed, differs(), died()]).to_text());
    }
}
