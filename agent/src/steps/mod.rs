//! Carrying out the steps of a scenario: what they do with data here, with devices and controllers in files beside.

mod connect;
mod describe;
mod devices;
mod hci;
mod hosts;
mod interrupt;
mod stamps;

use self::describe::describe;
use self::hci::HciSockets;
use self::hosts::Hosts;
use crate::bluetooth::socket::Socket;
use crate::calls::CallLog;
use crate::controllers::Controllers;
use crate::misbehave;
use crate::modules;
use crate::port::Port;
use crate::transfer::{self, Stream};
use anyhow::{Context as _, bail, ensure};
use controller::BdAddr;
use evidence::{AgentRecord, Direction, Period, SendBuffer, Service, Step, Traffic};
use exporter::Collector;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

/// What steps work on.
struct Stage<'a> {
    controllers: &'a mut Controllers,
    calls: &'a CallLog,
    port: &'a Port,
    probes: &'a Collector,
    sockets: BTreeMap<String, Socket>,
    /// Where listening sockets are reached.
    services: BTreeMap<String, (BdAddr, Service)>,
    /// Length and number of the messages that a socket was filled with.
    filled: BTreeMap<String, (usize, u32)>,
    /// The sockets whose writes the kernel stamps.
    stamped: BTreeSet<String>,
    hci: HciSockets,
    /// The devices that processes drive, by the names of their sockets.
    hosts: Hosts,
}

/// The sockets of a scenario, open while this lives: closing one makes packets.
#[derive(Debug)]
pub(crate) struct OpenSockets {
    sockets: BTreeMap<String, Socket>,
    _hci: HciSockets,
    _hosts: Hosts,
}

impl OpenSockets {
    /// Carries out one transfer more.
    ///
    /// # Errors
    /// A call fails, or what is read is not what was written.
    pub(crate) fn transfer(&self, traffic: &[Traffic], calls: &CallLog) -> anyhow::Result<()> {
        let socket = |name: &str| {
            let socket = self.sockets.get(name);
            socket.with_context(|| format!("there is no socket {name}"))
        };
        let stream = |traffic: &'_ Traffic| {
            let (from, to) = (socket(&traffic.from)?, socket(&traffic.to)?);
            anyhow::Ok((from, to))
        };
        let ends: Vec<_> = traffic.iter().map(stream).collect::<Result<_, _>>()?;
        let streams = traffic.iter().zip(ends);
        let streams = streams.map(|(traffic, (from, to))| Stream { traffic, from, to });
        transfer::transfer(&streams.collect::<Vec<_>>(), calls)
    }
}

/// This kernel has not what a scenario is about.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotApplicable(pub(crate) String);

/// Carries out all steps, in order.
///
/// # Errors
/// The first step that fails; [`NotApplicable`] if it asks for what this kernel has not.
pub(crate) fn carry_out(
    steps: &[Step],
    controllers: &mut Controllers,
    calls: &CallLog,
    probes: &Collector,
    port: &Port,
) -> anyhow::Result<OpenSockets> {
    let mut stage = Stage {
        controllers,
        calls,
        port,
        probes,
        sockets: BTreeMap::new(),
        services: BTreeMap::new(),
        filled: BTreeMap::new(),
        stamped: BTreeSet::new(),
        hci: HciSockets::default(),
        hosts: Hosts::default(),
    };
    for (number, step) in steps.iter().enumerate() {
        port.phase(format!("step {}: {}", number + 1, describe(step)))?;
        let began_ns = stage.controllers.now_ns()?;
        stage.carry_out(step)?;
        let ended_ns = stage.controllers.now_ns()?;
        port.send(&AgentRecord::Step(Period { began_ns, ended_ns }))?;
    }
    let Stage {
        sockets,
        hci,
        hosts,
        ..
    } = stage;
    Ok(OpenSockets {
        sockets,
        _hci: hci,
        _hosts: hosts,
    })
}

