//! What every command that runs guests needs, and its options.

use super::{ArchiveOptions, complain, is_set, repository, stop_flag};
use anyhow::Context as _;
use clap::{Args, ValueEnum};
use evidence::Scenario;
use harness::accel::{self, Choice};
use harness::case::{CaseResult, Keep, MEMORY_MIB, Setting, Start};
use harness::drive::{Guest, Image, Payload};
use harness::foretell::{Foretold, foretell};
use harness::images::Images;
use harness::machine::Accel;
use harness::matrix::{self, Cell, Finished, Settings};
use harness::outcome::Outcome;
use harness::payload::Built;
use harness::progress::Progress;
use harness::repeat;
use harness::report::{KernelInfo, Report, SCHEMA};
use harness::saves::Saves;
use harness::select::{available_mib, default_jobs};
use harness::sit::Toolbox;
use harness::size::Size;
use kernels::{KernelId, Lock};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use vm_images::Cache;

/// Options of every command that runs guests.
#[derive(Debug, Clone, Args)]
pub(super) struct LabOptions {
    /// How many machines at a time [default: two per processor, fewer if memory is short]
    #[arg(long, value_name = "N")]
    pub(super) jobs: Option<usize>,
    /// Who executes the guests [default: kvm if a guest really comes up under it, else tcg]
    #[arg(long, value_enum)]
    pub(super) accel: Option<Accel>,
    /// How the probes attach
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    pub(super) attach: Attach,
    /// Boot each guest, instead of restoring one that was booted once and saved
    #[arg(long)]
    pub(super) boot: bool,
    /// Seconds of silence after which a guest counts as hung
    #[arg(long, value_name = "SECONDS", default_value_t = PATIENCE_SECONDS)]
    pub(super) patience: u64,
    /// How much the cache may hold after the run; what was not used for longest goes first
    #[arg(
        long,
        value_name = "SIZE",
        env = "BT_CACHE_LIMIT",
        default_value = "20G"
    )]
    pub(super) cache_limit: Size,
    /// Fail if a pinned package has left the archive, instead of taking the newest of its series
    #[arg(long)]
    pub(super) locked: bool,
    #[command(flatten)]
    pub(super) archive: ArchiveOptions,
}

const PATIENCE_SECONDS: u64 = 60;

/// How the probes attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Attach {
    /// The best way that the kernel offers, program by program
    Auto,
    /// kprobes and kretprobes only
    Kprobe,
}

impl LabOptions {
    /// Those that decide what a run does, as words to give again.
    fn again(&self) -> Vec<String> {
        let Self {
            jobs: _,
            accel,
            attach,
            boot,
            patience,
            cache_limit: _,
            locked: _,
            archive: _,
        } = self;
        let accel = accel.map(|accel| format!("--accel {accel}"));
        let attach = (*attach == Attach::Kprobe).then(|| "--attach kprobe".to_owned());
        let boot = boot.then(|| "--boot".to_owned());
        let patience = (*patience != PATIENCE_SECONDS).then(|| format!("--patience {patience}"));
        [accel, attach, boot, patience]
            .into_iter()
            .flatten()
            .collect()
    }

    /// How many machines at a time.
    pub(super) fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(|| {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
            default_jobs(processors, available_mib(&meminfo), MEMORY_MIB)
        })
    }
}

/// Images, payload, saved machines.
pub(super) struct Lab {
    pub(super) options: LabOptions,
    pub(super) images: Images,
    pub(super) built: Built,
    pub(super) payload: Payload,
    pub(super) saves: Saves,
    pub(super) progress: Progress,
    stop: Arc<AtomicBool>,
    start: Instant,
    choice: OnceLock<Choice>,
    keeping: Option<(Toolbox, Mutex<()>)>,
}

/// How a run of the matrix is to go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    /// See [`Settings::retries`].
    pub(super) retries: u32,
    /// See [`Settings::fail_fast`].
    pub(super) fail_fast: bool,
    /// How often each case is run.
    pub(super) repeat: usize,
    /// Whether to bring home what crossed, even if nothing is wrong.
    pub(super) captures: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            retries: 0,
            fail_fast: false,
            repeat: 1,
            captures: false,
        }
    }
}

