//! A host of one link: what a process has to do itself with a device on the user channel, and echo requests that it sends beside the kernel on
//! the raw one.

use super::hci::HciSocket;
use crate::calls::CallLog;
use anyhow::{Context as _, ensure};
use controller::{BdAddr, Opcode};
use evidence::PastKernel;

const RESET: Opcode = Opcode(0x0c03);
const READ_BUFFER_SIZE: Opcode = Opcode(0x1005);
const LE_READ_BUFFER_SIZE_V2: Opcode = Opcode(0x2060);
const CREATE_CONNECTION: Opcode = Opcode(0x0405);
const DISCONNECT: Opcode = Opcode(0x0406);
/// Spec: Core 5.4, Vol 4, Part A, 2.
const ACL: u8 = 2;
const EVENT: u8 = 4;
/// Spec: Core 5.4, Vol 4, Part E, 7.7.
const CONNECTION_COMPLETE: u8 = 0x03;
const DISCONNECTION_COMPLETE: u8 = 0x05;
const COMPLETED_PACKETS: u8 = 0x13;
/// Spec: Core 5.4, Vol 3, Part A, 4.8 and 4.9.
const ECHO_REQUEST: u8 = 0x08;
const ECHO_RESPONSE: u8 = 0x09;
/// First fragment of a message. Spec: Core 5.4, Vol 4, Part E, 5.4.2.
const FIRST: u16 = 2 << 12;
/// Bytes that are to be echoed.
const PAYLOAD: [u8; 6] = *b"metric";

/// A link, and the controller's buffers as far as this host knows.
#[derive(Debug)]
struct Link<'a> {
    socket: &'a HciSocket,
    calls: &'a CallLog,
    handle: u16,
    /// `None`: the kernel counts them.
    free: Option<u16>,
    read: PastKernel,
}

/// Takes a controller over: resets it, reads how many buffers it has, connects to another device, sends so many echo requests, each answered,
/// and disconnects.
///
/// # Errors
/// A call fails, or the controller or the peer does not answer as it should.
pub(crate) fn drive(
    socket: &HciSocket,
    peer: BdAddr,
    echoes: u32,
    calls: &CallLog,
) -> anyhow::Result<PastKernel> {
    let mut link = Link {
        socket,
        calls,
        handle: 0,
        free: None,
        read: PastKernel::default(),
    };
    link.command(RESET)?;
    let sizes = link.command(READ_BUFFER_SIZE)?;
    link.command(LE_READ_BUFFER_SIZE_V2)?;
    let [_, _, _, _, low, high, ..] = sizes[..] else {
        anyhow::bail!("the controller answers Read Buffer Size with {sizes:02x?}");
    };
    link.free = Some(u16::from_le_bytes([low, high]));
    link.connect(peer)?;
    link.echo(echoes)?;
    link.disconnect()?;
    Ok(link.read)
}

/// Sends echo requests on a link of the kernel's, past its scheduler.
///
/// # Errors
/// A call fails, or no answer comes.
pub(crate) fn echo_beside(
    socket: &HciSocket,
    handle: u16,
    echoes: u32,
    calls: &CallLog,
) -> anyhow::Result<()> {
    socket.filter_acl()?;
    let mut link = Link {
        socket,
        calls,
        handle,
        free: None,
        read: PastKernel::default(),
    };
    link.echo(echoes)
}

