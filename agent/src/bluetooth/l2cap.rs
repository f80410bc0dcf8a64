//! L2CAP `SOCK_SEQPACKET` sockets over BR/EDR.

use super::{fd, sys};
use controller::BdAddr;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

/// No single call waits longer than this.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// Address of an L2CAP service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct L2capAddress {
    /// Whose.
    pub(crate) bdaddr: BdAddr,
    /// Protocol/Service Multiplexer; 0 for none.
    pub(crate) psm: u16,
}

impl From<L2capAddress> for sys::sockaddr_l2 {
    fn from(address: L2capAddress) -> Self {
        Self {
            l2_family: u16::try_from(sys::AF_BLUETOOTH).expect("31 fits"),
            l2_psm: address.psm.to_le(),
            l2_bdaddr: address.bdaddr.to_wire(),
            ..Default::default()
        }
    }
}

/// A socket in any state.
#[derive(Debug)]
pub(crate) struct L2capSocket {
    socket: OwnedFd,
}

impl L2capSocket {
    /// A new socket bound to `address`.
    ///
    /// # Errors
    /// What socket(2) or bind(2) say.
    pub(crate) fn bound(address: L2capAddress) -> io::Result<Self> {
        let socket = fd::socket(libc::SOCK_SEQPACKET, sys::BTPROTO_L2CAP)?;
        fd::set_timeouts(socket.as_fd(), CALL_TIMEOUT)?;
        fd::bind(socket.as_fd(), &sys::sockaddr_l2::from(address))?;
        Ok(Self { socket })
    }

    /// listen(2).
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn listen(&self) -> io::Result<()> {
        fd::listen(self.socket.as_fd(), 1)
    }

    /// connect(2).
    ///
    /// # Errors
    /// What the kernel says; EINPROGRESS or EAGAIN after the time limit.
    pub(crate) fn connect(&self, address: L2capAddress) -> io::Result<()> {
        fd::connect(self.socket.as_fd(), &sys::sockaddr_l2::from(address))
    }

    /// accept(2).
    ///
    /// # Errors
    /// What the kernel says; EAGAIN after the time limit.
    pub(crate) fn accept(&self) -> io::Result<Self> {
        let socket = fd::accept(self.socket.as_fd())?;
        fd::set_timeouts(socket.as_fd(), CALL_TIMEOUT)?;
        Ok(Self { socket })
    }

    /// send(2).
    ///
    /// # Errors
    /// What the kernel says; EAGAIN after the time limit.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<usize> {
        fd::send(self.socket.as_fd(), message, 0)
    }

    /// Waits for a message without a call that the probes see.
    ///
    /// Kernels such as 5.10.262 hold the socket's lock while recvmsg sleeps, so that nothing can
    /// be delivered: one must not sleep in it.
    ///
    /// # Errors
    /// `TimedOut` after the time limit.
    pub(crate) fn wait_readable(&self) -> io::Result<()> {
        fd::wait_readable(self.socket.as_fd(), CALL_TIMEOUT)
    }

    /// recv(2), without waiting.
    ///
    /// # Errors
    /// What the kernel says; EAGAIN if there is nothing.
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        fd::recv(self.socket.as_fd(), buffer, libc::MSG_DONTWAIT)
    }
}

#[cfg(test)]
mod tests {
    use super::{BdAddr, L2capAddress, sys};

    /// Check that the address lies in memory as the kernel reads it: PSM little-endian, BD_ADDR as on the wire.
    #[test]
    fn sockaddr_l2_from_address_is_in_wire_order() {
        let bdaddr = BdAddr::from_wire([1, 2, 3, 4, 5, 6]);
        let raw = sys::sockaddr_l2::from(L2capAddress {
            bdaddr,
            psm: 0x1001,
        });
        assert_eq!(raw.l2_family, 31);
        assert_eq!(raw.l2_psm.to_ne_bytes(), [0x01, 0x10]);
        assert_eq!(raw.l2_bdaddr, [1, 2, 3, 4, 5, 6]);
        assert_eq!((raw.l2_cid, raw.l2_bdaddr_type), (0, 0));
    }
}
