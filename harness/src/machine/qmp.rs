//! QEMU's machine protocol, as far as saving, restoring and plugging devices in need it.
//!
//! Source: QEMU docs/interop/qmp-spec. One JSON object a line; events may come between.

use crate::sys;
use serde_json::{Value, json};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Why QEMU did not do as it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QmpError {
    /// QEMU hung up or does not answer.
    #[error("QEMU does not answer {command}")]
    Line {
        /// What was asked of it.
        command: String,
        /// What the socket said.
        source: io::Error,
    },
    /// What it said is no JSON.
    #[error("QEMU's answer to {command} cannot be understood")]
    Json {
        /// What was asked of it.
        command: String,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// It refused.
    #[error("QEMU refused {command}: {reason}")]
    Refused {
        /// What was asked of it.
        command: String,
        /// Why not.
        reason: String,
    },
    /// A migration failed.
    #[error("QEMU could not {what} the machine: {reason}")]
    Migration {
        /// `save` or `restore`.
        what: &'static str,
        /// Why not.
        reason: String,
    },
}

/// The longest that QEMU may take for one answer, or for one migration.
const PATIENCE: Duration = Duration::from_secs(60);
/// What a state goes through on its way to its file; its complaints begin with its name.
pub const SAVE_WRITER: &str = "cat";
const PAUSE: Duration = Duration::from_millis(2);
/// More than any disk does: saving is not to be throttled. Bytes per second.
const BANDWIDTH: u64 = 1 << 40;

/// A conversation with one QEMU.
#[derive(Debug)]
pub(super) struct Qmp {
    line: BufReader<UnixStream>,
    greeted: bool,
}

impl Qmp {
    /// Takes over a socket on which QEMU's greeting is due.
    pub(super) fn new(socket: UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            line: BufReader::new(socket),
            greeted: false,
        })
    }

    /// Leaves negotiation mode, before anything else; nothing if that was done.
    pub(super) fn greet(&mut self) -> Result<(), QmpError> {
        if self.greeted {
            return Ok(());
        }
        self.read_line("greeting")?;
        self.execute("qmp_capabilities", json!({}))?;
        self.greeted = true;
        Ok(())
    }

    /// Plugs in a device that talks to `socket`.
    pub(super) fn plug(
        &mut self,
        name: &str,
        socket: BorrowedFd<'_>,
        mut device: Value,
    ) -> Result<(), QmpError> {
        self.execute_with("getfd", json!({ "fdname": name }), Some(socket))?;
        let addr = json!({ "type": "fd", "data": { "str": name } });
        let backend = json!({ "type": "socket", "data": { "addr": addr, "server": false } });
        self.execute("chardev-add", json!({ "id": name, "backend": backend }))?;
        device["chardev"] = name.into();
        self.add_device(device)
    }

    /// Plugs in a device.
    pub(super) fn add_device(&mut self, device: Value) -> Result<(), QmpError> {
        self.execute("device_add", device).map(|_nothing| ())
    }

    /// Stops the machine and writes its state to a file.
    pub(super) fn save(&mut self, file: &Path) -> Result<(), QmpError> {
        self.execute("stop", json!({}))?;
        self.execute(
            "migrate-set-parameters",
            json!({ "max-bandwidth": BANDWIDTH }),
        )?;
        // `file:` came with QEMU 8.2; a command works everywhere.
        let uri = format!("exec:exec {SAVE_WRITER} > {}", shell_quoted(file));
        self.execute("migrate", json!({ "uri": uri }))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.execute("query-migrate", json!({}))?;
            match state["status"].as_str() {
                Some("completed") => return Ok(()),
                Some("failed" | "cancelled") => return Err(migration("save", &state)),
                _ if Instant::now() > deadline => return Err(migration("save", &state)),
                _ => sleep(PAUSE),
            }
        }
    }

    /// Waits until a state has come in.
    pub(super) fn await_state(&mut self) -> Result<(), QmpError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.execute("query-status", json!({}))?;
            match state["status"].as_str() {
                Some("inmigrate") if Instant::now() < deadline => sleep(PAUSE),
                Some("paused" | "postmigrate") => return Ok(()),
                _ => return Err(migration("restore", &state)),
            }
        }
    }

    /// Lets a machine run whose state has come in.
    pub(super) fn resume(&mut self) -> Result<(), QmpError> {
        self.execute("cont", json!({})).map(|_nothing| ())
    }

    /// Takes a device out.
    pub(super) fn unplug(&mut self, name: &str) -> Result<(), QmpError> {
        self.execute("device_del", json!({ "id": name }))
            .map(|_nothing| ())
    }

    fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.execute_with(command, arguments, None)
    }

    fn execute_with(
        &mut self,
        command: &str,
        arguments: Value,
        fd: Option<BorrowedFd<'_>>,
    ) -> Result<Value, QmpError> {
        let lost = |source| QmpError::Line {
            command: command.to_owned(),
            source,
        };
        let text = json!({ "execute": command, "arguments": arguments }).to_string() + "\n";
        let written = match fd {
            Some(fd) => sys::send_with_fd(self.line.get_ref().as_fd(), text.as_bytes(), fd),
            None => self.line.get_mut().write_all(text.as_bytes()),
        };
        written.map_err(lost)?;
        loop {
            let mut answer = self.read_line(command)?;
            if let Some(result) = answer.get_mut("return") {
                return Ok(result.take());
            }
            if let Some(error) = answer.get("error") {
                let reason = error["desc"]
                    .as_str()
                    .unwrap_or("no reason given")
                    .to_owned();
                return Err(QmpError::Refused {
                    command: command.to_owned(),
                    reason,
                });
            }
        }
    }

    fn read_line(&mut self, command: &str) -> Result<Value, QmpError> {
        let lost = |source| QmpError::Line {
            command: command.to_owned(),
            source,
        };
        let mut text = String::new();
        if self.line.read_line(&mut text).map_err(lost)? == 0 {
            return Err(lost(io::ErrorKind::UnexpectedEof.into()));
        }
        let garbled = |source| QmpError::Json {
            command: command.to_owned(),
            source,
        };
        serde_json::from_str(&text).map_err(garbled)
    }
}

fn migration(what: &'static str, state: &Value) -> QmpError {
    QmpError::Migration {
        what,
        reason: state.to_string(),
    }
}

/// A path as one word of a POSIX shell.
fn shell_quoted(path: &Path) -> String {
    format!("'{}'", path.to_string_lossy().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Check that no path can end the word that it stands in.
    #[test]
    fn shell_quoted_path_is_one_word() {
        assert_eq!(
            shell_quoted(Path::new("/a b/it's; rm")),
            r"'/a b/it'\''s; rm'"
        );
    }

    /// Check that events between are passed over, and that a refusal is an error with its reason.
    #[test]
    fn execute_skips_events_and_reports_refusals() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let qemu = thread::spawn(move || {
            theirs
                .write_all(b"{\"QMP\":{}}\n{\"event\":\"STOP\"}\n{\"return\":{}}\n")
                .unwrap();
            theirs
                .write_all(b"{\"event\":\"X\"}\n{\"error\":{\"desc\":\"no\"}}\n")
                .unwrap();
            theirs
        });
        let mut qmp = Qmp::new(ours).unwrap();
        qmp.greet().unwrap();
        qmp.greet().unwrap();
        let error = qmp.await_state().unwrap_err().to_string();
        assert_eq!(error, "QEMU refused query-status: no");
        drop(qemu.join().unwrap());
        assert!(matches!(qmp.resume(), Err(QmpError::Line { .. })));
    }
}
