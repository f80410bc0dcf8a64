//! Entry point of this repository: `cargo xtask <command>`.
//!
//! xtask installs what is missing, builds what goes into guests, and hands over to the harness. It
//! links no system library, so that it builds on a machine that has nothing but Rust.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "a command-line tool says on stderr what it does"
)]

#[path = "../../probes/build/compile.rs"]
mod compile;
mod external_btf;
mod harness;
mod payload;
mod tests;
mod tools;

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tools::Needs;
use xshell::Shell;

/// Exit code: something that is needed is missing, or a build failed.
const COULD_NOT_RUN: u8 = 4;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Set-up, builds, tests and kernel runs of this repository"
)]
struct Arguments {
    /// Print the command that installs what is missing, and stop, instead of installing it
    #[arg(long, global = true)]
    no_install: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot kernels, run scenarios, compare metrics (`cargo xtask test-kernels --help` lists the options)
    #[command(disable_help_flag = true)]
    TestKernels(PassedOn),
    /// Compare what btcompat foretells for objects with real loads in guests
    #[command(disable_help_flag = true)]
    TryObjects(PassedOn),
    /// Refresh kernels.lock from the archive's signed index
    #[command(disable_help_flag = true)]
    UpdateKernels(PassedOn),
    /// Run one case again from the bundle that its failure left
    #[command(disable_help_flag = true)]
    Replay(PassedOn),
    /// Get a shell, or run a command, in a guest of a kernel
    #[command(disable_help_flag = true)]
    Shell(PassedOn),
    /// Find the first kernel on which a scenario comes out differently
    #[command(disable_help_flag = true)]
    Bisect(PassedOn),
    /// Measure how long booting, saving, restoring and pushing take
    #[command(disable_help_flag = true)]
    Bench(PassedOn),
    /// Join reports of several runs, and write them as JUnit, Markdown or HTML
    #[command(disable_help_flag = true, visible_alias = "merge")]
    Report(PassedOn),
    /// Say what regressed, what was mended and what is new between two reports
    #[command(disable_help_flag = true)]
    Diff(PassedOn),
    /// List what is in the cache, check it, or remove what was not used for longest
    #[command(disable_help_flag = true)]
    Cache(PassedOn),
    /// Print the matrix, split into parts for the machines of a CI
    #[command(disable_help_flag = true)]
    Matrix(PassedOn),
    /// Print a completion script for a shell
    #[command(disable_help_flag = true)]
    Completions(PassedOn),
    /// Write the manual pages into a folder
    #[command(disable_help_flag = true)]
    Man(PassedOn),
    /// Run all tests of the repository: formatting, lints, unit tests, tests in virtual machines
    Test {
        /// Options for `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run `cargo nextest run`, with what tests in virtual machines need
    Nextest {
        /// Options for `cargo nextest run`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Make the BTF of a kernel whose modules have none, from its debug package (0.8 GB)
    ExternalBtf(external_btf::Options),
    /// Build what goes into a guest
    Payload,
    /// Install what is missing on this machine
    Setup,
}

/// What the harness understands, and xtask does not look at.
#[derive(Debug, Args)]
struct PassedOn {
    /// Options for the harness
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

fn run(
    Arguments {
        no_install,
        command,
    }: Arguments,
) -> anyhow::Result<()> {
    let shell = Shell::new().context("failed to find the working directory")?;
    shell.change_dir(root());
    let install = |arguments: &[OsString]| {
        !no_install && !arguments.iter().any(|argument| argument == "--no-install")
    };
    let hand_over = |name: &str, PassedOn { arguments }: PassedOn, needs: Needs| {
        tools::provide(&shell, needs, install(&arguments))?;
        harness::hand_over(&shell, name, &arguments, needs)
    };
    match command {
        Command::TestKernels(options) => hand_over("test-kernels", options, Needs::Guests),
        Command::TryObjects(options) => hand_over("try-objects", options, Needs::Guests),
        Command::Replay(options) => hand_over("replay", options, Needs::Guests),
        Command::Bisect(options) => hand_over("bisect", options, Needs::Guests),
        Command::Bench(options) => hand_over("bench", options, Needs::Guests),
        Command::Shell(options) => hand_over("shell", options, Needs::Shell),
        Command::UpdateKernels(options) => hand_over("update-kernels", options, Needs::Archive),
        Command::Report(options) => hand_over("report", options, Needs::Files),
        Command::Diff(options) => hand_over("diff", options, Needs::Files),
        Command::Cache(options) => hand_over("cache", options, Needs::Files),
        Command::Matrix(options) => hand_over("matrix", options, Needs::Files),
        Command::Completions(options) => hand_over("completions", options, Needs::Files),
        Command::Man(options) => hand_over("man", options, Needs::Files),
        Command::Test { arguments } => {
            tools::provide(&shell, Needs::Guests, install(&arguments))?;
            tests::run(&shell, &arguments)
        }
        Command::Nextest { arguments } => {
            tools::provide(&shell, Needs::Guests, install(&arguments))?;
            tests::nextest(&shell, &arguments)
        }
        Command::ExternalBtf(options) => external_btf::make(&shell, &options),
        Command::Payload => {
            tools::provide(&shell, Needs::Guests, !no_install)?;
            payload::build(&shell).map(|_folder| ())
        }
        Command::Setup => tools::provide(&shell, Needs::Guests, !no_install),
    }
}

/// The repository.
fn root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

#[cfg(test)]
mod cli {
    use super::*;
    use clap::CommandFactory as _;

    /// Check that the command line has no conflicting definitions.
    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// Check that options after the command reach the harness untouched.
    #[test]
    fn test_kernels_options_are_passed_on() {
        let arguments =
            Arguments::parse_from(["xtask", "test-kernels", "--kernel", "debian:6.1", "--help"]);
        match arguments.command {
            Command::TestKernels(PassedOn { arguments }) => {
                assert_eq!(arguments, ["--kernel", "debian:6.1", "--help"]);
            }
            other => panic!("{other:?}"),
        }
    }
}
