//! `test-kernels`: the main job.

use super::lab::{Lab, LabOptions, Manner};
use super::selection::Selection;
use super::{complain, print, repository};
use anyhow::Context as _;
use clap::Args;
use evidence::Scenario;
use harness::bundle;
use harness::case::{CaseResult, Setting};
use harness::matrix::Cell;
use harness::report::{Files, Report};
use kernels::{KernelId, Manifest};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Options of `test-kernels`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Start nothing more once something is wrong
    #[arg(long)]
    fail_fast: bool,
    /// How often to try again what failed outside the guest; never a wrong value
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// How often to run each case, to see whether it always comes out the same
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    repeat: u16,
    /// Give me a shell in each guest that lives although its case went wrong; one case at a time
    #[arg(long, conflicts_with = "json")]
    keep: bool,
    /// Leave a bundle of each case, with what crossed its controllers and buses, not only of those that went wrong
    #[arg(long)]
    captures: bool,
    /// List kernels and scenarios, run nothing
    #[arg(long)]
    list: bool,
    /// Print the report (or the list) as JSON; its schema: `cargo xtask report --schema`
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    files: Files,
    #[command(flatten)]
    lab: LabOptions,
}

/// Runs the matrix and reports.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::load(&repository().join("kernels.toml"))?;
    let cells = match options.selection.cells(&manifest) {
        Ok(cells) => cells,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            return Ok(ExitCode::from(super::USAGE));
        }
    };
    if options.list {
        print(&list(&cells, options.json)?);
        return Ok(ExitCode::SUCCESS);
    }
    let mut lab = Lab::open(&options.lab)?;
    if options.keep {
        lab.keep_guests()?;
    }
    let manner = Manner {
        retries: options.retries,
        fail_fast: options.fail_fast,
        repeat: options.repeat.into(),
        captures: options.captures,
    };
    let cached = lab.images.folder().join(bundle::FOLDER);
    let bundles = options.files.bundles().unwrap_or(cached);
    let report = lab.run(&cells, manner, |cell, setting, result| {
        keep_bundle(&lab, &bundles, cell, setting, result);
    });
    options.files.write(&report)?;
    print(&render(&report, options.json, &bundles)?);
    let exit = if lab.cancelled() {
        super::CANCELLED
    } else {
        report.exit() as u8
    };
    lab.close();
    Ok(ExitCode::from(exit))
}

/// A failure without a bundle is still a failure: what went wrong with the bundle is only said.
fn keep_bundle(
    lab: &Lab,
    folder: &Path,
    cell: &Cell,
    setting: Setting<'_>,
    result: &mut CaseResult,
) {
    if (result.class.is_right() && !setting.captures) || lab.cancelled() {
        return;
    }
    match bundle::write(folder, &cell.image, &cell.scenario, setting, result) {
        Ok(place) => {
            let name = place.file_name().map(PathBuf::from).unwrap_or_default();
            let shown = Path::new(bundle::FOLDER).join(name);
            result.bundle = Some(shown.display().to_string());
        }
        Err(error) => lab
            .progress
            .line(&format!("warning: no replay bundle: {error:#}")),
    }
}

fn render(report: &Report, json: bool, bundles: &Path) -> anyhow::Result<String> {
    if json {
        return report.to_json().context("failed to write the report");
    }
    let mut text = report.to_text();
    let wrong = report.results.iter().filter(|r| !r.class.is_right());
    for result in wrong.filter(|r| r.bundle.is_some()) {
        let place = bundles.join(bundle::name(&result.kernel, &result.scenario));
        text.push_str(&format!("replay: cargo xtask replay {}\n", place.display()));
    }
    Ok(text)
}

/// What `--list --json` prints.
#[derive(Debug, Serialize)]
struct Listed<'a> {
    kernel: String,
    scenario: &'a str,
    about: &'a str,
}

fn list(cells: &[(KernelId, Scenario)], json: bool) -> anyhow::Result<String> {
    if json {
        let listed: Vec<Listed<'_>> = cells
            .iter()
            .map(|(kernel, scenario)| Listed {
                kernel: kernel.to_string(),
                scenario: &scenario.name,
                about: &scenario.about,
            })
            .collect();
        return Ok(serde_json::to_string_pretty(&listed)? + "\n");
    }
    let mut lines: Vec<String> = Vec::new();
    let kernels = cells
        .iter()
        .map(|(kernel, _)| format!("kernel    {kernel}\n"));
    let scenarios = cells
        .iter()
        .map(|(_, scenario)| format!("scenario  {}: {}\n", scenario.name, scenario.about));
    for line in kernels.chain(scenarios) {
        if !lines.contains(&line) {
            lines.push(line);
        }
    }
    Ok(lines.concat())
}
