//! From what came home to a judgement.

use crate::evidence::{Ending, Evidence};
use crate::splats::Splat;
use evidence::ExitStatus;
use metrics::Lost;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The judgement on one scenario on one kernel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Every value is as expected.
    Passed,
    /// Every value that is measured is as expected; some are not measured, as the probes foretold
    /// from what this kernel offers.
    Absent {
        /// The missing series, and why each is missing.
        #[schemars(with = "Vec<serde_json::Value>")]
        series: Vec<Lost>,
    },
    /// The kernel lacks what the scenario is about: by its own configuration, so that nothing was run, or by what it answered.
    NotApplicable {
        /// What it lacks.
        reason: String,
    },
    /// Every value is right, but the kernel complained.
    Splat {
        /// Each complaint that is not excused.
        splats: Vec<Splat>,
    },
    /// Some value is not.
    Differs {
        /// Each of them.
        differences: Vec<Deviation>,
    },
    /// The guest lived, but a step could not be carried out.
    Failed {
        /// Which.
        step: String,
        /// Why.
        error: String,
    },
    /// The guest did not live to the end.
    Died {
        /// How.
        class: DeathClass,
        /// What it was at.
        phase: String,
        /// In words.
        detail: String,
    },
    /// It never started.
    NotRun {
        /// Why not.
        error: String,
    },
    /// The user stopped it.
    Cancelled,
}

/// How a guest died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DeathClass {
    /// The kernel panicked.
    Panic,
    /// Nothing was heard for too long.
    Hang,
    /// The agent ended without its end record.
    AgentDied,
    /// QEMU ended while the guest lived.
    LostVm,
    /// What came over the port is not what a guest sends.
    CorruptRecord,
}

impl fmt::Display for DeathClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::AgentDied => "agent-died",
            Self::LostVm => "lost-vm",
            Self::CorruptRecord => "corrupt-record",
        })
    }
}

/// One value that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Deviation {
    /// The metric, or the witness that disagrees.
    pub metric: String,
    /// Its labels.
    pub labels: String,
    /// What it should be.
    pub expected: String,
    /// What it is.
    pub observed: String,
}

impl From<metrics::Difference> for Deviation {
    fn from(difference: metrics::Difference) -> Self {
        let metrics::Difference {
            metric,
            labels,
            expected,
            observed,
        } = difference;
        let text = |value: Option<metrics::Value>| {
            value.map_or_else(|| "nothing".to_owned(), |value| value.to_string())
        };
        Self {
            metric,
            labels: labels.to_string(),
            expected: text(expected),
            observed: text(observed),
        }
    }
}

/// The line of a Linux console that says that all is over.
const PANIC_MARK: &str = "Kernel panic - not syncing";

/// Judges a guest that did not report its agent's regular end.
///
/// QEMU's exit status says little (0 after a panic, too), so the console decides first.
#[must_use]
pub fn judge_ending(ending: &Ending, evidence: &Evidence, qemu: Option<QemuEnd>) -> Outcome {
    let died = |class, detail: String| Outcome::Died {
        class,
        phase: evidence.phase.clone(),
        detail,
    };
    if let Some(line) = evidence
        .console
        .iter()
        .find(|line| line.contains(PANIC_MARK))
    {
        return died(DeathClass::Panic, line.trim().to_owned());
    }
    match ending {
        Ending::Cancelled => Outcome::Cancelled,
        Ending::Silence => died(DeathClass::Hang, "nothing was heard any more".to_owned()),
        Ending::Closed(Err(error)) => died(DeathClass::CorruptRecord, error.to_string()),
        Ending::Protocol { theirs } => died(
            DeathClass::CorruptRecord,
            format!("the guest speaks protocol {theirs}"),
        ),
        Ending::Closed(Ok(())) | Ending::Unreachable(_) => {
            let how = qemu.map_or_else(|| "QEMU hung up".to_owned(), |end| end.0);
            died(DeathClass::LostVm, how)
        }
        Ending::Outside(error) => Outcome::NotRun {
            error: format!("{error:#}"),
        },
        Ending::Complete => judge_exit(evidence),
    }
}

/// How QEMU ended, in words.
#[derive(Debug, Clone)]
pub struct QemuEnd(pub String);

/// Judges a guest whose agent ended.
fn judge_exit(evidence: &Evidence) -> Outcome {
    if let Some((order, error)) = evidence.refused.first() {
        return Outcome::Failed {
            step: order.clone(),
            error: error.clone(),
        };
    }
    if let Some((step, error)) = &evidence.failed {
        return Outcome::Failed {
            step: step.clone(),
            error: error.clone(),
        };
    }
    let how = match evidence.exited {
        Some(ExitStatus::Code(code)) => format!("the agent exited with {code}"),
        Some(ExitStatus::Signal(signal)) => format!("signal {signal} ended the agent"),
        None => "the agent was never started".to_owned(),
    };
    Outcome::Died {
        class: DeathClass::AgentDied,
        phase: evidence.phase.clone(),
        detail: how,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::io;

    /// Check that each way to die is told from the others, and that a panic outranks them all.
    #[rstest]
    #[case::hang(Ending::Silence, "", DeathClass::Hang)]
    #[case::qemu(Ending::Closed(Ok(())), "", DeathClass::LostVm)]
    #[case::write(Ending::Unreachable(io::ErrorKind::BrokenPipe.into()), "", DeathClass::LostVm)]
    #[case::protocol(Ending::Protocol { theirs: 9 }, "", DeathClass::CorruptRecord)]
    #[case::agent(Ending::Complete, "", DeathClass::AgentDied)]
    #[case::panic(
        Ending::Closed(Ok(())),
        "[    1.0] Kernel panic - not syncing: sysrq triggered crash",
        DeathClass::Panic
    )]
    fn ending_without_end_record_has_its_class(
        #[case] ending: Ending,
        #[case] console: &str,
        #[case] expected: DeathClass,
    ) {
        let evidence = Evidence {
            console: vec![console.to_owned()],
            ..Evidence::default()
        };
        match judge_ending(&ending, &evidence, None) {
            Outcome::Died { class, .. } => assert_eq!(class, expected),
            other => panic!("{other:?}"),
        }
    }
}
