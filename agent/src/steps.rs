//! Carrying out the steps of a scenario.

use crate::bluetooth::l2cap::{L2capAddress, L2capSocket};
use crate::calls::CallLog;
use crate::controllers::Controllers;
use crate::port::Port;
use crate::transfer;
use anyhow::{Context as _, bail, ensure};
use evidence::{Direction, Protocol, Step};
use std::collections::BTreeMap;
use std::{fs, io, thread};

/// What steps work on.
struct Stage<'a> {
    controllers: &'a Controllers,
    calls: &'a CallLog,
    sockets: BTreeMap<String, L2capSocket>,
    /// Addresses of listening sockets.
    services: BTreeMap<String, L2capAddress>,
}

/// The sockets of a scenario, open while this lives: closing one makes packets.
#[derive(Debug)]
pub(crate) struct OpenSockets {
    _sockets: BTreeMap<String, L2capSocket>,
}

/// Carries out all steps, in order.
///
/// # Errors
/// The first step that fails.
pub(crate) fn carry_out(
    steps: &[Step],
    controllers: &Controllers,
    calls: &CallLog,
    port: &Port,
) -> anyhow::Result<OpenSockets> {
    let mut stage = Stage {
        controllers,
        calls,
        sockets: BTreeMap::new(),
        services: BTreeMap::new(),
    };
    for (number, step) in steps.iter().enumerate() {
        port.phase(format!("step {}: {}", number + 1, describe(step)))?;
        stage.carry_out(step)?;
    }
    Ok(OpenSockets {
        _sockets: stage.sockets,
    })
}

fn describe(step: &Step) -> String {
    match step {
        Step::Listen { socket, psm, .. } => format!("{socket} listens on PSM {psm:#06x}"),
        Step::Connect { socket, to, .. } => format!("{socket} connects to {to}"),
        Step::Transfer(t) => {
            format!(
                "{} messages of {} bytes from {} to {}",
                t.messages, t.bytes, t.from, t.to
            )
        }
        Step::FailingWrite {
            socket,
            bytes,
            errno,
        } => {
            format!("{socket} writes {bytes} bytes, to fail with errno {errno}")
        }
        Step::Inject { fault } => format!("inject {fault:?}"),
        Step::Panic => "crash the kernel".to_owned(),
        Step::Hang => "stop answering".to_owned(),
    }
}

impl Stage<'_> {
    fn carry_out(&mut self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::Listen {
                socket,
                controller,
                psm,
            } => self.listen(socket, *controller, *psm),
            Step::Connect {
                socket,
                from,
                to,
                accepted,
            } => self.connect(socket, *from, to, accepted),
            Step::Transfer(traffic) => {
                let (from, to) = (self.socket(&traffic.from)?, self.socket(&traffic.to)?);
                transfer::transfer(traffic, from, to, self.calls)
            }
            Step::FailingWrite {
                socket,
                bytes,
                errno,
            } => self.failing_write(socket, *bytes, *errno),
            Step::Inject { fault } => {
                self.controllers.inject(*fault);
                Ok(())
            }
            Step::Panic => {
                fs::write("/proc/sysrq-trigger", "c").context("failed to write to sysrq")?;
                bail!("the kernel survived sysrq c")
            }
            Step::Hang => loop {
                thread::park();
            },
        }
    }

    fn listen(&mut self, name: &str, controller: usize, psm: u16) -> anyhow::Result<()> {
        let address = L2capAddress {
            bdaddr: self.controllers.address(controller)?,
            psm,
        };
        let socket = L2capSocket::bound(address).context("failed to bind")?;
        socket.listen().context("failed to listen")?;
        self.services.insert(name.to_owned(), address);
        self.sockets.insert(name.to_owned(), socket);
        Ok(())
    }

    /// connect(2) returns when both ends are connected; what accept(2) takes is queued by then.
    fn connect(&mut self, name: &str, from: usize, to: &str, accepted: &str) -> anyhow::Result<()> {
        let source = L2capAddress {
            bdaddr: self.controllers.address(from)?,
            psm: 0,
        };
        let service = *self
            .services
            .get(to)
            .with_context(|| format!("{to} does not listen"))?;
        let socket = L2capSocket::bound(source).context("failed to bind")?;
        socket.connect(service).context("failed to connect")?;
        let peer = self.socket(to)?.accept().context("failed to accept")?;
        self.sockets.insert(name.to_owned(), socket);
        self.sockets.insert(accepted.to_owned(), peer);
        Ok(())
    }

    fn failing_write(&self, name: &str, bytes: usize, errno: i32) -> anyhow::Result<()> {
        let message = transfer::message(0, bytes);
        let result = self.socket(name)?.send(&message);
        match self.calls.note(Protocol::L2cap, Direction::Write, result) {
            Ok(sent) => bail!("the write succeeded with {sent} bytes"),
            Err(error) => {
                ensure!(
                    error.raw_os_error() == Some(errno),
                    "the write failed with {error}, not {}",
                    io::Error::from_raw_os_error(errno)
                );
                Ok(())
            }
        }
    }

    fn socket(&self, name: &str) -> anyhow::Result<&L2capSocket> {
        self.sockets
            .get(name)
            .with_context(|| format!("there is no socket {name}"))
    }
}
