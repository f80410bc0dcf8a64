//! Entry point of this repository: `cargo xtask <command>`.
//!
//! xtask installs what is missing, builds what goes into guests, and hands over to the harness. It
//! links no system library, so that it builds on a machine that has nothing but Rust.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stderr,
    reason = "a command-line tool says on stderr what it does"
)]

mod harness;
mod payload;
mod tests;
mod tools;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
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
    TestKernels {
        /// Options for the harness
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Refresh kernels.lock from the archive's signed index
    #[command(disable_help_flag = true)]
    UpdateKernels {
        /// Options for the harness
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Run all tests of the repository: formatting, lints, unit tests, tests in virtual machines
    Test {
        /// Options for `cargo test`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Build what goes into a guest
    Payload,
    /// Install what is missing on this machine
    Setup,
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
    match command {
        Command::TestKernels { arguments } => {
            tools::provide(&shell, install(&arguments))?;
            harness::hand_over(&shell, "test-kernels", &arguments)
        }
        Command::UpdateKernels { arguments } => {
            tools::provide(&shell, install(&arguments))?;
            harness::hand_over(&shell, "update-kernels", &arguments)
        }
        Command::Test { arguments } => {
            tools::provide(&shell, install(&arguments))?;
            tests::run(&shell, &arguments)
        }
        Command::Payload => {
            tools::provide(&shell, !no_install)?;
            payload::build(&shell).map(|_folder| ())
        }
        Command::Setup => tools::provide(&shell, !no_install),
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
            Command::TestKernels { arguments } => {
                assert_eq!(arguments, ["--kernel", "debian:6.1", "--help"]);
            }
            other => panic!("{other:?}"),
        }
    }
}