impl Link<'_> {
    /// Sends a command without parameters; the parameters of its Command Complete event, which begin with the status, 0.
    fn command(&mut self, opcode: Opcode) -> anyhow::Result<Vec<u8>> {
        let complete = self.socket.complete(opcode, self.calls);
        let (packets, parameters) = complete.with_context(|| format!("{opcode} failed"))?;
        self.read.events += packets;
        ensure!(
            parameters.first() == Some(&0),
            "{opcode} ended with {parameters:02x?}"
        );
        Ok(parameters)
    }

    fn connect(&mut self, peer: BdAddr) -> anyhow::Result<()> {
        // DM1 to DH5; any page scan repetition mode; no clock offset; the peer may become central.
        let how = [0x18, 0xcc, 2, 0, 0, 0, 1];
        let parameters = [&peer.to_wire()[..], &how].concat();
        self.socket
            .send_with(CREATE_CONNECTION, &parameters, self.calls)?;
        let event = self.await_event(CONNECTION_COMPLETE)?;
        let [_, _, _, 0, low, high, ..] = event[..] else {
            anyhow::bail!("the connection failed: {event:02x?}");
        };
        self.handle = u16::from_le_bytes([low, high]);
        Ok(())
    }

    fn disconnect(&mut self) -> anyhow::Result<()> {
        let [low, high] = self.handle.to_le_bytes();
        // By the user.
        self.socket
            .send_with(DISCONNECT, &[low, high, 0x13], self.calls)?;
        self.await_event(DISCONNECTION_COMPLETE)?;
        Ok(())
    }

    fn echo(&mut self, echoes: u32) -> anyhow::Result<()> {
        for number in 0..echoes {
            // 0 is no identifier.
            let identifier = u8::try_from(1 + number % 255)?;
            while self.free == Some(0) {
                self.read()?;
            }
            self.free = self.free.map(|free| free - 1);
            let request = echo_request(self.handle, identifier);
            self.socket.write(&request, self.calls)?;
            while !is_response(&self.read()?, identifier) {}
        }
        Ok(())
    }

    fn await_event(&mut self, code: u8) -> anyhow::Result<Vec<u8>> {
        loop {
            let packet = self.read()?;
            if packet.starts_with(&[EVENT, code]) {
                return Ok(packet);
            }
        }
    }

    /// The next packet.
    fn read(&mut self) -> anyhow::Result<Vec<u8>> {
        let packet = self.socket.read(self.calls).context("nothing comes")?;
        match packet[..] {
            [EVENT, code, _, ..] => {
                self.read.events += 1;
                // One link: all packets are its own.
                if let (COMPLETED_PACKETS, [_, _, _, _, _, _, low, high]) = (code, &packet[..]) {
                    let count = u16::from_le_bytes([*low, *high]);
                    self.free = self.free.map(|free| free + count);
                }
            }
            [ACL, ..] => self.read.acl += 1,
            _ => {}
        }
        Ok(packet)
    }
}

/// An echo request in one ACL packet.
fn echo_request(handle: u16, identifier: u8) -> Vec<u8> {
    let length = u16::try_from(PAYLOAD.len()).expect("it is short");
    let signaling_channel = 1_u16;
    let mut packet = vec![ACL];
    for word in [handle | FIRST, length + 8, length + 4, signaling_channel] {
        packet.extend(word.to_le_bytes());
    }
    packet.extend([ECHO_REQUEST, identifier]);
    packet.extend(length.to_le_bytes());
    packet.extend(PAYLOAD);
    packet
}

fn is_response(packet: &[u8], identifier: u8) -> bool {
    packet.first() == Some(&ACL) && packet.get(9..11) == Some(&[ECHO_RESPONSE, identifier])
}

#[cfg(test)]
mod tests {
    use super::{echo_request, is_response};

    /// Check that a request is one whole message on the signaling channel, and that its answer is told from it.
    #[test]
    fn echo_request_is_one_message_on_the_signaling_channel() {
        let request = echo_request(0x2a, 7);
        let head = [2, 0x2a, 0x20, 14, 0, 10, 0, 1, 0, 8, 7, 6, 0];
        assert_eq!(
            (&request[..13], &request[13..]),
            (&head[..], &b"metric"[..])
        );
        let mut response = request.clone();
        response[9] = 9;
        assert!(is_response(&response, 7));
        assert!(!is_response(&response, 8) && !is_response(&request, 7) && !is_response(&[2], 7));
    }
}
