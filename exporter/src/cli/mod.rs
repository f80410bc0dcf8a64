//! The command line.

mod explain;
mod load;
mod once;
mod serve;
mod usage;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

/// Exit code: the probes are loaded, and nothing of them measures.
const NOTHING: u8 = 1;
/// Exit code: something that is needed is missing.
const MISSING: u8 = 4;

/// Bluetooth metrics of this machine, measured with eBPF
#[derive(Debug, Parser)]
#[command(name = "btmetrics", version, args_conflicts_with_subcommands = true, after_help = AFTER_HELP)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    once: once::Options,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done · 1 nothing can be measured on this kernel · 2 wrong usage · 4 something that is
needed is missing (privileges, objects, BTF, the address). Logs: BT_LOG=debug.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the metrics to Prometheus until stopped
    Serve(serve::Options),
    /// Write every metric that there can be, and what it says
    Catalogue(usage::CatalogueOptions),
    /// Write completions for a shell
    Completions(usage::CompletionOptions),
    /// Write the manual page
    Man,
}

/// Where the probes come from and how they attach.
#[derive(Clone, Debug, Args)]
struct ProbeOptions {
    /// Folder with the objects, `<family>.bpf.o` [default: beside the program, or where packages
    /// put them]
    #[arg(long, value_name = "FOLDER")]
    objects: Option<PathBuf>,
    /// BTF of the Bluetooth structures, for kernels whose modules have none (5.10) [default:
    /// `<release>.btf` beside the objects]
    #[arg(long, value_name = "FILE")]
    btf: Option<PathBuf>,
    /// How the probes attach
    #[arg(long, value_enum, default_value_t = Attach::Auto)]
    attach: Attach,
}

/// How the probes attach.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Attach {
    /// The best way that the kernel offers, program by program
    Auto,
    /// kprobes and kretprobes only
    Kprobe,
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("BT_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let result = match &arguments.command {
        None if arguments.once.once => once::run(&arguments.once),
        None => {
            complain(&Arguments::command().render_help().to_string());
            return ExitCode::from(2);
        }
        Some(Command::Serve(options)) => serve::run(options),
        Some(Command::Catalogue(options)) => usage::catalogue(options),
        Some(Command::Completions(options)) => usage::completions(options),
        Some(Command::Man) => usage::manual(),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            ExitCode::from(MISSING)
        }
    }
}

/// Says something that is not the result.
fn complain(text: &str) {
    let _nobody_listens = writeln!(io::stderr().lock(), "{}", text.trim_end());
}

/// Writes the result. A reader that has gone away is no error.
fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the command line has no conflicting definitions.
    #[test]
    fn command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    /// Check that options of one snapshot do not go with serving.
    #[test]
    fn once_does_not_go_with_serve() {
        assert!(Arguments::try_parse_from(["btmetrics", "--once", "serve"]).is_err());
        assert!(Arguments::try_parse_from(["btmetrics", "--json"]).is_err());
        let once = Arguments::try_parse_from(["btmetrics", "--once", "--for", "3", "--json"]);
        assert!(once.unwrap().once.once);
    }
}
