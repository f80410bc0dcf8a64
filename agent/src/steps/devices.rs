//! Steps with devices and their controllers.

use super::{NotApplicable, Stage, expect_errno};
use crate::bluetooth::hci::{Management, ManagementError};
use crate::bluetooth::socket::Socket;
use crate::transfer;
use anyhow::{Context as _, bail, ensure};
use controller::{Action, Opcode};
use evidence::{AgentRecord, Direction, Feature, L2capMode, Service, Step};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, io, thread};

impl Stage<'_> {
    pub(super) fn with_device(&mut self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::HardwareError { controller, code } => self
                .controllers
                .do_to(*controller, |id| Action::HardwareError(id, *code)),
            Step::SendToHost { controller, packet } => self
                .controllers
                .do_to(*controller, |id| Action::SendToHost(id, packet.clone())),
            Step::LoseLinks { controller } => {
                self.controllers.do_to(*controller, Action::LoseLinks)
            }
            Step::AckExtra {
                controller,
                packets,
            } => self
                .controllers
                .do_to(*controller, |id| Action::AckExtra(id, *packets)),
            Step::Unplug { controller } => self.unplug(*controller),
            Step::UnplugUnderWrite {
                controller,
                socket,
                bytes,
                errno,
            } => self.unplug_under_write(*controller, socket, *bytes, *errno),
            Step::Suspend { controller } => self.controllers.suspend(*controller),
            Step::Resume { controller } => self.controllers.resume(*controller),
            Step::Plug { controller } => self.controllers.plug(*controller),
            Step::Device { controller, action } => self.controllers.act(*controller, *action),
            Step::Pairable { controller } => {
                self.controllers.make_pairable(*controller, self.calls)
            }
            Step::DemandEncryption { socket } => self
                .socket(socket)?
                .demand_encryption()
                .context("failed to set BT_SECURITY"),
            Step::Advertise { controller } => self.controllers.advertise(*controller, self.calls),
            Step::Require { feature } => self.require(*feature),
            _ => unreachable!("the other steps have nothing to do with devices"),
        }
    }

    fn unplug(&mut self, controller: usize) -> anyhow::Result<()> {
        if let Some(place) = self.controllers.unplug(controller)? {
            self.port.send(&AgentRecord::UsbGone(place))?;
        }
        Ok(())
    }

    /// A write that came too late to sleep would fail in the same way.
    fn unplug_under_write(
        &mut self,
        controller: usize,
        name: &str,
        bytes: usize,
        errno: i32,
    ) -> anyhow::Result<()> {
        let found = self.sockets.remove(name);
        let socket = found.with_context(|| format!("there is no socket {name}"))?;
        let calls = self.calls;
        let (tell, told) = mpsc::channel();
        let done = thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let _ = tell.send(fs::read_link("/proc/thread-self"));
                let result = socket.send(&transfer::message(0, bytes));
                calls.note(socket.protocol(), Direction::Write, result)
            });
            let unplugged = told
                .recv()
                .context("the writing thread has ended")
                .and_then(|thread| await_sleep(&thread?))
                .and_then(|()| self.unplug(controller));
            let Ok(written) = writer.join() else {
                bail!("a thread panicked");
            };
            unplugged.and_then(|()| expect_errno(written, errno))
        });
        self.sockets.insert(name.to_owned(), socket);
        done
    }

    /// The kernel answers, never its version.
    fn require(&self, feature: Feature) -> anyhow::Result<()> {
        match feature {
            Feature::IsoSockets => self.require_iso_sockets(),
            Feature::TxTimestamps => self.require_timestamps(),
            Feature::VoiceFlowControl => self.require_voice_flow_control(),
        }
    }

    fn require_iso_sockets(&self) -> anyhow::Result<()> {
        let device = self.controllers.address(0)?;
        let iso = || Socket::bound(Service::Iso, device, false);
        let Err(error) = iso() else { return Ok(()) };
        let management = Management::open().context("failed to open the management interface")?;
        match management.enable_iso_sockets(self.calls) {
            Ok(()) => {
                iso().context("the experiment is on, and there are no ISO sockets")?;
                Ok(())
            }
            Err(refused @ ManagementError::Refused { .. }) => {
                let reason = format!("no ISO sockets: {error}; {refused}");
                Err(NotApplicable(reason).into())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn require_voice_flow_control(&self) -> anyhow::Result<()> {
        const WRITE_SYNCHRONOUS_FLOW_CONTROL_ENABLE: Opcode = Opcode(0x0c2f);
        if self
            .controllers
            .was_told(0, WRITE_SYNCHRONOUS_FLOW_CONTROL_ENABLE)?
        {
            return Ok(());
        }
        let reason = "no flow control of voice: it has not turned it on".to_owned();
        Err(NotApplicable(reason).into())
    }

    fn require_timestamps(&self) -> anyhow::Result<()> {
        let device = self.controllers.address(0)?;
        let service = Service::L2cap {
            psm: 0,
            mode: L2capMode::Basic,
            mtu: None,
        };
        let socket = Socket::bound(service, device, false).context("failed to bind")?;
        match socket.set_timestamps() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let reason = format!("no SOF_TIMESTAMPING_TX_COMPLETION: {error}");
                Err(NotApplicable(reason).into())
            }
            other => other.context("failed to set SO_TIMESTAMPING"),
        }
    }
}

/// Waits until a thread of this process sleeps, in whatever it called last.
fn await_sleep(writer: &Path) -> anyhow::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(30);
    const PAUSE: Duration = Duration::from_millis(5);
    let path = Path::new("/proc").join(writer).join("stat");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stat = fs::read_to_string(&path);
        let stat = stat.with_context(|| format!("failed to read {}", path.display()))?;
        // Source: proc_pid_stat(5): the state follows the name, which is in parentheses.
        if stat
            .rsplit(") ")
            .next()
            .is_some_and(|rest| rest.starts_with('S'))
        {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the write does not sleep");
        thread::sleep(PAUSE);
    }
}