impl Lab {
    /// Opens the cache and reads the payload.
    pub(super) fn open(options: &LabOptions) -> anyhow::Result<Self> {
        let start = Instant::now();
        let stop = stop_flag().context("failed to catch Ctrl-C")?;
        let built = Built::load()?;
        let ArchiveOptions { cache, mirror } = &options.archive;
        let images = Images::open(cache.as_deref(), mirror.as_deref(), repository())?;
        let saves = Saves::new(images.cache().clone()).context("failed to run QEMU")?;
        let mut payload = built.payload.clone();
        if options.attach == Attach::Kprobe {
            let words = ["--attach", "kprobe"].map(str::to_owned);
            payload.agent_arguments.extend(words);
        }
        Ok(Self {
            options: options.clone(),
            images,
            built,
            payload,
            saves,
            progress: Progress::on_stderr(),
            stop,
            start,
            choice: OnceLock::new(),
            keeping: None,
        })
    }

    /// From now on, whoever is at the terminal gets a shell in each guest that lives although its
    /// case went wrong.
    ///
    /// # Errors
    /// There is nothing to be a shell.
    pub(super) fn keep_guests(&mut self) -> anyhow::Result<()> {
        self.keeping = Some((Toolbox::find()?, Mutex::new(())));
        Ok(())
    }

    /// Ends the use of the cache, and makes it small enough.
    pub(super) fn close(self) {
        let (limit, progress) = (self.options.cache_limit, self.progress.clone());
        let folder = self.images.folder().to_owned();
        drop(self);
        let evicted = Cache::open(Some(&folder)).and_then(|cache| cache.evict(limit.bytes));
        match evicted {
            Ok(evicted) if evicted.removed.is_empty() => {}
            Ok(evicted) => progress.line(&format!(
                "the cache held more than {limit}: {} entries removed, {} freed",
                evicted.removed.len(),
                Size {
                    bytes: evicted.freed_bytes
                }
            )),
            Err(error) => {
                progress.line(&format!("warning: the cache was not made smaller: {error}"))
            }
        }
    }

    /// Does the user want to stop?
    pub(super) fn cancelled(&self) -> bool {
        is_set(&self.stop)
    }

    /// The image of one kernel.
    pub(super) fn image(&self, kernel: &KernelId) -> anyhow::Result<Image> {
        self.images
            .provide(
                kernel,
                &self.built.stage0,
                self.options.locked,
                &self.progress,
            )
            .with_context(|| format!("failed to provide kernel {kernel}"))
    }

    /// Who executes, found and said once.
    pub(super) fn choose_accel(&self, canary: &Image) -> Choice {
        let choose = || {
            let cancelled = || self.cancelled();
            let folder = self.images.folder();
            let choice = accel::choose(self.options.accel, canary, folder, &cancelled);
            self.progress.line(&format!(
                "guests run under {}: {}",
                choice.accel, choice.reason
            ));
            choice
        };
        self.choice.get_or_init(choose).clone()
    }

