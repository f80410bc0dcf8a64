//! `matrix`: what a run would do, split for the machines of a CI.

use super::selection::Selection;
use super::{USAGE, complain, print, repository};
use clap::{Args, ValueEnum};
use harness::shards::{self, Shard};
use kernels::Manifest;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Options of `matrix`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(flatten)]
    selection: Selection,
    /// Into how many parts [default: one per kernel]
    #[arg(long, value_name = "N")]
    shards: Option<usize>,
    /// How to print it
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs
    Json,
    /// One line for `strategy.matrix` of a GitHub workflow, through fromJSON
    Github,
}

/// Prints the parts. Give each machine the same selection, and its `--partition`.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::load(&repository().join("kernels.toml"))?;
    let cells = match options.selection.cells(&manifest) {
        Ok(cells) => cells,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            return Ok(ExitCode::from(USAGE));
        }
    };
    let cells: Vec<String> = cells.iter().map(|(kernel, _)| kernel.to_string()).collect();
    let mut kernels = cells.clone();
    kernels.dedup();
    let parts = shards::split(&cells, options.shards.unwrap_or(kernels.len()));
    print(&match options.format {
        Format::Text => describe(&parts),
        Format::Json => serde_json::to_string_pretty(&parts)? + "\n",
        Format::Github => shards::to_github(&parts) + "\n",
    });
    Ok(ExitCode::SUCCESS)
}

fn describe(parts: &[Shard]) -> String {
    let mut text = String::new();
    for part in parts {
        let _ = writeln!(
            text,
            "--partition {}: {} cases on {}",
            part.partition,
            part.cases,
            part.kernels.join(" ")
        );
    }
    text
}
