//! Everything that one run of one scenario brought home.

use crate::machine::{GuestRecord, PortError};
use controller::Entry;
use controller::transport::usbredir::UsbTransfers;
use evidence::{
    AgentRecord, CallCount, DeviceCounters, ExitStatus, FrameKind, ModuleOutcome, PROTOCOL_VERSION,
    PastKernel, Period, Scrape, SendBuffer, Stage0Record, Stamp, UsbPlace,
};
use metrics::{Lost, MapCost, ProbeReport, ProgramCost, Snapshot, Trial};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The records of one guest, sorted into their kinds. Nothing here is judged yet.
#[derive(Debug, Default, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Evidence {
    /// `uname -r` of the guest.
    pub release: Option<String>,
    /// What became of each module that was tried.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub modules: Vec<(String, ModuleOutcome)>,
    /// What became of each eBPF program.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub probes: Vec<ProbeReport>,
    /// Series that no attached program measures.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub lost: Vec<Lost>,
    /// What the socket calls returned.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub calls: Vec<CallCount>,
    /// How many of the writes to HCI sockets were to the management interface.
    #[serde(default)]
    pub management_writes: u64,
    /// The controllers' ledgers, by hci index.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub ledgers: BTreeMap<u16, Vec<Entry>>,
    /// What crossed the buses of controllers on USB, by hci index.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub usb: BTreeMap<u16, Vec<UsbTransfers>>,
    /// Where the devices are on USB.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub usb_places: Vec<UsbPlace>,
    /// Where devices were that have gone.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub usb_gone: Vec<UsbPlace>,
    /// What crossed those buses, as QEMU and the guest's monitor saw it, by file name; files of their own beside the report.
    #[serde(skip)]
    pub usb_captures: BTreeMap<String, Vec<u8>>,
    /// What had crossed those buses by the captures' ends, by controller. Nothing until QEMU has let go of the dongles.
    #[serde(skip)]
    pub usb_captured: BTreeMap<usize, Vec<UsbTransfers>>,
    /// The kernel's own counters, by hci index.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub devices: BTreeMap<u16, DeviceCounters>,
    /// When each step was carried out, on the ledgers' clock.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub steps: Vec<Period>,
    /// The kernel's own stamps of what sockets wrote, by hci index, in order.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub stamps: BTreeMap<u16, Vec<Stamp>>,
    /// From when the probes were loaded to when they had been read, on the ledgers' clock.
    #[serde(default)]
    #[schemars(with = "serde_json::Value")]
    pub observed_in: Period,
    /// What a process read past the kernel, by hci index.
    #[schemars(with = "BTreeMap<String, serde_json::Value>")]
    pub user_channel: BTreeMap<u16, PastKernel>,
    /// What the kernel lacks that the scenario is about, as the kernel said.
    pub not_applicable: Option<String>,
    /// What the probes counted.
    #[schemars(with = "Option<serde_json::Value>")]
    pub observed: Option<Snapshot>,
    /// How full sockets became while steps filled them.
    #[serde(default)]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub send_buffers: Vec<SendBuffer>,
    /// How long transfers took: what was loaded, nanoseconds.
    #[serde(skip)]
    pub timed: Vec<(String, u64)>,
    /// What programs cost.
    #[serde(skip)]
    pub program_costs: Vec<ProgramCost>,
    /// What maps cost.
    #[serde(skip)]
    pub map_costs: Vec<MapCost>,
    /// What the exporter served of the same values. Not kept in reports: it says the same again.
    #[serde(skip)]
    pub scrapes: Vec<Scrape>,
    /// What the kernel did with programs that were tried alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<serde_json::Value>")]
    pub trials: Vec<Trial>,
    /// Text files of the guest that were asked for. Megabytes, hence in no report.
    #[serde(skip)]
    pub texts: BTreeMap<String, String>,
    /// Kernel log lines at level warning or worse: level, microseconds since boot, text.
    pub kmsg: Vec<(u8, u64, String)>,
    /// The step that could not be carried out, and why.
    pub failed: Option<(String, String)>,
    /// Orders that stage 0 refused, and why.
    pub refused: Vec<(String, String)>,
    /// The agent said that everything was carried out and reported.
    pub done: bool,
    /// How the agent ended.
    #[schemars(with = "Option<serde_json::Value>")]
    pub exited: Option<ExitStatus>,
    /// What the guest was at when it was last heard of.
    pub phase: String,
    /// When each phase began: milliseconds since the machine was started or restored.
    pub timeline: Vec<(u64, String)>,
    /// Last lines of the serial console and of QEMU.
    pub console: Vec<String>,
}

/// Name of the capture of the guest's own USB monitor.
pub const USB_MONITOR: &str = "usbmon.pcap";

/// How the conversation with a guest ended.
#[derive(Debug)]
pub enum Ending {
    /// The guest reported its agent's end.
    Complete,
    /// Nothing more came.
    Silence,
    /// The user stopped it.
    Cancelled,
    /// The port closed while more was due.
    Closed(Result<(), PortError>),
    /// An order could not be sent: the other end is gone.
    Unreachable(std::io::Error),
    /// Something outside the guest failed.
    Outside(anyhow::Error),
    /// Stage 0 or the agent speak another version of the protocol.
    Protocol {
        /// Theirs.
        theirs: u32,
    },
}

