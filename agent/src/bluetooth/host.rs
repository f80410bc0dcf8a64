//! What hosts do that are processes: they take devices over, make links of every kind between them, and send data as the buffers of their
//! controllers allow.

use super::hci::HciSocket;
use crate::calls::CallLog;
use crate::steps::NotApplicable;
use anyhow::{Context as _, ensure};
use controller::{BdAddr, Opcode};
use evidence::{PastKernel, ProcessLink};
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// Spec: Core 5.4, Vol 4, Part E, 7.1, 7.3, 7.4, 7.8.
mod opcode {
    use controller::Opcode;

    pub(super) const CREATE_CONNECTION: Opcode = Opcode(0x0405);
    pub(super) const DISCONNECT: Opcode = Opcode(0x0406);
    pub(super) const ACCEPT_CONNECTION: Opcode = Opcode(0x0409);
    pub(super) const SET_UP_SYNCHRONOUS: Opcode = Opcode(0x0428);
    pub(super) const ACCEPT_SYNCHRONOUS: Opcode = Opcode(0x0429);
    pub(super) const SET_EVENT_MASK: Opcode = Opcode(0x0c01);
    pub(super) const RESET: Opcode = Opcode(0x0c03);
    pub(super) const WRITE_SCAN_ENABLE: Opcode = Opcode(0x0c1a);
    pub(super) const WRITE_SYNCHRONOUS_FLOW_CONTROL: Opcode = Opcode(0x0c2f);
    pub(super) const READ_BUFFER_SIZE: Opcode = Opcode(0x1005);
    pub(super) const LE_SET_EVENT_MASK: Opcode = Opcode(0x2001);
    pub(super) const LE_SET_ADVERTISING_ENABLE: Opcode = Opcode(0x200a);
    pub(super) const LE_CREATE_CONNECTION: Opcode = Opcode(0x200d);
    pub(super) const LE_READ_BUFFER_SIZE_V2: Opcode = Opcode(0x2060);
    pub(super) const LE_SET_CIG: Opcode = Opcode(0x2062);
    pub(super) const LE_CREATE_CIS: Opcode = Opcode(0x2064);
    pub(super) const LE_ACCEPT_CIS: Opcode = Opcode(0x2066);
    pub(super) const LE_SET_UP_ISO_PATH: Opcode = Opcode(0x206e);
    pub(super) const LE_SET_HOST_FEATURE: Opcode = Opcode(0x2074);
}

/// Spec: Core 5.4, Vol 4, Part A, 2.
const ACL: u8 = 2;
const SCO: u8 = 3;
const EVENT: u8 = 4;
const ISO: u8 = 5;

/// Events by code, and by code and subevent. Spec: Core 5.4, Vol 4, Part E, 7.7.
const CONNECTION_COMPLETE: &[u8] = &[0x03];
const CONNECTION_REQUEST: &[u8] = &[0x04];
const SYNCHRONOUS_COMPLETE: &[u8] = &[0x2c];
/// The enhanced one: controllers send it in place of the other, as far as the mask lets them.
const LE_CONNECTION_COMPLETE: &[u8] = &[0x3e, 0x0a];
const CIS_ESTABLISHED: &[u8] = &[0x3e, 0x19];
const CIS_REQUEST: &[u8] = &[0x3e, 0x1a];
const DISCONNECTION_COMPLETE: u8 = 0x05;
const COMPLETED_PACKETS: u8 = 0x13;

/// A command that no driver knows, without parameters, and its answer: Command Status, unknown command. The indicator is the kernel's own.
/// Kernel: v6.16 include/net/bluetooth/hci.h `HCI_DRV_PKT`, hci_drv.h.
const DRIVER_COMMAND: [u8; 5] = [0xf1, 0x77, 0x04, 0, 0];
const DRIVER_ANSWER: [u8; 8] = [0xf1, 0, 0, 3, 0, 0x77, 0x04, 0x02];

/// 64 kb/s both ways, any latency, CVSD, retransmission for quality, any packets. Spec: Core 5.4, Vol 4, Part E, 7.1.26.
const VOICE: [u8; 15] = [
    0x40, 0x1f, 0, 0, 0x40, 0x1f, 0, 0, 0xff, 0xff, 0x60, 0, 2, 0x3f, 0,
];
/// Group 1 with one stream, 2: 40 bytes each 10 ms both ways. Spec: Core 5.4, Vol 4, Part E, 7.8.97.
const GROUP: [u8; 24] = [
    1, 0x10, 0x27, 0, 0x10, 0x27, 0, 0, 0, 0, 10, 0, 10, 0, 1, 2, 40, 0, 40, 0, 2, 2, 1, 1,
];

