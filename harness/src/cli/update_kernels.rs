//! `update-kernels`: kernels.lock from the archive's signed index.

use super::{ArchiveOptions, complain, print, repository};
use anyhow::Context as _;
use clap::Args;
use harness::images::Images;
use harness::progress::Progress;
use std::fmt::Write as _;
use std::process::ExitCode;
use vm_images::NewSeries;

/// Options of `update-kernels`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Say what would change, change nothing
    #[arg(long)]
    dry_run: bool,
    /// Add to kernels.toml every series that is newer than all that it lists
    #[arg(long, conflicts_with = "dry_run")]
    new_series: bool,
    #[command(flatten)]
    archive: ArchiveOptions,
}

/// Updates the lock and says what changed.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let ArchiveOptions { cache, mirror } = &options.archive;
    let mut images = Images::open(cache.as_deref(), mirror.as_deref(), repository())?;
    let progress = Progress::on_stderr();
    let mut text = String::new();
    if options.new_series {
        let newest = images.add_new_series(&progress)?;
        for NewSeries { id, suite } in &newest.series {
            let _ = writeln!(
                text,
                "{id}: a new series, in {suite}; added to kernels.toml"
            );
        }
        for (suite, error) in newest.failures {
            let error = anyhow::Error::new(error);
            complain(&format!("error: {suite}: {error:#}"));
        }
    }
    let update = images.update(&progress)?;
    for change in &update.changes {
        let _ = writeln!(text, "{change}");
    }
    if update.changes.is_empty() {
        text.push_str("kernels.lock is up to date\n");
    }
    print(&text);
    for (suite, signature) in &update.signatures {
        tracing::info!(suite, ?signature, "index");
    }
    for (kernel, error) in &update.failures {
        let error = anyhow::Error::msg(error.to_string());
        complain(&format!(
            "error: {kernel}: {error:#}; its pin stays as it was"
        ));
    }
    if !options.dry_run {
        update
            .lock
            .save(images.lock_file())
            .context("failed to write kernels.lock")?;
    }
    Ok(ExitCode::from(
        u8::from(!update.failures.is_empty()) * super::COULD_NOT_RUN,
    ))
}