impl Evidence {
    /// Files one record where it belongs.
    ///
    /// # Errors
    /// The sender speaks another version of the protocol.
    pub fn file(&mut self, record: GuestRecord) -> Result<(), Ending> {
        match record {
            GuestRecord::Stage0(record) => self.file_stage0(record),
            GuestRecord::Agent(record) => self.file_agent(record),
            // Whoever ordered a file takes its chunks; nobody did.
            GuestRecord::Chunk(_) => {
                let unexpected = PortError::Unexpected(FrameKind::Chunk);
                Err(Ending::Closed(Err(unexpected)))
            }
        }
    }

    /// Writes into the timeline that the present phase began at `at_ms`, unless it goes on.
    pub fn note_phase(&mut self, at_ms: u64) {
        if self
            .timeline
            .last()
            .is_none_or(|(_, phase)| *phase != self.phase)
        {
            self.timeline.push((at_ms, self.phase.clone()));
        }
    }

    fn file_stage0(&mut self, record: Stage0Record) -> Result<(), Ending> {
        match record {
            Stage0Record::Hello {
                protocol,
                release,
                boottime_ns: _,
            } => {
                self.release = Some(release);
                return check_protocol(protocol);
            }
            Stage0Record::Module { name, outcome } => {
                self.phase = format!("loading module {name}");
                self.modules.push((name, outcome));
            }
            Stage0Record::ModulesLoaded { set, .. } => self.phase = format!("{set} modules loaded"),
            Stage0Record::Stored { path } => self.phase = format!("stored {path}"),
            Stage0Record::File { path, .. } => self.phase = format!("fetching {path}"),
            Stage0Record::Started { .. } => "agent starting".clone_into(&mut self.phase),
            Stage0Record::Kmsg {
                level,
                time_us,
                text,
            } => self.kmsg.push((level, time_us, text)),
            Stage0Record::Exited { status } => {
                self.exited = Some(status);
                "ended".clone_into(&mut self.phase);
            }
            Stage0Record::Refused { order, error } => self.refused.push((order, error)),
        }
        Ok(())
    }

    /// Drops what crossed after the metrics were read: no probe could have counted it.
    fn forget_after(&mut self, ended_ns: i64) {
        let ended = Duration::from_nanos(u64::try_from(ended_ns).unwrap_or(0));
        for entries in self.ledgers.values_mut() {
            entries.retain(|entry| entry.time <= ended);
        }
    }

    fn file_agent(&mut self, record: AgentRecord) -> Result<(), Ending> {
        match record {
            AgentRecord::Hello { protocol } => {
                "agent running".clone_into(&mut self.phase);
                return check_protocol(protocol);
            }
            AgentRecord::Progress { phase } => self.phase = phase,
            AgentRecord::Probe(probe) => self.probes.push(probe),
            AgentRecord::Lost(lost) => self.lost.push(lost),
            AgentRecord::Calls {
                calls,
                management_writes,
            } => {
                self.calls = calls;
                self.management_writes = management_writes;
            }
            AgentRecord::Ledger { hci, entries } => {
                self.ledgers.entry(hci).or_default().extend(entries);
            }
            AgentRecord::Device(counters) => {
                self.devices.insert(counters.hci, counters);
            }
            AgentRecord::Step(period) => self.steps.push(period),
            AgentRecord::Stamps { hci, stamps } => {
                self.stamps.entry(hci).or_default().extend(stamps);
            }
            AgentRecord::Observed { period, snapshot } => {
                self.forget_after(period.ended_ns);
                self.observed_in = period;
                self.observed = Some(snapshot);
            }
            AgentRecord::SendBuffer(buffer) => self.send_buffers.push(buffer),
            AgentRecord::Timed { probes, ns } => self.timed.push((probes, ns)),
            AgentRecord::Costs { programs, maps } => {
                self.program_costs.extend(programs);
                self.map_costs.extend(maps);
            }
            AgentRecord::Scraped(scrape) => self.scrapes.push(scrape),
            AgentRecord::UsbPlace(place) => self.usb_places.push(place),
            AgentRecord::UsbGone(place) => self.usb_gone.push(place),
            AgentRecord::UsbMonitor { pcap } => {
                let capture = self.usb_captures.entry(USB_MONITOR.to_owned());
                capture.or_default().extend(pcap);
            }
            // Whoever answers it files what comes of it.
            AgentRecord::Ask(_) => {}
            AgentRecord::Trial(trial) => self.trials.push(trial),
            AgentRecord::Text { path, text } => {
                self.texts.entry(path).or_default().push_str(&text);
            }
            AgentRecord::UserChannel { hci, read } => {
                self.user_channel.insert(hci, read);
            }
            AgentRecord::NotApplicable { reason } => self.not_applicable = Some(reason),
            AgentRecord::Failed { step, error } => self.failed = Some((step, error)),
            AgentRecord::Done => {
                self.done = true;
                "ending".clone_into(&mut self.phase);
            }
        }
        Ok(())
    }
}

fn check_protocol(theirs: u32) -> Result<(), Ending> {
    if theirs == PROTOCOL_VERSION {
        Ok(())
    } else {
        Err(Ending::Protocol { theirs })
    }
}