/// A device, and what a process that drives it knows of it.
#[derive(Debug)]
pub(crate) struct Host {
    socket: HciSocket,
    address: BdAddr,
    /// Buffers by the links that use them; each host has at most one link of each kind.
    capacity: BTreeMap<ProcessLink, u16>,
    taken: BTreeMap<ProcessLink, u16>,
    handles: BTreeMap<ProcessLink, u16>,
    /// Handles of links that have ended, which nobody has asked for.
    ended: BTreeSet<u16>,
    /// Since somebody last asked.
    read: PastKernel,
}

impl Host {
    /// Takes a device over, through a socket on its user channel: resets it, reads how many buffers it has, has it report everything, and be
    /// found by others.
    ///
    /// # Errors
    /// A call fails, or the controller refuses.
    pub(crate) fn take_over(
        socket: HciSocket,
        address: BdAddr,
        calls: &CallLog,
    ) -> anyhow::Result<Self> {
        let mut host = Self {
            socket,
            address,
            capacity: BTreeMap::new(),
            taken: BTreeMap::new(),
            handles: BTreeMap::new(),
            ended: BTreeSet::new(),
            read: PastKernel::default(),
        };
        host.reset(calls)?;
        Ok(host)
    }

    /// Begins anew: links go without a word.
    ///
    /// # Errors
    /// A call fails, or the controller refuses.
    pub(crate) fn reset(&mut self, calls: &CallLog) -> anyhow::Result<()> {
        self.command(opcode::RESET, &[], calls)?;
        self.taken.clear();
        self.handles.clear();
        self.ended.clear();
        let sizes = self.command(opcode::READ_BUFFER_SIZE, &[], calls)?;
        let le_sizes = self.command(opcode::LE_READ_BUFFER_SIZE_V2, &[], calls)?;
        let [_, _, _, _, a0, a1, s0, s1, ..] = sizes[..] else {
            anyhow::bail!("the controller answers Read Buffer Size with {sizes:02x?}");
        };
        let [_, _, _, le, _, _, iso, ..] = le_sizes[..] else {
            anyhow::bail!("the controller answers LE Read Buffer Size with {le_sizes:02x?}");
        };
        self.capacity = BTreeMap::from([
            (ProcessLink::Acl, u16::from_le_bytes([a0, a1])),
            (ProcessLink::Sco, u16::from_le_bytes([s0, s1])),
            (ProcessLink::Le, le.into()),
            (ProcessLink::Cis, iso.into()),
        ]);
        self.command(opcode::SET_EVENT_MASK, &[0xff; 8], calls)?;
        self.command(opcode::LE_SET_EVENT_MASK, &[0xff; 8], calls)?;
        self.command(opcode::WRITE_SYNCHRONOUS_FLOW_CONTROL, &[1], calls)?;
        // Page scan alone; isochronous streams.
        self.command(opcode::WRITE_SCAN_ENABLE, &[2], calls)?;
        self.command(opcode::LE_SET_HOST_FEATURE, &[32, 1], calls)?;
        Ok(())
    }

    /// Waits until a link has ended.
    ///
    /// # Errors
    /// There is no such link, or it does not end.
    pub(crate) fn await_end(&mut self, link: ProcessLink, calls: &CallLog) -> anyhow::Result<()> {
        let handle = self.handle(link)?;
        while !self.ended.remove(&handle) {
            self.read(calls)?;
        }
        self.handles.remove(&link);
        self.taken.remove(&link);
        Ok(())
    }

    /// Sends packets for the driver itself: some that are cut short, which the kernel refuses, and some that are answered: no such command.
    ///
    /// # Errors
    /// A call fails, or no answer comes; [`NotApplicable`] if this kernel has no such packets.
    pub(crate) fn ask_driver(
        &mut self,
        answered: u32,
        short: u32,
        calls: &CallLog,
    ) -> anyhow::Result<()> {
        for _ in 0..short {
            self.tell_driver(&DRIVER_COMMAND[..4], calls)?;
        }
        // In order: when these are answered, those are refused.
        for _ in 0..answered {
            self.tell_driver(&DRIVER_COMMAND, calls)?;
            let answer = self.read(calls)?;
            let fine = answer == DRIVER_ANSWER;
            ensure!(fine, "the driver answers {answer:02x?}");
        }
        Ok(())
    }

