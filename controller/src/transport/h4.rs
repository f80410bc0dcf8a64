//! Controllers on unix sockets that carry an H4 stream, for hosts that are programs.
//!
//! Spec: Core 5.4, Vol 4, Part A: each packet follows its one-byte indicator, nothing lies between packets.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::listening::{Listening, is_temporary};
use super::port::{Port, Received};
use super::sys;
use crate::types::PacketKind;

/// How long a host may leave a full socket unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const CHUNK_BYTES: usize = 4096;

/// One controller on a unix socket. One host at a time; if the socket listens, the next may come when one goes. A listening socket's file
/// goes with the port.
#[derive(Debug)]
pub struct H4Port {
    listening: Option<Listening>,
    host: Option<UnixStream>,
    /// The one host that there will ever be has gone.
    closed: bool,
    /// What was read; `taken` bytes of it have been handed out.
    buffer: Vec<u8>,
    taken: usize,
}

impl H4Port {
    /// Listens at a path where nobody does.
    ///
    /// # Errors
    /// What the system says.
    pub fn bind(path: &Path) -> io::Result<Self> {
        Ok(Self::new(Some(Listening::bind(path)?), None))
    }

    /// Takes a socket whose other end the host has.
    ///
    /// # Errors
    /// What the system says.
    pub fn connected(host: UnixStream) -> io::Result<Self> {
        host.set_nonblocking(true)?;
        Ok(Self::new(None, Some(host)))
    }

    fn new(listening: Option<Listening>, host: Option<UnixStream>) -> Self {
        Self {
            listening,
            host,
            closed: false,
            buffer: Vec::new(),
            taken: 0,
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        let Some(listening) = &self.listening else {
            return Ok(());
        };
        if let Some(host) = listening.accept()? {
            self.host = Some(host);
            self.buffer.clear();
            self.taken = 0;
        }
        Ok(())
    }

    /// Reads what is there. `false` if there is nothing, or the host has gone.
    fn fill(&mut self) -> bool {
        let Some(host) = self.host.as_mut().filter(|_| !self.closed) else {
            return false;
        };
        let mut chunk = [0; CHUNK_BYTES];
        match host.read(&mut chunk) {
            Ok(read @ 1..) => {
                self.buffer.extend(chunk.iter().take(read));
                true
            }
            Err(error) if is_temporary(&error) => false,
            Ok(_) => {
                self.hang_up("the host has gone");
                false
            }
            Err(error) => {
                self.hang_up(&error.to_string());
                false
            }
        }
    }

    fn hang_up(&mut self, why: &str) {
        tracing::info!(listening = ?self.listening, why, "host disconnected");
        match self.listening {
            Some(_) => self.host = None,
            // The server waits on the socket until it has been told.
            None => self.closed = true,
        }
    }

    fn nothing(&self) -> Received<'_> {
        match self.closed {
            true => Received::Closed,
            false => Received::Nothing,
        }
    }
}

/// The length of the packet that a stream begins with, indicator included: `Ok(None)` if more of its header is needed, `Err` if no packet
/// begins like this.
pub(super) fn packet_length(stream: &[u8]) -> Result<Option<usize>, ()> {
    let Some((indicator, rest)) = stream.split_first() else {
        return Ok(None);
    };
    let kind = PacketKind::from_indicator(*indicator).ok_or(())?;
    let lengths = match (kind, rest) {
        (PacketKind::Command | PacketKind::Sco, [_, _, length, ..]) => {
            Some((3, u16::from(*length)))
        }
        (PacketKind::Acl, [_, _, low, high, ..]) => Some((4, u16::from_le_bytes([*low, *high]))),
        (PacketKind::Iso, [_, _, low, high, ..]) => {
            Some((4, u16::from_le_bytes([*low, *high]) & 0x3fff))
        }
        (PacketKind::Event, _) => return Err(()),
        _ => None,
    };
    Ok(lengths.map(|(header, payload)| 1 + header + usize::from(payload)))
}

impl AsFd for H4Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match (&self.host, &self.listening) {
            (Some(host), _) => host.as_fd(),
            (None, Some(listening)) => listening.as_fd(),
            (None, None) => unreachable!("without a listener the host's socket is kept"),
        }
    }
}

impl Port for H4Port {
    fn receive(&mut self) -> io::Result<Received<'_>> {
        if self.host.is_none() {
            self.accept()?;
        }
        self.buffer.drain(..std::mem::take(&mut self.taken));
        let length = loop {
            match packet_length(&self.buffer) {
                Ok(Some(length)) if length <= self.buffer.len() => break length,
                Ok(_) => {
                    if !self.fill() {
                        return Ok(self.nothing());
                    }
                }
                Err(()) => {
                    self.hang_up("no packet begins with what it has sent");
                    return Ok(self.nothing());
                }
            }
        };
        self.taken = length;
        let packet = self.buffer.get(..length);
        Ok(packet.map_or(Received::Nothing, Received::Packet))
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<bool> {
        let mut left = packet;
        while !left.is_empty() {
            let Some(host) = self.host.as_mut().filter(|_| !self.closed) else {
                return Ok(false);
            };
            match host.write(left) {
                Ok(written) => left = left.get(written..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !sys::wait_writable(host.as_fd(), WRITE_TIMEOUT)? {
                        self.hang_up("it does not read");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => self.hang_up(&error.to_string()),
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// Check that a packet's length is known as soon as its header is there, and that only a host's packets begin one.
    #[rstest]
    #[case::nothing(&[], Ok(None))]
    #[case::command(&[1, 3, 12, 0], Ok(Some(4)))]
    #[case::half_header(&[2, 1, 0, 9], Ok(None))]
    #[case::acl(&[2, 1, 0, 9, 1], Ok(Some(5 + 0x109)))]
    #[case::sco(&[3, 1, 0, 48], Ok(Some(52)))]
    #[case::iso(&[5, 1, 0, 4, 0xc0], Ok(Some(9)))]
    #[case::event(&[4, 1, 0, 9], Err(()))]
    #[case::nonsense(&[0x77], Err(()))]
    fn packet_length_of_beginning(
        #[case] stream: &[u8],
        #[case] length: Result<Option<usize>, ()>,
    ) {
        assert_eq!(packet_length(stream), length);
    }

    proptest! {
        /// Check that any bytes have a length that fits a packet, or none.
        #[test]
        fn packet_length_any_bytes_never_panic(stream in prop::collection::vec(any::<u8>(), 0..9)) {
            if let Ok(Some(length)) = packet_length(&stream) {
                prop_assert!((4..=5 + 0xffff).contains(&length));
            }
        }
    }
}
