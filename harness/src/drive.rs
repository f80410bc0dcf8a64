//! Driving one guest through one scenario: boot, modules, payload, run.

use crate::evidence::{Ending, Evidence};
use crate::vm::{GuestRecord, Silence, Vm, VmEvent};
use evidence::{Order, Scenario, Stage0Record};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What is pushed into a guest.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The static agent.
    pub agent: Vec<u8>,
    /// File name and bytes of each object.
    pub objects: Vec<(String, Vec<u8>)>,
    /// Extra arguments for the agent.
    pub agent_arguments: Vec<String>,
}

/// How long each part took.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct Timings {
    /// From starting QEMU to stage 0's first word.
    pub boot: Duration,
    /// Loading the Bluetooth modules.
    pub modules: Duration,
    /// Pushing the payload.
    pub push: Duration,
    /// From starting the agent to its end.
    pub scenario: Duration,
}

/// Limits and signals that every wait heeds.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// The longest silence that is not yet a hang.
    pub patience: Duration,
    /// Does the user want to stop?
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Told what the guest is at.
    pub progress: &'a (dyn Fn(&str) + Sync),
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// A guest and what it has said so far.
#[derive(Debug)]
pub struct Guest<'a> {
    vm: Vm,
    watch: Watch<'a>,
    /// What came home.
    pub evidence: Evidence,
    /// How long it took.
    pub timings: Timings,
}

const AGENT_PATH: &str = "/run/payload/agent";
const SCENARIO_PATH: &str = "/run/payload/scenario.json";
const OBJECTS_PATH: &str = "/run/payload/objects";

impl<'a> Guest<'a> {
    /// Takes over a machine that was just started.
    #[must_use]
    pub fn new(vm: Vm, watch: Watch<'a>) -> Self {
        let evidence = Evidence {
            phase: "booting".to_owned(),
            ..Evidence::default()
        };
        Self {
            vm,
            watch,
            evidence,
            timings: Timings::default(),
        }
    }

    /// The machine.
    #[must_use]
    pub fn vm(&self) -> &Vm {
        &self.vm
    }

    /// Waits for stage 0's first word.
    ///
    /// # Errors
    /// The guest ended or fell silent before.
    pub fn boot(&mut self) -> Result<(), Ending> {
        let start = Instant::now();
        self.until(|record| matches!(record, Stage0Record::Hello { .. }))?;
        self.timings.boot = start.elapsed();
        Ok(())
    }

    /// Loads one list of modules.
    ///
    /// # Errors
    /// The guest ended or fell silent before.
    pub fn load_modules(&mut self, set: &str) -> Result<(), Ending> {
        let start = Instant::now();
        self.order(&Order::LoadModules {
            set: set.to_owned(),
        })?;
        self.until(|record| matches!(record, Stage0Record::ModulesLoaded { .. }))?;
        self.timings.modules = start.elapsed();
        Ok(())
    }

    /// Pushes agent, objects and scenario.
    ///
    /// # Errors
    /// The guest ended or fell silent before.
    pub fn push(&mut self, payload: &Payload, scenario: &Scenario) -> Result<(), Ending> {
        let start = Instant::now();
        let scenario = serde_json::to_vec(scenario).expect("a scenario has string keys only");
        self.store(AGENT_PATH, 0o755, &payload.agent)?;
        for (name, bytes) in &payload.objects {
            self.store(&format!("{OBJECTS_PATH}/{name}"), 0o644, bytes)?;
        }
        self.store(SCENARIO_PATH, 0o644, &scenario)?;
        self.timings.push = start.elapsed();
        Ok(())
    }

    /// Runs the agent to its end.
    ///
    /// # Errors
    /// The guest ended or fell silent before.
    pub fn run(&mut self, payload: &Payload) -> Result<(), Ending> {
        let start = Instant::now();
        let mut argv: Vec<String> = [
            AGENT_PATH,
            "--scenario",
            SCENARIO_PATH,
            "--objects",
            OBJECTS_PATH,
        ]
        .map(str::to_owned)
        .into();
        argv.extend(payload.agent_arguments.iter().cloned());
        self.order(&Order::Run { argv })?;
        self.until(|record| matches!(record, Stage0Record::Exited { .. }))?;
        self.timings.scenario = start.elapsed();
        Ok(())
    }

    /// Lets a machine whose port closed end by itself, so that its last words are heard, and
    /// takes down its console. `None`: it had to be killed.
    pub fn finish(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        let status = self.vm.end(patience);
        self.evidence.console = self.vm.console().tail(60);
        status
    }

    fn store(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), Ending> {
        self.vm
            .store(path, mode, bytes)
            .map_err(Ending::Unreachable)?;
        self.until(|record| matches!(record, Stage0Record::Stored { .. }))
    }

    fn order(&mut self, order: &Order) -> Result<(), Ending> {
        self.vm.order(order).map_err(Ending::Unreachable)
    }

    /// Files records until one of stage 0 is `wanted`, or stage 0 refuses an order.
    fn until(&mut self, wanted: impl Fn(&Stage0Record) -> bool) -> Result<(), Ending> {
        loop {
            (self.watch.progress)(&self.evidence.phase);
            let event = self.vm.next(self.watch.patience, &self.watch.cancelled);
            let record = match event {
                Ok(VmEvent::Record(record)) => *record,
                Ok(VmEvent::Closed(how)) => return Err(Ending::Closed(how)),
                Err(Silence::Patience) => return Err(Ending::Silence),
                Err(Silence::Cancelled) => return Err(Ending::Cancelled),
            };
            let stop = match &record {
                GuestRecord::Stage0(record) => {
                    wanted(record) || matches!(record, Stage0Record::Refused { .. })
                }
                GuestRecord::Agent(_) => false,
            };
            self.evidence.file(record)?;
            if !self.evidence.refused.is_empty() {
                return Err(Ending::Complete);
            }
            if stop {
                return Ok(());
            }
        }
    }
}

/// Where things are that every run needs.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel for QEMU.
    pub kernel: PathBuf,
    /// The initial RAM file system for it.
    pub initramfs: PathBuf,
}
