//! HCI sockets: beside the kernel (raw), in its place (user channel), and to its management interface.

use super::{fd, sys};
use crate::calls::CallLog;
use controller::Opcode;
use evidence::{Direction, HciChannel, Protocol};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

/// No packet is waited for longer.
const TIMEOUT: Duration = Duration::from_secs(40);
/// Longer than any event and any record of the management interface that comes here.
const BUFFER_BYTES: usize = 4096;
/// `AF_BLUETOOTH`, as wide as addresses have it.
const FAMILY: u16 = 31;
/// Spec: Core 5.4, Vol 4, Part A, 2, and Part E, 7.7.14.
const COMMAND: u8 = 1;
const ACL: u8 = 2;
const EVENT: u8 = 4;
const COMMAND_COMPLETE: u8 = 0x0e;

/// A socket that carries HCI packets of one device.
#[derive(Debug)]
pub(crate) struct HciSocket {
    socket: OwnedFd,
    hci: u16,
    channel: HciChannel,
}

impl HciSocket {
    /// Binds a socket to a device.
    ///
    /// # Errors
    /// What the kernel says; EBUSY on the user channel of a device that is up.
    pub(crate) fn open(hci: u16, channel: HciChannel) -> io::Result<Self> {
        let socket = fd::socket(libc::SOCK_RAW, sys::BTPROTO_HCI)?;
        let hci_channel = match channel {
            HciChannel::Raw => sys::HCI_CHANNEL_RAW,
            HciChannel::User => sys::HCI_CHANNEL_USER,
        };
        bind(&socket, hci, hci_channel)?;
        Ok(Self {
            socket,
            hci,
            channel,
        })
    }

    /// The N of hciN if the kernel does not see what is read here.
    pub(crate) fn takes_over(&self) -> Option<u16> {
        (self.channel == HciChannel::User).then_some(self.hci)
    }

    /// Sends a command without parameters and reads until its Command Complete event. Says how many packets were read, and what the event's
    /// return parameters are.
    ///
    /// # Errors
    /// A call fails, or the event does not come.
    pub(crate) fn complete(&self, opcode: Opcode, calls: &CallLog) -> io::Result<(u32, Vec<u8>)> {
        if self.channel == HciChannel::Raw {
            self.filter(opcode)?;
        }
        self.send(opcode, calls)?;
        let [low, high] = opcode.0.to_le_bytes();
        let mut packets = 0;
        loop {
            let packet = self.read(calls)?;
            packets += 1;
            if let [EVENT, COMMAND_COMPLETE, _, _, l, h, ref parameters @ ..] = packet[..]
                && (l, h) == (low, high)
            {
                return Ok((packets, parameters.to_vec()));
            }
        }
    }

    /// Sends a command without parameters.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn send(&self, opcode: Opcode, calls: &CallLog) -> io::Result<()> {
        self.send_with(opcode, &[], calls)
    }

    /// Sends a command.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn send_with(
        &self,
        opcode: Opcode,
        parameters: &[u8],
        calls: &CallLog,
    ) -> io::Result<()> {
        let [low, high] = opcode.0.to_le_bytes();
        let length = u8::try_from(parameters.len()).map_err(io::Error::other)?;
        self.write(&[&[COMMAND, low, high, length], parameters].concat(), calls)
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn write(&self, packet: &[u8], calls: &CallLog) -> io::Result<()> {
        write(&self.socket, packet, calls)
    }

    /// Reads the next packet.
    ///
    /// # Errors
    /// What the kernel says, or none comes.
    pub(crate) fn read(&self, calls: &CallLog) -> io::Result<Vec<u8>> {
        read(&self.socket, calls)
    }

    /// Is there a packet to read?
    ///
    /// # Errors
    /// What poll(2) says.
    pub(crate) fn is_readable(&self) -> io::Result<bool> {
        match fd::wait_for(self.socket.as_fd(), libc::POLLIN, Duration::ZERO) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Nothing but ACL data comes through.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn filter_acl(&self) -> io::Result<()> {
        let filter = sys::hci_ufilter {
            type_mask: 1 << ACL,
            ..Default::default()
        };
        fd::set_option(self.socket.as_fd(), sys::SOL_HCI, sys::HCI_FILTER, &filter)
    }

    /// The N of its device's hciN.
    pub(crate) fn hci(&self) -> u16 {
        self.hci
    }

    /// Only the answer to this command comes through.
    fn filter(&self, opcode: Opcode) -> io::Result<()> {
        let filter = sys::hci_ufilter {
            type_mask: 1 << EVENT,
            event_mask: [1 << COMMAND_COMPLETE, 0],
            opcode: opcode.0,
        };
        let socket = self.socket.as_fd();
        fd::set_option(socket, sys::SOL_HCI, sys::HCI_FILTER, &filter)
    }
}

/// The management interface of all devices.
///
/// Kernel: include/net/bluetooth/mgmt.h, net/bluetooth/mgmt.c; BlueZ: doc/mgmt-api.txt.
#[derive(Debug)]
pub(crate) struct Management {
    socket: OwnedFd,
}

/// What the management interface answered that is not success.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ManagementError {
    /// The socket failed.
    #[error("the management interface cannot be reached")]
    Io(#[from] io::Error),
    /// It refused.
    #[error("management command {opcode:#06x} was refused with status {status:#04x}{}", status_name(*.status))]
    Refused { opcode: u16, status: u8 },
}

fn status_name(status: u8) -> &'static str {
    match status {
        0x01 => " (unknown command)",
        0x0a => " (busy)",
        0x0b => " (rejected)",
        0x0c => " (not supported)",
        0x0d => " (invalid parameters)",
        0x0f => " (not powered)",
        0x11 => " (invalid index)",
        _ => "",
    }
}

