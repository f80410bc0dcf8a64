//! Sending records home.

use evidence::{AgentRecord, FrameKind, FrameWriter, Sender};
use std::fs::File;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The agent's end of the port. One writer: every record goes through here.
#[derive(Debug)]
pub(crate) struct Port {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    frames: FrameWriter<File>,
    phase: String,
}

impl Port {
    /// Takes the port over.
    pub(crate) const fn new(file: File) -> Self {
        let frames = FrameWriter::new(file, Sender::Agent);
        Self {
            state: Mutex::new(State {
                frames,
                phase: String::new(),
            }),
        }
    }

    /// Sends one record.
    ///
    /// # Errors
    /// The port fails.
    pub(crate) fn send(&self, record: &AgentRecord) -> io::Result<()> {
        let json = serde_json::to_vec(record)?;
        self.lock().frames.write(FrameKind::Record, &json)
    }

    /// Says what begins. The far end's patience counts from here.
    ///
    /// # Errors
    /// The port fails.
    pub(crate) fn phase(&self, phase: impl Into<String>) -> io::Result<()> {
        let phase = phase.into();
        self.lock().phase.clone_from(&phase);
        self.send(&AgentRecord::Progress { phase })
    }

    /// What began last.
    pub(crate) fn last_phase(&self) -> String {
        self.lock().phase.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
