//! Steps with HCI sockets.

use crate::bluetooth::hci::HciSocket;
use crate::calls::CallLog;
use anyhow::Context as _;
use controller::Opcode;
use evidence::HciChannel;
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
    ) -> anyhow::Result<Option<(u16, u32)>> {
        let socket = self.socket(name)?;
        let mut packets = 0;
        for number in 0..times {
            packets += socket
                .command(opcode, calls)
                .with_context(|| format!("command {number} of {times} failed"))?;
        }
        Ok(socket.takes_over().map(|hci| (hci, packets)))
    }

    /// Sends a command and leaves it at that.
    pub(super) fn send(&self, name: &str, opcode: Opcode, calls: &CallLog) -> anyhow::Result<()> {
        let sent = self.socket(name)?.send(opcode, calls);
        sent.context("failed to send it")
    }

    fn socket(&self, name: &str) -> anyhow::Result<&HciSocket> {
        let socket = self.open.get(name);
        socket.with_context(|| format!("there is no HCI socket {name}"))
    }

    /// Closes one, if it is there.
    pub(super) fn close(&mut self, name: &str) -> bool {
        self.open.remove(name).is_some()
    }
}
