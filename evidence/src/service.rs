//! What steps speak of: services, voice, channels, traffic.

use serde::{Deserialize, Serialize};

/// What a listening socket offers, and how others reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Service {
    /// L2CAP over BR/EDR.
    L2cap {
        /// Protocol/Service Multiplexer.
        psm: u16,
        /// How the channel carries messages.
        mode: L2capMode,
        /// The longest message both ways, bytes; `None` leaves the kernel's 672.
        mtu: Option<u16>,
    },
    /// A byte stream over L2CAP, multiplexed by the kernel.
    Rfcomm {
        /// Server channel, 1 to 30.
        channel: u8,
    },
    /// L2CAP over LE, with credits for each channel.
    L2capLe {
        /// Simplified Protocol/Service Multiplexer.
        spsm: u16,
        /// The longest message that the listening end takes, bytes; `None` leaves the kernel's 672.
        mtu: Option<u16>,
    },
    /// Synchronous data.
    Sco {
        /// Who codes it.
        voice: Voice,
    },
    /// A connected isochronous stream over LE, with the kernel's quality of service.
    Iso,
}

impl Service {
    /// Does it go over LE?
    #[must_use]
    pub const fn is_le(self) -> bool {
        matches!(self, Self::L2capLe { .. } | Self::Iso)
    }
}

/// How voice crosses a synchronous link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Voice {
    /// The controllers code it as CVSD (`BT_VOICE_CVSD_16BIT`).
    Cvsd,
    /// The hosts code it, as mSBC, and controllers pass it on as it is (`BT_VOICE_TRANSPARENT`).
    Transparent,
}

/// What the kernel can do with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceAction {
    /// `HCIDEVUP`, then connectable; done when it is.
    Up,
    /// `HCIDEVDOWN`
    Down,
    /// `HCIDEVRESET`
    Reset,
}

/// What only some kernels have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Sockets for isochronous channels; turned on where they are an experiment.
    IsoSockets,
    /// Reports of sent and completed messages (`SOF_TIMESTAMPING_TX_COMPLETION`).
    TxTimestamps,
    /// Voice that takes slots of the controller's: the kernel has turned flow control of synchronous data on.
    VoiceFlowControl,
}

/// `HCI_CHANNEL_*`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HciChannel {
    /// Beside the kernel, which uses the device as ever.
    Raw,
    /// In the kernel's place; the device has to be down.
    User,
}

/// A link between two devices that processes drive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessLink {
    /// BR/EDR.
    Acl,
    /// Synchronous, beside one of BR/EDR; its packets are counted.
    Sco,
    /// LE.
    Le,
    /// Connected isochronous, beside one of LE.
    Cis,
}

/// Spec: Core 5.4, Vol 3, Part A, 2.4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum L2capMode {
    /// Basic mode, `SOCK_SEQPACKET`.
    Basic,
    /// Enhanced retransmission mode, `SOCK_STREAM`.
    EnhancedRetransmission,
    /// Streaming mode, `SOCK_SEQPACKET`.
    Streaming,
}

/// Messages from one socket to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    /// The writing socket.
    pub from: String,
    /// The reading socket.
    pub to: String,
    /// How many messages.
    pub messages: u32,
    /// Length of each, bytes.
    pub bytes: usize,
}
