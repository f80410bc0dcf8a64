//! What the agent reports.

use crate::outside::{Ask, UsbPlace};
use controller::Entry;
use metrics::{Lost, MapCost, ProbeReport, ProgramCost, Snapshot, Trial};
use serde::{Deserialize, Serialize};

/// One record of the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case")]
pub enum AgentRecord {
    /// The agent runs.
    Hello {
        /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the sender.
        protocol: u32,
    },
    /// A phase begins. Deadlines count from here.
    Progress {
        /// What begins, in words.
        phase: String,
    },
    /// What became of one program.
    Probe(ProbeReport),
    /// Series that no attached program measures.
    Lost(Lost),
    /// A step was carried out.
    Step(Period),
    /// The kernel's own stamps of the packets of one socket, in order.
    Stamps {
        /// The N of hciN.
        hci: u16,
        /// One for each packet.
        stamps: Vec<Stamp>,
    },
    /// What the agent's own socket calls returned, summed up.
    Calls {
        /// One entry per distinct protocol, direction and result.
        calls: Vec<CallCount>,
        /// How many of the writes to HCI sockets were to the management interface.
        management_writes: u64,
    },
    /// Packets that crossed the boundary between host and controller, in order. A long ledger
    /// comes in several records.
    Ledger {
        /// The N of hciN.
        hci: u16,
        /// The next entries.
        entries: Vec<Entry>,
    },
    /// The kernel's own counters of a device (ioctl HCIGETDEVINFO).
    Device(DeviceCounters),
    /// What the probes counted.
    Observed {
        /// From when they were loaded to when they had been read.
        period: Period,
        /// All series.
        snapshot: Snapshot,
    },
    /// How full a socket became while a step filled it.
    SendBuffer(SendBuffer),
    /// What the exporter served of the same values.
    Scraped(Scrape),
    /// Where a device is on USB.
    UsbPlace(UsbPlace),
    /// Where a device was that was pulled out.
    UsbGone(UsbPlace),
    /// The next piece of what the kernel's USB monitor saw of all buses, in the pcap format.
    UsbMonitor {
        /// The bytes.
        #[serde(with = "crate::hex")]
        pcap: Vec<u8>,
    },
    /// Something to do with controllers that live outside. The agent waits for the [`Answer`](crate::Answer).
    Ask(Ask),
    /// What the kernel did with one program that was tried alone.
    Trial(Trial),
    /// A part of a text file of the guest, in order.
    Text {
        /// The file.
        path: String,
        /// Its next lines.
        text: String,
    },
    /// What a process read from a device on the user channel; the kernel did not count it.
    UserChannel {
        /// The N of hciN.
        hci: u16,
        /// How much.
        read: PastKernel,
    },
    /// This kernel has not what the scenario is about. It ends here, and nothing is wrong.
    NotApplicable {
        /// What the kernel said.
        reason: String,
    },
    /// How long a transfer took.
    Timed {
        /// What was loaded meanwhile.
        probes: String,
        /// Nanoseconds.
        ns: u64,
    },
    /// What programs and maps cost during a transfer.
    Costs {
        /// The programs.
        programs: Vec<ProgramCost>,
        /// The maps.
        maps: Vec<MapCost>,
    },
    /// A step could not be carried out. The scenario ends here.
    Failed {
        /// Which step.
        step: String,
        /// Why.
        error: String,
    },
    /// Everything was carried out and reported.
    Done,
}

/// Packets that a process read past the kernel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PastKernel {
    /// Events.
    pub events: u32,
    /// ACL data packets.
    pub acl: u32,
    /// SCO data packets.
    #[serde(default)]
    pub sco: u32,
}

/// A send buffer, as the kernel's tables show it (`/proc/net/l2cap` and the like) while it is filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendBuffer {
    /// Protocol of the socket.
    pub protocol: Protocol,
    /// `SO_SNDBUF`, bytes.
    pub limit: u64,
    /// Bytes that unsent messages occupied after each message.
    pub occupied: Vec<u64>,
    /// Did nothing cross any controller's boundary meanwhile?
    pub still: bool,
    /// It was full by then, on the clock that stamps the ledgers: a write had been turned away.
    #[serde(default)]
    pub full_ns: i64,
}

/// What the exporter served over loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scrape {
    /// The `Content-Type` that it came with.
    pub content_type: String,
    /// The text.
    pub text: String,
}

/// From when to when something lasted, on the clock that stamps the ledgers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Period {
    /// Not later than its begin, nanoseconds; negative if that clock did not yet run.
    pub began_ns: i64,
    /// Not earlier than its end, nanoseconds.
    pub ended_ns: i64,
}

/// When the kernel handed a packet to the driver, and when it learned of its completion, on the kernel's wall clock.
///
/// Kernel: v6.15 net/bluetooth/hci_conn.c `hci_conn_tx_queue()`, `hci_conn_tx_dequeue()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// Just before it went, nanoseconds.
    pub sent_ns: i64,
    /// Just after its completion was known, nanoseconds.
    pub completed_ns: i64,
}

/// Socket protocol, by the kernel's `BTPROTO_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// `BTPROTO_L2CAP`.
    L2cap,
    /// `BTPROTO_HCI`.
    Hci,
    /// `BTPROTO_SCO`.
    Sco,
    /// `BTPROTO_RFCOMM`.
    Rfcomm,
    /// `BTPROTO_ISO`.
    Iso,
}

impl Protocol {
    /// The value of the metrics' label `proto`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::L2cap => "l2cap",
            Self::Hci => "hci",
            Self::Sco => "sco",
            Self::Rfcomm => "rfcomm",
            Self::Iso => "iso",
        }
    }
}

/// Which way a socket call moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// recvmsg and its kin.
    Read,
    /// sendmsg and its kin.
    Write,
    /// recvmsg with MSG_PEEK.
    Peek,
    /// recvmsg with MSG_ERRQUEUE.
    ErrorQueue,
}

impl Direction {
    /// The value of the metrics' label `direction`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Peek => "peek",
            Self::ErrorQueue => "errqueue",
        }
    }
}

/// Calls with the same protocol, direction and result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallCount {
    /// Protocol of the socket.
    pub protocol: Protocol,
    /// Direction of the call.
    pub direction: Direction,
    /// `ok`, or the name of the error, e.g. `EMSGSIZE`.
    pub result: String,
    /// How many.
    pub calls: u64,
    /// Sum of what they returned, bytes. 0 for errors.
    pub bytes: u64,
}

/// Kernel: include/net/bluetooth/hci_sock.h struct `hci_dev_stats`, and buffer sizes beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCounters {
    /// The N of hciN.
    pub hci: u16,
    /// ACL buffers that the kernel believes the controller has.
    pub acl_packets: u16,
    /// Size of each, bytes.
    pub acl_mtu: u16,
    /// Commands sent.
    pub commands_sent: u32,
    /// Events received.
    pub events_received: u32,
    /// ACL packets sent.
    pub acl_sent: u32,
    /// ACL packets received.
    pub acl_received: u32,
    /// SCO packets sent.
    pub sco_sent: u32,
    /// SCO packets received.
    pub sco_received: u32,
    /// Errors while sending.
    pub errors_sent: u32,
    /// Errors while receiving.
    pub errors_received: u32,
}
