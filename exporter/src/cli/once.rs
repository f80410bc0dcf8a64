//! `btmetrics --once`.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use metrics::text::{Format, encode};
use metrics::{Lost, ProbeReport, Snapshot};
use serde::Serialize;

use super::{NOTHING, ProbeOptions, complain, explain, load, print};

/// Options of `--once`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Measure for a while, write the values on standard output, and end
    #[arg(long)]
    pub(super) once: bool,
    /// How many seconds to measure
    #[arg(
        long = "for",
        value_name = "SECONDS",
        default_value_t = 1,
        requires = "once"
    )]
    seconds: u64,
    /// Write JSON: values, programs, and what is missing
    #[arg(long, requires = "once", conflicts_with = "format")]
    json: bool,
    /// Format of the text
    #[arg(long, value_enum, default_value_t = Text::Prometheus, requires = "once")]
    format: Text,
    #[command(flatten)]
    probes: ProbeOptions,
}

/// A text format.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Text {
    /// Prometheus' own
    Prometheus,
    /// OpenMetrics
    OpenMetrics,
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
struct Written {
    samples: Snapshot,
    probes: Vec<ProbeReport>,
    lost: Vec<Lost>,
}

/// Measures once.
///
/// # Errors
///
/// Something that is needed is missing, or values cannot be read or written.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let collector = load::load(&options.probes)?;
    thread::sleep(Duration::from_secs(options.seconds));
    collector.refresh();
    let samples = collector.snapshot().context("failed to read the values")?;
    let (probes, lost) = collector.state();
    let nothing = !explain::measures_anything(&probes);
    let text = if options.json {
        let written = Written {
            samples,
            probes,
            lost,
        };
        serde_json::to_string_pretty(&written)? + "\n"
    } else {
        let format = match options.format {
            Text::Prometheus => Format::Prometheus,
            Text::OpenMetrics => Format::OpenMetrics,
        };
        encode(&samples, format)
    };
    print(&text).context("failed to write the values")?;
    if nothing {
        complain("error: no program is attached, so nothing is measured");
        return Ok(ExitCode::from(NOTHING));
    }
    Ok(ExitCode::SUCCESS)
}
