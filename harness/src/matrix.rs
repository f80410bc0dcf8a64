//! Kernels × scenarios, several at a time.

use crate::case::{self, CaseResult, Setting, Start};
use crate::class::Class;
use crate::drive::{Image, Sign, Watch};
use crate::outcome::Outcome;
use crate::progress::Progress;
use evidence::Scenario;
use kernels::KernelId;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// One cell of the matrix.
#[derive(Debug, Clone)]
pub struct Cell {
    /// The kernel's name.
    pub kernel: KernelId,
    /// What to boot.
    pub image: Image,
    /// What to do there.
    pub scenario: Scenario,
}

/// What all cells share.
#[derive(Debug, Clone, Copy)]
pub struct Settings<'a> {
    /// What every case needs.
    pub case: Setting<'a>,
    /// The longest silence that is not yet a hang.
    pub patience: Duration,
    /// How many machines at a time.
    pub jobs: usize,
    /// How often to try again what failed outside the guest.
    pub retries: u32,
    /// Start nothing more once something is wrong.
    pub fail_fast: bool,
}

impl Settings<'_> {
    /// Those of one cell. A machine with probes is worth saving if another cell begins with the same.
    fn of(mut self, cell: &Cell, cells: &[Cell]) -> Self {
        let is_same = |other: &&Cell| {
            other.kernel == cell.kernel && other.scenario.is_outside() == cell.scenario.is_outside()
        };
        if let Start::Restore(saves) = self.case.start
            && cells.iter().filter(is_same).nth(1).is_some()
        {
            self.case.start = Start::RestoreReady(saves);
        }
        self
    }
}

/// Told of each result as soon as it is there; may add to it.
pub type Finished<'a> = &'a (dyn Fn(&Cell, &mut CaseResult) + Sync);

/// Runs all cells. Results come in the order of the cells. Once `cancelled` says so, no further
/// machine is started, and those that run are ended; after a failure, if that is to stop the run,
/// those that run come to their end. Cells that were not started have no result.
pub fn run(
    cells: &[Cell],
    settings: Settings<'_>,
    progress: &Progress,
    cancelled: &(dyn Fn() -> bool + Sync),
    finished: Finished<'_>,
) -> Vec<CaseResult> {
    let execute = |cell: &Cell| {
        let settings = settings.of(cell, cells);
        let mut result = run_cell(cell, settings, progress, cancelled);
        finished(cell, &mut result);
        result.shed();
        result
    };
    let limits = Limits {
        jobs: settings.jobs,
        fail_fast: settings.fail_fast,
    };
    run_with(cells, limits, cancelled, &execute)
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    jobs: usize,
    fail_fast: bool,
}

/// One cell's way to its result.
type Execute<'a> = &'a (dyn Fn(&Cell) -> CaseResult + Sync);

fn run_with(
    cells: &[Cell],
    limits: Limits,
    cancelled: &(dyn Fn() -> bool + Sync),
    execute: Execute<'_>,
) -> Vec<CaseResult> {
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let stop = || cancelled() || (limits.fail_fast && failed.load(Ordering::Relaxed));
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..limits.jobs.clamp(1, cells.len().max(1)) {
            let sender = sender.clone();
            let (next, failed, stop) = (&next, &failed, &stop);
            scope.spawn(move || {
                while let Some((index, cell)) = take(cells, next, stop) {
                    let result = survive(cell, execute);
                    failed.fetch_or(!result.class.is_right(), Ordering::Relaxed);
                    if sender.send((index, result)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut results: Vec<(usize, CaseResult)> = results.iter().collect();
        results.sort_by_key(|(index, _)| *index);
        results.into_iter().map(|(_, result)| result).collect()
    })
}

/// A mistake in the harness costs the case that meets it, not the matrix. Its guest dies with it,
/// as unwinding drops the machine.
fn survive(cell: &Cell, execute: Execute<'_>) -> CaseResult {
    // Nothing is shared with a case but what is behind locks, and those heed poison.
    let result = panic::catch_unwind(AssertUnwindSafe(|| execute(cell)));
    result.unwrap_or_else(|payload| {
        let said = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        let error = format!(
            "the harness panicked: {}",
            said.unwrap_or("no reason given")
        );
        CaseResult::bare(&cell.kernel, &cell.scenario.name, Outcome::NotRun { error })
    })
}

fn take<'a>(
    cells: &'a [Cell],
    next: &AtomicUsize,
    stop: &(dyn Fn() -> bool + Sync),
) -> Option<(usize, &'a Cell)> {
    if stop() {
        return None;
    }
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, cells.get(index)?))
}

