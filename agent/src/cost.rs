//! What the probes cost: the same transfer without probes, with all of them, and with others.

use crate::calls::CallLog;
use crate::controllers::Controllers;
use crate::observe::Attach;
use crate::port::Port;
use crate::steps::{self, OpenSockets};
use anyhow::{Context as _, bail};
use evidence::{AgentRecord, Scenario, Step, Traffic};
use exporter::Collector;
use metrics::Family;
use probes::{Options, Plain, Probes};
use std::path::Path;
use std::time::Instant;

/// The socket family as generic exporters write such things.
const PLAIN: &str = "socket_plain.bpf.o";

/// How often each load is timed in a round.
const TRANSFERS: u32 = 3;

/// What is loaded during a transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    None,
    All,
    Socket,
    Plain,
}

impl Load {
    /// One round. Each load stands between stretches without probes: the machine's speed wanders.
    const ROUND: [Self; 6] = [
        Self::All,
        Self::None,
        Self::Socket,
        Self::None,
        Self::Plain,
        Self::None,
    ];

    const fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::All => "all",
            Self::Socket => "socket",
            Self::Plain => "plain-socket",
        }
    }
}

/// Probes that are attached while this lives.
#[derive(Debug)]
enum Loaded {
    None,
    Ours(Box<Probes>),
    Plain(Box<Plain>),
}

/// Carries out all steps but the last, a transfer; then that one again and again, each time with other
/// probes; then once more with all of them while the kernel counts their runs.
///
/// # Errors
/// A step or a load fails, or the last step is no transfer.
pub(crate) fn measure(
    scenario: &Scenario,
    objects: &Path,
    attach: Attach,
    rounds: u32,
    port: &Port,
) -> anyhow::Result<()> {
    let Some((Step::Transfer { traffic }, before)) = scenario.steps.split_last() else {
        bail!("the last step of the scenario is no transfer");
    };
    let mut controllers = Controllers::start(scenario, objects, port)?;
    let calls = CallLog::default();
    let nothing = Collector::new(probes::load(&[], &Options::default()));
    let sockets = steps::carry_out(before, &mut controllers, &calls, &nothing, port)?;
    let bench = Bench {
        sockets: &sockets,
        traffic,
        calls: &calls,
        objects,
        attach,
        port,
    };
    if rounds > 0 {
        bench.stretch(Load::None)?;
    }
    for round in 0..rounds {
        for load in Load::ROUND {
            port.phase(format!("round {}: {}", round + 1, load.label()))?;
            bench.stretch(load)?;
        }
    }
    for load in [Load::All, Load::Plain] {
        bench.count(load)?;
    }
    Ok(())
}

struct Bench<'a> {
    sockets: &'a OpenSockets,
    traffic: &'a [Traffic],
    calls: &'a CallLog,
    objects: &'a Path,
    attach: Attach,
    port: &'a Port,
}

impl Bench<'_> {
    fn load(&self, load: Load) -> anyhow::Result<Loaded> {
        let families = match load {
            Load::None => return Ok(Loaded::None),
            Load::Plain => return self.load_plain(),
            Load::All => probes::FAMILIES,
            Load::Socket => &[Family::Socket],
        };
        let file = |family: &Family| self.objects.join(probes::object_name(*family));
        let files: Vec<_> = families
            .iter()
            .map(|family| (*family, file(family)))
            .collect();
        let options = Options {
            attach: self.attach.preference(),
            btf: probes::external_btf(self.objects),
        };
        Ok(Loaded::Ours(Box::new(probes::load(&files, &options))))
    }

    fn load_plain(&self) -> anyhow::Result<Loaded> {
        let mut plain = Plain::load(&self.objects.join(PLAIN)).map_err(anyhow::Error::msg)?;
        plain.attach().map_err(anyhow::Error::msg)?;
        Ok(Loaded::Plain(Box::new(plain)))
    }

    /// Times the transfer so often with this loaded; the first, which warms up, is not timed.
    fn stretch(&self, load: Load) -> anyhow::Result<()> {
        let loaded = self.load(load)?;
        self.transfer()?;
        for _ in 0..TRANSFERS {
            let ns = self.transfer()?;
            let probes = load.label().to_owned();
            self.port.send(&AgentRecord::Timed { probes, ns })?;
        }
        drop(loaded);
        Ok(())
    }

    /// Nanoseconds that the transfer takes.
    fn transfer(&self) -> anyhow::Result<u64> {
        let start = Instant::now();
        self.sockets.transfer(self.traffic, self.calls)?;
        Ok(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// One transfer while the kernel counts runs.
    fn count(&self, load: Load) -> anyhow::Result<()> {
        self.port
            .phase(format!("counting runs: {}", load.label()))?;
        let loaded = self.load(load)?;
        let counting = probes::count_runs().context("failed to have runs counted")?;
        self.transfer()?;
        let costs = match &loaded {
            Loaded::None => return Ok(()),
            Loaded::Ours(probes) => probes.costs(),
            Loaded::Plain(plain) => plain.costs(Load::Plain.label()),
        };
        drop(counting);
        let (programs, maps) = costs.context("failed to read what programs cost")?;
        Ok(self.port.send(&AgentRecord::Costs { programs, maps })?)
    }
}
