//! Orders to stage 0, and what it answers.

use serde::{Deserialize, Serialize};

/// What the outer machine wants done in the guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Insert the modules of one list of the image, in its order.
    LoadModules {
        /// The list's name, e.g. `bluetooth`.
        set: String,
    },
    /// Store a file. Its bytes follow in [`FrameKind::Chunk`](crate::FrameKind::Chunk) frames.
    Store {
        /// Absolute path in the guest; parents are made.
        path: String,
        /// Permission bits.
        mode: u32,
        /// Length of the file, bytes.
        bytes: u64,
    },
    /// Send a file home.
    Fetch {
        /// Absolute path in the guest.
        path: String,
    },
    /// Run a program to its end, the port on file descriptor [`AGENT_PORT_FD`](crate::AGENT_PORT_FD).
    Run {
        /// Program and arguments.
        argv: Vec<String>,
    },
    /// End the virtual machine.
    PowerOff,
}

/// What stage 0 reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "record", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stage0Record {
    /// The guest's user space runs and takes orders.
    Hello {
        /// [`PROTOCOL_VERSION`](crate::PROTOCOL_VERSION) of the sender.
        protocol: u32,
        /// `uname -r`.
        release: String,
        /// CLOCK_BOOTTIME, nanoseconds.
        boottime_ns: u64,
    },
    /// One module was tried.
    Module {
        /// Module name, `_` for `-`.
        name: String,
        /// What the kernel said.
        outcome: ModuleOutcome,
    },
    /// A list of modules is through.
    ModulesLoaded {
        /// The list's name.
        set: String,
        /// Time that it took, nanoseconds.
        elapsed_ns: u64,
    },
    /// A file is stored whole.
    Stored {
        /// As ordered.
        path: String,
    },
    /// A file comes home. Its bytes follow in [`FrameKind::Chunk`](crate::FrameKind::Chunk) frames.
    File {
        /// As ordered.
        path: String,
        /// Length of the file, bytes.
        bytes: u64,
    },
    /// The program runs.
    Started {
        /// As ordered.
        argv: Vec<String>,
    },
    /// A line of the kernel's log at level *warning* or worse.
    Kmsg {
        /// Log level, 0 (emergency) to 4 (warning).
        level: u8,
        /// Time since boot, microseconds.
        time_us: u64,
        /// The line.
        text: String,
    },
    /// The program ended. Nothing of it follows.
    Exited {
        /// How.
        status: ExitStatus,
    },
    /// An order could not be carried out.
    Refused {
        /// What was ordered.
        order: String,
        /// Why not.
        error: String,
    },
}

/// What became of an insertion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum ModuleOutcome {
    /// It is loaded now.
    Inserted,
    /// It was there already (EEXIST).
    Present,
    /// The kernel refused it.
    Failed {
        /// The system's error number.
        errno: i32,
        /// The error in words.
        error: String,
    },
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExitStatus {
    /// It returned this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that records have the names on the wire that the other end looks for.
    #[test]
    fn record_written_as_json_has_its_tag() {
        let record = Stage0Record::Exited {
            status: ExitStatus::Signal(9),
        };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(json, r#"{"record":"exited","status":{"signal":9}}"#);
        assert_eq!(serde_json::from_str::<Stage0Record>(&json).unwrap(), record);
    }

    /// Check that an order with a field that nobody knows is refused rather than half obeyed.
    #[test]
    fn order_with_unknown_field_is_refused() {
        let json = r#"{"order":"run","argv":["/agent"],"force":true}"#;
        assert!(serde_json::from_str::<Order>(json).is_err());
    }
}
