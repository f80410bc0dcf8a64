//! What the kernel reports in a socket's error queue: when each message was sent, and when completed.

use super::{CALL_TIMEOUT, Socket};
use crate::bluetooth::{fd, sys};
use std::io;
use std::os::fd::AsFd as _;

impl Socket {
    /// Has the kernel report when each message is handed to the driver, and when the controller is done with it.
    ///
    /// # Errors
    /// What the kernel says; EINVAL if it has not such reports.
    pub(crate) fn set_timestamps(&self) -> io::Result<()> {
        let wanted = libc::SOF_TIMESTAMPING_TX_SOFTWARE
            | libc::SOF_TIMESTAMPING_SOFTWARE
            | libc::SOF_TIMESTAMPING_OPT_ID
            | sys::SOF_TIMESTAMPING_TX_COMPLETION;
        fd::set_option(
            self.socket.as_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            &wanted,
        )
    }

    /// Waits for a report in the error queue.
    ///
    /// # Errors
    /// `TimedOut` after the time limit.
    pub(crate) fn wait_report(&self) -> io::Result<()> {
        // POLLERR is always reported; asking for nothing waits for it alone.
        fd::wait_for(self.socket.as_fd(), 0, CALL_TIMEOUT)
    }

    /// recv(2) from the error queue, without waiting.
    ///
    /// # Errors
    /// What the kernel says; EAGAIN if there is nothing.
    pub(crate) fn recv_report(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE;
        fd::recv(self.socket.as_fd(), buffer, flags)
    }

    /// Has the kernel stamp what is written; says whether it can.
    ///
    /// # Errors
    /// What the kernel says, unless it does not know of completion stamps.
    pub(crate) fn stamp_writes(&self) -> io::Result<bool> {
        let flags = sys::SOF_TIMESTAMPING_TX_SOFTWARE
            | sys::SOF_TIMESTAMPING_TX_COMPLETION
            | sys::SOF_TIMESTAMPING_SOFTWARE
            | sys::SOF_TIMESTAMPING_OPT_ID
            | sys::SOF_TIMESTAMPING_OPT_TSONLY;
        let (socket, option) = (self.socket.as_fd(), libc::SO_TIMESTAMPING);
        match fd::set_option(socket, libc::SOL_SOCKET, option, &flags) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes one stamp out of the error queue: recvmsg(2) with MSG_ERRQUEUE. The number of bytes that the call returned, and the stamp if
    /// there is one in it.
    ///
    /// # Errors
    /// What the kernel says; EAGAIN if there is none.
    pub(crate) fn read_stamp(&self) -> io::Result<(usize, Option<KernelStamp>)> {
        let (bytes, messages) = fd::recv_error(self.socket.as_fd())?;
        let find = |level, kind| {
            let is = |message: &&(i32, i32, Vec<u8>)| (message.0, message.1) == (level, kind);
            messages.iter().find(is).map(|message| message.2.as_slice())
        };
        let error = find(sys::SOL_BLUETOOTH, sys::BT_SCM_ERROR);
        let times = find(libc::SOL_SOCKET, libc::SO_TIMESTAMPING);
        Ok((
            bytes,
            error.zip(times).and_then(|(e, t)| kernel_stamp(e, t)),
        ))
    }
}

/// One stamp of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KernelStamp {
    /// Number of the write.
    pub(crate) write: u32,
    /// Is it that of the completion, and not that of the way to the driver?
    pub(crate) completed: bool,
    /// On the kernel's wall clock, nanoseconds.
    pub(crate) at_ns: i64,
}

/// Reads a `struct sock_extended_err` and a `struct scm_timestamping`: seconds and nanoseconds.
fn kernel_stamp(error: &[u8], times: &[u8]) -> Option<KernelStamp> {
    let word = |at: usize| Some(u32::from_ne_bytes(*error.get(at..)?.first_chunk()?));
    let long = |at: usize| Some(i64::from_ne_bytes(*times.get(at..)?.first_chunk()?));
    let completed = match word(8)? {
        sys::SCM_TSTAMP_SND => false,
        sys::SCM_TSTAMP_COMPLETION => true,
        _ => return None,
    };
    Some(KernelStamp {
        write: word(12)?,
        completed,
        at_ns: long(0)?.checked_mul(1_000_000_000)?.checked_add(long(8)?)?,
    })
}
