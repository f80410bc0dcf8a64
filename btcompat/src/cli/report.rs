//! Verdicts on many objects and kernels, made in parallel.

use super::Exit;
use super::args::Judging;
use super::inputs::{self, Kernel};
use anyhow::{Context as _, Result};
use btcompat::object::Object;
use btcompat::surface::Loaded;
use btcompat::verdict::{
    Caps, MetricVerdict, OtherBtf, ProgramBeside, Scenario, State, Verdict, decide, metric_verdicts,
};
use serde::Serialize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Version of the layout of `--json`.
const FORMAT: u32 = 1;

/// Everything that was judged.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) format: u32,
    pub(crate) entries: Vec<Entry>,
    /// Kernels that could not be read.
    pub(crate) failures: Vec<Failure>,
}

/// One object on one kernel.
#[derive(Debug, Serialize)]
pub(crate) struct Entry {
    /// What the user called the kernel.
    pub(crate) kernel: String,
    pub(crate) state: State,
    pub(crate) metrics: Vec<MetricVerdict>,
    pub(crate) verdict: Verdict,
    pub(crate) warnings: Vec<String>,
    /// Why the kernel has no Bluetooth, if it is known to have none.
    pub(crate) no_bluetooth: Option<String>,
    /// What the kernel did, with `--load`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) beside: Vec<ProgramBeside>,
}

/// A kernel that could not be read.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    pub(crate) kernel: String,
    pub(crate) error: String,
}

impl Report {
    /// Something came otherwise than foretold.
    pub(crate) fn is_foretold_wrongly(&self) -> bool {
        let mut beside = self.entries.iter().flat_map(|e| &e.beside);
        beside.any(|b| b.agreement.is_wrong())
    }

    /// All works, some works, nothing works, cannot be told.
    pub(crate) fn exit(&self) -> Exit {
        let mut states = Vec::new();
        for entry in &self.entries {
            if entry.metrics.is_empty() {
                let loaded = entry.verdict.programs.iter().filter(|p| p.autoload);
                states.extend(loaded.map(|p| (p.state(), false)));
            }
            states.extend(entry.metrics.iter().map(|m| (m.state, m.degraded)));
        }
        let all = |wanted: State| states.iter().all(|&(s, d)| s == wanted && !d);
        let any = |wanted: State| states.iter().any(|&(s, _)| s == wanted);
        if self.is_foretold_wrongly() {
            Exit::Foretold
        } else if !self.failures.is_empty() && states.is_empty() {
            Exit::Error
        } else if all(State::Yes) && self.failures.is_empty() {
            Exit::Works
        } else if any(State::Yes) {
            Exit::Degraded
        } else if any(State::Unknown) || !self.failures.is_empty() {
            Exit::Unknown
        } else {
            Exit::Broken
        }
    }
}

/// Judges every object on every kernel, kernels in parallel.
pub(crate) fn judge(
    objects: &[(String, Object)],
    kernels: &[String],
    judging: &Judging,
) -> Result<Report> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Vec<Entry>>)>> = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let scenario = scenario(judging)?;
    std::thread::scope(|scope| {
        for _ in 0..threads.min(kernels.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let Some(name) = kernels.get(index) else {
                        break;
                    };
                    let result = inputs::kernel(name, &judging.inputs)
                        .map(|kernel| entries(objects, &kernel, &scenario, judging));
                    let mut done = done.lock().expect("no thread panics while it holds this");
                    done.push((index, result));
                }
            });
        }
    });
    let mut done = done
        .into_inner()
        .expect("no thread panics while it holds this");
    done.sort_by_key(|(index, _)| *index);
    let mut report = Report {
        format: FORMAT,
        entries: Vec::new(),
        failures: Vec::new(),
    };
    let only_one = kernels.len() == 1;
    for (index, result) in done {
        match result {
            Ok(entries) => report.entries.extend(entries),
            Err(e) if only_one => return Err(e),
            Err(e) => report.failures.push(Failure {
                kernel: kernels[index].clone(),
                error: format!("{e:#}"),
            }),
        }
    }
    Ok(report)
}

fn scenario(judging: &Judging) -> Result<Scenario> {
    let loaded = match judging.modules.as_str() {
        "actual" => Loaded::Actual,
        "all" => Loaded::All,
        "none" => Loaded::Nothing,
        names => {
            let names = names.split(',').filter(|n| !n.is_empty());
            Loaded::These(names.map(|n| n.replace('-', "_")).collect())
        }
    };
    let caps = match &judging.caps {
        None => Caps::ALL,
        Some(list) => Caps::parse(list)
            .map_err(|word| anyhow::anyhow!("{word} is not a capability that matters here"))?,
    };
    let other = |btf| {
        // Without objects it is about this project's probes, whose loader looks into the kernel first.
        if judging.object.is_empty() {
            OtherBtf::Beside(btf)
        } else {
            OtherBtf::Instead(btf)
        }
    };
    Ok(Scenario {
        loaded,
        caps,
        libbpf: judging
            .libbpf_version
            .parse()
            .context("failed to read --libbpf-version")?,
        host: None,
        btf: judging
            .btf
            .as_deref()
            .map(inputs::btf)
            .transpose()?
            .map(other),
    })
}

fn entries(
    objects: &[(String, Object)],
    kernel: &Kernel,
    scenario: &Scenario,
    judging: &Judging,
) -> Vec<Entry> {
    let mut scenario = scenario.clone();
    let mut warnings = kernel.surface.warnings.clone();
    if let Some((host, caps)) = &kernel.host {
        scenario.host = Some(host.clone());
        // Who asks is seldom who will measure: without any right to trace, the
        // question is taken to be about the kernel.
        if judging.caps.is_none() && caps.may_trace() {
            scenario.caps = *caps;
        } else if judging.caps.is_none() {
            warnings.push(
                "this process may not load tracing programs; judged as for root (--caps none judges it as it is)"
                    .to_owned(),
            );
        }
    }
    objects
        .iter()
        .map(|(name, object)| {
            let verdict = decide(name, object, &kernel.surface, &scenario);
            let metrics = metric_verdicts(name, &verdict);
            let worst = metrics.iter().map(|m| m.state).min();
            Entry {
                kernel: kernel.label.clone(),
                state: worst.unwrap_or_else(|| verdict.state()),
                metrics,
                verdict,
                warnings: warnings.clone(),
                no_bluetooth: kernel.surface.without_bluetooth(),
                beside: Vec::new(),
            }
        })
        .collect()
}
