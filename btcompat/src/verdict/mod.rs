//! Will this object work on that kernel, and what would it get wrong?

mod attach;
mod beside;
mod codes;
mod decide;
mod features;
mod host;
mod lies;
mod losses;
mod metric;
mod modules;
mod relocations;
mod tracepoint;

pub use beside::{
    Agreement, MetricBeside, ProgramBeside, beside_losses, beside_reports, beside_trials,
};
pub use codes::{Code, CodeInfo};
pub use decide::{OtherBtf, Scenario, decide};
pub use host::{Caps, Host};
pub use metric::{MetricVerdict, Missing, metric_verdicts};

use serde::{Deserialize, Serialize};

/// An answer: yes, no, or not determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Certain to fail.
    No,
    /// Cannot be told from what is known; the findings say what would settle it.
    Unknown,
    /// Nothing speaks against it.
    Yes,
}

impl State {
    /// The worse of two answers.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        self.min(other)
    }
}

/// When something goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The object is opened: externs, maps.
    Open,
    /// CO-RE relocations are resolved; a refusal is the whole object's.
    Relocate,
    /// The kernel verifies the program.
    Load,
    /// The program is attached.
    Attach,
    /// It runs, and what it reports is not true.
    Run,
}

impl Stage {
    /// The word for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Relocate => "relocate",
            Self::Load => "load",
            Self::Attach => "attach",
            Self::Run => "run",
        }
    }
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The program fails at the finding's stage.
    Breaks,
    /// The program runs and reports wrong numbers.
    Lies,
    /// It may fail or lie; more has to be known.
    Undetermined,
    /// The program works, and is passed over now and then: numbers come out a little too small under load.
    Loses,
    /// Worth knowing, changes nothing.
    Note,
}

/// One thing found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What kind of thing.
    pub code: Code,
    /// When it strikes.
    pub stage: Stage,
    /// How bad it is.
    pub severity: Severity,
    /// What is affected: a function, a field, a helper.
    pub subject: String,
    /// Where in the object: function, source file and line.
    pub place: Option<Place>,
    /// What the kernel has.
    pub evidence: String,
    /// What to do about it; empty if nothing can be done.
    pub advice: String,
}

/// A place in an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    /// Function.
    pub function: String,
    /// Instruction within it.
    pub insn: usize,
    /// Source file and line.
    pub line: Option<(String, u32)>,
}

/// The answer for one program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramVerdict {
    /// Name.
    pub name: String,
    /// ELF section.
    pub section: String,
    /// Loaded unless told otherwise.
    pub autoload: bool,
    /// Whether the kernel would accept it.
    pub load: State,
    /// Whether it could be attached; absent when user space decides to what.
    pub attach: Option<State>,
    /// Whether what it reports would be true.
    pub truth: State,
    /// Why.
    pub findings: Vec<Finding>,
}

impl ProgramVerdict {
    /// All three together.
    #[must_use]
    pub fn state(&self) -> State {
        self.load
            .and(self.attach.unwrap_or(State::Yes))
            .and(self.truth)
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        if self.findings.contains(&finding) {
            return;
        }
        let state = match finding.severity {
            Severity::Breaks | Severity::Lies => State::No,
            Severity::Undetermined => State::Unknown,
            Severity::Loses | Severity::Note => State::Yes,
        };
        match finding.stage {
            Stage::Open | Stage::Relocate | Stage::Load => self.load = self.load.and(state),
            Stage::Attach => self.attach = self.attach.map(|a| a.and(state)),
            Stage::Run => self.truth = self.truth.and(state),
        }
        self.findings.push(finding);
    }
}

/// The answer for an object on a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// Name of the object.
    pub object: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Machine of the kernel.
    pub arch: String,
    /// What concerns the object as a whole.
    pub findings: Vec<Finding>,
    /// Programs, in the order of the object.
    pub programs: Vec<ProgramVerdict>,
}

impl Verdict {
    /// The worst answer among programs that load by default, and the object's own.
    #[must_use]
    pub fn state(&self) -> State {
        let programs = self.programs.iter().filter(|p| p.autoload);
        let whole = self.findings.iter().map(|f| match f.severity {
            Severity::Breaks | Severity::Lies => State::No,
            Severity::Undetermined => State::Unknown,
            Severity::Loses | Severity::Note => State::Yes,
        });
        programs
            .map(ProgramVerdict::state)
            .chain(whole)
            .fold(State::Yes, State::and)
    }
}
