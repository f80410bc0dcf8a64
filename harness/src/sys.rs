//! System calls that std does not offer: sockets to hand to QEMU, making sure that QEMU does not
//! outlive us, and a terminal of which every key goes into a guest. All unsafe code of the harness
//! is here.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

/// A connected pair: ours, and one that survives exec in a child that is told its number.
///
/// # Errors
/// socketpair(2) fails.
pub(crate) fn pair_for_child() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((ours, theirs.into()))
}

/// Writes `bytes` with a descriptor beside them, which the reader gets as its own.
///
/// # Errors
/// What sendmsg(2) says, or that it took only part of them.
pub(crate) fn send_with_fd(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fd: BorrowedFd<'_>,
) -> io::Result<()> {
    const FD_BYTES: libc::c_uint = 4;
    let mut control = [0u64; 4];
    let mut part = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all-zero is a valid msghdr: null pointers and zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    // SAFETY: computes from a number.
    let space = unsafe { libc::CMSG_SPACE(FD_BYTES) };
    message.msg_controllen = usize::try_from(space).map_err(io::Error::other)?;
    // SAFETY: the message's control buffer is `control`, which is aligned for a header and larger than `space`.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: computes from a number.
    let length = unsafe { libc::CMSG_LEN(FD_BYTES) };
    let filled = libc::cmsghdr {
        cmsg_len: usize::try_from(length).map_err(io::Error::other)?,
        cmsg_level: libc::SOL_SOCKET,
        cmsg_type: libc::SCM_RIGHTS,
    };
    // SAFETY: `header` points to the start of `control`, which has room for it.
    unsafe { header.write(filled) };
    // SAFETY: `header` points to a header that is followed by room for a descriptor.
    let data = unsafe { libc::CMSG_DATA(header) };
    // SAFETY: as above; no alignment is asked of the place.
    unsafe { data.cast::<i32>().write_unaligned(fd.as_raw_fd()) };
    // SAFETY: everything that `message` points to lives until the call returns, and is only read.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    match usize::try_from(sent) {
        Ok(sent) if sent == bytes.len() => Ok(()),
        Ok(_) => Err(io::ErrorKind::WriteZero.into()),
        Err(_negative) => Err(io::Error::last_os_error()),
    }
}

/// Makes `command` keep `fds` open over exec, die with the calling thread, and stand in a process
/// group of its own so that Ctrl-C on the terminal reaches us alone.
pub(crate) fn tie_to_this_thread(command: &mut Command, fds: &[OwnedFd]) {
    let raw: Vec<i32> = fds.iter().map(|fd| fd.as_raw_fd()).collect();
    let parent = std::process::id();
    command.process_group(0);
    let prepare = move || {
        die_with_parent(parent)?;
        raw.iter().try_for_each(|fd| keep_over_exec(*fd))
    };
    // SAFETY: `prepare` makes async-signal-safe calls only; the vector was filled before the fork.
    unsafe { command.pre_exec(prepare) };
}

/// Asks for SIGKILL when the parent thread ends, and notices a parent that ended before.
fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: takes nothing.
    let now = unsafe { libc::getppid() };
    if u32::try_from(now) == Ok(parent) {
        Ok(())
    } else {
        Err(io::ErrorKind::BrokenPipe.into())
    }
}

fn keep_over_exec(fd: i32) -> io::Result<()> {
    // SAFETY: clears a flag of a descriptor that the parent holds open.
    match unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Kills every process of a group. One that is gone needs no killing.
pub(crate) fn kill_group(leader: u32) {
    if let Ok(leader) = i32::try_from(leader) {
        // SAFETY: takes numbers only. The group is that of a child of ours that was not waited for
        // to its end by others, so the number is still its.
        unsafe { libc::killpg(leader, libc::SIGKILL) };
    }
}

/// A terminal that passes every key on as it is. Dropping this gives it its manners back.
pub(crate) struct RawTerminal<F: AsRawFd> {
    file: F,
    before: libc::termios,
}

impl<F: AsRawFd> RawTerminal<F> {
    /// # Errors
    /// This is no terminal.
    pub(crate) fn enter(file: F) -> io::Result<Self> {
        let mut settings = MaybeUninit::<libc::termios>::uninit();
        // SAFETY: `settings` is a place for what the call writes.
        check(unsafe { libc::tcgetattr(file.as_raw_fd(), settings.as_mut_ptr()) })?;
        // SAFETY: the call succeeded and has written it.
        let before = unsafe { settings.assume_init() };
        let mut raw = before;
        // SAFETY: changes fields of a structure of ours.
        unsafe { libc::cfmakeraw(&raw mut raw) };
        // SAFETY: `raw` lives through the call.
        check(unsafe { libc::tcsetattr(file.as_raw_fd(), libc::TCSADRAIN, &raw const raw) })?;
        Ok(Self { file, before })
    }

    /// Rows and columns, if the terminal has any.
    pub(crate) fn size(&self) -> Option<(u16, u16)> {
        let mut size = libc::winsize {
            ws_row: 0,
            ws_col: 0,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: `size` is a place for what the call writes, of the type that it writes.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
        (result == 0 && size.ws_row > 0 && size.ws_col > 0).then_some((size.ws_row, size.ws_col))
    }
}

impl<F: AsRawFd> Drop for RawTerminal<F> {
    fn drop(&mut self) {
        let file = self.file.as_raw_fd();
        // SAFETY: `before` lives through the call. A terminal that is gone needs no manners.
        unsafe { libc::tcsetattr(file, libc::TCSADRAIN, &raw const self.before) };
    }
}

/// Waits so long until there is something to read, or the end.
///
/// # Errors
/// poll(2) fails.
pub(crate) fn wait_readable(file: &impl AsRawFd, patience: Duration) -> io::Result<bool> {
    let mut wanted = libc::pollfd {
        fd: file.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let milliseconds = i32::try_from(patience.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: one structure, which lives through the call.
    match unsafe { libc::poll(&raw mut wanted, 1, milliseconds) } {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(io::Error::last_os_error()),
    }
}

fn check(result: i32) -> io::Result<()> {
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;

    /// Check that bytes arrive whole, and that the descriptor beside them stays open for the reader when the sender closes its own.
    #[test]
    fn send_with_fd_hands_over_bytes() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut near, far) = UnixStream::pair().unwrap();
        send_with_fd(ours.as_fd(), b"take this", far.as_fd()).unwrap();
        drop(far);
        // The other end is open still: it is on its way.
        near.write_all(b"x").unwrap();
        drop(ours);
        let mut text = String::new();
        theirs.read_to_string(&mut text).unwrap();
        assert_eq!(text, "take this");
    }
}
