//! `report` and `diff`: what to do with reports that runs have written.

use super::print;
use clap::Args;
use harness::report::compare::compare;
use harness::report::{Files, Report, schema};
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// Options of `report`.
#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    /// report.json of each part of a run
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    parts: Vec<PathBuf>,
    /// Print the JSON Schema of report.json
    #[arg(long)]
    schema: bool,
    /// Print which commands each kernel gave to its controllers, instead of what the cases came to
    #[arg(long)]
    commands: bool,
    /// Print as Markdown which metrics are exact on which kernels, and which are absent and why: docs/kernels.md
    #[arg(long, conflicts_with = "commands")]
    metrics: bool,
    /// Print which metrics, and which values of their labels, no case touched; the exit code is 1 if one of them is not excused
    #[arg(long, conflicts_with_all = ["commands", "metrics"])]
    coverage: bool,
    #[command(flatten)]
    files: Files,
}

/// Options of `diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffOptions {
    /// report.json of the run before
    old: PathBuf,
    /// report.json of the run after
    new: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write Markdown to this file as well
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
}

/// Joins reports and writes them in other forms. The exit code is that of the run.
pub(crate) fn report(options: &ReportOptions) -> anyhow::Result<ExitCode> {
    if options.schema {
        print(&schema());
        return Ok(ExitCode::SUCCESS);
    }
    let mut parts = Vec::new();
    for path in &options.parts {
        parts.push(Report::read(path)?);
    }
    let report = Report::merge(parts)?;
    options.files.write(&report)?;
    if options.coverage {
        let coverage = report.coverage();
        print(&coverage.to_text());
        return Ok(ExitCode::from(u8::from(!coverage.is_whole())));
    }
    print(&if options.commands {
        report.commands()
    } else if options.metrics {
        report.metrics()
    } else {
        report.to_text()
    });
    Ok(ExitCode::from(report.exit() as u8))
}

/// Says what regressed, what was mended, what is new.
pub(crate) fn diff(options: &DiffOptions) -> anyhow::Result<ExitCode> {
    let comparison = compare(&Report::read(&options.old)?, &Report::read(&options.new)?);
    if let Some(path) = &options.markdown {
        fs::write(path, comparison.to_markdown())?;
    }
    if options.json {
        print(&(serde_json::to_string_pretty(&comparison)? + "\n"));
    } else {
        print(&comparison.to_markdown());
    }
    Ok(ExitCode::from(u8::from(comparison.has_regressed())))
}
