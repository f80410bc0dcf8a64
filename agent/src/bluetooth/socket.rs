//! Sockets that carry data, of any Bluetooth protocol.

mod reports;

use super::{fd, memory, sys};
use controller::BdAddr;
use evidence::{L2capMode, Protocol, Service, Voice};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

/// No single call waits longer than this; well below what the far end takes for a hang.
const CALL_TIMEOUT: Duration = Duration::from_secs(40);

/// A socket in any state.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: OwnedFd,
    service: Service,
}

impl Socket {
    /// A new socket of the kind that `service` needs, bound to a device; to its service number
    /// too if it is to listen.
    ///
    /// # Errors
    /// What socket(2), setsockopt(2) or bind(2) say.
    pub(crate) fn bound(service: Service, device: BdAddr, listens: bool) -> io::Result<Self> {
        let (kind, protocol) = kind_and_protocol(service);
        let socket = fd::socket(kind, protocol)?;
        fd::set_timeouts(socket.as_fd(), CALL_TIMEOUT)?;
        set_options(&socket, service)?;
        let own = Self { socket, service };
        own.with_address(device, listens, Call::Bind)?;
        own.set_receive_mtu()?;
        if listens && own.is_deferred() {
            fd::set_option(
                own.socket.as_fd(),
                sys::SOL_BLUETOOTH,
                sys::BT_DEFER_SETUP,
                &1u32,
            )?;
        }
        Ok(own)
    }

    /// Calls bind(2) or connect(2) with a device's address, and the service's number if `numbered`.
    fn with_address(&self, device: BdAddr, numbered: bool, call: Call) -> io::Result<()> {
        let socket = self.socket.as_fd();
        match self.service {
            Service::L2cap { psm, .. } => call.carry_out(
                socket,
                &l2cap_address(device, if numbered { psm } else { 0 }),
            ),
            Service::L2capLe { spsm, .. } => {
                let address = l2cap_address(device, if numbered { spsm } else { 0 });
                let l2_bdaddr_type = sys::BDADDR_LE_PUBLIC;
                call.carry_out(
                    socket,
                    &sys::sockaddr_l2 {
                        l2_bdaddr_type,
                        ..address
                    },
                )
            }
            Service::Iso => call.carry_out(
                socket,
                &sys::sockaddr_iso {
                    iso_family: FAMILY,
                    iso_bdaddr: device.to_wire(),
                    iso_bdaddr_type: sys::BDADDR_LE_PUBLIC,
                },
            ),
            Service::Rfcomm { channel } => {
                let rc_channel = if numbered { channel } else { 0 };
                let rc_bdaddr = device.to_wire();
                call.carry_out(
                    socket,
                    &sys::sockaddr_rc {
                        rc_family: FAMILY,
                        rc_bdaddr,
                        rc_channel,
                    },
                )
            }
            Service::Sco { .. } => {
                let sco_bdaddr = device.to_wire();
                call.carry_out(
                    socket,
                    &sys::sockaddr_sco {
                        sco_family: FAMILY,
                        sco_bdaddr,
                    },
                )
            }
        }
    }

    /// listen(2).
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn listen(&self) -> io::Result<()> {
        fd::listen(self.socket.as_fd(), 16)
    }

    /// connect(2) to the same service on another device.
    ///
    /// # Errors
    /// What the kernel says; EINPROGRESS or EAGAIN after the time limit.
    pub(crate) fn connect(&self, device: BdAddr) -> io::Result<()> {
        self.with_address(device, true, Call::Connect)
    }

    /// accept(2).
    ///
    /// # Errors
    /// What the kernel says; EAGAIN after the time limit.
    pub(crate) fn accept(&self) -> io::Result<Self> {
        let socket = fd::accept(self.socket.as_fd())?;
        fd::set_timeouts(socket.as_fd(), CALL_TIMEOUT)?;
        Ok(Self {
            socket,
            service: self.service,
        })
    }

    /// Does the listening end have to say how it wants a connection, before that is made?
    ///
    /// Kernel: hci_event.c hci_conn_request_evt() accepts synchronous connections that are not deferred with the device's voice setting,
    /// which is CVSD; a controller refuses that if the other end wants transparent data.
    pub(crate) const fn is_deferred(&self) -> bool {
        matches!(
            self.service,
            Service::Sco {
                voice: Voice::Transparent
            }
        )
    }

