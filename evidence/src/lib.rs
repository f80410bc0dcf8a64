//! What the guest and the outer machine say to each other: frames on a serial port, orders into
//! the guest, records out of it.
//!
//! This is the only format between the two. It knows nothing of QEMU and nothing of BPF.
#![forbid(unsafe_code)]

#[cfg(feature = "scenario")]
mod agent;
mod frame;
#[cfg(feature = "scenario")]
mod hex;
#[cfg(feature = "scenario")]
mod misbehavior;
#[cfg(feature = "scenario")]
mod outside;
#[cfg(feature = "scenario")]
mod scenario;
#[cfg(feature = "scenario")]
mod service;
mod stage0;

#[cfg(feature = "scenario")]
pub use agent::{
    AgentRecord, CallCount, DeviceCounters, Direction, PastKernel, Period, Protocol, Scrape,
    SendBuffer, Stamp,
};
pub use frame::{
    Frame, FrameError, FrameKind, FrameReader, FrameWriter, MAX_PAYLOAD_BYTES, Sender,
};
#[cfg(feature = "scenario")]
pub use misbehavior::Misbehavior;
#[cfg(feature = "scenario")]
pub use outside::{Answer, Ask, PacketCounts, Place, Sight, UsbPlace};
#[cfg(feature = "scenario")]
pub use scenario::{Scenario, Step, Transport};
#[cfg(feature = "scenario")]
pub use service::{
    DeviceAction, Feature, HciChannel, L2capMode, ProcessLink, Service, Traffic, Voice,
};
pub use stage0::{ExitStatus, ModuleOutcome, Order, Stage0Record};

/// Version of everything in this crate. The two ends refuse to talk across versions.
pub const PROTOCOL_VERSION: u32 = 3;

/// Name of the virtio-serial port that carries the frames, as the guest sees it under
/// `/sys/class/virtio-ports/*/name`.
pub const PORT_NAME: &str = "bluetooth-metrics.evidence";

/// Name of the virtio-serial port that carries the packets of the n-th controller, which lives outside and is on vhci in the guest.
#[must_use]
pub fn relay_port_name(number: usize) -> String {
    format!("bluetooth-metrics.controller{number}")
}

/// File descriptor on which the agent finds the port that stage 0 opened.
pub const AGENT_PORT_FD: i32 = 3;

/// Folder of the guest in which the agent captures what crosses its controllers' boundaries, as
/// `hci<n>.btsnoop`, n being the controller's place in the scenario.
pub const CAPTURE_FOLDER: &str = "/run/capture";
