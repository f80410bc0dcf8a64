//! Kernels × scenarios, several at a time.

use crate::case::{self, CaseResult, Setting};
use crate::class::Class;
use crate::drive::{Image, Sign, Watch};
use crate::outcome::Outcome;
use crate::progress::Progress;
use evidence::Scenario;
use kernels::KernelId;
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
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let stop = || cancelled() || (settings.fail_fast && failed.load(Ordering::Relaxed));
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..settings.jobs.clamp(1, cells.len().max(1)) {
            let sender = sender.clone();
            let (next, failed, stop) = (&next, &failed, &stop);
            scope.spawn(move || {
                while let Some((index, cell)) = take(cells, next, stop) {
                    let mut result = run_cell(cell, settings, progress, cancelled);
                    failed.fetch_or(!result.class.is_right(), Ordering::Relaxed);
                    finished(cell, &mut result);
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