    /// On an accepted socket whose connection is deferred: says how voice travels. The read that lets the connection be made comes next.
    ///
    /// Kernel: sco.c sco_sock_alloc(): an accepted socket starts with CVSD, whatever its listener has.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn set_up_deferred(&self) -> io::Result<()> {
        match self.service {
            Service::Sco { voice } => set_voice(&self.socket, voice),
            _ => Ok(()),
        }
    }

    /// `BT_RCVMTU`, which takes the place of `L2CAP_OPTIONS` over LE; it needs a bound socket.
    fn set_receive_mtu(&self) -> io::Result<()> {
        match self.service {
            Service::L2capLe { mtu: Some(mtu), .. } => fd::set_option(
                self.socket.as_fd(),
                sys::SOL_BLUETOOTH,
                sys::BT_RCVMTU,
                &mtu,
            ),
            _ => Ok(()),
        }
    }

    /// Only connections over encrypted links, whoever the peer is.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn demand_encryption(&self) -> io::Result<()> {
        let level = sys::bt_security {
            level: sys::BT_SECURITY_MEDIUM,
            key_size: 0,
        };
        let socket = self.socket.as_fd();
        fd::set_option(socket, sys::SOL_BLUETOOTH, sys::BT_SECURITY, &level)
    }

    /// Waits until it may be written to: it is connected by then.
    ///
    /// # Errors
    /// `TimedOut` after the time limit.
    pub(crate) fn wait_writable(&self) -> io::Result<()> {
        fd::wait_for(self.socket.as_fd(), libc::POLLOUT, CALL_TIMEOUT)
    }

    /// `SO_SNDBUF`; the kernel doubles what is asked for.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn set_send_buffer(&self, bytes: u32) -> io::Result<()> {
        fd::set_option(
            self.socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_SNDBUF,
            &bytes,
        )
    }

    /// `SO_SNDBUF` as the kernel has it, bytes.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn send_buffer(&self) -> io::Result<u64> {
        let bytes: u32 = fd::get_option(self.socket.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUF)?;
        Ok(bytes.into())
    }

    /// Bytes that unsent messages occupy in the send buffer.
    ///
    /// # Errors
    /// The kernel does not list the socket.
    pub(crate) fn occupied(&self) -> io::Result<u64> {
        let inode = File::from(self.socket.try_clone()?).metadata()?.ino();
        memory::occupied(self.protocol().label(), inode)
    }

    /// Has writes that wait give up after so long; `None`: after the usual time.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn set_write_limit(&self, limit: Option<Duration>) -> io::Result<()> {
        let limit = limit.unwrap_or(CALL_TIMEOUT);
        fd::set_timeout(self.socket.as_fd(), libc::SO_SNDTIMEO, limit)
    }

    /// Has calls that wait give up after the usual time, or wait for ever.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn set_limited(&self, limited: bool) -> io::Result<()> {
        let limit = if limited {
            CALL_TIMEOUT
        } else {
            Duration::ZERO
        };
        fd::set_timeouts(self.socket.as_fd(), limit)
    }

    /// A call that waits, unlike all others here.
    ///
    /// # Errors
    /// What the kernel says; EINTR after a signal.
    pub(crate) fn wait_in(&self, call: Interruptible<'_>) -> io::Result<usize> {
        match call {
            Interruptible::Read => fd::recv(self.socket.as_fd(), &mut [0; 64], 0),
            Interruptible::Write(message) => fd::send(self.socket.as_fd(), message, 0),
        }
    }

    /// send(2).
    ///
    /// # Errors
    /// What the kernel says; EAGAIN after the time limit.
    pub(crate) fn send(&self, message: &[u8]) -> io::Result<usize> {
        fd::send(self.socket.as_fd(), message, 0)
    }

    /// send(2), without waiting.
    ///
    /// # Errors
    /// What the kernel says; EAGAIN if the buffer is full.
    pub(crate) fn try_send(&self, message: &[u8]) -> io::Result<usize> {
        fd::send(self.socket.as_fd(), message, libc::MSG_DONTWAIT)
    }

    /// Waits for something to read without a call that the probes see.
    ///
    /// Kernels such as 5.10.262 hold the socket's lock while recvmsg sleeps, so that nothing can
    /// be delivered: one must not sleep in it.
    ///
    /// # Errors
    /// `TimedOut` after the time limit.
    pub(crate) fn wait_readable(&self) -> io::Result<()> {
        fd::wait_for(self.socket.as_fd(), libc::POLLIN, CALL_TIMEOUT)
    }

    /// Waits until the connection has ended.
    ///
    /// # Errors
    /// `TimedOut` after the time limit.
    pub(crate) fn wait_hang_up(&self) -> io::Result<()> {
        // POLLHUP is always reported; asking for nothing waits for it alone.
        fd::wait_for(self.socket.as_fd(), 0, CALL_TIMEOUT)
    }

    /// recv(2), without waiting.
    ///
    /// # Errors
    /// What the kernel says; EAGAIN if there is nothing.
    pub(crate) fn recv(&self, buffer: &mut [u8]) -> io::Result<usize> {
        fd::recv(self.socket.as_fd(), buffer, libc::MSG_DONTWAIT)
    }

    /// recv(2) that leaves the message where it is.
    ///
    /// # Errors
    /// What the kernel says; EAGAIN if there is nothing.
    pub(crate) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_PEEK;
        fd::recv(self.socket.as_fd(), buffer, flags)
    }

    /// Its protocol, as metrics name it.
    pub(crate) const fn protocol(&self) -> Protocol {
        match self.service {
            Service::L2cap { .. } | Service::L2capLe { .. } => Protocol::L2cap,
            Service::Rfcomm { .. } => Protocol::Rfcomm,
            Service::Sco { .. } => Protocol::Sco,
            Service::Iso => Protocol::Iso,
        }
    }

    /// Who codes the voice that it carries, if it does.
    pub(crate) const fn voice(&self) -> Option<Voice> {
        match self.service {
            Service::Sco { voice } => Some(voice),
            _ => None,
        }
    }

    /// Does the peer give credits for each packet?
    pub(crate) const fn has_credits(&self) -> bool {
        matches!(self.service, Service::L2capLe { .. })
    }

    /// Does one read return exactly one message?
    pub(crate) const fn keeps_messages(&self) -> bool {
        match self.service {
            Service::L2cap { mode, .. } => !matches!(mode, L2capMode::EnhancedRetransmission),
            Service::Rfcomm { .. } => false,
            Service::L2capLe { .. } | Service::Sco { .. } | Service::Iso => true,
        }
    }
}

