//! System calls that std does not offer. All unsafe code of stage 0 is here.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Writes one line where the kernel's console is. Errors are dropped: there is nowhere else.
pub(crate) fn console(line: &str) {
    if let Ok(mut console) = std::fs::OpenOptions::new().write(true).open("/dev/console") {
        let _ = writeln!(console, "{line}");
    }
}

/// mount(2) without data.
pub(crate) fn mount(fs: &str, target: &str) -> io::Result<()> {
    let fs = CString::new(fs)?;
    let target = CString::new(target)?;
    // SAFETY: both strings live through the call and end in NUL; the data pointer may be null.
    let result = unsafe {
        libc::mount(
            fs.as_ptr(),
            target.as_ptr(),
            fs.as_ptr(),
            0,
            std::ptr::null(),
        )
    };
    check(result.into())
}

/// finit_module(2) without parameters.
pub(crate) fn insert_module(file: &File) -> io::Result<()> {
    let parameters: &CStr = c"";
    // SAFETY: the descriptor is open and the parameter string ends in NUL.
    let result = unsafe {
        libc::syscall(
            libc::SYS_finit_module,
            file.as_raw_fd(),
            parameters.as_ptr(),
            0,
        )
    };
    check(result)
}

/// Restarts the machine at once. Does not return unless the kernel refuses.
pub(crate) fn restart() {
    // SAFETY: takes no memory; PID 1 may call it, and nothing is mounted that needs a sync.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
}

/// CLOCK_BOOTTIME in nanoseconds.
pub(crate) fn boottime_ns() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` is a valid timespec to write to.
    unsafe { libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut now) };
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanoseconds
}

/// Makes `command` find a duplicate of `fd` at number `number`.
pub(crate) fn pass_fd(command: &mut Command, fd: BorrowedFd<'_>, number: i32) {
    let raw = fd.as_raw_fd();
    // SAFETY: `place_fd` makes async-signal-safe calls only, allocates nothing, takes no lock.
    unsafe { command.pre_exec(move || place_fd(raw, number)) };
}

/// Puts `raw` at `number`, to stay open over exec. dup2(2) onto itself would leave close-on-exec.
fn place_fd(raw: i32, number: i32) -> io::Result<()> {
    let result = if raw == number {
        // SAFETY: changes a flag of an open descriptor.
        unsafe { libc::fcntl(raw, libc::F_SETFD, 0) }
    } else {
        // SAFETY: `raw` is open; whatever is at `number` in this fresh child is not needed.
        unsafe { libc::dup2(raw, number) }
    };
    check(result.min(0).into())
}

fn check(result: i64) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
