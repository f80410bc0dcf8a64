//! What a server needs of a device that carries HCI packets.

use std::fmt::Debug;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// What reading gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received<'a> {
    /// One packet, with its H4 indicator.
    Packet(&'a [u8]),
    /// One packet that the host sent and that got lost on the way.
    Lost(&'a [u8]),
    /// Nothing at present.
    Nothing,
    /// The host is gone.
    Closed,
}

/// Carries the packets of one controller to and from one host. Reading must not block.
pub trait Port: AsFd + Debug + Send {
    /// The next packet from the host.
    ///
    /// # Errors
    /// What the device says; the port is closed after it.
    fn receive(&mut self) -> io::Result<Received<'_>>;

    /// Hands a packet to the host. `false` if the host does not take it, being down.
    ///
    /// # Errors
    /// What the device says; the port is closed after it.
    fn send(&mut self, packet: &[u8]) -> io::Result<bool>;

    /// When the port has something to do by itself, on the server's clock.
    fn next_deadline(&self) -> Option<Duration> {
        None
    }

    /// Lets time pass, to `now`, and does what is due. The server calls it before each of its turns.
    ///
    /// # Errors
    /// What the device says; the port is closed after it.
    fn advance(&mut self, now: Duration) -> io::Result<()> {
        let _ = now;
        Ok(())
    }
}
