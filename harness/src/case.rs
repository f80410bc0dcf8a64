//! One case: one scenario on one kernel, in a machine of its own.

use crate::class::Class;
use crate::controls;
use crate::drive::{Guest, Image, Payload, Timings, Watch};
use crate::evidence::{Ending, Evidence};
use crate::expect::{FAMILIES, check_scrapes, check_usb, cross_check, expect, unseen};
use crate::machine::{Accel, Vm};
use crate::outcome::{Deviation, Outcome, QemuEnd, judge_ending};
use crate::repeat::Repeats;
use crate::saves::{self, NoGuest, Point, Saves, Stage};
use crate::splats::{self, Splat};
use anyhow::Context as _;
use controller::PacketKind;
use evidence::{CAPTURE_FOLDER, ExitStatus, Scenario};
use kernels::KernelId;
use metrics::{Series, Snapshot, State, diff};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::mem;
use std::time::Duration;

/// Memory of a guest, MiB.
pub const MEMORY_MIB: u32 = 512;
/// How long QEMU may take to end by itself after its port closed.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// What one case came to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct CaseResult {
    /// The kernel's name in kernels.toml.
    #[schemars(with = "String")]
    pub kernel: KernelId,
    /// The scenario's name.
    pub scenario: String,
    /// The judgement in one word.
    pub class: Class,
    /// The judgement.
    pub outcome: Outcome,
    /// What earlier tries came to. Not empty: the case is flaky.
    pub earlier: Vec<Outcome>,
    /// How often it was run, if more than once; the rest of this tells of the worst of them.
    #[serde(default)]
    pub repeats: Option<Repeats>,
    /// What the kernel complained about, excused or not.
    pub splats: Vec<Splat>,
    /// The folder with everything that is needed to do it again, beside the report.
    pub bundle: Option<String>,
    /// What crossed each controller's boundary and bus, as files of the bundle; of cases that went
    /// wrong, and of all if that was wanted.
    #[serde(default)]
    pub captures: Vec<Capture>,
    /// How many planted errors were noticed in what came home.
    #[serde(default)]
    pub controls: usize,
    /// How long each part took.
    pub timings: Timings,
    /// What the values should have been: metric, labels and value of each series.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub expected: Snapshot,
    /// Everything that came home.
    pub evidence: Evidence,
}

/// A btsnoop file of a controller, or a pcap of its bus; Wireshark opens them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Capture {
    /// The file's name.
    pub name: String,
    /// What is in it, until the bundle has it.
    #[serde(skip)]
    pub bytes: Vec<u8>,
}

impl CaseResult {
    /// The result of a case of which nothing is known but the outcome.
    #[must_use]
    pub fn bare(kernel: &KernelId, scenario: &str, outcome: Outcome) -> Self {
        Self {
            kernel: kernel.clone(),
            scenario: scenario.to_owned(),
            class: outcome.class(),
            outcome,
            earlier: Vec::new(),
            repeats: None,
            splats: Vec::new(),
            bundle: None,
            captures: Vec::new(),
            controls: 0,
            timings: Timings::default(),
            expected: Snapshot::new(),
            evidence: Evidence::default(),
        }
    }

    /// Lets go of what a right case will not be looked at for: of the ledgers, everything but the commands. A matrix would report
    /// hundreds of megabytes of packets.
    pub fn shed(&mut self) {
        if self.class.is_right() {
            for entries in self.evidence.ledgers.values_mut() {
                entries.retain(|entry| entry.kind == Some(PacketKind::Command));
            }
        }
    }

    fn conclude(mut self, outcome: Outcome) -> Self {
        self.class = outcome.class();
        self.outcome = outcome;
        self
    }
}

/// How a guest comes to be.
#[derive(Debug, Clone, Copy)]
pub enum Start<'a> {
    /// By booting.
    Boot,
    /// By restoring a machine that was booted once and saved. The agent starts and loads the probes in each.
    Restore(&'a Saves),
    /// By restoring a machine whose agent waits for a scenario, its probes attached. It is made first if there is none: for machines that
    /// more than one case begins with.
    RestoreReady(&'a Saves),
}

/// What all cases of a run share.
#[derive(Clone, Copy)]
pub struct Setting<'a> {
    /// Who executes.
    pub accel: Accel,
    /// How guests come to be.
    pub start: Start<'a>,
    /// What is pushed.
    pub payload: &'a Payload,
    /// Told what is worth a line.
    pub line: &'a (dyn Fn(&str) + Sync),
    /// Given each guest that lives although its case went wrong, before it is ended.
    pub keep: Option<Keep<'a>>,
    /// Bring home what crossed controllers and buses, even of cases in which nothing is wrong.
    pub captures: bool,
}

