//! System calls that std does not offer: sockets to hand to QEMU, and making sure that QEMU does
//! not outlive us. All unsafe code of the harness is here.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// A connected pair: ours, and one that survives exec in a child that is told its number.
///
/// # Errors
/// socketpair(2) fails.
pub(crate) fn pair_for_child() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = UnixStream::pair()?;
    Ok((ours, theirs.into()))
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
