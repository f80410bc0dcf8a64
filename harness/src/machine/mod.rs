//! One virtual machine: starting QEMU, listening to it, ending it.

mod console;
mod qemu;
mod qmp;

pub use console::{Console, Listener};
pub use qemu::{Accel, QEMU, VmSpec};
pub use qmp::{QmpError, SAVE_WRITER};

use qemu::{Fds, USB_BUS};
use qmp::Qmp;

use crate::sys;
use evidence::{
    AgentRecord, Answer, Frame, FrameError, FrameKind, FrameReader, FrameWriter, Order, Sender,
    Stage0Record,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

/// What a guest says.
#[derive(Debug, Clone, PartialEq)]
pub enum GuestRecord {
    /// Stage 0 speaks.
    Stage0(Stage0Record),
    /// The agent speaks.
    Agent(AgentRecord),
    /// The next bytes of the file that stage 0 announced.
    Chunk(Vec<u8>),
}

/// Something that came out of the machine.
#[derive(Debug)]
pub enum VmEvent {
    /// A record on the port.
    Record(Box<GuestRecord>),
    /// The port closed, cleanly or not: nothing more will come.
    Closed(Result<(), PortError>),
}

/// Why a port is of no more use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PortError {
    /// The framing broke.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame holds no record that we know.
    #[error("a record of {sender:?} cannot be understood: {text}")]
    Record {
        /// Who wrote it.
        sender: Sender,
        /// Its first characters.
        text: String,
        /// Where it went wrong.
        source: serde_json::Error,
    },
    /// The guest sent what only the outer machine sends.
    #[error("the guest sent a {0:?} frame")]
    Unexpected(FrameKind),
}

/// Why a wait ended without an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Silence {
    /// Nothing came for as long as was asked.
    Patience,
    /// The user wants to stop.
    Cancelled,
}

/// Where the conversation with a guest stood when it was saved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Talk {
    harness_next_seq: u32,
    answers_next_seq: u32,
    heard: Heard,
}

/// How many records came home.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// Of stage 0.
    pub stage0: u32,
    /// Of the agent.
    pub agent: u32,
}

/// Why a saved machine did not come back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// QEMU cannot be started at all.
    #[error("cannot start QEMU")]
    Start(#[source] io::Error),
    /// QEMU cannot use the state.
    #[error(transparent)]
    State(#[from] QmpError),
    /// The state cannot be read to its end.
    #[error("the saved state cannot be read")]
    Feed(#[source] io::Error),
    /// Somebody killed QEMU meanwhile.
    #[error("QEMU was killed")]
    Killed,
}

/// The state of a machine that was saved.
pub enum Saved {
    /// As QEMU wrote it.
    Plain(File),
    /// What gives QEMU's bytes when it is read.
    Packed(Box<dyn Read + Send>),
}

impl std::fmt::Debug for Saved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain(file) => f.debug_tuple("Plain").field(file).finish(),
            Self::Packed(_) => f.debug_tuple("Packed").finish_non_exhaustive(),
        }
    }
}

/// A running QEMU. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Vm {
    qemu: Child,
    orders: FrameWriter<UnixStream>,
    answers: FrameWriter<UnixStream>,
    port: UnixStream,
    /// What the machine had said when it was saved.
    heard_before: Heard,
    qmp: Qmp,
    console: Console,
    keyboard: UnixStream,
    events: Receiver<VmEvent>,
    readers: Vec<thread::JoinHandle<()>>,
}

/// How often a wait looks whether the user wants to stop.
const CANCEL_POLL: Duration = Duration::from_millis(50);
/// How long a QEMU that hung up may take to end.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Bytes of a file in one frame.
const CHUNK_BYTES: usize = 1 << 20;

impl Vm {
    /// Starts QEMU and boots. It dies with the calling thread.
    ///
    /// # Errors
    /// QEMU is not installed or cannot be started.
    pub fn start(spec: &VmSpec) -> io::Result<Self> {
        Self::launch(spec, None)
    }

    /// Starts QEMU with a state that [`Vm::save`] wrote for the same `spec`. The machine runs only
    /// once a packed state has been read to its end without an error.
    ///
    /// # Errors
    /// QEMU cannot be started, or cannot use the state.
    pub fn restore(spec: &VmSpec, state: Saved, talk: Talk) -> Result<Self, RestoreError> {
        let (incoming, packed) = match state {
            Saved::Plain(file) => (OwnedFd::from(file), None),
            Saved::Packed(packed) => {
                let (incoming, feed) = io::pipe().map_err(RestoreError::Start)?;
                (incoming.into(), Some((packed, feed)))
            }
        };
        let mut vm = Self::launch(spec, Some((incoming, talk))).map_err(RestoreError::Start)?;
        let feeder = thread::spawn(move || match packed {
            Some((mut packed, mut feed)) => io::copy(&mut packed, &mut feed).map(drop),
            None => Ok(()),
        });
        let arrived = vm.qmp.greet().and_then(|()| vm.qmp.await_state());
        // Without QEMU the feeder has nobody to write to, and ends.
        let arrived = arrived.map_err(|error| vm.blame(error));
        let fed = feeder
            .join()
            .unwrap_or_else(|_panic| Err(io::Error::other("whoever read it panicked")));
        match (arrived, fed) {
            (Ok(()), Ok(())) => {}
            // QEMU hung up first, and has its own reason.
            (Err(error), Err(fed)) if fed.kind() == io::ErrorKind::BrokenPipe => return Err(error),
            (_, Err(fed)) => return Err(RestoreError::Feed(fed)),
            (Err(error), Ok(())) => return Err(error),
        }
        vm.qmp.resume().map_err(|error| vm.blame(error))?;
        Ok(vm)
    }