/// What is to be done with a guest whose case went wrong.
pub type Keep<'a> = &'a (dyn Fn(&CaseResult, &mut Guest<'_>) + Sync);

impl std::fmt::Debug for Setting<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { accel, start, .. } = self;
        f.debug_struct("Setting")
            .field("accel", accel)
            .field("start", start)
            .finish_non_exhaustive()
    }
}

/// Runs one case. Leaves no process behind, whatever happens.
#[must_use]
pub fn run(
    kernel: &KernelId,
    image: &Image,
    setting: Setting<'_>,
    scenario: &Scenario,
    watch: Watch<'_>,
) -> CaseResult {
    let mut result = CaseResult::bare(kernel, &scenario.name, Outcome::Cancelled);
    let mut guest = match begin(image, setting, scenario, watch) {
        Ok(guest) => guest,
        Err(NoGuest::Outside(error)) => {
            return result.conclude(Outcome::NotRun {
                error: format!("{error:#}"),
            });
        }
        Err(NoGuest::Died(death)) => {
            let (ending, evidence) = *death;
            let outcome = judge_ending(&ending, &evidence, None);
            result.evidence = evidence;
            return result.conclude(outcome);
        }
    };
    let ending = converse(&mut guest, setting, scenario);
    if matches!(ending, Ending::Complete) {
        let so_far = assess(result.clone(), scenario, &guest, &ending, None);
        let right = so_far.class.is_right();
        if !right || setting.captures {
            result.captures = captures(&mut guest, scenario);
        }
        if let Some(keep) = setting.keep.filter(|_| !right) {
            keep(&so_far, &mut guest);
        }
    }
    let patience = match ending {
        Ending::Closed(_) | Ending::Unreachable(_) => LAST_WORDS,
        _ => Duration::ZERO,
    };
    let qemu = guest
        .finish(patience)
        .map(|status| QemuEnd(format!("QEMU ended: {status}")));
    let result = assess(result, scenario, &guest, &ending, qemu);
    let mut result = prove(result, scenario);
    if !result.class.is_right() || setting.captures {
        let usb = mem::take(&mut result.evidence.usb_captures).into_iter();
        let usb = usb.map(|(name, bytes)| Capture { name, bytes });
        result.captures.extend(usb);
    }
    result
}

/// What the agent's controllers wrote down. A guest that cannot send it has other troubles.
fn captures(guest: &mut Guest<'_>, scenario: &Scenario) -> Vec<Capture> {
    let numbers = 0..scenario.controllers.len();
    let fetch = |number| {
        let name = format!("hci{number}.btsnoop");
        let bytes = guest.fetch(&format!("{CAPTURE_FOLDER}/{name}")).ok()?;
        Some(Capture { name, bytes })
    };
    numbers.filter_map(fetch).collect()
}

/// From what a guest said to a judgement.
fn assess(
    mut result: CaseResult,
    scenario: &Scenario,
    guest: &Guest<'_>,
    ending: &Ending,
    qemu: Option<QemuEnd>,
) -> CaseResult {
    result.timings = guest.timings;
    result.evidence = guest.evidence.clone();
    result.splats = splats::find(&result.kernel, &result.evidence.kmsg);
    result.expected = expect(scenario, &result.evidence);
    let outcome = judge(scenario, ending, &result, qemu);
    result.conclude(outcome)
}

/// Judges a right case again with errors planted in it: one that is not noticed makes it wrong.
fn prove(mut result: CaseResult, scenario: &Scenario) -> CaseResult {
    if !matches!(result.outcome, Outcome::Passed | Outcome::Absent { .. }) {
        return result;
    }
    let planted = controls::plant(scenario, &result.evidence, &result.expected);
    result.controls = planted.noticed;
    if planted.unnoticed.is_empty() {
        return result;
    }
    result.conclude(Outcome::Differs {
        differences: planted.unnoticed,
    })
}

/// A guest that is booted or restored.
fn begin<'a>(
    image: &Image,
    setting: Setting<'_>,
    scenario: &Scenario,
    watch: Watch<'a>,
) -> Result<Guest<'a>, NoGuest> {
    let spec = saves::spec(image, setting.accel, MEMORY_MIB);
    let stage = if scenario.is_outside() {
        Stage::Usb
    } else {
        Stage::Bluetooth
    };
    let restored = |saves: &Saves, ready| {
        let point = Point { stage, ready };
        saves.guest(&spec, point, watch, &vm_images::Quiet, setting.line)
    };
    match setting.start {
        Start::Restore(saves) => restored(saves, None),
        Start::RestoreReady(saves) => restored(saves, Some(setting.payload)),
        Start::Boot => {
            let vm = Vm::start(&spec)
                .context("cannot start QEMU")
                .map_err(NoGuest::Outside)?;
            Ok(Guest::new(vm, watch))
        }
    }
}

