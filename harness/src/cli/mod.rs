//! Commands, options, exit codes.

mod bench;
mod bisect;
mod bulk;
mod cache;
mod cost;
mod lab;
mod manual;
mod matrix;
mod replay;
mod report;
mod selection;
mod shell;
mod test_kernels;
mod try_objects;
mod update_kernels;

use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tracing_subscriber::EnvFilter;

/// Exit code: something that is needed is missing.
const COULD_NOT_RUN: u8 = 4;
/// Exit code: a word of the command line is wrong.
const USAGE: u8 = 2;
/// Exit code: the user stopped it.
const CANCELLED: u8 = 130;

const EXIT_CODES: &str = "\
Exit codes:
    0  every value is as expected
    1  a metric differs, a scenario could not be carried out, or the kernel complained
    2  wrong usage
    3  a guest did not live to the end (panic, hang, agent-died, lost-vm, corrupt-record)
    4  something that is needed is missing (a package, a tool, the network)
  130  stopped by Ctrl-C";

/// The harness. People call it through `cargo xtask`.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = EXIT_CODES)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot kernels, run scenarios in them, and compare every metric with its exact value
    #[command(after_help = EXIT_CODES)]
    TestKernels(test_kernels::Options),
    /// Refresh kernels.lock from the archive's signed index
    UpdateKernels(update_kernels::Options),
    /// Join reports of several runs, and write them as JUnit, Markdown or HTML
    #[command(visible_alias = "merge")]
    Report(report::ReportOptions),
    /// Say what regressed, what was mended and what is new between two reports; exit code 1 if something regressed
    Diff(report::DiffOptions),
    /// Load and attach every program of objects alone in guests, and compare with what btcompat foretells; exit code 1 if
    /// something was foretold wrongly
    TryObjects(try_objects::Options),
    /// Run one case again from the bundle that its failure left
    #[command(after_help = EXIT_CODES)]
    Replay(replay::Options),
    /// Get a shell, or run a command, in a guest of a kernel
    Shell(shell::Options),
    /// Find the first kernel on which a scenario comes out differently
    Bisect(bisect::Options),
    /// Measure how long booting, saving, restoring and pushing take
    Bench(bench::Options),
    /// List what is in the cache, check it, or remove what was not used for longest
    Cache(cache::Options),
    /// Print the matrix, split into parts for the machines of a CI
    Matrix(matrix::Options),
    /// Print a completion script for a shell, for use with alias xtask='cargo xtask'
    Completions(manual::CompletionOptions),
    /// Write the manual pages into a folder
    Man(manual::ManOptions),
}

/// Where kernels come from.
#[derive(Debug, Clone, Args)]
struct ArchiveOptions {
    /// Folder for packages, kernels and images [default: bluetooth-metrics in the user's cache folder]
    #[arg(long, value_name = "FOLDER", env = "BT_CACHE")]
    cache: Option<PathBuf>,
    /// Base URL of a Debian mirror, in place of the one that apt uses
    #[arg(long, value_name = "URL", env = "BT_MIRROR")]
    mirror: Option<String>,
}

pub(crate) fn main(arguments: Arguments) -> ExitCode {
    let filter = EnvFilter::try_from_env("BT_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let result = match arguments.command {
        Command::TestKernels(options) => test_kernels::run(&options),
        Command::UpdateKernels(options) => update_kernels::run(&options),
        Command::Report(options) => report::report(&options),
        Command::Diff(options) => report::diff(&options),
        Command::TryObjects(options) => try_objects::run(&options),
        Command::Replay(options) => replay::run(&options),
        Command::Shell(options) => shell::run(&options),
        Command::Bisect(options) => bisect::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Cache(options) => cache::run(&options),
        Command::Matrix(options) => matrix::run(&options),
        Command::Completions(options) => manual::completions(&options),
        Command::Man(options) => manual::man(&options),
    };
    result.unwrap_or_else(|error| {
        complain(&format!("error: {error:#}"));
        ExitCode::from(COULD_NOT_RUN)
    })
}

#[expect(
    clippy::print_stderr,
    reason = "errors of a command-line tool go to stderr"
)]
fn complain(text: &str) {
    eprintln!("{text}");
}

#[expect(
    clippy::print_stdout,
    reason = "results of a command-line tool go to stdout"
)]
fn print(text: &str) {
    print!("{text}");
}

/// The repository: kernels.toml and kernels.lock are there.
fn repository() -> &'static Path {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest)
}

/// A flag that Ctrl-C and SIGTERM set. A second Ctrl-C ends the process at once; guests die with it.
///
/// # Errors
/// Signal handlers cannot be installed.
fn stop_flag() -> std::io::Result<Arc<AtomicBool>> {
    let flag = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // In this order: the second signal finds the flag set, the first sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 130, Arc::clone(&flag))?;
        signal_hook::flag::register(signal, Arc::clone(&flag))?;
    }
    Ok(flag)
}

fn is_set(flag: &AtomicBool) -> bool {
    flag.load(Ordering::Relaxed)
}
