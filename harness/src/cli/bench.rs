//! `bench`: how long things take.

use super::lab::{Lab, LabOptions};
use super::{USAGE, complain, print, repository};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use harness::bench::{self, Plan};
use harness::drive::Watch;
use harness::kills;
use harness::progress::Progress;
use harness::scenarios;
use kernels::Manifest;
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
    /// Kill runs at moments spread over their time, and count the QEMUs that outlive them; exit code 1 if any does
    Kills(KillOptions),
    /// What the probes cost on one kernel, as JSON: throughput with and without, time of each program, memory of each map
    Cost(super::cost::Options),
    /// How fast USB goes on one kernel, as JSON: bulk messages, each scenario, a held URB's latency, voice
    Usb(super::bulk::Options),
}

#[derive(Debug, Args)]
struct KillOptions {
    /// The kernel
    #[arg(long, value_name = "KERNEL", default_value = "debian:6.12")]
    kernel: String,
    /// The scenario
    #[arg(long, value_name = "SCENARIO", default_value = "l2cap-seqpacket")]
    scenario: String,
    /// How often
    #[arg(long, value_name = "N", default_value_t = 200)]
    times: usize,
    /// More options for the runs that are killed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    more: Vec<String>,
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
        Command::Kills(options) => kills(options),
        Command::Cost(options) => super::cost::run(options),
        Command::Usb(options) => super::bulk::run(options),
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
        let folder = tempfile::tempdir().context("failed to create a temporary folder")?;
        let packages = lab.images.packages(&kernel, &lab.progress);
        let packages =
            packages.context("other tools are measured on packages; give --peer-times 0")?;
        let vmlinuz = bench::unpack_for_peers(&packages, folder.path())?;
        boots.peers = bench::peers(&boots, &vmlinuz, options.peer_times, &line);
    }
    print(&(serde_json::to_string_pretty(&boots)? + "\n"));
    Ok(ExitCode::SUCCESS)
}

fn kills(options: &KillOptions) -> anyhow::Result<ExitCode> {
    let harness = std::env::current_exe().context("failed to find this program")?;
    let command = || {
        let mut command = std::process::Command::new(&harness);
        command
            .args(["test-kernels", "--kernel", &options.kernel])
            .args(["--scenario", &options.scenario, "--repeat", "4"])
            .args(&options.more);
        command
    };
    let progress = Progress::on_stderr();
    let kills = kills::kill_often(&command, options.times, &|text| progress.line(text))?;
    print(&(serde_json::to_string_pretty(&kills)? + "\n"));
    Ok(ExitCode::from(u8::from(kills.left > 0)))
}