    /// What all cases share.
    pub(super) fn setting<'a>(
        &'a self,
        accel: Accel,
        line: &'a (dyn Fn(&str) + Sync),
    ) -> Setting<'a> {
        let start = if self.options.boot {
            Start::Boot
        } else {
            Start::Restore(&self.saves)
        };
        Setting {
            accel,
            start,
            payload: &self.payload,
            line,
            keep: None,
            captures: false,
        }
    }

    /// Provides the kernels, runs the cells, reports. A kernel that cannot be had costs its own
    /// cells only.
    pub(super) fn run(
        &self,
        wanted: &[(KernelId, Scenario)],
        manner: Manner,
        finished: impl Fn(&Cell, Setting<'_>, &mut CaseResult) + Sync,
    ) -> Report {
        let wanted: Vec<_> = wanted
            .iter()
            .flat_map(|cell| std::iter::repeat_n(cell.clone(), manner.repeat))
            .collect();
        let (cells, mut results) = self.prepare(&wanted);
        let mut report = self.blank_report();
        let Some(canary) = cells.first() else {
            report.results = results;
            report.not_started = wanted.len() - report.results.len();
            return report;
        };
        let choice = self.choose_accel(&canary.image);
        let line = |text: &str| self.progress.line(text);
        let keep = |result: &CaseResult, guest: &mut Guest<'_>| self.keep(result, guest);
        let setting = Setting {
            keep: self.keeping.is_some().then_some(&keep as Keep<'_>),
            captures: manner.captures,
            ..self.setting(choice.accel, &line)
        };
        let settings = self.settings(setting, manner);
        let told: Finished<'_> = &|cell, result| finished(cell, setting, result);
        let cancelled = || self.cancelled();
        results.extend(matrix::run(
            &cells,
            settings,
            &self.progress,
            &cancelled,
            told,
        ));
        report.foretold = self.foretell(&cells, &results);
        report.kernels = self.kernel_infos(&cells);
        report.accel = choice.accel;
        report.accel_reason = choice.reason;
        report.not_started = wanted.len() - results.len();
        report.results = repeat::fold(results);
        report.total_ms = self.elapsed_ms();
        report
    }

    fn settings<'a>(&self, case: Setting<'a>, manner: Manner) -> Settings<'a> {
        Settings {
            case,
            patience: Duration::from_secs(self.options.patience),
            jobs: match self.keeping {
                Some(_) => 1,
                None => self.options.jobs(),
            },
            retries: manner.retries,
            fail_fast: manner.fail_fast,
        }
    }

    /// Which kernels these cells ran.
    fn kernel_infos(&self, cells: &[Cell]) -> BTreeMap<String, KernelInfo> {
        let lock = Lock::load(self.images.lock_file()).ok();
        let info = |cell: &Cell| {
            let version = lock.as_ref().and_then(|lock| lock.get(&cell.kernel).ok());
            let info = KernelInfo {
                release: cell.image.release.clone(),
                version: version.map(|locked| locked.version.to_string()),
            };
            (cell.kernel.to_string(), info)
        };
        cells.iter().map(info).collect()
    }

    /// Hands a guest over, one at a time.
    fn keep(&self, result: &CaseResult, guest: &mut Guest<'_>) {
        let Some((tools, terminal)) = &self.keeping else {
            return;
        };
        let _mine = terminal.lock().unwrap_or_else(PoisonError::into_inner);
        self.progress.pause(|| {
            complain(&format!(
                "{} × {}: {} {}",
                result.kernel,
                result.scenario,
                result.class,
                result.outcome.detail()
            ));
            let kernel = &result.kernel;
            if let Err(error) = super::shell::attend(guest, tools, kernel, &[]) {
                complain(&format!("warning: {error:#}"));
            }
        });
    }

    /// What was foretold for each kernel that came to an end, beside what came.
    fn foretell(&self, cells: &[Cell], results: &[CaseResult]) -> BTreeMap<String, Foretold> {
        // The choice that the loader makes by itself is foretold, not one that was made for it.
        if self.options.attach == Attach::Kprobe {
            return BTreeMap::new();
        }
        let mut foretold = BTreeMap::new();
        for cell in cells {
            let kernel = cell.kernel.to_string();
            let of_kernel = results
                .iter()
                .filter(|r| r.kernel == cell.kernel && r.evidence.done);
            if foretold.contains_key(&kernel) || of_kernel.clone().next().is_none() {
                continue;
            }
            let task = self.progress.task(&kernel);
            task.at("comparing with what its files foretell");
            let evidence = of_kernel.map(|r| &r.evidence);
            let came = foretell(&cell.image, &self.payload.objects, evidence);
            foretold.insert(kernel, came);
        }
        foretold
    }

    /// A report of results that were come by otherwise.
    pub(super) fn report_of(&self, results: Vec<CaseResult>, accel: Accel) -> Report {
        Report {
            accel,
            results,
            total_ms: self.elapsed_ms(),
            ..self.blank_report()
        }
    }

    fn elapsed_ms(&self) -> u64 {
        self.start
            .elapsed()
            .as_millis()
            .try_into()
            .unwrap_or(u64::MAX)
    }

    fn blank_report(&self) -> Report {
        Report {
            schema: SCHEMA.to_owned(),
            accel: self.options.accel.unwrap_or(Accel::Tcg),
            accel_reason: "no guest was started".to_owned(),
            total_ms: 0,
            options: self.options.again(),
            kernels: BTreeMap::new(),
            foretold: BTreeMap::new(),
            results: Vec::new(),
            not_started: 0,
        }
    }

    /// One image per kernel, made or found in the cache; and the results of those without one.
    fn prepare(&self, wanted: &[(KernelId, Scenario)]) -> (Vec<Cell>, Vec<CaseResult>) {
        let mut images: BTreeMap<&KernelId, Result<Image, String>> = BTreeMap::new();
        let mut cells = Vec::new();
        let mut failed = Vec::new();
        for (kernel, scenario) in wanted {
            if self.cancelled() {
                return (Vec::new(), Vec::new());
            }
            let image = images.entry(kernel).or_insert_with(|| {
                self.image(kernel).map_err(|error| {
                    let error = format!("{error:#}");
                    self.progress.line(&format!("error: {error}"));
                    error
                })
            });
            match image {
                Ok(image) => cells.push(Cell {
                    kernel: kernel.clone(),
                    image: image.clone(),
                    scenario: scenario.clone(),
                }),
                Err(error) => {
                    let error = error.clone();
                    let outcome = Outcome::NotRun { error };
                    failed.push(CaseResult::bare(kernel, &scenario.name, outcome));
                }
            }
        }
        (cells, failed)
    }
}
