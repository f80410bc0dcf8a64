//! Sending records home.

use evidence::{AgentRecord, Answer, Ask, FrameKind, FrameReader, FrameWriter, Sender};
use std::fs::File;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The agent's end of the port. One writer: every record goes through here.
#[derive(Debug, Clone)]
pub(crate) struct Port {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    frames: FrameWriter<File>,
    answers: FrameReader<File>,
    phase: String,
}

impl Port {
    /// Takes the port over.
    ///
    /// # Errors
    /// No descriptor is left.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let answers = FrameReader::new(file.try_clone()?);
        let frames = FrameWriter::new(file, Sender::Agent);
        Ok(Self {
            state: Arc::new(Mutex::new(State {
                frames,
                answers,
                phase: String::new(),
            })),
        })
    }

    /// Asks the harness for something, and waits for its answer.
    ///
    /// # Errors
    /// The port fails, or what comes is no answer.
    pub(crate) fn ask(&self, ask: Ask) -> io::Result<Answer> {
        let json = serde_json::to_vec(&AgentRecord::Ask(ask))?;
        let mut state = self.lock();
        state.frames.write(FrameKind::Record, &json)?;
        let frame = state.answers.read().map_err(io::Error::other)?;
        let frame = frame.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(serde_json::from_slice(&frame.payload)?)
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
