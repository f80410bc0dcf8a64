//! Driving one guest through one scenario: boot, modules, payload, run.

use crate::evidence::{Ending, Evidence};
use crate::machine::{GuestRecord, Heard, QmpError, Silence, Talk, Vm, VmEvent};
use crate::needs::KernelConfig;
use crate::outside::Outside;
use crate::payload::is_of_another_kernel;
use crate::scenarios;
use anyhow::Context as _;
use evidence::{AgentRecord, Answer, Ask, ExitStatus, Order, Scenario, Stage0Record};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fs;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

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

/// How long each part took, milliseconds. What did not happen has none.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
pub struct Timings {
    /// From starting QEMU to stage 0's first word.
    pub boot_ms: Option<u64>,
    /// From starting QEMU to a restored machine that runs.
    pub restore_ms: Option<u64>,
    /// Loading the Bluetooth modules.
    pub modules_ms: Option<u64>,
    /// Pushing the payload.
    pub push_ms: Option<u64>,
    /// From starting the agent to its probes being attached.
    pub probes_ms: Option<u64>,
    /// From telling the agent its scenario to its end.
    pub scenario_ms: Option<u64>,
}

impl Timings {
    /// All parts together, milliseconds.
    #[must_use]
    pub fn total_ms(&self) -> u64 {
        let Self {
            boot_ms,
            restore_ms,
            modules_ms,
            push_ms,
            probes_ms,
            scenario_ms,
        } = self;
        [
            boot_ms,
            restore_ms,
            modules_ms,
            push_ms,
            probes_ms,
            scenario_ms,
        ]
        .into_iter()
        .flatten()
        .sum()
    }
}

fn milliseconds(elapsed: Duration) -> Option<u64> {
    u64::try_from(elapsed.as_millis()).ok()
}

/// Limits and signals that every wait heeds.
#[derive(Clone, Copy)]
pub struct Watch<'a> {
    /// The longest silence that is not yet a hang.
    pub patience: Duration,
    /// Does the user want to stop?
    pub cancelled: &'a (dyn Fn() -> bool + Sync),
    /// Told what the guest is at, often.
    pub progress: &'a (dyn Fn(Sign<'_>) + Sync),
}

/// A sign of life.
#[derive(Debug, Clone, Copy)]
pub struct Sign<'a> {
    /// The guest's QEMU.
    pub qemu_pid: u32,
    /// What it is at.
    pub phase: &'a str,
}

impl std::fmt::Debug for Watch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// The controllers of a scenario that live in this process.
#[derive(Debug)]
struct Connected {
    outside: Outside,
    /// The folder where captures are, while it lasts.
    captures: TempDir,
    controllers: usize,
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
    heard: Heard,
    start: Instant,
    outside: Option<Connected>,
}

const PING_PATH: &str = "/run/ping";
const AGENT_PATH: &str = "/run/payload/agent";
const OBJECTS_PATH: &str = "/run/payload/objects";

impl<'a> Guest<'a> {
    /// Takes over a machine that was just started.
    #[must_use]
    pub fn new(vm: Vm, watch: Watch<'a>) -> Self {
        let evidence = Evidence {
            phase: "booting".to_owned(),
            ..Evidence::default()
        };
        let timings = Timings::default();
        Self {
            vm,
            watch,
            evidence,
            timings,
            heard: Heard::default(),
            start: Instant::now(),
            outside: None,
        }
    }

    /// Takes over a machine that was restored, with what it had said before it was saved.
    #[must_use]
    pub fn restored(vm: Vm, watch: Watch<'a>, evidence: Evidence, took: Duration) -> Self {
        let mut guest = Self::new(vm, watch);
        guest.evidence = evidence;
        "restored".clone_into(&mut guest.evidence.phase);
        guest.timings.restore_ms = milliseconds(took);
        guest
    }

    /// Stops the machine for good and writes its state to a file.
    ///
    /// # Errors
    /// QEMU cannot write the state.
    pub fn save(&mut self, state: &Path) -> Result<Talk, QmpError> {
        self.vm.save(state, self.heard)
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
        self.until_stage0(|record| matches!(record, Stage0Record::Hello { .. }))?;
        self.timings.boot_ms = milliseconds(start.elapsed());
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
        self.until_stage0(|record| matches!(record, Stage0Record::ModulesLoaded { .. }))?;
        self.timings.modules_ms = milliseconds(start.elapsed());
        Ok(())
    }

    /// Has the guest answer once.
    ///
    /// # Errors
    /// The guest ended or fell silent before.
    pub fn ping(&mut self) -> Result<(), Ending> {
        self.store(PING_PATH, 0o644, &[])
    }

