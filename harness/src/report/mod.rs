//! What a run came to, for people and for machines.

mod commands;
pub mod compare;
mod coverage;
mod foretold;
mod grid;
mod html;
mod junit;
mod markdown;
mod metrics;
mod text;
mod write;

pub use coverage::Coverage;
pub use write::{Files, WriteError, schema};

use crate::case::CaseResult;
use crate::class::Class;
use crate::foretell::Foretold;
use crate::machine::Accel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Version of the JSON that [`Report`] is written as. Its shape is in `report.schema.json`; a
/// change that old readers would misunderstand takes the next number.
pub const SCHEMA: &str = "bluetooth-metrics.report/2";

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// `bluetooth-metrics.report/2`.
    pub schema: String,
    /// Who executed the guests.
    #[schemars(with = "String")]
    pub accel: Accel,
    /// Why.
    pub accel_reason: String,
    /// From the first kernel to the last judgement, milliseconds; of several runs, the longest.
    pub total_ms: u64,
    /// Options that decide what a run does, as on the command line.
    pub options: Vec<String>,
    /// The kernels by their names.
    pub kernels: BTreeMap<String, KernelInfo>,
    /// What was foretold from each kernel's files, beside what came.
    #[serde(default)]
    pub foretold: BTreeMap<String, Foretold>,
    /// One per kernel and scenario, kernels in the order that was asked for.
    pub results: Vec<CaseResult>,
    /// How many cases were never started.
    pub not_started: usize,
}

/// What stood for a kernel's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct KernelInfo {
    /// `uname -r` under it.
    pub release: String,
    /// The package's version, if it is pinned.
    pub version: Option<String>,
}

/// Exit codes of `test-kernels`, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Everything as expected.
    Passed = 0,
    /// A metric differs, a scenario could not be carried out, or the kernel complained.
    Differs = 1,
    /// A guest did not live to the end.
    Died = 3,
    /// Something that is needed is missing: no case ran, or not all did.
    CouldNotRun = 4,
    /// The user stopped it.
    Cancelled = 130,
}

/// Why a report cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file cannot be read.
    #[error("failed to read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no report of this version.
    #[error("{} is no report that this version understands ({SCHEMA})", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// It is a report of another version.
    #[error("{} is a {found:?}; this version understands {SCHEMA}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: String,
    },
    /// Two reports hold the same case.
    #[error("{kernel} × {scenario} is in two of the reports")]
    Twice {
        /// The kernel.
        kernel: String,
        /// The scenario.
        scenario: String,
    },
    /// There is nothing to read.
    #[error("no report was given")]
    Nothing,
}

/// The one field that every version has.
#[derive(Deserialize)]
struct Tagged {
    schema: String,
}

impl Report {
    /// Reads what a run wrote.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(path: &Path) -> Result<Self, ReadError> {
        let json = fs::read(path).map_err(|source| ReadError::Io {
            path: path.to_owned(),
            source,
        })?;
        let shape = |source| ReadError::Shape {
            path: path.to_owned(),
            source,
        };
        let Tagged { schema } = serde_json::from_slice(&json).map_err(shape)?;
        if schema != SCHEMA {
            return Err(ReadError::Version {
                path: path.to_owned(),
                found: schema,
            });
        }
        serde_json::from_slice(&json).map_err(shape)
    }

    /// The parts of a run that several machines shared, as one.
    ///
    /// # Errors
    /// There is none, or a case is in two of them.
    pub fn merge(parts: Vec<Self>) -> Result<Self, ReadError> {
        let mut parts = parts.into_iter();
        let mut whole = parts.next().ok_or(ReadError::Nothing)?;
        for part in parts {
            for result in &part.results {
                if whole
                    .case(&result.kernel.to_string(), &result.scenario)
                    .is_some()
                {
                    return Err(ReadError::Twice {
                        kernel: result.kernel.to_string(),
                        scenario: result.scenario.clone(),
                    });
                }
            }
            whole.total_ms = whole.total_ms.max(part.total_ms);
            whole.not_started += part.not_started;
            whole.kernels.extend(part.kernels);
            for (kernel, foretold) in part.foretold {
                whole.foretold.entry(kernel).or_default().merge(foretold);
            }
            whole.results.extend(part.results);
        }
        let scenarios = whole.scenarios().map(str::to_owned);
        let order: BTreeMap<String, usize> = scenarios.zip(0..).collect();
        whole
            .results
            .sort_by_key(|result| (result.kernel.clone(), order.get(&result.scenario).copied()));
        Ok(whole)
    }

    /// What the process should return.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let any = |wanted: fn(Class) -> bool| self.results.iter().any(|r| wanted(r.class));
        if any(|class| class == Class::Cancelled) {
            Exit::Cancelled
        } else if any(|class| class == Class::Infrastructure) || self.results.is_empty() {
            Exit::CouldNotRun
        } else if any(|class| (Class::Panic..=Class::LostVm).contains(&class)) {
            Exit::Died
        } else if any(|class| !class.is_right()) || !self.is_foretold() {
            Exit::Differs
        } else {
            Exit::Passed
        }
    }

    /// The result of one case.
    #[must_use]
    pub fn case(&self, kernel: &str, scenario: &str) -> Option<&CaseResult> {
        self.results
            .iter()
            .find(|r| r.kernel.to_string() == kernel && r.scenario == scenario)
    }

    /// Names of the kernels, in order.
    #[must_use]
    pub fn kernel_names(&self) -> Vec<String> {
        distinct(self.results.iter().map(|result| result.kernel.to_string()))
    }

    /// Names of the scenarios, in order.
    pub fn scenarios(&self) -> impl Iterator<Item = &str> {
        distinct(self.results.iter().map(|result| result.scenario.as_str())).into_iter()
    }

    /// `uname -r` under a kernel, or its name again.
    fn release<'a>(&'a self, kernel: &'a str) -> &'a str {
        self.kernels
            .get(kernel)
            .map_or("–", |info| info.release.as_str())
    }

    /// How many results are of each class that occurs, best first.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Class, usize> {
        let mut counts = BTreeMap::new();
        for result in &self.results {
            *counts.entry(result.class).or_default() += 1;
        }
        counts
    }

    /// Cases that came right on a later try.
    pub fn flaky(&self) -> impl Iterator<Item = &CaseResult> {
        self.results
            .iter()
            .filter(|result| result.class.is_right() && !result.earlier.is_empty())
    }

    /// The one command that runs just this case again.
    #[must_use]
    pub fn again(&self, result: &CaseResult) -> String {
        let mut words = vec![format!(
            "cargo xtask test-kernels --kernel {} --scenario {}",
            result.kernel, result.scenario
        )];
        words.extend(self.options.iter().cloned());
        words.join(" ")
    }

    /// The sentence that sums it up.
    #[must_use]
    pub fn summary(&self) -> String {
        let right = self.results.iter().filter(|r| r.class.is_right()).count();
        let counts = self.counts();
        let mut parts: Vec<String> = counts
            .iter()
            .map(|(class, count)| format!("{count} {class}"))
            .collect();
        let flaky = self.flaky().count();
        if flaky > 0 {
            parts.push(format!("{flaky} flaky"));
        }
        if self.not_started > 0 {
            parts.push(format!("{} not started", self.not_started));
        }
        let controls: usize = self.results.iter().map(|result| result.controls).sum();
        if controls > 0 {
            parts.push(format!("{controls} planted errors noticed"));
        }
        format!(
            "{right} of {} right ({}) on {} kernels in {:.1} s",
            self.results.len() + self.not_started,
            parts.join(", "),
            self.kernel_names().len(),
            Duration::from_millis(self.total_ms).as_secs_f64(),
        )
    }
}

