//! `bench`: how long things take.

use super::lab::{Lab, LabOptions};
use super::{USAGE, complain, print, repository};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use harness::bench::{self, Plan};
use harness::drive::Watch;
use harness::scenarios;
use kernels::Manifest;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `bench`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Boot, save, restore and push on one kernel, as JSON; virtme-ng and vmtest too where they are installed
    Boot(BootOptions),
}

#[derive(Debug, Args)]
struct BootOptions {
    /// The kernel
    #[arg(long, value_name = "KERNEL", default_value = "debian:6.12")]
    kernel: String,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    times: usize,
    /// How often the other tools are measured; 0: not at all
    #[arg(long, value_name = "N", default_value_t = 3)]
    peer_times: usize,
    #[command(flatten)]
    lab: LabOptions,
}

/// Measures and prints.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    match &options.command {
        Command::Boot(options) => boot(options),
    }
}

fn boot(options: &BootOptions) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::load(&repository().join("kernels.toml"))?;
    let kernel = match manifest.choose(&options.kernel) {
        Ok(kernel) => kernel,
        Err(error) => {
            complain(&format!("error: {error}"));
            return Ok(ExitCode::from(USAGE));
        }
    };
    let lab = Lab::open(&options.lab)?;
    let image = lab.image(&kernel)?;
    let choice = lab.choose_accel(&image);
    let scenario = scenarios::all().into_iter().next();
    let plan = Plan {
        kernel: &kernel.to_string(),
        image: &image,
        accel: choice.accel,
        saves: &lab.saves,
        payload: &lab.payload,
        scenario: &scenario.context("there is no scenario")?,
        times: options.times,
    };
    let watch = Watch {
        patience: Duration::from_secs(options.lab.patience),
        cancelled: &|| lab.cancelled(),
        progress: &|_| {},
    };
    let line = |text: &str| lab.progress.line(text);
    let mut boots = bench::boots(plan, watch, &line)?;
    if options.peer_times > 0 {
        // What other tools boot is the kernel as it was packaged.
        let folder = image.kernel.parent().map(PathBuf::from).unwrap_or_default();
        let vmlinuz = folder.join("vmlinuz");
        boots.peers = bench::peers(&boots, &vmlinuz, options.peer_times, &line);
    }
    print(&(serde_json::to_string_pretty(&boots)? + "\n"));
    Ok(ExitCode::SUCCESS)
}