    fn tell_driver(&self, packet: &[u8], calls: &CallLog) -> anyhow::Result<()> {
        match self.socket.write(packet, calls) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let reason = format!("no packets for drivers: {error}");
                Err(NotApplicable(reason).into())
            }
            written => written.context("write failed"),
        }
    }

    /// Reads what has come. Says which hciN's, and how much was read since this was last asked.
    ///
    /// # Errors
    /// A call fails.
    pub(crate) fn drain(&mut self, calls: &CallLog) -> anyhow::Result<(u16, PastKernel)> {
        while self.socket.is_readable()? {
            self.read(calls)?;
        }
        Ok((self.socket.hci(), std::mem::take(&mut self.read)))
    }

    fn handle(&self, link: ProcessLink) -> anyhow::Result<u16> {
        let handle = self.handles.get(&link);
        handle
            .copied()
            .with_context(|| format!("there is no {link:?} link"))
    }

    /// Sends a command; the return parameters of its Command Complete event, which begin with the status, 0.
    fn command(
        &mut self,
        opcode: Opcode,
        parameters: &[u8],
        calls: &CallLog,
    ) -> anyhow::Result<Vec<u8>> {
        self.begin(opcode, parameters, calls)?;
        let [low, high] = opcode.0.to_le_bytes();
        loop {
            let event = self.await_event(&[0x0e], calls)?;
            if let [_, _, _, _, l, h, ref returned @ ..] = event[..]
                && (l, h) == (low, high)
            {
                let fine = returned.first() == Some(&0);
                ensure!(fine, "{opcode} ended with {returned:02x?}");
                return Ok(returned.to_vec());
            }
        }
    }

    /// Sends a command that sets something off.
    fn begin(&self, opcode: Opcode, parameters: &[u8], calls: &CallLog) -> anyhow::Result<()> {
        let sent = self.socket.send_with(opcode, parameters, calls);
        sent.with_context(|| format!("failed to send {opcode}"))
    }

    /// Reads until this event, whose first bytes are its code and, of LE events, its subevent.
    fn await_event(&mut self, event: &[u8], calls: &CallLog) -> anyhow::Result<Vec<u8>> {
        loop {
            let packet = self.read(calls)?;
            let code = packet.get(1) == event.first();
            let subevent = event.len() < 2 || packet.get(3) == event.get(1);
            if packet.first() == Some(&EVENT) && code && subevent {
                return Ok(packet);
            }
        }
    }

    /// Waits for the event that says that a link stands: status and handle follow from this byte on.
    fn await_link(
        &mut self,
        link: ProcessLink,
        event: &[u8],
        calls: &CallLog,
    ) -> anyhow::Result<()> {
        let packet = self.await_event(event, calls)?;
        let at = 2 + event.len();
        let Some(&[0, low, high]) = packet.get(at..at + 3) else {
            anyhow::bail!("the {link:?} link failed: {packet:02x?}");
        };
        self.handles.insert(link, u16::from_le_bytes([low, high]));
        Ok(())
    }

    /// Has isochronous data go through HCI: from the host (0) or to it (1), transparent.
    fn set_up_path(&mut self, direction: u8, calls: &CallLog) -> anyhow::Result<()> {
        let handle = self.handle(ProcessLink::Cis)?.to_le_bytes();
        let path = [direction, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0];
        let parameters = [&handle[..], &path].concat();
        self.command(opcode::LE_SET_UP_ISO_PATH, &parameters, calls)?;
        Ok(())
    }

    /// The next packet.
    fn read(&mut self, calls: &CallLog) -> anyhow::Result<Vec<u8>> {
        let packet = self.socket.read(calls).context("nothing comes")?;
        match packet.first() {
            Some(&EVENT) => self.read.events += 1,
            Some(&ACL) => self.read.acl += 1,
            Some(&SCO) => self.read.sco += 1,
            _ => {}
        }
        if let [EVENT, DISCONNECTION_COMPLETE, _, 0, low, high, ..] = packet[..] {
            self.ended.insert(u16::from_le_bytes([low, high]));
        }
        if packet.starts_with(&[EVENT, COMPLETED_PACKETS]) {
            // Indicator, code, length, number of entries.
            for entry in packet.get(4..).unwrap_or_default().chunks_exact(4) {
                self.give_back(
                    u16::from_le_bytes([entry[0], entry[1]]),
                    u16::from_le_bytes([entry[2], entry[3]]),
                );
            }
        }
        Ok(packet)
    }

    fn give_back(&mut self, handle: u16, packets: u16) {
        let link = self.handles.iter().find(|(_, there)| **there == handle);
        if let Some(taken) = link.and_then(|(link, _)| self.taken.get_mut(link)) {
            *taken = taken.saturating_sub(packets);
        }
    }

    /// Writes one packet of data, when there is a buffer for it.
    fn write(&mut self, link: ProcessLink, bytes: u8, calls: &CallLog) -> anyhow::Result<()> {
        let packet = data(link, self.handle(link)?, bytes);
        let capacity = self.capacity.get(&link).copied().unwrap_or(0);
        ensure!(capacity > 0, "the controller has no buffers for {link:?}");
        while self.taken.get(&link).copied().unwrap_or(0) >= capacity {
            self.read(calls)?;
        }
        *self.taken.entry(link).or_default() += 1;
        self.socket.write(&packet, calls).context("write failed")
    }

    fn await_data(&mut self, link: ProcessLink, calls: &CallLog) -> anyhow::Result<()> {
        let handle = self.handle(link)?;
        loop {
            let packet = self.read(calls)?;
            if let [indicator, low, high, ..] = packet[..]
                && indicator == kind(link)
                && u16::from_le_bytes([low, high]) & 0x0fff == handle
            {
                return Ok(());
            }
        }
    }
}

