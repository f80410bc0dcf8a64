//! Steps with what the kernel reports in error queues: its stamps of what was written.

use super::{Stage, expect_errno};
use anyhow::{Context as _, ensure};
use evidence::{AgentRecord, Direction, Stamp};
use std::collections::BTreeMap;
use std::io;

impl Stage<'_> {
    pub(super) fn stamp_writes(&mut self, name: &str) -> anyhow::Result<()> {
        let stamped = self.socket(name)?.stamp_writes();
        if stamped.context("failed to set SO_TIMESTAMPING")? {
            self.stamped.insert(name.to_owned());
        }
        Ok(())
    }

    /// Does nothing where the kernel does not stamp: there the call would read data.
    pub(super) fn read_stamps(
        &mut self,
        name: &str,
        controller: usize,
        packets: usize,
    ) -> anyhow::Result<()> {
        if !self.stamped.contains(name) {
            return Ok(());
        }
        let hci = self.controllers.hci(controller)?;
        let socket = self.socket(name)?;
        let mut sent = BTreeMap::new();
        let mut completed = BTreeMap::new();
        loop {
            let read = socket.read_stamp();
            let (result, stamp) = match read {
                Ok((bytes, stamp)) => (Ok(bytes), stamp),
                Err(error) => (Err(error), None),
            };
            let noted = self
                .calls
                .note(socket.protocol(), Direction::ErrorQueue, result);
            match noted {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("failed to read a stamp"),
            }
            let stamp = stamp.context("the error queue holds something that is no stamp")?;
            let stamps = if stamp.completed {
                &mut completed
            } else {
                &mut sent
            };
            stamps.insert(stamp.write, stamp.at_ns);
        }
        let (first, second) = (sent.len(), completed.len());
        ensure!(
            (first, second) == (packets, packets) && sent.keys().eq(completed.keys()),
            "of {packets} packets {first} are stamped as sent, {second} as completed"
        );
        let stamps = sent.values().zip(completed.values());
        let stamps = stamps.map(|(sent_ns, completed_ns)| Stamp {
            sent_ns: *sent_ns,
            completed_ns: *completed_ns,
        });
        let stamps = stamps.collect();
        self.port.send(&AgentRecord::Stamps { hci, stamps })?;
        Ok(())
    }

    pub(super) fn read_reports(&self, name: &str, times: u32) -> anyhow::Result<()> {
        let socket = self.socket(name)?;
        for number in 0..times {
            let number = || format!("report {number} of {times}");
            socket.wait_report().with_context(number)?;
            let result = socket.recv_report(&mut [0; 64]);
            self.calls
                .note(socket.protocol(), Direction::ErrorQueue, result)
                .with_context(number)?;
        }
        Ok(())
    }

    pub(super) fn read_no_reports(&self, name: &str, times: u32) -> anyhow::Result<()> {
        let socket = self.socket(name)?;
        for _ in 0..times {
            let result = socket.recv_report(&mut [0; 64]);
            let result = self
                .calls
                .note(socket.protocol(), Direction::ErrorQueue, result);
            expect_errno(result, libc::EAGAIN)?;
        }
        Ok(())
    }
}
