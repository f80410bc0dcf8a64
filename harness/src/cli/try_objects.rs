//! `try-objects`: what btcompat foretells, against real loads.

use super::lab::{Lab, LabOptions};
use super::selection::Selection;
use super::{complain, print, repository};
use anyhow::{Context as _, bail};
use btcompat::object::embedded;
use clap::Args;
use evidence::Scenario;
use harness::case::{self, CaseResult};
use harness::drive::{Image, Payload, Watch};
use harness::foretell::{Foretold, Score, foretell};
use harness::machine::Accel;
use kernels::{KernelId, Manifest};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Options of `try-objects`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Objects, folders of them, or programs that carry theirs inside; this project's probes by default
    objects: Vec<PathBuf>,
    /// A kernel of kernels.toml, e.g. debian:6.12 or 'debian:6.*'; may be given more than once
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// A group of kernels.toml [default: smoke, unless --kernel is given]
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Print every program on every kernel as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    lab: LabOptions,
}

/// What came out, for `--json`.
#[derive(Debug, Serialize)]
struct Tried {
    /// By kernel.
    kernels: BTreeMap<String, Foretold>,
    /// Kernels without an answer, and why.
    failures: BTreeMap<String, String>,
}

/// Loads and attaches every program alone on every kernel, and compares with what was foretold.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::load(&repository().join("kernels.toml"))?;
    let selection = Selection {
        kernel: options.kernel.clone(),
        group: options.group.clone(),
        scenario: Vec::new(),
        partition: None,
    };
    let kernels = match selection.kernels(&manifest) {
        Ok(kernels) => kernels,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            return Ok(ExitCode::from(super::USAGE));
        }
    };
    let lab = Lab::open(&options.lab)?;
    let mut payload = lab.payload.clone();
    if !options.objects.is_empty() {
        payload.objects = objects(&options.objects)?;
    }
    payload.agent_arguments = vec!["--try".to_owned()];
    let tried = on_all(&lab, &kernels, &payload);
    print(&if options.json {
        serde_json::to_string_pretty(&tried)? + "\n"
    } else {
        text(&tried)
    });
    let wrong = tried.kernels.values().any(|f| !f.wrong().is_empty());
    Ok(ExitCode::from(match (lab.cancelled(), wrong) {
        (true, _) => super::CANCELLED,
        (false, true) => 1,
        (false, false) if !tried.failures.is_empty() => super::COULD_NOT_RUN,
        (false, false) => 0,
    }))
}

/// Several kernels at a time; one that fails costs itself only.
fn on_all(lab: &Lab, kernels: &[KernelId], payload: &Payload) -> Tried {
    let mut failures = BTreeMap::new();
    let mut images: Vec<(&KernelId, Image)> = Vec::new();
    for kernel in kernels {
        match lab.image(kernel) {
            Ok(image) => images.push((kernel, image)),
            Err(error) => {
                failures.insert(kernel.to_string(), format!("{error:#}"));
            }
        }
    }
    let Some((_, canary)) = images.first() else {
        let kernels = BTreeMap::new();
        return Tried { kernels, failures };
    };
    let accel = lab.choose_accel(canary).accel;
    let next = AtomicUsize::new(0);
    let done = Mutex::new((BTreeMap::new(), failures));
    std::thread::scope(|scope| {
        for _ in 0..lab.options.jobs().min(images.len()) {
            scope.spawn(|| {
                while let Some((kernel, image)) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = on_one(lab, kernel, image, payload, accel);
                    let mut done = done.lock().expect("no thread panics while it holds this");
                    match result {
                        Ok(foretold) => _ = done.0.insert(kernel.to_string(), foretold),
                        Err(why) => _ = done.1.insert(kernel.to_string(), format!("{why:#}")),
                    }
                }
            });
        }
    });
    let (kernels, failures) = done
        .into_inner()
        .expect("no thread panics while it holds this");
    Tried { kernels, failures }
}

fn on_one(
    lab: &Lab,
    kernel: &KernelId,
    image: &Image,
    payload: &Payload,
    accel: Accel,
) -> anyhow::Result<Foretold> {
    let task = lab.progress.task(&kernel.to_string());
    let line = |text: &str| lab.progress.line(text);
    let mut setting = lab.setting(accel, &line);
    setting.payload = payload;
    let watch = Watch {
        patience: Duration::from_secs(lab.options.patience),
        cancelled: &|| lab.cancelled(),
        progress: &|sign| task.at(sign.phase),
    };
    let scenario = Scenario {
        name: "try-objects".to_owned(),
        about: String::new(),
        controllers: Vec::new(),
        transports: Vec::new(),
        steps: Vec::new(),
    };
    let CaseResult {
        evidence, outcome, ..
    } = case::run(kernel, image, setting, &scenario, watch);
    if !evidence.done {
        bail!("the guest did not come to the end: {}", outcome.detail());
    }
    task.at("comparing with what its files foretell");
    let foretold = foretell(image, &payload.objects, std::iter::once(&evidence));
    match &foretold.error {
        Some(error) => bail!("{error}"),
        None => Ok(foretold),
    }
}

/// Objects with the names that they get in the guest.
fn objects(paths: &[PathBuf]) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut objects = Vec::new();
    for path in paths {
        if path.is_dir() {
            let entries =
                fs::read_dir(path).with_context(|| format!("failed to list {}", path.display()))?;
            let mut files: Vec<PathBuf> = entries
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.is_file())
                .collect();
            files.sort();
            for file in files {
                objects.extend(of_file(&file)?);
            }
        } else {
            let found = of_file(path)?;
            if found.is_empty() {
                bail!("{} is no eBPF object and holds none", path.display());
            }
            objects.extend(found);
        }
    }
    if objects.is_empty() {
        bail!("no eBPF object there");
    }
    objects.sort();
    Ok(objects)
}

fn of_file(path: &Path) -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let bytes = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let stem = name.strip_suffix(".bpf.o").unwrap_or(&name);
    let found = embedded(&bytes).into_iter().enumerate();
    Ok(found
        .map(|(i, object)| {
            let name = match i {
                0 => format!("{stem}.bpf.o"),
                i => format!("{stem}.{i}.bpf.o"),
            };
            (name, object.to_vec())
        })
        .collect())
}

fn text(tried: &Tried) -> String {
    let mut text = String::new();
    let mut all = Score::default();
    for (kernel, foretold) in &tried.kernels {
        for wrong in foretold.wrong() {
            text += &format!("FORETOLD WRONGLY  {kernel}: {wrong}\n");
        }
    }
    for (kernel, foretold) in &tried.kernels {
        all += foretold.score();
        text += &format!("{kernel:16} {}\n", foretold.score());
    }
    for (kernel, why) in &tried.failures {
        text += &format!("{kernel:16} no answer: {why}\n");
    }
    text + &format!("{:16} {all}\n", "all")
}
