//! `bench usb`: how fast USB goes.

use super::lab::{Lab, LabOptions};
use super::{USAGE, complain, print, repository};
use clap::Args;
use harness::bulk::{self, Plan};
use harness::case::{Setting, Start};
use harness::drive::Watch;
use kernels::Manifest;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `bench usb`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The kernel
    #[arg(long, value_name = "KERNEL", default_value = "debian:6.12")]
    kernel: String,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 5)]
    times: usize,
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
    let choice = lab.choose_accel(&image);
    let line = |text: &str| lab.progress.line(text);
    let plan = Plan {
        kernel: &kernel,
        image: &image,
        setting: Setting {
            start: Start::RestoreReady(&lab.saves),
            ..lab.setting(choice.accel, &line)
        },
        times: options.times,
        messages: options.messages,
    };
    let watch = Watch {
        patience: Duration::from_secs(options.lab.patience),
        cancelled: &|| lab.cancelled(),
        progress: &|_| {},
    };
    let speeds = bulk::speeds(plan, watch)?;
    print(&(serde_json::to_string_pretty(&speeds)? + "\n"));
    Ok(ExitCode::SUCCESS)
}
