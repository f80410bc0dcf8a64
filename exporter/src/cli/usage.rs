//! What the program says about itself.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;
use metrics::docs;

use super::{Arguments, print};

/// Options of `catalogue`.
#[derive(Debug, Args)]
pub(super) struct CatalogueOptions {
    /// Write JSON instead of Markdown
    #[arg(long)]
    json: bool,
}

/// Options of `completions`.
#[derive(Debug, Args)]
pub(super) struct CompletionOptions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Writes the catalogue.
///
/// # Errors
///
/// It cannot be written.
pub(super) fn catalogue(options: &CatalogueOptions) -> anyhow::Result<ExitCode> {
    let text = if options.json {
        serde_json::to_string_pretty(&docs::json())? + "\n"
    } else {
        docs::markdown()
    };
    written(&text)
}

/// Writes completions.
///
/// # Errors
///
/// They cannot be written.
pub(super) fn completions(options: &CompletionOptions) -> anyhow::Result<ExitCode> {
    let mut bytes = Vec::new();
    clap_complete::generate(
        options.shell,
        &mut Arguments::command(),
        "btmetrics",
        &mut bytes,
    );
    written(&String::from_utf8(bytes).context("completions are no text")?)
}

/// Writes the manual page.
///
/// # Errors
///
/// It cannot be written.
pub(super) fn manual() -> anyhow::Result<ExitCode> {
    let mut bytes = Vec::new();
    let page = clap_mangen::Man::new(Arguments::command());
    page.render(&mut bytes)
        .context("failed to make the manual page")?;
    written(&String::from_utf8(bytes).context("the manual page is no text")?)
}

fn written(text: &str) -> anyhow::Result<ExitCode> {
    print(text).context("failed to write")?;
    Ok(ExitCode::SUCCESS)
}