    /// Whose fault is it that a state does not come back? Somebody who kills QEMU (or a kernel
    /// that is out of memory) says nothing about the state.
    fn blame(&mut self, error: QmpError) -> RestoreError {
        let signal = self.end(LAST_WORDS).and_then(|status| status.signal());
        match signal {
            Some(libc::SIGKILL | libc::SIGTERM) => RestoreError::Killed,
            _ => RestoreError::State(error),
        }
    }

    fn launch(spec: &VmSpec, saved: Option<(OwnedFd, Talk)>) -> io::Result<Self> {
        let (port, port_child) = sys::pair_for_child()?;
        let (console, console_child) = sys::pair_for_child()?;
        let (qmp, qmp_child) = sys::pair_for_child()?;
        let (incoming, talk) = saved.unzip();
        let talk = talk.unwrap_or_default();
        let mut fds = vec![port_child, console_child, qmp_child];
        let numbers = Fds {
            port: fds[0].as_raw_fd(),
            console: fds[1].as_raw_fd(),
            qmp: fds[2].as_raw_fd(),
            incoming: incoming.as_ref().map(OwnedFd::as_raw_fd),
        };
        fds.extend(incoming);
        let mut command = spec.command(numbers);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        sys::tie_to_this_thread(&mut command, &fds);
        tracing::debug!(?command, "starting QEMU");
        let mut qemu = command.spawn()?;
        drop(fds);
        let log = Console::default();
        let keyboard = console.try_clone()?;
        let mut readers = vec![log.follow("guest", console)];
        if let Some(stderr) = qemu.stderr.take() {
            readers.push(log.follow("qemu", stderr));
        }
        let (sender, events) = mpsc::channel();
        let reading = io::BufReader::with_capacity(1 << 16, port.try_clone()?);
        let frames = FrameReader::resume(reading, talk.heard.stage0, talk.heard.agent);
        readers.push(thread::spawn(move || {
            read_port(frames, |event| sender.send(event).is_ok())
        }));
        let orders = FrameWriter::resume(port.try_clone()?, Sender::Harness, talk.harness_next_seq);
        let answers =
            FrameWriter::resume(port.try_clone()?, Sender::Answers, talk.answers_next_seq);
        let qmp = Qmp::new(qmp)?;
        Ok(Self {
            qemu,
            orders,
            answers,
            port,
            heard_before: talk.heard,
            qmp,
            console: log,
            keyboard,
            events,
            readers,
        })
    }

    /// Stops the machine for good and writes its state to a file. The guest must be waiting for
    /// an order or an answer, everything that it said since its start here having been `heard`.
    ///
    /// # Errors
    /// QEMU cannot write the state.
    pub fn save(&mut self, state: &Path, heard: Heard) -> Result<Talk, QmpError> {
        self.qmp.greet()?;
        self.qmp.save(state)?;
        let before = self.heard_before;
        Ok(Talk {
            harness_next_seq: self.orders.next_seq(),
            answers_next_seq: self.answers.next_seq(),
            heard: Heard {
                stage0: before.stage0.wrapping_add(heard.stage0),
                agent: before.agent.wrapping_add(heard.agent),
            },
        })
    }