    /// Starts the controllers of a scenario that live in this process, if it has any, and gives the machine places for them.
    ///
    /// # Errors
    /// QEMU or this machine cannot do that.
    pub fn prepare_outside(&mut self, scenario: &Scenario) -> anyhow::Result<()> {
        if !scenario.is_outside() {
            return Ok(());
        }
        self.tell("plugging dongles in");
        let captures = TempDir::new().context("failed to make a folder for captures")?;
        let (outside, sockets) = Outside::start(scenario, captures.path())?;
        for (number, socket) in sockets.iter().enumerate() {
            if scenario.transport(number).is_usb() {
                let capture = captures.path().join(capture_name(number));
                self.vm.add_dongle(number, socket, &capture)?;
            } else {
                self.vm.add_relay(number, socket)?;
            }
        }
        self.outside = Some(Connected {
            outside,
            captures,
            controllers: sockets.len(),
        });
        Ok(())
    }

    /// Pushes agent and objects.
    ///
    /// # Errors
    /// The guest ended or fell silent before.
    pub fn push(&mut self, payload: &Payload) -> Result<(), Ending> {
        let start = Instant::now();
        self.store(AGENT_PATH, 0o755, &payload.agent)?;
        for (name, bytes) in &payload.objects {
            if is_of_another_kernel(name, self.evidence.release.as_deref()) {
                continue;
            }
            self.store(&format!("{OBJECTS_PATH}/{name}"), 0o644, bytes)?;
        }
        self.timings.push_ms = milliseconds(start.elapsed());
        Ok(())
    }

    /// Starts the agent, which loads the probes, those for USB too if that is wanted, and waits for a scenario. One that has something
    /// else to do runs to its end.
    ///
    /// # Errors
    /// The guest ended or fell silent before.
    pub fn start_agent(&mut self, payload: &Payload, usb: bool) -> Result<(), Ending> {
        let start = Instant::now();
        let mut argv = [AGENT_PATH, "--objects", OBJECTS_PATH]
            .map(str::to_owned)
            .to_vec();
        argv.extend(usb.then(|| "--usb".to_owned()));
        argv.extend(payload.agent_arguments.iter().cloned());
        self.order(&Order::Run { argv })?;
        self.until(|record| is_exit(record) || is_ready(record))?;
        self.timings.probes_ms = milliseconds(start.elapsed());
        Ok(())
    }

    /// Has the agent that waits carry a scenario out, to its end.
    ///
    /// # Errors
    /// The guest ended or fell silent before.
    pub fn run(&mut self, scenario: &Scenario) -> Result<(), Ending> {
        if self.evidence.exited.is_some() || !self.evidence.refused.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let answer = Answer::Scenario {
            scenario: Box::new(scenario.clone()),
            detach: scenarios::detaches(scenario),
        };
        self.vm.answer(&answer).map_err(Ending::Unreachable)?;
        self.until(is_exit)?;
        self.timings.scenario_ms = milliseconds(start.elapsed());
        Ok(())
    }

    /// Stores files and runs a program until it ends, however long it is silent. What the guest
    /// says meanwhile is no evidence.
    ///
    /// # Errors
    /// The guest ended before.
    pub fn sit(
        &mut self,
        files: &[(&str, u32, &[u8])],
        argv: Vec<String>,
    ) -> Result<ExitStatus, Ending> {
        let (evidence, watch) = (mem::take(&mut self.evidence), self.watch);
        self.watch.patience = Duration::MAX;
        let talk = || {
            for (path, mode, bytes) in files {
                self.store(path, *mode, bytes)?;
            }
            self.order(&Order::Run { argv })?;
            self.until(is_exit)
        };
        let talked = talk();
        self.watch = watch;
        let exited = mem::replace(&mut self.evidence, evidence).exited;
        talked.map(|()| exited.unwrap_or(ExitStatus::Code(0)))
    }

    /// Brings a file of the guest home. The evidence stays as it is.
    ///
    /// # Errors
    /// There is no such file, or the guest ended or fell silent before.
    pub fn fetch(&mut self, path: &str) -> Result<Vec<u8>, Ending> {
        let evidence = mem::take(&mut self.evidence);
        let mut talk = || {
            self.order(&Order::Fetch {
                path: path.to_owned(),
            })?;
            let mut wanted = 0;
            self.until_stage0(|record| match record {
                Stage0Record::File { bytes, .. } => {
                    wanted = *bytes;
                    true
                }
                _ => false,
            })?;
            let mut content = Vec::new();
            while (content.len() as u64) < wanted {
                match self.next()? {
                    GuestRecord::Chunk(bytes) => content.extend_from_slice(&bytes),
                    other => self.evidence.file(other)?,
                }
            }
            Ok(content)
        };
        let content = talk();
        self.evidence = evidence;
        content
    }

    /// Lets a machine whose port closed end by itself, so that its last words are heard, and
    /// takes down its console. `None`: it had to be killed.
    pub fn finish(&mut self, patience: Duration) -> Option<std::process::ExitStatus> {
        if let Some(Connected {
            outside,
            captures,
            controllers,
        }) = self.outside.take()
        {
            self.take_captures(outside, captures.path(), controllers);
        }
        let status = self.vm.end(patience);
        self.evidence.console = self.vm.console().tail(60);
        status
    }

