//! Building the harness and becoming it.

use crate::payload;
use crate::tools::Needs;
use anyhow::Context as _;
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use xshell::{Shell, cmd};

/// Name of the variable that tells the harness and its tests where the payload is.
pub(crate) const PAYLOAD_VARIABLE: &str = "BT_PAYLOAD";

/// Builds the harness, and the payload if there are to be guests, then replaces this process by
/// the harness: signals and exit codes reach it, and reach us from it, with nobody between.
///
/// # Errors
/// A build fails, or the harness cannot be run.
pub(crate) fn hand_over(
    shell: &Shell,
    command: &str,
    arguments: &[OsString],
    needs: Needs,
) -> anyhow::Result<()> {
    let harness = build(shell)?;
    let arguments = arguments
        .iter()
        .filter(|argument| *argument != "--no-install");
    let mut process = Command::new(&harness);
    process.arg(command).args(arguments);
    if needs.has_guests() {
        process.env(PAYLOAD_VARIABLE, payload::build(shell)?);
    }
    let error = process.exec();
    Err(error).with_context(|| format!("failed to run {}", harness.display()))
}

fn build(shell: &Shell) -> anyhow::Result<PathBuf> {
    cmd!(shell, "cargo build --package harness").quiet().run()?;
    Ok(payload::target_folder(shell)?.join("debug/harness"))
}
