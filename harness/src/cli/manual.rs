//! `completions` and `man`: made from the definitions of the command line.

use super::{Arguments, print};
use anyhow::Context as _;
use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

/// What the scripts and pages are for: `alias xtask='cargo xtask'`.
const NAME: &str = "xtask";

/// Options of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionOptions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Options of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManOptions {
    /// Where the pages go: xtask.1, xtask-test-kernels.1, …
    folder: PathBuf,
}

/// Everything that `cargo xtask` understands: the harness's commands, and those that xtask carries
/// out itself.
fn whole() -> Command {
    let own = [
        (
            "test",
            "Run all tests of the repository: formatting, lints, unit tests, tests in virtual machines",
        ),
        (
            "nextest",
            "Run `cargo nextest run`, with what tests in virtual machines need",
        ),
        ("payload", "Build what goes into a guest"),
        ("setup", "Install what is missing on this machine"),
    ];
    let own = own.map(|(name, about)| Command::new(name).about(about));
    Arguments::command()
        .about("Set-up, builds, tests and kernel runs of this repository")
        .name(NAME)
        .bin_name(NAME)
        .subcommands(own)
}

/// Prints a script.
pub(crate) fn completions(options: &CompletionOptions) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut whole(), NAME, &mut script);
    print(&String::from_utf8(script).context("the script is not UTF-8")?);
    Ok(ExitCode::SUCCESS)
}

/// Writes pages.
pub(crate) fn man(options: &ManOptions) -> anyhow::Result<ExitCode> {
    let folder = &options.folder;
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    clap_mangen::generate_to(whole(), folder)
        .with_context(|| format!("failed to write in {}", folder.display()))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the definitions hold together and that every shell gets a script with every
    /// command in it.
    #[test]
    fn completions_name_every_command() {
        whole().debug_assert();
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut whole(), NAME, &mut script);
            let script = String::from_utf8(script).unwrap();
            for command in ["test-kernels", "replay", "bisect", "nextest", "--partition"] {
                let word = command.trim_start_matches('-');
                assert!(script.contains(word), "{shell} {command}");
            }
        }
    }
}
