//! What `btcompat` says from files alone, beside what the guests did.

use crate::drive::Image;
use crate::evidence::Evidence;
use crate::payload::BTF_SUFFIX;
use anyhow::Context as _;
use btcompat::btf::Btf;
use btcompat::object::Object;
use btcompat::surface::{KernelFiles, Loaded, Surface, Wanted};
use btcompat::verdict::{
    Agreement, MetricBeside, OtherBtf, ProgramBeside, Scenario, Verdict, beside_losses,
    beside_reports, beside_trials, decide, metric_verdicts,
};
use evidence::ModuleOutcome;
use kernels::KernelTree;
use metrics::{Lost, ProbeReport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Prediction beside reality, for one kernel.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Foretold {
    /// Programs: those that the loader of the probes chose, or that were tried alone.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub programs: Vec<ProgramBeside>,
    /// Metrics.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub metrics: Vec<MetricBeside>,
    /// Why nothing could be foretold.
    pub error: Option<String>,
}

impl Foretold {
    /// What did not come true, one line each.
    #[must_use]
    pub fn wrong(&self) -> Vec<String> {
        let programs = self
            .programs
            .iter()
            .filter(|p| p.agreement.is_wrong())
            .map(|p| {
                let (said, came) = words(p.agreement);
                let why = if p.accepted { &p.reason } else { &p.said };
                format!(
                    "{}/{} at {}: {said}, {came}: {why}",
                    p.object, p.program, p.stage
                )
            });
        let metrics = self
            .metrics
            .iter()
            .filter(|m| m.agreement.is_wrong())
            .map(|m| match m.agreement {
                Agreement::FalseOk => {
                    format!(
                        "{}: said to be whole, but lost {}",
                        m.metric,
                        m.lost.join("; ")
                    )
                }
                _ => format!(
                    "{}: said not to be whole, but nothing was lost: {}",
                    m.metric, m.reason
                ),
            });
        programs.chain(metrics).collect()
    }

    /// How many programs and metrics came as foretold, and how many were decided.
    #[must_use]
    pub fn score(&self) -> Score {
        let all = self
            .programs
            .iter()
            .map(|p| p.agreement)
            .chain(self.metrics.iter().map(|m| m.agreement));
        let mut score = Score::default();
        for agreement in all {
            match agreement {
                Agreement::Agrees => score.right += 1,
                Agreement::Undetermined => score.undetermined += 1,
                Agreement::TooComplex => score.too_complex += 1,
                Agreement::FalseAlarm => score.false_alarms += 1,
                Agreement::FalseOk => score.false_oks += 1,
            }
        }
        score
    }

    /// Adds what another run on the same kernel showed; what both showed is kept once.
    pub fn merge(&mut self, other: Self) {
        for program in other.programs {
            if !self.programs.contains(&program) {
                self.programs.push(program);
            }
        }
        for metric in other.metrics {
            if !self.metrics.contains(&metric) {
                self.metrics.push(metric);
            }
        }
        self.error = self.error.take().or(other.error);
    }
}

/// Counts of [`Agreement`]s.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Score {
    /// Came as foretold.
    pub right: usize,
    /// Nothing was foretold.
    pub undetermined: usize,
    /// The verifier gave up.
    pub too_complex: usize,
    /// Said to fail, and worked.
    pub false_alarms: usize,
    /// Said to work, and failed.
    pub false_oks: usize,
}

impl std::ops::AddAssign for Score {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.undetermined += other.undetermined;
        self.too_complex += other.too_complex;
        self.false_alarms += other.false_alarms;
        self.false_oks += other.false_oks;
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let wrong = self.false_alarms + self.false_oks;
        let decided = self.right + self.too_complex + wrong;
        write!(f, "{} of {decided} as foretold", self.right)?;
        let parts = [
            (self.false_oks, "said to work and refused"),
            (self.false_alarms, "said to fail and worked"),
            (self.too_complex, "too complex for the verifier"),
            (self.undetermined, "not determined"),
        ];
        for (count, what) in parts.iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        Ok(())
    }
}

fn words(agreement: Agreement) -> (&'static str, &'static str) {
    match agreement {
        Agreement::FalseOk => ("said to work", "the kernel refused it"),
        _ => ("said to fail", "it works"),
    }
}

