//! The one descriptor that stage 0 hands over.

use evidence::AGENT_PORT_FD;
use std::fs::File;
use std::io;
use std::os::fd::FromRawFd as _;

/// The port that stage 0 opened.
///
/// # Errors
/// There is no such descriptor: somebody else started us.
pub(crate) fn inherited_port() -> io::Result<File> {
    // SAFETY: asks for flags of a number that may or may not be open.
    if unsafe { libc::fcntl(AGENT_PORT_FD, libc::F_GETFD) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open, and stage 0 left it to this process alone; called once.
    Ok(unsafe { File::from_raw_fd(AGENT_PORT_FD) })
}
