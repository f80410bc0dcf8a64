//! AF_BLUETOOTH sockets in three layers: the kernel's constants and structs (`sys`), safe calls
//! over owned descriptors (`fd`), and typed sockets (`socket`, `device`,
//! `hci`).

pub(crate) mod device;
mod fd;
pub(crate) mod hci;
pub(crate) mod host;
pub(crate) mod link;
pub(crate) mod memory;
pub(crate) mod socket;
mod sys;

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// Waits until a descriptor can be read.
///
/// # Errors
/// What poll(2) says; `TimedOut` if nothing came.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    fd::wait_for(fd, libc::POLLIN, timeout)
}
