//! Steps with devices that processes drive, in the kernel's place.

use super::{QUIET_PATIENCE, QUIET_PAUSE, Stage};
use crate::bluetooth::host::{self, Host};
use crate::observe;
use anyhow::{Context as _, ensure};
use evidence::Step;
use std::collections::BTreeMap;
use std::thread;
use std::time::Instant;

/// The devices, by the names of their sockets.
pub(super) type Hosts = BTreeMap<String, Host>;

impl Stage<'_> {
    /// Carries out such a step, and reads what comes of it.
    pub(super) fn with_hosts(&mut self, step: &Step) -> anyhow::Result<()> {
        match step {
            Step::TakeOver { socket, controller } => self.take_over(socket, *controller)?,
            Step::Join { from, to, link } => {
                self.with_both(from, to, |a, b, calls| host::join(a, b, *link, calls))?;
            }
            Step::SendOn {
                from,
                to,
                link,
                packets,
                bytes,
            } => {
                let data = (*packets, *bytes);
                self.with_both(from, to, |a, b, calls| host::send(a, b, *link, data, calls))?;
            }
            Step::Part { from, to, link } => {
                self.with_both(from, to, |a, b, calls| host::part(a, b, *link, calls))?;
            }
            Step::AwaitEnd { socket, link } => {
                let host = self.hosts.get_mut(socket);
                let host = host.with_context(|| format!("{socket} drives no device"))?;
                host.await_end(*link, self.calls)?;
            }
            Step::DriverPackets {
                socket,
                answered,
                short,
            } => {
                let host = self.hosts.get_mut(socket);
                let host = host.with_context(|| format!("{socket} drives no device"))?;
                host.ask_driver(*answered, *short, self.calls)?;
            }
            _ => unreachable!("the other steps have nothing to do with such devices"),
        }
        self.drain_hosts()
    }

    fn take_over(&mut self, name: &str, controller: usize) -> anyhow::Result<()> {
        if let Some(host) = self.hosts.get_mut(name) {
            return host.reset(self.calls);
        }
        let address = self.controllers.address(controller)?;
        let socket = self.hci.take(name);
        let socket = socket.with_context(|| format!("there is no HCI socket {name}"))?;
        let host = Host::take_over(socket, address, self.calls)?;
        self.hosts.insert(name.to_owned(), host);
        Ok(())
    }

    fn with_both(
        &mut self,
        from: &str,
        to: &str,
        act: impl FnOnce(&mut Host, &mut Host, &crate::calls::CallLog) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let there = self.hosts.remove(to);
        let mut there = there.with_context(|| format!("{to} drives no device"))?;
        let here = self.hosts.get_mut(from);
        let done = here
            .with_context(|| format!("{from} drives no device"))
            .and_then(|here| act(here, &mut there, self.calls));
        self.hosts.insert(to.to_owned(), there);
        done
    }

    /// Reads until everything that crossed is accounted for: the kernel does not count what processes read, and nobody counts what they do not.
    fn drain_hosts(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + QUIET_PATIENCE;
        loop {
            for host in self.hosts.values_mut() {
                let (hci, read) = host.drain(self.calls)?;
                self.controllers.note_past_kernel(hci, read);
            }
            if !observe::is_any_behind(self.controllers)? {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "some packets never come");
            thread::sleep(QUIET_PAUSE);
        }
    }
}
