//! Kernels × scenarios, several at a time.

use crate::case::{self, CaseResult, Setting};
use crate::drive::{Image, Sign, Watch};
use crate::outcome::Outcome;
use crate::progress::Progress;
use evidence::Scenario;
use kernels::KernelId;
use std::sync::atomic::{AtomicUsize, Ordering};
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
}

/// Runs all cells. Results come in the order of the cells. Once `cancelled` says so, no further
/// machine is started, and those that run are ended.
pub fn run(
    cells: &[Cell],
    settings: Settings<'_>,
    progress: &Progress,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Vec<CaseResult> {
    let next = AtomicUsize::new(0);
    let (sender, results) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..settings.jobs.clamp(1, cells.len().max(1)) {
            let sender = sender.clone();
            let next = &next;
            scope.spawn(move || {
                while let Some((index, cell)) = take(cells, next, cancelled) {
                    let result = run_cell(cell, settings, progress, cancelled);
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
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Option<(usize, &'a Cell)> {
    if cancelled() {
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
    let Cell {
        kernel,
        image,
        scenario,
    } = cell;
    let task = progress.task(&format!("{kernel} × {}", scenario.name));
    let progress_phase = |sign: Sign<'_>| task.at(sign.phase);
    let watch = Watch {
        patience: settings.patience,
        cancelled,
        progress: &progress_phase,
    };
    let result = case::run(kernel, image, settings.case, scenario, watch);
    let word = match &result.outcome {
        Outcome::Passed => "exact",
        Outcome::Differs { .. } => "DIFFERS",
        Outcome::Failed { .. } => "FAILED",
        Outcome::Died { .. } => "DIED",
        Outcome::NotRun { .. } => "not run",
        Outcome::Cancelled => "cancelled",
    };
    progress.line(&format!("{word:>9}  {}", task.name()));
    result
}
