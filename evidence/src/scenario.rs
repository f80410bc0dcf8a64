//! A scenario: scripted traffic as data. The harness writes it, the agent carries it out.

use controller::{Fault, Profile};
use serde::{Deserialize, Serialize};

/// What happens in one run: the controllers of the guest, and the steps taken with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Name in reports and on the command line, e.g. `l2cap-seqpacket`.
    pub name: String,
    /// One line on what it shows.
    pub about: String,
    /// The controllers, all on one air; the first becomes hci0.
    pub controllers: Vec<Profile>,
    /// What the agent does, in order.
    pub steps: Vec<Step>,
}

/// One step. Sockets go by the names that earlier steps gave them, controllers by their place in
/// [`Scenario::controllers`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Bind an L2CAP `SOCK_SEQPACKET` socket and listen.
    Listen {
        /// The new socket's name.
        socket: String,
        /// On which controller.
        controller: usize,
        /// Protocol/Service Multiplexer.
        psm: u16,
    },
    /// Connect a new L2CAP `SOCK_SEQPACKET` socket, and accept at the far end.
    Connect {
        /// The connecting socket's name.
        socket: String,
        /// The controller that it is bound to.
        from: usize,
        /// The listening socket.
        to: String,
        /// Name of the socket that accept returns.
        accepted: String,
    },
    /// Write messages into one socket and read them from another, every byte checked.
    Transfer(Traffic),
    /// Write once and expect this error.
    FailingWrite {
        /// The socket.
        socket: String,
        /// Length of the message, bytes.
        bytes: usize,
        /// The error number that write must fail with.
        errno: i32,
    },
    /// Have a controller misbehave from now on.
    Inject {
        /// How.
        fault: Fault,
    },
    /// Crash the guest's kernel through sysrq.
    Panic,
    /// Stop answering: no further record, ever.
    Hang,
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
