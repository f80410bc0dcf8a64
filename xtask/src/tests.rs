//! All tests of the repository.

use crate::{harness, payload};
use anyhow::Context as _;
use std::ffi::OsString;
use xshell::{Shell, cmd};

/// Formatting, lints, then every test, those in virtual machines included.
///
/// # Errors
/// Any of them fails.
pub(crate) fn run(shell: &Shell, arguments: &[OsString]) -> anyhow::Result<()> {
    let arguments = arguments
        .iter()
        .filter(|argument| *argument != "--no-install");
    step("formatting");
    cmd!(shell, "cargo fmt --all --check").quiet().run()?;
    step("lints");
    cmd!(
        shell,
        "cargo clippy --workspace --all-targets --quiet -- -D warnings"
    )
    .quiet()
    .run()?;
    step("payload");
    let payload = payload::build_for_tests(shell)?;
    step("tests");
    cmd!(
        shell,
        "cargo test --workspace --no-fail-fast --features controller/cli {arguments...}"
    )
    .env(harness::PAYLOAD_VARIABLE, payload)
    .quiet()
    .run()?;
    Ok(())
}

/// `cargo nextest run` with the payload; every test in a virtual machine is one of its tests.
///
/// # Errors
/// A test fails, or nextest is not installed.
pub(crate) fn nextest(shell: &Shell, arguments: &[OsString]) -> anyhow::Result<()> {
    let arguments = arguments
        .iter()
        .filter(|argument| *argument != "--no-install");
    cmd!(shell, "cargo nextest --version")
        .quiet()
        .ignore_stdout()
        .ignore_stderr()
        .run()
        .context("cargo-nextest is not installed; cargo install --locked cargo-nextest")?;
    let payload = payload::build_for_tests(shell)?;
    cmd!(shell, "cargo nextest run --workspace {arguments...}")
        .env(harness::PAYLOAD_VARIABLE, payload)
        .quiet()
        .run()?;
    Ok(())
}

fn step(name: &str) {
    eprintln!("=== {name}");
}
