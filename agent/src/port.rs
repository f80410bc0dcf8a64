//! Sending records home.

use evidence::{AgentRecord, FrameKind, FrameWriter, Sender};
use std::fs::File;
use std::io::{self, Write as _};
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

    /// The next record as bytes, changed by `damage` before they are sent.
    ///
    /// # Errors
    /// The port fails.
    pub(crate) fn send_damaged(&self, damage: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let phase = "a record that is damaged on its way".to_owned();
        let json = serde_json::to_vec(&AgentRecord::Progress { phase })?;
        let mut state = self.lock();
        let mut bytes = Vec::new();
        FrameWriter::resume(&mut bytes, Sender::Agent, state.frames.next_seq())
            .write(FrameKind::Record, &json)?;
        damage(&mut bytes);
        state.frames.port_mut().write_all(&bytes)
    }

    /// What began last.
    pub(crate) fn last_phase(&self) -> String {
        self.lock().phase.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