/// Distinct values in the order of their first appearance.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

#[cfg(test)]
pub(crate) mod samples;

#[cfg(test)]
mod tests {
    use super::samples::{died, differs, report};
    use super::*;
    use crate::outcome::Outcome;
    use rstest::rstest;

    fn not_run() -> Outcome {
        Outcome::NotRun {
            error: "no QEMU".to_owned(),
        }
    }

    fn not_applicable() -> Outcome {
        Outcome::NotApplicable {
            reason: "no Bluetooth".to_owned(),
        }
    }

    /// Check that the worst outcome decides what the process returns.
    #[rstest]
    #[case::all(vec![Outcome::Passed, not_applicable()], Exit::Passed)]
    #[case::differs(vec![Outcome::Passed, differs()], Exit::Differs)]
    #[case::failed(vec![Outcome::Failed { step: String::new(), error: String::new() }], Exit::Differs)]
    #[case::splat(vec![Outcome::Splat { splats: Vec::new() }], Exit::Differs)]
    #[case::died(vec![differs(), died()], Exit::Died)]
    #[case::not_run(vec![died(), not_run()], Exit::CouldNotRun)]
    #[case::cancelled(vec![died(), Outcome::Cancelled], Exit::Cancelled)]
    #[case::none(vec![], Exit::CouldNotRun)]
    fn exit_is_that_of_the_worst(#[case] outcomes: Vec<Outcome>, #[case] expected: Exit) {
        assert_eq!(report(outcomes).exit(), expected);
    }

    /// Check that parts make the whole, in order, and that a case in two parts is refused.
    #[test]
    fn merge_of_parts_is_the_whole() {
        let whole = report(vec![Outcome::Passed, differs(), died()]);
        let part = |indices: &[usize]| Report {
            results: indices.iter().map(|i| whole.results[*i].clone()).collect(),
            ..whole.clone()
        };
        let merged = Report::merge(vec![part(&[2]), part(&[0, 1])]).unwrap();
        assert_eq!(merged.kernel_names(), whole.kernel_names());
        let twice = Report::merge(vec![part(&[0, 1]), part(&[1])]);
        assert!(matches!(twice, Err(ReadError::Twice { kernel, .. }) if kernel == "debian:6.12"));
        assert!(matches!(Report::merge(vec![]), Err(ReadError::Nothing)));
    }

    /// Check that a file of another version is refused by its version, not by its shape.
    #[test]
    fn read_of_another_version_names_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), r#"{"schema":"bluetooth-metrics.report/1"}"#).unwrap();
        let error = Report::read(file.path()).unwrap_err().to_string();
        assert!(
            error.contains("report/1") && error.contains(SCHEMA),
            "{error}"
        );
    }

    /// Check that what is written is read back the same.
    #[test]
    fn report_read_back_is_the_same() {
        let report = report(vec![Outcome::Passed, differs(), died()]);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), serde_json::to_vec(&report).unwrap()).unwrap();
        let back = Report::read(file.path()).unwrap();
        assert_eq!(
            serde_json::to_value(&back).unwrap(),
            serde_json::to_value(&report).unwrap()
        );
    }

    /// Check that a case that needed a second try is counted as flaky, and only if it came right.
    #[test]
    fn summary_counts_flaky_cases() {
        let mut report = report(vec![Outcome::Passed, differs()]);
        report.results[0].earlier.push(not_run());
        report.results[1].earlier.push(not_run());
        let summary = report.summary();
        assert!(
            summary.contains("1 of 2 right") && summary.contains("1 flaky"),
            "{summary}"
        );
    }
}