/// A call that may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Interruptible<'a> {
    /// recv(2).
    Read,
    /// send(2) of this message.
    Write(&'a [u8]),
}

/// `AF_BLUETOOTH`, as wide as addresses have it.
const FAMILY: u16 = 31;

/// What an address is for.
#[derive(Debug, Clone, Copy)]
enum Call {
    Bind,
    Connect,
}

impl Call {
    fn carry_out<T: fd::Plain>(self, socket: BorrowedFd<'_>, address: &T) -> io::Result<()> {
        match self {
            Self::Bind => fd::bind(socket, address),
            Self::Connect => fd::connect(socket, address),
        }
    }
}

const fn kind_and_protocol(service: Service) -> (i32, i32) {
    match service {
        Service::L2cap {
            mode: L2capMode::EnhancedRetransmission,
            ..
        } => (libc::SOCK_STREAM, sys::BTPROTO_L2CAP),
        Service::L2cap { .. } | Service::L2capLe { .. } => {
            (libc::SOCK_SEQPACKET, sys::BTPROTO_L2CAP)
        }
        Service::Rfcomm { .. } => (libc::SOCK_STREAM, sys::BTPROTO_RFCOMM),
        Service::Sco { .. } => (libc::SOCK_SEQPACKET, sys::BTPROTO_SCO),
        Service::Iso => (libc::SOCK_SEQPACKET, sys::BTPROTO_ISO),
    }
}

fn set_options(socket: &OwnedFd, service: Service) -> io::Result<()> {
    match service {
        Service::L2cap { mode, mtu, .. } => set_l2cap_options(socket, mode, mtu),
        Service::Rfcomm { .. } | Service::L2capLe { .. } | Service::Iso => Ok(()),
        Service::Sco { voice } => set_voice(socket, voice),
    }
}

fn set_voice(socket: &OwnedFd, voice: Voice) -> io::Result<()> {
    let setting = match voice {
        Voice::Cvsd => sys::BT_VOICE_CVSD_16BIT,
        Voice::Transparent => sys::BT_VOICE_TRANSPARENT,
    };
    let voice = sys::bt_voice { setting };
    fd::set_option(socket.as_fd(), sys::SOL_BLUETOOTH, sys::BT_VOICE, &voice)
}

fn l2cap_address(device: BdAddr, psm: u16) -> sys::sockaddr_l2 {
    sys::sockaddr_l2 {
        l2_family: FAMILY,
        l2_psm: psm.to_le(),
        l2_bdaddr: device.to_wire(),
        ..Default::default()
    }
}

/// Changes what differs from the kernel's defaults, leaves the rest.
fn set_l2cap_options(socket: &OwnedFd, mode: L2capMode, mtu: Option<u16>) -> io::Result<()> {
    if mtu.is_none() && mode == L2capMode::Basic {
        return Ok(());
    }
    let mut options: sys::l2cap_options =
        fd::get_option(socket.as_fd(), sys::SOL_L2CAP, sys::L2CAP_OPTIONS)?;
    if let Some(mtu) = mtu {
        options.imtu = mtu;
        options.omtu = mtu;
    }
    options.mode = match mode {
        L2capMode::Basic => sys::L2CAP_MODE_BASIC,
        L2capMode::EnhancedRetransmission => sys::L2CAP_MODE_ERTM,
        L2capMode::Streaming => sys::L2CAP_MODE_STREAMING,
    };
    fd::set_option(socket.as_fd(), sys::SOL_L2CAP, sys::L2CAP_OPTIONS, &options)
}

#[cfg(test)]
mod tests {
    use super::{BdAddr, l2cap_address};

    /// Check that the address lies in memory as the kernel reads it: PSM little-endian, BD_ADDR
    /// as on the wire.
    #[test]
    fn sockaddr_l2_from_address_is_in_wire_order() {
        let raw = l2cap_address(BdAddr::from_wire([1, 2, 3, 4, 5, 6]), 0x1001);
        assert_eq!(raw.l2_family, 31);
        assert_eq!(raw.l2_psm.to_ne_bytes(), [0x01, 0x10]);
        assert_eq!(raw.l2_bdaddr, [1, 2, 3, 4, 5, 6]);
        assert_eq!((raw.l2_cid, raw.l2_bdaddr_type), (0, 0));
    }
}
