//! `shell`: sit in a guest.

use super::lab::{Lab, LabOptions};
use super::selection::Selection;
use super::{USAGE, complain, repository};
use anyhow::{Context as _, anyhow};
use clap::Args;
use evidence::{ExitStatus, Scenario};
use harness::case::MEMORY_MIB;
use harness::drive::{Guest, Watch};
use harness::machine::Vm;
use harness::saves::{self, NoGuest, Point, Stage};
use harness::sit::{self, Toolbox};
use kernels::{KernelId, Manifest};
use std::process::ExitCode;
use std::time::Duration;

/// Options of `shell`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The kernel, e.g. debian:6.12
    kernel: String,
    /// A command to run instead of a shell; its exit code is this command's
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<String>,
    /// Run this scenario first
    #[arg(long, value_name = "SCENARIO")]
    scenario: Option<String>,
    /// How far the guest has come: nothing of Bluetooth loaded, or its modules
    #[arg(long, value_enum, default_value_t = Stage::Bluetooth, conflicts_with = "scenario")]
    stage: Stage,
    #[command(flatten)]
    lab: LabOptions,
}

/// Restores a guest, pushes the payload, and hands the guest's console over.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (kernel, scenario) = match choose(options) {
        Ok(chosen) => chosen,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            return Ok(ExitCode::from(USAGE));
        }
    };
    let tools = Toolbox::find()?;
    let lab = Lab::open(&options.lab)?;
    let image = lab.image(&kernel)?;
    let choice = lab.choose_accel(&image);
    let spec = saves::spec(&image, choice.accel, MEMORY_MIB);
    let watch = Watch {
        patience: Duration::from_secs(options.lab.patience),
        cancelled: &|| lab.cancelled(),
        progress: &|_| {},
    };
    let line = |text: &str| lab.progress.line(text);
    let mut guest = if options.lab.boot {
        let vm = Vm::start(&spec).context("cannot start QEMU")?;
        booted(Guest::new(vm, watch), options.stage)?
    } else {
        let point = Point::before_push(options.stage);
        let restored = lab
            .saves
            .guest(&spec, point, watch, &vm_images::Quiet, &line);
        restored.map_err(|error| match error {
            NoGuest::Outside(error) => error,
            NoGuest::Died(death) => anyhow!("the guest died: {:?}", death.0),
        })?
    };
    if let Some(scenario) = &scenario {
        let talked = guest
            .push(&lab.payload)
            .and_then(|()| guest.start_agent(&lab.payload, scenario.is_outside()))
            .and_then(|()| guest.run(scenario));
        talked.map_err(|ending| anyhow!("the guest died: {ending:?}"))?;
        line(&format!("{} has run", scenario.name));
    }
    attend(&mut guest, &tools, &kernel, &options.command)
}

fn booted(mut guest: Guest<'_>, stage: Stage) -> anyhow::Result<Guest<'_>> {
    let loaded = guest.boot().and_then(|()| match stage {
        Stage::Bare => Ok(()),
        Stage::Bluetooth => guest.load_modules(saves::MODULES),
        Stage::Usb => guest
            .load_modules(saves::MODULES)
            .and_then(|()| guest.load_modules(saves::USB_MODULES)),
    });
    loaded.map_err(|ending| anyhow!("the guest died: {ending:?}"))?;
    Ok(guest)
}

/// A shell, or the command if there is one.
pub(super) fn attend(
    guest: &mut Guest<'_>,
    tools: &Toolbox,
    kernel: &KernelId,
    command: &[String],
) -> anyhow::Result<ExitCode> {
    let status = if command.is_empty() {
        complain(&format!(
            "a shell in {kernel}; what was pushed is in /run/payload; exit or Ctrl-D ends it"
        ));
        sit::shell(guest, tools, &kernel.to_string())?
    } else {
        sit::command(guest, tools, &command.join(" "))?
    };
    Ok(match status {
        ExitStatus::Code(code) => ExitCode::from(u8::try_from(code).unwrap_or(1)),
        // As shells have it.
        ExitStatus::Signal(signal) => ExitCode::from(u8::try_from(128 + signal).unwrap_or(1)),
    })
}

fn choose(options: &Options) -> anyhow::Result<(KernelId, Option<Scenario>)> {
    let manifest = Manifest::load(&repository().join("kernels.toml"))?;
    let kernel = manifest.choose(&options.kernel)?;
    let Some(name) = &options.scenario else {
        return Ok((kernel, None));
    };
    let selection = Selection {
        kernel: Vec::new(),
        group: None,
        scenario: vec![name.clone()],
        partition: None,
    };
    Ok((kernel, selection.scenarios()?.into_iter().next()))
}