/// The whole conversation with a guest.
fn converse(guest: &mut Guest<'_>, setting: Setting<'_>, scenario: &Scenario) -> Ending {
    if let Err(error) = guest.prepare_outside(scenario) {
        return Ending::Outside(error);
    }
    let mut talk = || {
        if matches!(setting.start, Start::Boot) {
            guest.boot()?;
            guest.load_modules(saves::MODULES)?;
            if scenario.is_outside() {
                guest.load_modules(saves::USB_MODULES)?;
            }
        }
        if !matches!(setting.start, Start::RestoreReady(_)) {
            guest.push(setting.payload)?;
            guest.start_agent(setting.payload, scenario.is_outside())?;
        }
        guest.run(scenario)
    };
    match talk() {
        Ok(()) => Ending::Complete,
        Err(ending) => ending,
    }
}

/// A wrong value outranks a complaint of the kernel, which outranks a series that is missing.
fn judge(
    scenario: &Scenario,
    ending: &Ending,
    result: &CaseResult,
    qemu: Option<QemuEnd>,
) -> Outcome {
    let CaseResult {
        evidence, expected, ..
    } = result;
    let complete = matches!(ending, Ending::Complete);
    let ended_well = complete && evidence.exited == Some(ExitStatus::Code(0));
    if let Some(reason) = evidence.not_applicable.as_ref().filter(|_| ended_well) {
        let reason = format!("this kernel has {reason}");
        return Outcome::NotApplicable { reason };
    }
    if !ended_well || !evidence.done {
        return judge_ending(ending, evidence, qemu);
    }
    let mut differences = compare(evidence, expected);
    differences.extend(cross_check(scenario, evidence));
    differences.extend(check_usb(scenario, evidence));
    if !differences.is_empty() {
        return Outcome::Differs { differences };
    }
    let counts = |splat: &&Splat| splat.excused.is_none();
    let splats: Vec<Splat> = result.splats.iter().filter(counts).cloned().collect();
    if !splats.is_empty() {
        return Outcome::Splat { splats };
    }
    if !evidence.lost.is_empty() {
        let series = evidence.lost.clone();
        return Outcome::Absent { series };
    }
    Outcome::Passed
}

/// Expected against observed, for the families whose programs are all attached; a program that is
/// not is a difference of its own.
fn compare(evidence: &Evidence, expected: &Snapshot) -> Vec<Deviation> {
    let mut deviations = values(evidence, expected);
    let Some(observed) = &evidence.observed else {
        return deviations;
    };
    let lost = evidence
        .probes
        .iter()
        .filter(|probe| probe.state == State::Failed);
    deviations.extend(lost.map(|probe| {
        let labels = format!("{{family=\"{}\",prog=\"{}\"}}", probe.family, probe.prog);
        let reason = probe.reason.as_deref().unwrap_or("no reason given");
        deviation("probe", &labels, "attached", reason)
    }));
    deviations.extend(check_scrapes(evidence, observed));
    let problems = observed.problems();
    deviations.extend(
        problems
            .iter()
            .map(|problem| deviation("catalogue", "", "only what it holds", &problem.to_string())),
    );
    deviations
}

/// The values alone, and what the probes say that they could not count.
pub(crate) fn values(evidence: &Evidence, expected: &Snapshot) -> Vec<Deviation> {
    let Some(observed) = &evidence.observed else {
        return vec![deviation("snapshot", "", "one", "none")];
    };
    let measured = |series: &Series| !evidence.lost.iter().any(|lost| lost.covers(series));
    let expected = expected
        .restrict(FAMILIES)
        .filter(|series, _| measured(series));
    let differences = diff(&expected, &observed.restrict(FAMILIES));
    let mut deviations: Vec<Deviation> = differences.into_iter().map(Deviation::from).collect();
    deviations.extend(unseen(observed, evidence));
    deviations
}

pub(crate) fn deviation(metric: &str, labels: &str, expected: &str, observed: &str) -> Deviation {
    Deviation {
        metric: metric.to_owned(),
        labels: labels.to_owned(),
        expected: expected.to_owned(),
        observed: observed.to_owned(),
    }
}