fn run_cell(
    cell: &Cell,
    settings: Settings<'_>,
    progress: &Progress,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> CaseResult {
    let task = progress.task(&format!("{} × {}", cell.kernel, cell.scenario.name));
    let progress_phase = |sign: Sign<'_>| task.at(sign.phase);
    let watch = Watch {
        patience: settings.patience,
        cancelled,
        progress: &progress_phase,
    };
    let mut earlier = Vec::new();
    let mut result = run_once(cell, settings, watch);
    for left in (0..settings.retries).rev() {
        if cancelled() || !result.outcome.is_worth_a_retry() {
            break;
        }
        let what = result.outcome.detail();
        progress.line(&format!(
            "{:>14}  {}: {what}; trying again, {left} tries left after that",
            result.class,
            task.name()
        ));
        earlier.push(result.outcome);
        result = run_once(cell, settings, watch);
    }
    result.earlier = earlier;
    progress.line(&format!("{:>14}  {}", word(&result), task.name()));
    result
}

fn run_once(cell: &Cell, settings: Settings<'_>, watch: Watch<'_>) -> CaseResult {
    let Cell {
        kernel,
        image,
        scenario,
    } = cell;
    match image.lacks(scenario) {
        Some(reason) => CaseResult::bare(kernel, &scenario.name, Outcome::NotApplicable { reason }),
        None => case::run(kernel, image, settings.case, scenario, watch),
    }
}

/// The class, what is wrong in capitals.
fn word(result: &CaseResult) -> String {
    match result.class {
        right if right.is_right() => right.to_string(),
        Class::Cancelled => Class::Cancelled.to_string(),
        wrong => wrong.to_string().to_uppercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;

    fn cells(kernels: &[&str]) -> Vec<Cell> {
        let image = Image {
            kernel: "vmlinux".into(),
            initramfs: "image".into(),
            release: String::new(),
            config: None,
        };
        let cell = |kernel: &&str| Cell {
            kernel: kernel.parse().unwrap(),
            image: image.clone(),
            scenario: scenarios::all().swap_remove(0),
        };
        kernels.iter().map(cell).collect()
    }

    fn bare(cell: &Cell, outcome: Outcome) -> CaseResult {
        CaseResult::bare(&cell.kernel, &cell.scenario.name, outcome)
    }

    /// Check that a panic of the harness costs its own case, with its reason, and no other.
    #[test]
    fn panic_in_a_worker_costs_its_case_only() {
        let cells = cells(&["debian:5.10", "debian:6.1", "debian:6.12", "debian:7.3"]);
        let limits = Limits {
            jobs: 2,
            fail_fast: false,
        };
        let results = run_with(&cells, limits, &|| false, &|cell| {
            assert_ne!(cell.kernel.to_string(), "debian:6.1", "planted");
            bare(cell, Outcome::Passed)
        });
        let classes: Vec<Class> = results.iter().map(|result| result.class).collect();
        let wanted = [
            Class::Exact,
            Class::Infrastructure,
            Class::Exact,
            Class::Exact,
        ];
        assert_eq!(classes, wanted);
        let detail = results[1].outcome.detail();
        assert!(
            detail.contains("the harness panicked") && detail.contains("planted"),
            "{detail}"
        );
    }

    /// Check that after a failure nothing more is started if that is asked for, and all is if not.
    #[test]
    fn failure_stops_the_run_only_if_asked() {
        let cells = cells(&["debian:5.10", "debian:6.1", "debian:6.12"]);
        let started = |fail_fast| {
            let limits = Limits { jobs: 1, fail_fast };
            let error = "planted".to_owned();
            run_with(&cells, limits, &|| false, &|cell| {
                let error = error.clone();
                bare(cell, Outcome::NotRun { error })
            })
            .len()
        };
        assert_eq!((started(true), started(false)), (1, 3));
    }
}