const SET_BONDABLE: u16 = 0x0009;
const SET_SECURE_SIMPLE_PAIRING: u16 = 0x000b;
const SET_LE: u16 = 0x000d;
const SET_ADVERTISING: u16 = 0x0029;
const SET_EXPERIMENTAL_FEATURE: u16 = 0x004a;
/// Connectable, whatever the device's own setting.
const CONNECTABLE: u8 = 0x02;
const EVENT_COMMAND_COMPLETE: u16 = 0x0001;
const EVENT_COMMAND_STATUS: u16 = 0x0002;
/// 6fbaf188-05e0-496a-9885-d6ddfdb4e03e, last octet first: sockets for isochronous channels.
const ISO_SOCKETS: [u8; 16] = [
    0x3e, 0xe0, 0xb4, 0xfd, 0xdd, 0xd6, 0x85, 0x98, 0x6a, 0x49, 0xe0, 0x05, 0x88, 0xf1, 0xba, 0x6f,
];

impl Management {
    /// Opens the interface.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn open() -> io::Result<Self> {
        let socket = fd::socket(libc::SOCK_RAW, sys::BTPROTO_HCI)?;
        bind(&socket, sys::HCI_DEV_NONE, sys::HCI_CHANNEL_CONTROL)?;
        Ok(Self { socket })
    }

    /// Turns Secure Simple Pairing on, and lets others pair.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn make_pairable(&self, hci: u16, calls: &CallLog) -> Result<(), ManagementError> {
        self.command(SET_SECURE_SIMPLE_PAIRING, hci, &[1], calls)?;
        self.command(SET_BONDABLE, hci, &[1], calls)
    }

    /// Turns LE on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn enable_le(&self, hci: u16, calls: &CallLog) -> Result<(), ManagementError> {
        self.command(SET_LE, hci, &[1], calls)
    }

    /// Advertises so that others can connect.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn advertise(&self, hci: u16, calls: &CallLog) -> Result<(), ManagementError> {
        self.command(SET_ADVERTISING, hci, &[CONNECTABLE], calls)
    }

    /// Turns sockets for isochronous channels on, where they are an experiment.
    ///
    /// # Errors
    /// The kernel refuses; *not supported* where it knows no such experiment.
    pub(crate) fn enable_iso_sockets(&self, calls: &CallLog) -> Result<(), ManagementError> {
        let parameters = [&ISO_SOCKETS[..], &[1]].concat();
        self.command(
            SET_EXPERIMENTAL_FEATURE,
            sys::HCI_DEV_NONE,
            &parameters,
            calls,
        )
    }

    /// Sends a command and reads until its answer; what else comes is passed over.
    fn command(
        &self,
        opcode: u16,
        index: u16,
        parameters: &[u8],
        calls: &CallLog,
    ) -> Result<(), ManagementError> {
        let length = u16::try_from(parameters.len()).map_err(io::Error::other)?;
        let header = [opcode, index, length].map(u16::to_le_bytes).concat();
        write(&self.socket, &[&header, parameters].concat(), calls)?;
        calls.note_management_write();
        loop {
            let record = read(&self.socket, calls)?;
            let [e0, e1, _, _, _, _, o0, o1, status, ..] = record[..] else {
                continue;
            };
            let (event, of) = (u16::from_le_bytes([e0, e1]), u16::from_le_bytes([o0, o1]));
            let is_answer = matches!(event, EVENT_COMMAND_COMPLETE | EVENT_COMMAND_STATUS);
            match status {
                _ if !is_answer || of != opcode => {}
                0 => return Ok(()),
                status => return Err(ManagementError::Refused { opcode, status }),
            }
        }
    }
}

fn bind(socket: &OwnedFd, hci_dev: u16, hci_channel: u16) -> io::Result<()> {
    let address = sys::sockaddr_hci {
        hci_family: FAMILY,
        hci_dev,
        hci_channel,
    };
    fd::bind(socket.as_fd(), &address)
}

fn write(socket: &OwnedFd, packet: &[u8], calls: &CallLog) -> io::Result<()> {
    let result = fd::send(socket.as_fd(), packet, 0);
    calls.note(Protocol::Hci, Direction::Write, result)?;
    Ok(())
}

fn read(socket: &OwnedFd, calls: &CallLog) -> io::Result<Vec<u8>> {
    fd::wait_for(socket.as_fd(), libc::POLLIN, TIMEOUT)?;
    let mut buffer = vec![0; BUFFER_BYTES];
    let result = fd::recv(socket.as_fd(), &mut buffer, libc::MSG_DONTWAIT);
    let length = calls.note(Protocol::Hci, Direction::Read, result)?;
    buffer.truncate(length);
    Ok(buffer)
}
