//! Steps with HCI sockets.

use crate::bluetooth::hci::HciSocket;
use crate::bluetooth::link;
use crate::calls::CallLog;
use anyhow::Context as _;
use controller::{BdAddr, Opcode};
use evidence::{HciChannel, PastKernel};
use std::collections::BTreeMap;

/// The open HCI sockets.
#[derive(Debug, Default)]
pub(crate) struct HciSockets {
    open: BTreeMap<String, HciSocket>,
}

impl HciSockets {
    pub(super) fn open(&mut self, name: &str, hci: u16, channel: HciChannel) -> anyhow::Result<()> {
        let socket = HciSocket::open(hci, channel)
            .with_context(|| format!("failed to open hci{hci}, {channel:?}"))?;
        self.open.insert(name.to_owned(), socket);
        Ok(())
    }

    /// Sends commands and reads their answers. Says which device's packets the kernel did not see, and how many those were.
    pub(super) fn commands(
        &self,
        name: &str,
        opcode: Opcode,
        times: u32,
        calls: &CallLog,
    ) -> anyhow::Result<Option<(u16, PastKernel)>> {
        let socket = self.socket(name)?;
        let mut read = PastKernel::default();
        for number in 0..times {
            let complete = socket.complete(opcode, calls);
            let complete = complete.with_context(|| format!("command {number} of {times} failed"));
            read.events += complete?.0;
        }
        Ok(socket.takes_over().map(|hci| (hci, read)))
    }

    /// Is the host of a device on the user channel: connects, sends echo requests, disconnects. Says as [`Self::commands`].
    pub(super) fn drive(
        &self,
        name: &str,
        peer: BdAddr,
        echoes: u32,
        calls: &CallLog,
    ) -> anyhow::Result<Option<(u16, PastKernel)>> {
        let socket = self.socket(name)?;
        let read = link::drive(socket, peer, echoes, calls)?;
        Ok(socket.takes_over().map(|hci| (hci, read)))
    }

    /// Sends echo requests on a link of the kernel's.
    pub(super) fn echo(
        &self,
        name: &str,
        handle: impl FnOnce(u16) -> anyhow::Result<u16>,
        echoes: u32,
        calls: &CallLog,
    ) -> anyhow::Result<()> {
        let socket = self.socket(name)?;
        link::echo_beside(socket, handle(socket.hci())?, echoes, calls)
    }

    /// Sends a command and leaves it at that.
    pub(super) fn send(&self, name: &str, opcode: Opcode, calls: &CallLog) -> anyhow::Result<()> {
        let sent = self.socket(name)?.send(opcode, calls);
        sent.context("failed to send it")
    }

    /// Sends a packet so often, whatever becomes of it.
    pub(super) fn write(
        &self,
        name: &str,
        packet: &[u8],
        times: u32,
        calls: &CallLog,
    ) -> anyhow::Result<()> {
        let socket = self.socket(name)?;
        for number in 0..times {
            let written = socket.write(packet, calls);
            written.with_context(|| format!("write {number} of {times} failed"))?;
        }
        Ok(())
    }

    fn socket(&self, name: &str) -> anyhow::Result<&HciSocket> {
        let socket = self.open.get(name);
        socket.with_context(|| format!("there is no HCI socket {name}"))
    }

    /// Hands one to somebody who drives its device from then on.
    pub(super) fn take(&mut self, name: &str) -> Option<HciSocket> {
        self.open.remove(name)
    }

    /// Closes one, if it is there.
    pub(super) fn close(&mut self, name: &str) -> bool {
        self.open.remove(name).is_some()
    }
}
