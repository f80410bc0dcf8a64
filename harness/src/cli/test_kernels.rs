//! `test-kernels`: the main job.

use super::{ArchiveOptions, complain, is_set, print, repository, stop_flag};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use evidence::Scenario;
use harness::accel;
use harness::case::{Setting, Start};
use harness::images::Images;
use harness::machine::Accel;
use harness::matrix::{self, Cell, Settings};
use harness::payload::Built;
use harness::progress::Progress;
use harness::report::{Report, SCHEMA};
use harness::saves::Saves;
use harness::scenarios;
use kernels::{KernelId, Manifest};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Options of `test-kernels`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// A kernel of kernels.toml, e.g. debian:6.12; may be given more than once
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// A group of kernels.toml [default: smoke, unless --kernel is given]
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// A scenario; may be given more than once [default: all]
    #[arg(long, value_name = "SCENARIO")]
    scenario: Vec<String>,
    /// How many machines at a time [default: the number of processors]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Who executes the guests [default: kvm if a guest really comes up under it, else tcg]
    #[arg(long, value_enum)]
    accel: Option<Accel>,
    /// How the probes attach
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    attach: Attach,
    /// Boot each guest, instead of restoring one that was booted once and saved
    #[arg(long)]
    boot: bool,
    /// Seconds of silence after which a guest counts as hung
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    patience: u64,
    /// Fail if a pinned package has left the archive, instead of taking the newest of its series
    #[arg(long)]
    locked: bool,
    /// List kernels and scenarios, run nothing
    #[arg(long)]
    list: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    archive: ArchiveOptions,
}

/// How the probes attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Attach {
    /// The best way that the kernel offers, program by program
    Auto,
    /// kprobes and kretprobes only
    Kprobe,
}

/// Runs the matrix and reports.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::load(&repository().join("kernels.toml"))?;
    let (kernels, scenarios) = match (
        select_kernels(&manifest, options),
        select_scenarios(options),
    ) {
        (Ok(kernels), Ok(scenarios)) => (kernels, scenarios),
        (Err(error), _) | (_, Err(error)) => {
            complain(&format!("error: {error:#}"));
            return Ok(ExitCode::from(2));
        }
    };
    if options.list {
        print(&list(&kernels, &scenarios));
        return Ok(ExitCode::SUCCESS);
    }
    let stop = stop_flag().context("failed to catch Ctrl-C")?;
    let cancelled = || is_set(&stop);
    let built = Built::load()?;
    let progress = Progress::on_stderr();
    let start = Instant::now();
    let images = Images::open(
        options.archive.cache.as_deref(),
        options.archive.mirror.as_deref(),
        repository(),
    )?;
    let cells = prepare(
        &images,
        &built,
        &kernels,
        &scenarios,
        options.locked,
        &progress,
        &cancelled,
    )?;
    let Some(canary) = cells.first() else {
        return Ok(ExitCode::from(130));
    };
    let choice = accel::choose(options.accel, &canary.image, images.folder(), &cancelled);
    progress.line(&format!(
        "guests run under {}: {}",
        choice.accel, choice.reason
    ));
    let mut payload = built.payload;
    if options.attach == Attach::Kprobe {
        payload
            .agent_arguments
            .extend(["--attach".to_owned(), "kprobe".to_owned()]);
    }
    let saves = Saves::new(images.cache().clone()).context("failed to run QEMU")?;
    let line = |text: &str| progress.line(text);
    let case = Setting {
        accel: choice.accel,
        start: if options.boot {
            Start::Boot
        } else {
            Start::Restore(&saves)
        },
        payload: &payload,
        line: &line,
    };
    let settings = Settings {
        case,
        patience: Duration::from_secs(options.patience),
        jobs: options.jobs.unwrap_or_else(processors),
    };
    let results = matrix::run(&cells, settings, &progress, &cancelled);
    let report = Report {
        schema: SCHEMA.to_owned(),
        accel: choice.accel,
        accel_reason: choice.reason.clone(),
        total: start.elapsed(),
        results,
    };
    print(&render(&report, options.json)?);
    let exit = if cancelled() {
        130
    } else {
        report.exit() as u8
    };
    Ok(ExitCode::from(exit))
}

fn render(report: &Report, json: bool) -> anyhow::Result<String> {
    if json {
        let text = serde_json::to_string_pretty(report).context("failed to write the report")?;
        return Ok(text + "\n");
    }
    Ok(report.to_text())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn select_kernels(manifest: &Manifest, options: &Options) -> anyhow::Result<Vec<KernelId>> {
    let mut kernels = Vec::new();
    for wanted in &options.kernel {
        kernels.push(manifest.find(wanted)?.0.clone());
    }
    let group = options
        .group
        .as_deref()
        .or_else(|| kernels.is_empty().then_some("smoke"));
    if let Some(group) = group {
        kernels.extend(manifest.group(group)?.into_iter().cloned());
    }
    let mut seen = std::collections::BTreeSet::new();
    kernels.retain(|kernel| seen.insert(kernel.clone()));
    Ok(kernels)
}

fn select_scenarios(options: &Options) -> anyhow::Result<Vec<Scenario>> {
    let all = scenarios::all();
    if options.scenario.is_empty() {
        return Ok(all);
    }
    let find = |wanted: &String| {
        let found = all.iter().find(|scenario| scenario.name == *wanted);
        found.cloned().with_context(|| {
            let names: Vec<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
            format!(
                "there is no scenario {wanted:?}; there are: {}",
                names.join(", ")
            )
        })
    };
    options.scenario.iter().map(find).collect()
}

fn list(kernels: &[KernelId], scenarios: &[Scenario]) -> String {
    let kernels = kernels.iter().map(|kernel| format!("kernel    {kernel}\n"));
    let scenarios = scenarios
        .iter()
        .map(|s| format!("scenario  {}: {}\n", s.name, s.about));
    kernels.chain(scenarios).collect()
}

/// One image per kernel, made or found in the cache, then all cells.
fn prepare(
    images: &Images,
    built: &Built,
    kernels: &[KernelId],
    scenarios: &[Scenario],
    locked: bool,
    progress: &Progress,
    cancelled: &dyn Fn() -> bool,
) -> anyhow::Result<Vec<Cell>> {
    let mut cells = Vec::new();
    for kernel in kernels {
        if cancelled() {
            return Ok(Vec::new());
        }
        let image = images
            .provide(kernel, &built.stage0, locked, progress)
            .with_context(|| format!("failed to provide kernel {kernel}"))?;
        cells.extend(scenarios.iter().map(|scenario| Cell {
            kernel: kernel.clone(),
            image: image.clone(),
            scenario: scenario.clone(),
        }));
    }
    Ok(cells)
}
