//! `update-kernels`: kernels.lock from the archive's signed index.

use super::{ArchiveOptions, complain, print, repository};
use anyhow::Context as _;
use clap::Args;
use harness::images::Images;
use harness::progress::Progress;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Options of `update-kernels`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Say what would change, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    archive: ArchiveOptions,
}

/// Updates the lock and says what changed.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let ArchiveOptions { cache, mirror } = &options.archive;
    let images = Images::open(cache.as_deref(), mirror.as_deref(), repository())?;
    let update = images.update(&Progress::on_stderr())?;
    let mut text = String::new();
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
