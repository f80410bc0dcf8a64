//! The classes that outcomes fall into: what reports count, compare and color by.

use crate::outcome::{DeathClass, Outcome};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What became of a case, in one word. Best first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Every value is exact.
    Exact,
    /// What is measured is exact; the rest is absent as predicted.
    Absent,
    /// The kernel has not what the scenario is about.
    NotApplicable,
    /// Every value is exact, but the kernel complained.
    Splat,
    /// A value is wrong.
    Assertion,
    /// A step could not be carried out.
    Step,
    /// The kernel panicked.
    Panic,
    /// Nothing was heard for too long.
    Hang,
    /// The agent ended without its end record.
    AgentDied,
    /// What came over the port is not what a guest sends.
    CorruptRecord,
    /// QEMU ended while the guest lived.
    LostVm,
    /// Something outside the guest is missing or failed.
    Infrastructure,
    /// The user stopped it.
    Cancelled,
}

impl Class {
    /// Every class, best first.
    pub const ALL: &[Self] = &[
        Self::Exact,
        Self::Absent,
        Self::NotApplicable,
        Self::Splat,
        Self::Assertion,
        Self::Step,
        Self::Panic,
        Self::Hang,
        Self::AgentDied,
        Self::CorruptRecord,
        Self::LostVm,
        Self::Infrastructure,
        Self::Cancelled,
    ];

    /// Its name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Absent => "absent",
            Self::NotApplicable => "not-applicable",
            Self::Splat => "splat",
            Self::Assertion => "assertion",
            Self::Step => "step",
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::AgentDied => "agent-died",
            Self::CorruptRecord => "corrupt-record",
            Self::LostVm => "lost-vm",
            Self::Infrastructure => "infrastructure",
            Self::Cancelled => "cancelled",
        }
    }

    /// Is there nothing to mend?
    #[must_use]
    pub fn is_right(self) -> bool {
        matches!(self, Self::Exact | Self::Absent | Self::NotApplicable)
    }

    /// Does it say anything about kernel, probes or scenario?
    #[must_use]
    pub fn is_determined(self) -> bool {
        !matches!(self, Self::LostVm | Self::Infrastructure | Self::Cancelled)
    }

    /// A sign that tells right from wrong without color.
    #[must_use]
    pub fn sign(self) -> &'static str {
        match self {
            Self::Exact => "✓",
            Self::Absent => "◌",
            Self::NotApplicable => "–",
            Self::Cancelled => "·",
            Self::Infrastructure | Self::LostVm => "!",
            _ => "✗",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Outcome {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Passed => Class::Exact,
            Self::Absent { .. } => Class::Absent,
            Self::NotApplicable { .. } => Class::NotApplicable,
            Self::Splat { .. } => Class::Splat,
            Self::Differs { .. } => Class::Assertion,
            Self::Failed { .. } => Class::Step,
            Self::Died { class, .. } => match class {
                DeathClass::Panic => Class::Panic,
                DeathClass::Hang => Class::Hang,
                DeathClass::AgentDied => Class::AgentDied,
                DeathClass::LostVm => Class::LostVm,
                DeathClass::CorruptRecord => Class::CorruptRecord,
            },
            Self::NotRun { .. } => Class::Infrastructure,
            Self::Cancelled => Class::Cancelled,
        }
    }

    /// May another try come out differently although kernel, probes and scenario are the same?
    /// True of what is outside the guest, and of guests that fell silent before they were spoken
    /// to; never of a wrong value.
    #[must_use]
    pub fn is_worth_a_retry(&self) -> bool {
        match self {
            Self::Died {
                class: DeathClass::Hang,
                phase,
                ..
            } => phase == "booting" || phase == "restored",
            other => matches!(other.class(), Class::LostVm | Class::Infrastructure),
        }
    }

    /// One line of what is to be known besides the class; empty if nothing is.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Passed | Self::Cancelled => String::new(),
            Self::Absent { series } => match series.as_slice() {
                [one] => format!("{} is absent: {}", one.metric, one.reason),
                more => format!("{} groups of series are absent", more.len()),
            },
            Self::NotApplicable { reason } => reason.clone(),
            Self::Splat { splats } => splats
                .first()
                .map_or_else(String::new, |splat| splat.title.clone()),
            Self::Differs { differences } => match differences.as_slice() {
                [one] => format!(
                    "{}{}: expected {}, observed {}",
                    one.metric, one.labels, one.expected, one.observed
                ),
                more => format!("{} values differ", more.len()),
            },
            Self::Failed { step, error } => format!("{step}: {error}"),
            Self::Died { phase, detail, .. } => format!("while {phase}: {detail}"),
            Self::NotRun { error } => error.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Check that names on paper are the names in JSON.
    #[test]
    fn class_name_is_its_json() {
        for class in Class::ALL {
            let json = serde_json::to_string(class).unwrap();
            assert_eq!(json, format!("\"{class}\""));
        }
        assert!(Class::ALL.is_sorted());
    }

    fn hang(phase: &str) -> Outcome {
        Outcome::Died {
            class: DeathClass::Hang,
            phase: phase.to_owned(),
            detail: String::new(),
        }
    }

    /// Check that only what lies outside kernel, probes and scenario is tried again.
    #[rstest]
    #[case::wrong_value(Outcome::Differs { differences: Vec::new() }, false)]
    #[case::step(Outcome::Failed { step: String::new(), error: String::new() }, false)]
    #[case::splat(Outcome::Splat { splats: Vec::new() }, false)]
    #[case::hang_in_scenario(hang("connecting"), false)]
    #[case::hang_in_boot(hang("booting"), true)]
    #[case::infrastructure(Outcome::NotRun { error: String::new() }, true)]
    fn retry_is_for_infrastructure_alone(#[case] outcome: Outcome, #[case] expected: bool) {
        assert_eq!(outcome.is_worth_a_retry(), expected);
    }
}
