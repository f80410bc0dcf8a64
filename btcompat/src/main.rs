//! The `btcompat` command.

#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the command: results go to stdout, everything else to stderr"
)]

mod cli;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = cli::Args::parse();
    match cli::run(&args) {
        Ok((output, code)) => {
            print!("{output}");
            code.into()
        }
        Err(e) => {
            eprintln!("error: {e:#}");
            cli::Exit::Error.into()
        }
    }
}
