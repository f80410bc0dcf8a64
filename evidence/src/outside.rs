//! What the agent asks of the harness: what to do, and things about controllers that live in the harness's process; and the answers.

use crate::scenario::Scenario;
use controller::transport::usbredir::UsbFault;
use controller::{Action, Direction, Entry, PacketKind};
use serde::{Deserialize, Serialize};

/// Something to do. Controllers go by their place in the scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Ask {
    /// Say what to carry out: the agent is ready.
    Scenario,
    /// Plug a controller in. The guest's kernel will find it by and by.
    Plug {
        /// Which.
        controller: usize,
    },
    /// Pull a controller out; it forgets everything.
    Unplug {
        /// Which.
        controller: usize,
    },
    /// Do something to a controller.
    Act {
        /// What.
        action: Action,
    },
    /// Have something go wrong on a bus.
    UsbFault {
        /// What.
        fault: UsbFault,
    },
    /// Say how far everything is.
    Look,
    /// Take the ledgers down as they are now.
    Report {
        /// Which devices the controllers are.
        places: Vec<Place>,
    },
}

/// Which device a controller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The controller.
    pub controller: usize,
    /// The N of hciN.
    pub hci: u16,
}

/// Where a device is on the guest's USB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsbPlace {
    /// The N of hciN.
    pub hci: u16,
    /// Number of the bus.
    pub bus: u16,
    /// Number on the bus.
    pub device: u8,
}

/// What the harness answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// What to carry out.
    Scenario {
        /// The scenario.
        scenario: Box<Scenario>,
        /// Are the probes to be detached at the end? It takes seconds; else the machine ends with them in place.
        detach: bool,
    },
    /// It is done.
    Done,
    /// What there is to see.
    Sight(Sight),
    /// It cannot be done.
    Refused {
        /// Why not.
        error: String,
    },
}

/// How far everything is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// The time on the clock that stamps the ledgers, nanoseconds.
    pub now_ns: i64,
    /// Packets that have crossed, all controllers together.
    pub crossed: usize,
    /// What crossed the boundary of each controller since it was plugged in.
    pub counts: Vec<PacketCounts>,
    /// Whether the kernel polls each controller for voice.
    pub voice_ready: Vec<bool>,
}

/// Packets by kind and direction; 32 bits as the kernel's counters have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacketCounts {
    /// Commands.
    pub commands: u32,
    /// Events.
    pub events: u32,
    /// ACL packets from the host.
    pub acl_sent: u32,
    /// ACL packets to the host.
    pub acl_received: u32,
    /// SCO packets from the host.
    pub sco_sent: u32,
    /// SCO packets to the host.
    pub sco_received: u32,
}

impl PacketCounts {
    /// Counts entries of a ledger.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut counts = Self::default();
        for entry in entries {
            let count = match (entry.direction, entry.kind) {
                (_, Some(PacketKind::Command)) => &mut counts.commands,
                (_, Some(PacketKind::Event)) => &mut counts.events,
                (Direction::HostToController, Some(PacketKind::Acl)) => &mut counts.acl_sent,
                (Direction::ControllerToHost, Some(PacketKind::Acl)) => &mut counts.acl_received,
                (Direction::HostToController, Some(PacketKind::Sco)) => &mut counts.sco_sent,
                (Direction::ControllerToHost, Some(PacketKind::Sco)) => &mut counts.sco_received,
                (_, Some(PacketKind::Iso) | None) => continue,
            };
            *count += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that questions and answers have the names on the wire that the other end looks for.
    #[test]
    fn ask_and_answer_written_as_json_have_their_tags() {
        let ask = Ask::Unplug { controller: 1 };
        let json = serde_json::to_string(&ask).unwrap();
        assert_eq!(json, r#"{"ask":"unplug","controller":1}"#);
        assert_eq!(serde_json::from_str::<Ask>(&json).unwrap(), ask);
        let answer = Answer::Sight(Sight::default());
        let json = serde_json::to_string(&answer).unwrap();
        assert!(json.starts_with(r#"{"answer":"sight","now_ns":0"#));
        assert_eq!(serde_json::from_str::<Answer>(&json).unwrap(), answer);
    }
}