/// A kernel and objects, read once.
#[derive(Debug)]
pub struct Prophet {
    surface: Surface,
    objects: Vec<(String, Object)>,
    /// Types that the loader of the probes gets from outside.
    types: Option<Arc<Btf>>,
}

impl Prophet {
    /// Reads the kernel of an image, and objects.
    ///
    /// # Errors
    /// The unpacked kernel is not there any more, or something cannot be read.
    pub fn new(image: &Image, objects: &[(String, Vec<u8>)]) -> anyhow::Result<Self> {
        let folder = image
            .kernel
            .parent()
            .filter(|folder| KernelTree::is_at(folder))
            .with_context(|| format!("{} is in no unpacked kernel", image.kernel.display()))?;
        // Type information for kernels whose modules have none of their own lies beside the objects.
        let own = format!("{}{BTF_SUFFIX}", image.release);
        let types = objects.iter().find(|(name, _)| *name == own);
        let types = types.map(|(_, bytes)| Btf::parse(bytes.clone()));
        let types = types
            .transpose()
            .with_context(|| format!("failed to read {own}"))?;
        let files = KernelFiles::of_tree(&KernelTree::open(folder)?);
        let surface = files.surface(&Wanted::All)?;
        let objects = objects
            .iter()
            .filter_map(|(name, bytes)| Some((name.strip_suffix(".bpf.o")?, bytes)))
            .map(|(stem, bytes)| {
                let object = Object::parse(bytes).with_context(|| format!("failed to read {stem}"));
                object.map(|object| (stem.to_owned(), object))
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self {
            surface,
            objects,
            types: types.map(Arc::new),
        })
    }

    /// Judges all objects with the modules that the guest had loaded.
    #[must_use]
    pub fn verdicts(&self, evidence: &Evidence) -> Vec<Verdict> {
        let loaded: BTreeSet<String> = evidence
            .modules
            .iter()
            .filter(|(_, outcome)| !matches!(outcome, ModuleOutcome::Failed { .. }))
            .map(|(name, _)| name.replace('-', "_"))
            .collect();
        // Programs that are tried alone are loaded as plain libbpf does it, which looks for no types beside the objects.
        let types = self.types.clone().filter(|_| evidence.trials.is_empty());
        let scenario = Scenario {
            loaded: Loaded::These(loaded),
            btf: types.map(OtherBtf::Beside),
            ..Scenario::default()
        };
        self.objects
            .iter()
            .map(|(name, object)| decide(name, object, &self.surface, &scenario))
            .collect()
    }

    /// Compares with what the loader of the probes did, and with what was tried program by program.
    #[must_use]
    pub fn compare(&self, evidence: &Evidence) -> Foretold {
        let verdicts = self.verdicts(evidence);
        let mut foretold = Foretold {
            programs: beside_reports(&verdicts, &evidence.probes),
            ..Foretold::default()
        };
        for verdict in &verdicts {
            let trials = beside_trials(verdict, &evidence.trials);
            foretold.programs.extend(trials);
            let metrics = metric_verdicts(&verdict.object, verdict);
            // What a loader left alone, since its subject is not in this guest, shows nothing.
            let loaded = |probe: &ProbeReport| probe.family.as_str() == verdict.object;
            let lost = |lost: &Lost| metrics.iter().any(|metric| metric.name == lost.metric);
            if evidence.probes.iter().any(loaded) || evidence.lost.iter().any(lost) {
                foretold
                    .metrics
                    .extend(beside_losses(&metrics, &evidence.lost));
            }
        }
        foretold
    }
}

/// What all evidence of one kernel comes to.
#[must_use]
pub fn foretell<'a>(
    image: &Image,
    objects: &[(String, Vec<u8>)],
    evidence: impl Iterator<Item = &'a Evidence>,
) -> Foretold {
    let mut foretold = Foretold::default();
    match Prophet::new(image, objects) {
        Ok(prophet) => evidence.for_each(|e| foretold.merge(prophet.compare(e))),
        Err(error) => foretold.error = Some(format!("{error:#}")),
    }
    foretold
}
