//! Runs in the guest: loads the probes, brings virtual controllers up, carries out a scenario
//! through real sockets, and sends home what it saw. Stage 0 starts it, with the port on a file
//! descriptor.

mod bluetooth;
mod btmetrics;
mod calls;
mod controllers;
mod cost;
mod foreign;
mod home;
mod inside;
mod misbehave;
mod modules;
mod observe;
mod port;
mod relay;
mod scrape;
mod steps;
mod sys;
mod transfer;
mod trial;
mod usb_device;
mod usbmon;

use crate::btmetrics::Btmetrics;
use crate::observe::Seen;
use anyhow::Context as _;
use clap::Parser;
use evidence::{AgentRecord, Answer, Ask, PROTOCOL_VERSION, Scenario};
use port::Port;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

#[derive(Debug, Parser)]
#[command(about = "Carries out one scenario in a guest; not meant for people")]
struct Arguments {
    /// Folder with the probe objects, `<family>.bpf.o`
    #[arg(long)]
    objects: PathBuf,
    /// Controllers will be on USB: load the probes for that, too
    #[arg(long)]
    usb: bool,
    /// How to attach
    #[arg(long, value_enum, default_value_t = observe::Attach::Auto)]
    attach: observe::Attach,
    /// Measure what the probes cost in the scenario's last step, a transfer, this many times
    #[arg(long, value_name = "ROUNDS")]
    cost: Option<u32>,
    /// Run the command btmetrics, which lies with the objects, and judge what it serves
    #[arg(long)]
    btmetrics: bool,
    #[command(flatten)]
    instead: trial::Instead,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let port = match sys::inherited_port().and_then(Port::new) {
        Ok(port) => port,
        Err(_) => return ExitCode::from(2),
    };
    match run(&arguments, &port) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => end_early(&error, &port),
    }
}

/// If the port is gone, stage 0 will see the exit code and nobody else.
fn end_early(error: &anyhow::Error, port: &Port) -> ExitCode {
    if let Some(steps::NotApplicable(reason)) = error.downcast_ref() {
        let reason = reason.clone();
        let _ = port.send(&AgentRecord::NotApplicable { reason });
        return ExitCode::SUCCESS;
    }
    let failed = AgentRecord::Failed {
        step: port.last_phase(),
        error: format!("{error:#}"),
    };
    let _ = port.send(&failed);
    ExitCode::FAILURE
}

fn run(arguments: &Arguments, port: &Port) -> anyhow::Result<()> {
    port.send(&AgentRecord::Hello {
        protocol: PROTOCOL_VERSION,
    })?;
    if arguments.instead.run(&arguments.objects, port)? {
        return Ok(port.send(&AgentRecord::Done)?);
    }
    if let Some(rounds) = arguments.cost {
        let (scenario, _) = next_scenario(port)?;
        cost::measure(
            &scenario,
            &arguments.objects,
            arguments.attach,
            rounds,
            port,
        )?;
        return Ok(port.send(&AgentRecord::Done)?);
    }
    port.phase("loading probes")?;
    let probes = observe::load(&arguments.objects, arguments.attach, arguments.usb)?;
    let probes = Arc::new(probes);
    observe::report_probes(&probes, port)?;
    let served = arguments.btmetrics.then(|| {
        port.phase("starting btmetrics")?;
        Btmetrics::start(&arguments.objects)
    });
    let served = served.transpose()?;
    let loaded = Instant::now();
    let (scenario, detach) = next_scenario(port)?;
    let monitor = scenario.is_outside().then(usbmon::Monitor::start);
    let monitor = monitor.transpose()?;
    let mut controllers = controllers::Controllers::start(&scenario, &arguments.objects, port)?;
    let seen = Seen {
        probes: &probes,
        served: served.as_ref(),
        loaded,
    };
    carry_out(&scenario, seen, monitor, &mut controllers, port)?;
    port.send(&AgentRecord::Done)?;
    if !detach {
        sys::exit_without_closing();
    }
    Ok(())
}

/// Waits to be told what to carry out, and whether to detach the probes afterwards. The machine may
/// be saved meanwhile, and go on in many copies.
fn next_scenario(port: &Port) -> anyhow::Result<(Scenario, bool)> {
    port.phase("ready for a scenario")?;
    match port.ask(Ask::Scenario).context("no scenario came")? {
        Answer::Scenario { scenario, detach } => Ok((*scenario, detach)),
        other => anyhow::bail!("the harness was asked for a scenario, and says {other:?}"),
    }
}

/// Carries out the steps, and reports what came of them.
fn carry_out(
    scenario: &Scenario,
    seen: Seen<'_>,
    monitor: Option<usbmon::Monitor>,
    controllers: &mut controllers::Controllers,
    port: &Port,
) -> anyhow::Result<()> {
    let calls = calls::CallLog::default();
    let _open = steps::carry_out(&scenario.steps, controllers, &calls, seen.probes, port)?;
    observe::settle_and_report(seen, controllers, monitor, port)?;
    port.send(&AgentRecord::Calls {
        calls: calls.counts(),
        management_writes: calls.management_writes(),
    })?;
    Ok(())
}
