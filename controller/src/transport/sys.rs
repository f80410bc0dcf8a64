//! The one system call that the standard library does not wrap.
#![expect(unsafe_code, reason = "poll(2) takes a raw pointer")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// Waits until one of `fds` can be read (or has failed), and says which; none after `timeout`.
///
/// # Errors
/// What poll(2) says, but for EINTR, which is "none".
pub(crate) fn wait_readable(
    fds: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
) -> io::Result<Vec<bool>> {
    wait(fds, libc::POLLIN, timeout)
}

/// Waits until `fd` can be written (or has failed); `false` after `timeout`.
///
/// # Errors
/// What poll(2) says, but for EINTR, which is `false`.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, timeout: Duration) -> io::Result<bool> {
    let ready = wait(&[fd], libc::POLLOUT, Some(timeout))?;
    Ok(ready.contains(&true))
}

fn wait(
    fds: &[BorrowedFd<'_>],
    events: libc::c_short,
    timeout: Option<Duration>,
) -> io::Result<Vec<bool>> {
    let poll_fd = |fd: &BorrowedFd<'_>| libc::pollfd {
        fd: fd.as_raw_fd(),
        events,
        revents: 0,
    };
    let mut polled: Vec<libc::pollfd> = fds.iter().map(poll_fd).collect();
    let count = libc::nfds_t::try_from(polled.len()).map_err(io::Error::other)?;
    // SAFETY: `polled` is exclusively borrowed for the call and holds `count` initialized elements.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, milliseconds(timeout)) };
    if ready < 0 {
        let error = io::Error::last_os_error();
        return match error.kind() {
            io::ErrorKind::Interrupted => Ok(vec![false; fds.len()]),
            _ => Err(error),
        };
    }
    Ok(polled.iter().map(|fd| fd.revents != 0).collect())
}

/// Rounded up, so that what is due at the end of `timeout` is due after the wait; −1 is for ever.
fn milliseconds(timeout: Option<Duration>) -> libc::c_int {
    let Some(timeout) = timeout else { return -1 };
    let rounded_up = timeout.as_nanos().div_ceil(1_000_000);
    libc::c_int::try_from(rounded_up).unwrap_or(libc::c_int::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a wait is rounded up to whole milliseconds and never becomes negative.
    #[test]
    fn milliseconds_rounds_up() {
        assert_eq!(milliseconds(None), -1);
        assert_eq!(milliseconds(Some(Duration::ZERO)), 0);
        assert_eq!(milliseconds(Some(Duration::from_nanos(1))), 1);
        assert_eq!(milliseconds(Some(Duration::MAX)), libc::c_int::MAX);
    }
}