    /// Sends one order.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn order(&mut self, order: &Order) -> io::Result<()> {
        self.orders
            .write(FrameKind::Record, &serde_json::to_vec(order)?)
    }

    /// Answers the agent.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn answer(&mut self, answer: &Answer) -> io::Result<()> {
        self.answers
            .write(FrameKind::Record, &serde_json::to_vec(answer)?)
    }

    /// Gives the machine a place for a dongle on its USB, with the dongle's socket. The guest sees nothing until the dongle says that it
    /// is there. QEMU captures what crosses into `capture`.
    ///
    /// # Errors
    /// QEMU cannot do that.
    pub fn add_dongle(
        &mut self,
        number: usize,
        socket: &OwnedFd,
        capture: &Path,
    ) -> Result<(), QmpError> {
        self.qmp.greet()?;
        let name = format!("dongle{number}");
        let device = json!({
            "driver": "usb-redir", "bus": USB_BUS, "id": name, "pcap": capture,
            // The dongle decides whether it says that it can wake its host.
            "suppress-remote-wake": false,
        });
        self.qmp.plug(&name, socket.as_fd(), device)
    }

    /// Gives the machine a port that carries the packets of a controller outside, on a bus of its own: that of the record port has no place left.
    ///
    /// # Errors
    /// QEMU cannot do that.
    pub fn add_relay(&mut self, number: usize, socket: &OwnedFd) -> Result<(), QmpError> {
        self.qmp.greet()?;
        let (name, bus) = (format!("relay{number}"), format!("relaybus{number}"));
        let host = json!({ "driver": "virtio-serial-pci", "id": bus, "max_ports": 2 });
        self.qmp.add_device(host)?;
        let device = json!({
            "driver": "virtserialport", "bus": format!("{bus}.0"), "id": name,
            "name": evidence::relay_port_name(number),
        });
        self.qmp.plug(&name, socket.as_fd(), device)
    }

    /// Takes a dongle's place away again; QEMU closes its capture.
    ///
    /// # Errors
    /// QEMU cannot do that, or is gone.
    pub fn remove_dongle(&mut self, number: usize) -> Result<(), QmpError> {
        self.qmp.unplug(&format!("dongle{number}"))
    }

    /// Pushes a file into the guest.
    ///
    /// # Errors
    /// QEMU is gone.
    pub fn store(&mut self, path: &str, mode: u32, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).expect("a file in memory fits 64 bits");
        self.order(&Order::Store {
            path: path.to_owned(),
            mode,
            bytes: length,
        })?;
        bytes
            .chunks(CHUNK_BYTES)
            .try_for_each(|chunk| self.orders.write(FrameKind::Chunk, chunk))
    }

    /// The next event; waits at most `patience`, counted from the last sign of life: an event or
    /// console output.
    ///
    /// # Errors
    /// Nothing came, or `cancelled` says to stop.
    pub fn next(
        &mut self,
        patience: Duration,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<VmEvent, Silence> {
        let start = Instant::now();
        loop {
            match self.events.recv_timeout(CANCEL_POLL) {
                Ok(event) => return Ok(event),
                Err(RecvTimeoutError::Disconnected) => return Ok(VmEvent::Closed(Ok(()))),
                Err(RecvTimeoutError::Timeout) if cancelled() => return Err(Silence::Cancelled),
                Err(RecvTimeoutError::Timeout) => {
                    let quiet_since = self.console.last_output().max(Some(start));
                    if quiet_since.is_none_or(|since| since.elapsed() > patience) {
                        return Err(Silence::Patience);
                    }
                }
            }
        }
    }

    /// Everything that the console and QEMU itself printed so far.
    #[must_use]
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// What is written here the guest reads from its serial console.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn keyboard(&self) -> io::Result<UnixStream> {
        self.keyboard.try_clone()
    }

    /// QEMU's process id.
    #[must_use]
    pub fn qemu_pid(&self) -> u32 {
        self.qemu.id()
    }

    /// Waits for QEMU to end by itself, kills it after `patience`, and collects what it printed.
    /// `None` if it had to be killed.
    pub fn end(&mut self, patience: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + patience;
        let mut status = None;
        while status.is_none() && Instant::now() < deadline {
            status = self.qemu.try_wait().ok().flatten();
            if status.is_none() {
                thread::sleep(Duration::from_millis(2));
            }
        }
        self.kill();
        status
    }

    fn kill(&mut self) {
        // Both fail only if QEMU has been waited for already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
        let _ = self.port.shutdown(std::net::Shutdown::Both);
        for reader in self.readers.drain(..) {
            // A reader that panicked has nothing more to say.
            let _ = reader.join();
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read_port(mut frames: FrameReader<impl Read>, mut tell: impl FnMut(VmEvent) -> bool) {
    loop {
        let event = match frames.read().map_err(PortError::from) {
            Ok(None) => VmEvent::Closed(Ok(())),
            Ok(Some(frame)) => match decode(frame) {
                Ok(record) => VmEvent::Record(Box::new(record)),
                Err(error) => VmEvent::Closed(Err(error)),
            },
            Err(error) => VmEvent::Closed(Err(error)),
        };
        let last = matches!(event, VmEvent::Closed(_));
        if !tell(event) || last {
            return;
        }
    }
}

/// A guest's frame as a record.
fn decode(frame: Frame) -> Result<GuestRecord, PortError> {
    if frame.kind == FrameKind::Chunk && frame.sender == Sender::Stage0 {
        return Ok(GuestRecord::Chunk(frame.payload));
    }
    let ours = matches!(frame.sender, Sender::Harness | Sender::Answers);
    if frame.kind != FrameKind::Record || ours {
        return Err(PortError::Unexpected(frame.kind));
    }
    let decoded = if frame.sender == Sender::Stage0 {
        serde_json::from_slice(&frame.payload).map(GuestRecord::Stage0)
    } else {
        serde_json::from_slice(&frame.payload).map(GuestRecord::Agent)
    };
    decoded.map_err(|source| PortError::Record {
        sender: frame.sender,
        text: String::from_utf8_lossy(&frame.payload)
            .chars()
            .take(200)
            .collect(),
        source,
    })
}
