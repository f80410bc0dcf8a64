//! The harness's command line. `cargo xtask` builds it and becomes it.

mod cli;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main(cli::Arguments::parse())
}