/// Makes a link between two devices.
///
/// # Errors
/// A call fails, or a controller refuses.
pub(crate) fn join(
    from: &mut Host,
    to: &mut Host,
    link: ProcessLink,
    calls: &CallLog,
) -> anyhow::Result<()> {
    let complete = match link {
        ProcessLink::Acl => ask_for_connection(from, to, calls)?,
        ProcessLink::Sco => ask_for_voice(from, to, calls)?,
        ProcessLink::Le => ask_for_le(from, to, calls)?,
        ProcessLink::Cis => ask_for_stream(from, to, calls)?,
    };
    for host in [&mut *from, &mut *to] {
        host.await_link(link, complete, calls)?;
    }
    if link == ProcessLink::Cis {
        from.set_up_path(0, calls)?;
        to.set_up_path(1, calls)?;
    }
    Ok(())
}

/// Has one page the other; the event that says that the link stands. So do the others below.
fn ask_for_connection(
    from: &Host,
    to: &mut Host,
    calls: &CallLog,
) -> anyhow::Result<&'static [u8]> {
    // DM1 to DH5; any page scan repetition mode; no clock offset; the peer may become central.
    let how = [0x18, 0xcc, 2, 0, 0, 0, 1];
    let parameters = [&to.address.to_wire()[..], &how].concat();
    from.begin(opcode::CREATE_CONNECTION, &parameters, calls)?;
    to.await_event(CONNECTION_REQUEST, calls)?;
    // As peripheral.
    let parameters = [&from.address.to_wire()[..], &[1]].concat();
    to.begin(opcode::ACCEPT_CONNECTION, &parameters, calls)?;
    Ok(CONNECTION_COMPLETE)
}

fn ask_for_voice(from: &Host, to: &mut Host, calls: &CallLog) -> anyhow::Result<&'static [u8]> {
    let acl = from.handle(ProcessLink::Acl)?.to_le_bytes();
    let parameters = [&acl[..], &VOICE].concat();
    from.begin(opcode::SET_UP_SYNCHRONOUS, &parameters, calls)?;
    to.await_event(CONNECTION_REQUEST, calls)?;
    let parameters = [&from.address.to_wire()[..], &VOICE].concat();
    to.begin(opcode::ACCEPT_SYNCHRONOUS, &parameters, calls)?;
    Ok(SYNCHRONOUS_COMPLETE)
}

fn ask_for_le(from: &Host, to: &mut Host, calls: &CallLog) -> anyhow::Result<&'static [u8]> {
    to.command(opcode::LE_SET_ADVERTISING_ENABLE, &[1], calls)?;
    // Scan interval and window, no accept list, a public address; its own address is public; 30 to 50 ms, 420 ms.
    let head = [0x60, 0, 0x60, 0, 0, 0];
    let rest = [0, 24, 0, 40, 0, 0, 0, 42, 0, 0, 0, 0, 0];
    let parameters = [&head[..], &to.address.to_wire(), &rest].concat();
    from.begin(opcode::LE_CREATE_CONNECTION, &parameters, calls)?;
    Ok(LE_CONNECTION_COMPLETE)
}

