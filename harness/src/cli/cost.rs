//! `bench cost`: what the probes cost.

use super::lab::{Lab, LabOptions};
use super::{USAGE, complain, print, repository};
use clap::Args;
use harness::cost::{self, Plan};
use harness::drive::Watch;
use kernels::Manifest;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `bench cost`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The kernel
    #[arg(long, value_name = "KERNEL", default_value = "debian:6.12")]
    kernel: String,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// Messages of each transfer
    #[arg(long, value_name = "N", default_value_t = 1009)]
    messages: u32,
    #[command(flatten)]
    lab: LabOptions,
}

/// Measures and prints.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
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
    let mut payload = lab.payload.clone();
    payload
        .objects
        .push(lab.built.extra_object("socket_plain.bpf.o")?);
    let plan = Plan {
        kernel: &kernel.to_string(),
        image: &image,
        accel: lab.choose_accel(&image).accel,
        saves: &lab.saves,
        payload: &payload,
        rounds: options.rounds,
        messages: options.messages,
    };
    let watch = Watch {
        patience: Duration::from_secs(options.lab.patience),
        cancelled: &|| lab.cancelled(),
        progress: &|_| {},
    };
    let costs = cost::costs(plan, watch, &|text| lab.progress.line(text))?;
    print(&(serde_json::to_string_pretty(&costs)? + "\n"));
    Ok(ExitCode::SUCCESS)
}