impl Stage<'_> {
    fn carry_out(&mut self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Listen {
                socket,
                controller,
                service,
            } => self.listen(socket, *controller, *service),
            Step::Connect {
                socket,
                from,
                to,
                accepted,
            } => self.connect(socket, *from, to, accepted),
            Step::SendBuffer { socket, bytes } => self
                .socket(socket)?
                .set_send_buffer(*bytes)
                .context("failed to set SO_SNDBUF"),
            Step::Transfer { traffic } => self.transfer(traffic),
            Step::FillUntilFull {
                socket,
                bytes,
                further,
            } => self.fill(socket, *bytes, *further),
            Step::Drain { from, to } => self.drain(from, to),
            Step::Peek { socket, times } => self.peek(socket, *times),
            Step::Write { socket, bytes } => self.write(socket, *bytes),
            Step::Read { socket, bytes } => {
                transfer::read_message(self.socket(socket)?, 0, *bytes, self.calls)
            }
            Step::FailingWrite {
                socket,
                bytes,
                errno,
            } => self.failing_write(socket, *bytes, *errno),
            Step::FailingRead { socket, errno } => self.failing_read(socket, *errno),
            Step::StampWrites { socket } => self.stamp_writes(socket),
            Step::ReadStamps {
                socket,
                controller,
                packets,
            } => self.read_stamps(socket, *controller, *packets),
            Step::Close { socket } => self.close(socket),
            Step::AwaitHangUp { socket } => self
                .socket(socket)?
                .wait_hang_up()
                .context("it did not end"),
            Step::AwaitSent { socket } => self.await_sent(socket),
            Step::Quiet { milliseconds } => self.quiet(Duration::from_millis(*milliseconds)),
            Step::Timestamps { socket } => self
                .socket(socket)?
                .set_timestamps()
                .context("failed to set SO_TIMESTAMPING"),
            Step::ReadErrorQueue { socket, times } => self.read_reports(socket, *times),
            Step::EmptyErrorQueue { socket, times } => self.read_no_reports(socket, *times),
            Step::Acks { controller, policy } => self.controllers.set_acks(*controller, *policy),
            Step::FlushAcks { controller } => self.controllers.flush_acks_of(*controller),
            Step::Misbehave { how } => misbehave::misbehave(*how, self.port),
            Step::ReloadModule { module, unseen } => self.reload_module(module, *unseen),
            Step::Inject { fault } => self.controllers.inject(*fault),
            Step::UsbFault { fault } => self.controllers.add_usb_fault(*fault),
            Step::AwaitVoice { controller } => self.controllers.await_voice(*controller, true),
            Step::AwaitNoVoice { controller } => self.controllers.await_voice(*controller, false),
            Step::HciCommands {
                socket,
                opcode,
                times,
            } => {
                let past_kernel = self.hci.commands(socket, *opcode, *times, self.calls)?;
                if let Some((hci, read)) = past_kernel {
                    self.controllers.note_past_kernel(hci, read);
                }
                Ok(())
            }
            Step::DriveDevice {
                socket,
                peer,
                echoes,
            } => {
                let peer = self.controllers.address(*peer)?;
                let past_kernel = self.hci.drive(socket, peer, *echoes, self.calls)?;
                if let Some((hci, read)) = past_kernel {
                    self.controllers.note_past_kernel(hci, read);
                }
                Ok(())
            }
            Step::TakeOver { .. }
            | Step::Join { .. }
            | Step::SendOn { .. }
            | Step::Part { .. }
            | Step::AwaitEnd { .. }
            | Step::DriverPackets { .. } => self.with_hosts(step),
            Step::EchoBeside { socket, echoes } => {
                let handle = |hci| self.controllers.link_handle(hci);
                self.hci.echo(socket, handle, *echoes, self.calls)
            }
            Step::Interrupt {
                socket,
                writes,
                limited,
                times,
            } => self.interrupt(socket, *writes, *limited, *times),
            Step::HciSend { socket, opcode } => self.hci.send(socket, *opcode, self.calls),
            Step::HciRefused {
                socket,
                packet,
                times,
            } => self.hci.write(socket, packet, *times, self.calls),
            Step::OpenHci {
                socket,
                controller,
                channel,
            } => {
                let hci = self.controllers.hci(*controller)?;
                self.hci.open(socket, hci, *channel)
            }
            Step::HardwareError { .. }
            | Step::SendToHost { .. }
            | Step::LoseLinks { .. }
            | Step::AckExtra { .. }
            | Step::Unplug { .. }
            | Step::UnplugUnderWrite { .. }
            | Step::Suspend { .. }
            | Step::Resume { .. }
            | Step::Plug { .. }
            | Step::Device { .. }
            | Step::Pairable { .. }
            | Step::DemandEncryption { .. }
            | Step::Advertise { .. }
            | Step::Require { .. } => self.with_device(step),
            Step::Panic => {
                fs::write("/proc/sysrq-trigger", "c").context("failed to write to sysrq")?;
                bail!("the kernel survived sysrq c")
            }
            Step::Hang => loop {
                thread::park();
            },
        }
    }

    fn transfer(&self, traffic: &[Traffic]) -> anyhow::Result<()> {
        let streams: Vec<Stream<'_>> = traffic
            .iter()
            .map(|traffic| self.stream(traffic))
            .collect::<Result<_, _>>()?;
        transfer::transfer(&streams, self.calls)
    }

    fn stream<'a>(&'a self, traffic: &'a Traffic) -> anyhow::Result<Stream<'a>> {
        let from = self.socket(&traffic.from)?;
        let to = self.socket(&traffic.to)?;
        Ok(Stream { traffic, from, to })
    }

    fn fill(&mut self, name: &str, bytes: usize, further: u32) -> anyhow::Result<()> {
        let (mut messages, mut occupied) = (0, Vec::new());
        let crossed = self.controllers.crossed()?;
        let limit = |limit| {
            let set = self.socket(name)?.set_write_limit(limit);
            set.context("failed to set SO_SNDTIMEO")
        };
        limit(Some(SUSPENDED_WRITE))?;
        let mut full = None;
        let full_ns = loop {
            if self.try_write(name, messages, bytes)? {
                messages += 1;
                occupied.push(self.occupied(name)?);
                full = None;
            } else if let Some(since_ns) = full {
                break since_ns;
            } else {
                full = Some(self.controllers.now_ns()?);
                // Of RFCOMM, a thread of the kernel goes on emptying the buffer until its own socket is full.
                thread::sleep(AT_REST);
            }
        };
        for _ in 1..further {
            let taken = self.try_write(name, messages, bytes)?;
            ensure!(!taken, "a full socket took one more");
        }
        limit(None)?;
        let still = self.controllers.crossed()? == crossed;
        self.filled.insert(name.to_owned(), (bytes, messages));
        let socket = self.socket(name)?;
        let witness = SendBuffer {
            protocol: socket.protocol(),
            limit: socket.send_buffer().context("failed to read SO_SNDBUF")?,
            occupied,
            still,
            full_ns,
        };
        self.port.send(&AgentRecord::SendBuffer(witness))?;
        Ok(())
    }

    /// Bytes in a socket's send buffer.
    fn occupied(&self, name: &str) -> anyhow::Result<u64> {
        let occupied = self.socket(name)?.occupied();
        occupied.context("failed to read the socket's memory")
    }

    /// Writes the n-th message without waiting; says whether it was taken or the buffer is full.
    fn try_write(&self, name: &str, number: u32, bytes: usize) -> anyhow::Result<bool> {
        let socket = self.socket(name)?;
        let result = socket.try_send(&transfer::message(number, bytes));
        match self.calls.note(socket.protocol(), Direction::Write, result) {
            Ok(sent) => {
                ensure!(sent == bytes, "the write took {sent} bytes");
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error).context("write failed"),
        }
    }

    fn drain(&mut self, from: &str, to: &str) -> anyhow::Result<()> {
        let filled = self.filled.remove(from);
        let (bytes, messages) = filled.with_context(|| format!("{from} was not filled"))?;
        let written = Traffic {
            from: from.to_owned(),
            to: to.to_owned(),
            messages,
            bytes,
        };
        transfer::read_written(&written, self.socket(to)?, self.calls)
    }

    fn peek(&self, name: &str, times: u32) -> anyhow::Result<()> {
        let socket = self.socket(name)?;
        socket.wait_readable().context("nothing came")?;
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..times {
            let result = socket.peek(&mut buffer);
            self.calls
                .note(socket.protocol(), Direction::Peek, result)
                .context("peek failed")?;
        }
        Ok(())
    }

    fn write(&self, name: &str, bytes: usize) -> anyhow::Result<()> {
        let socket = self.socket(name)?;
        let result = socket.send(&transfer::message(0, bytes));
        let sent = self
            .calls
            .note(socket.protocol(), Direction::Write, result)?;
        ensure!(sent == bytes, "the write took {sent} bytes");
        Ok(())
    }

    fn failing_write(&self, name: &str, bytes: usize, errno: i32) -> anyhow::Result<()> {
        let socket = self.socket(name)?;
        let result = socket.send(&transfer::message(0, bytes));
        expect_errno(
            self.calls.note(socket.protocol(), Direction::Write, result),
            errno,
        )
    }

    fn failing_read(&self, name: &str, errno: i32) -> anyhow::Result<()> {
        let socket = self.socket(name)?;
        let result = socket.recv(&mut [0; 64]);
        expect_errno(
            self.calls.note(socket.protocol(), Direction::Read, result),
            errno,
        )
    }

    fn close(&mut self, name: &str) -> anyhow::Result<()> {
        let there = self.sockets.remove(name).is_some() || self.hci.close(name);
        ensure!(there, "there is no socket {name}");
        Ok(())
    }

    /// The exporter looks every second whether modules came or went; here each change is looked at.
    fn reload_module(&self, module: &str, unseen: bool) -> anyhow::Result<()> {
        let refresh = || _ = !unseen && self.probes.refresh();
        modules::reload(module, refresh)?;
        refresh();
        Ok(())
    }

    fn await_sent(&self, name: &str) -> anyhow::Result<()> {
        let socket = self.socket(name)?;
        let deadline = Instant::now() + QUIET_PATIENCE;
        let occupied = || {
            socket
                .occupied()
                .context("failed to read the socket's memory")
        };
        while occupied()? > 0 {
            ensure!(Instant::now() < deadline, "something stays in the socket");
            thread::sleep(QUIET_PAUSE);
        }
        Ok(())
    }

    fn quiet(&self, wanted: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + QUIET_PATIENCE;
        let mut crossed = self.controllers.crossed()?;
        let mut since = Instant::now();
        while since.elapsed() < wanted {
            ensure!(Instant::now() < deadline, "packets never stopped crossing");
            thread::sleep(QUIET_PAUSE);
            let now = self.controllers.crossed()?;
            if now != crossed {
                crossed = now;
                since = Instant::now();
            }
        }
        Ok(())
    }

    fn socket(&self, name: &str) -> anyhow::Result<&Socket> {
        self.sockets
            .get(name)
            .with_context(|| format!("there is no socket {name}"))
    }
}

/// Some kernels let a write wait on a channel that is suspended even if it says that it will not: 5.10's `bt_sock_wait_ready()` looks for
/// O_NONBLOCK among the flags of the call, where only MSG_DONTWAIT can be. It ends with EAGAIN all the same.
const SUSPENDED_WRITE: Duration = Duration::from_millis(20);
/// How long a buffer must have been full: krfcommd may have to wait for a processor.
const AT_REST: Duration = Duration::from_millis(150);
const QUIET_PATIENCE: Duration = Duration::from_secs(30);
const QUIET_PAUSE: Duration = Duration::from_millis(10);

fn expect_errno(result: io::Result<usize>, errno: i32) -> anyhow::Result<()> {
    match result {
        Ok(bytes) => bail!("the call succeeded with {bytes} bytes"),
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        Err(error) => {
            bail!(
                "the call failed with {error}, not {}",
                io::Error::from_raw_os_error(errno)
            )
        }
    }
}