fn ask_for_stream(
    from: &mut Host,
    to: &mut Host,
    calls: &CallLog,
) -> anyhow::Result<&'static [u8]> {
    let group = from.command(opcode::LE_SET_CIG, &GROUP, calls)?;
    let [_, _, 1, low, high] = group[..] else {
        anyhow::bail!("the controller answers Set CIG Parameters with {group:02x?}");
    };
    let le = from.handle(ProcessLink::Le)?.to_le_bytes();
    let parameters = [1, low, high, le[0], le[1]];
    from.begin(opcode::LE_CREATE_CIS, &parameters, calls)?;
    let request = to.await_event(CIS_REQUEST, calls)?;
    let Some(handle) = request.get(6..8) else {
        anyhow::bail!("the controller asks for a stream with {request:02x?}");
    };
    to.begin(opcode::LE_ACCEPT_CIS, handle, calls)?;
    Ok(CIS_ESTABLISHED)
}

/// Sends so many packets of data of so many bytes, each of which arrives.
///
/// # Errors
/// A call fails, or a packet does not arrive.
pub(crate) fn send(
    from: &mut Host,
    to: &mut Host,
    link: ProcessLink,
    (packets, bytes): (u32, u8),
    calls: &CallLog,
) -> anyhow::Result<()> {
    for number in 0..packets {
        from.write(link, bytes, calls)
            .and_then(|()| to.await_data(link, calls))
            .with_context(|| format!("packet {number} of {packets} failed"))?;
    }
    Ok(())
}

/// Ends a link between two devices.
///
/// # Errors
/// There is no such link, or it does not end.
pub(crate) fn part(
    from: &mut Host,
    to: &mut Host,
    link: ProcessLink,
    calls: &CallLog,
) -> anyhow::Result<()> {
    let [low, high] = from.handle(link)?.to_le_bytes();
    // By the user.
    from.begin(opcode::DISCONNECT, &[low, high, 0x13], calls)?;
    from.await_end(link, calls)?;
    to.await_end(link, calls)
}

const fn kind(link: ProcessLink) -> u8 {
    match link {
        ProcessLink::Acl | ProcessLink::Le => ACL,
        ProcessLink::Sco => SCO,
        ProcessLink::Cis => ISO,
    }
}

/// One packet with so many bytes of payload. Spec: Core 5.4, Vol 4, Part E, 5.4.
fn data(link: ProcessLink, handle: u16, bytes: u8) -> Vec<u8> {
    let mut payload = vec![0x5a; bytes.into()];
    // A whole message on a signaling channel; a whole unit without a time stamp.
    let (flags, head) = match link {
        ProcessLink::Acl => (2, [bytes.saturating_sub(4), 0, 1, 0]),
        ProcessLink::Le => (0, [bytes.saturating_sub(4), 0, 5, 0]),
        ProcessLink::Cis => (2, [7, 0, bytes.saturating_sub(4), 0]),
        ProcessLink::Sco => (0, [0x5a; 4]),
    };
    payload
        .iter_mut()
        .zip(head)
        .for_each(|(to, from)| *to = from);
    let mut packet = vec![kind(link)];
    packet.extend((handle | flags << 12).to_le_bytes());
    packet.push(bytes);
    if link != ProcessLink::Sco {
        packet.push(0);
    }
    packet.extend(payload);
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that each kind of packet has its indicator, flags, and the length that its header has room for.
    #[test]
    fn data_have_the_header_of_their_kind() {
        let cases: [(ProcessLink, &[u8]); 4] = [
            (
                ProcessLink::Acl,
                &[2, 0x2a, 0x21, 6, 0, 2, 0, 1, 0, 0x5a, 0x5a],
            ),
            (
                ProcessLink::Le,
                &[2, 0x2a, 0x01, 6, 0, 2, 0, 5, 0, 0x5a, 0x5a],
            ),
            (
                ProcessLink::Sco,
                &[3, 0x2a, 0x01, 6, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a, 0x5a],
            ),
            (
                ProcessLink::Cis,
                &[5, 0x2a, 0x21, 6, 0, 7, 0, 2, 0, 0x5a, 0x5a],
            ),
        ];
        for (link, wanted) in cases {
            assert_eq!(data(link, 0x012a, 6), wanted, "{link:?}");
        }
    }
}