    /// Files what was captured of the controllers outside: by QEMU, which writes the last of it when the dongle goes, and at their own
    /// boundaries.
    fn take_captures(&mut self, outside: Outside, folder: &Path, controllers: usize) {
        for number in 0..controllers {
            if let Err(error) = self.vm.remove_dongle(number) {
                tracing::debug!(number, %error, "a dongle stays until QEMU ends");
            }
        }
        self.evidence.usb_captured = outside.transfers();
        if let Err(error) = outside.stop() {
            tracing::warn!(%error, "controllers ended badly");
        }
        let numbers = 0..controllers;
        for name in numbers.flat_map(|n| [capture_name(n), format!("hci{n}.btsnoop")]) {
            match fs::read(folder.join(&name)) {
                Ok(capture) => drop(self.evidence.usb_captures.insert(name, capture)),
                Err(error) => tracing::debug!(name, %error, "there is no such capture"),
            }
        }
    }

    fn answer(&mut self, ask: Ask) -> Result<(), Ending> {
        let answer = match &mut self.outside {
            Some(connected) => connected.outside.answer(ask, &mut self.evidence),
            None => Answer::Refused {
                error: "there are no controllers outside".to_owned(),
            },
        };
        self.vm.answer(&answer).map_err(Ending::Unreachable)
    }

    fn store(&mut self, path: &str, mode: u32, bytes: &[u8]) -> Result<(), Ending> {
        self.vm
            .store(path, mode, bytes)
            .map_err(Ending::Unreachable)?;
        self.until_stage0(|record| matches!(record, Stage0Record::Stored { .. }))
    }

    fn order(&mut self, order: &Order) -> Result<(), Ending> {
        self.vm.order(order).map_err(Ending::Unreachable)
    }

    /// Says what the guest is at.
    pub fn tell(&self, phase: &str) {
        (self.watch.progress)(Sign {
            qemu_pid: self.vm.qemu_pid(),
            phase,
        });
    }

    fn until_stage0(
        &mut self,
        mut wanted: impl FnMut(&Stage0Record) -> bool,
    ) -> Result<(), Ending> {
        self.until(|record| matches!(record, GuestRecord::Stage0(record) if wanted(record)))
    }

    /// Files records until one is `wanted`, or stage 0 refuses an order. Answers what else is asked.
    fn until(&mut self, mut wanted: impl FnMut(&GuestRecord) -> bool) -> Result<(), Ending> {
        loop {
            let record = self.next()?;
            let stop = wanted(&record);
            match &record {
                GuestRecord::Stage0(_) => self.heard.stage0 += 1,
                GuestRecord::Agent(_) => self.heard.agent += 1,
                GuestRecord::Chunk(_) => {}
            }
            match &record {
                GuestRecord::Agent(AgentRecord::Ask(ask)) if !stop => self.answer(ask.clone())?,
                _ => {}
            }
            self.evidence.file(record)?;
            let at_ms = milliseconds(self.start.elapsed()).unwrap_or(u64::MAX);
            self.evidence.note_phase(at_ms);
            if !self.evidence.refused.is_empty() {
                return Err(Ending::Complete);
            }
            if stop {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<GuestRecord, Ending> {
        self.tell(&self.evidence.phase);
        let event = self.vm.next(self.watch.patience, &self.watch.cancelled);
        match event {
            Ok(VmEvent::Record(record)) => Ok(*record),
            Ok(VmEvent::Closed(how)) => Err(Ending::Closed(how)),
            Err(Silence::Patience) => Err(Ending::Silence),
            Err(Silence::Cancelled) => Err(Ending::Cancelled),
        }
    }
}

fn is_exit(record: &GuestRecord) -> bool {
    matches!(record, GuestRecord::Stage0(Stage0Record::Exited { .. }))
}

fn is_ready(record: &GuestRecord) -> bool {
    matches!(record, GuestRecord::Agent(AgentRecord::Ask(Ask::Scenario)))
}

/// Of a dongle's bus, as QEMU sees it.
fn capture_name(number: usize) -> String {
    format!("usb{number}.pcap")
}

/// Where things are that every run needs.
#[derive(Debug, Clone)]
pub struct Image {
    /// The kernel for QEMU.
    pub kernel: PathBuf,
    /// The initial RAM file system for it.
    pub initramfs: PathBuf,
    /// `uname -r` under it.
    pub release: String,
    /// What it was built with; `None` if that is not known.
    pub config: Option<Arc<KernelConfig>>,
}

impl Image {
    /// Why this kernel cannot carry out a scenario, if its configuration says so.
    #[must_use]
    pub fn lacks(&self, scenario: &Scenario) -> Option<String> {
        self.config.as_ref()?.lacks(scenario)
    }
}
