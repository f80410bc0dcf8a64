//! The one descriptor that stage 0 hands over, and calls that std does not wrap.

use evidence::AGENT_PORT_FD;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// Ends this process as a success, and leaves everything that it has open as it is: a copy of it keeps the descriptors and sleeps until the
/// machine ends. Detaching a hundred programs costs seconds, which a machine that is thrown away need not wait for.
pub(crate) fn exit_without_closing() -> ! {
    // SAFETY: the copy calls nothing but pause(2), which is safe whatever locks other threads held.
    if unsafe { libc::fork() } == 0 {
        loop {
            // SAFETY: takes no memory.
            unsafe { libc::pause() };
        }
    }
    // SAFETY: ends the process without running destructors, which would detach.
    unsafe { libc::_exit(0) }
}

/// This thread, as the kernel numbers it.
pub(crate) fn thread_id() -> i32 {
    // SAFETY: takes no memory.
    unsafe { libc::gettid() }
}

/// Has SIGUSR1 interrupt calls that wait, and do nothing else.
///
/// # Errors
/// What the kernel says.
pub(crate) fn catch_signal() -> io::Result<()> {
    extern "C" fn do_nothing(_signal: libc::c_int) {}
    // SAFETY: an action of zeros has no flags, so calls are not restarted, and masks nothing.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = do_nothing as *const () as libc::sighandler_t;
    // SAFETY: the handler does nothing, so that it may run at any time; the old action is not wanted.
    match unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Sends SIGUSR1 to a thread of this process, if it is there.
pub(crate) fn signal_thread(thread: i32) {
    let process = std::process::id();
    // SAFETY: takes no memory.
    unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGUSR1) };
}

/// `ip link set lo up`.
///
/// # Errors
/// What the kernel says.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    // SAFETY: takes no memory.
    let raw = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    if raw < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this descriptor and nobody else has it.
    let socket = unsafe { OwnedFd::from_raw_fd(raw) };
    // SAFETY: all fields are numbers, for which 0 is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo") {
        *to = from.cast_signed();
    }
    let up = libc::IFF_UP | libc::IFF_RUNNING;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(up).map_err(io::Error::other)?;
    // SAFETY: the request is readable for the whole call, and SIOCSIFFLAGS reads no more of it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// finit_module(2).
///
/// # Errors
/// What the kernel says.
pub(crate) fn insert_module(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the parameters are a string that ends with 0.
    let result =
        unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// delete_module(2), without waiting for its users.
///
/// # Errors
/// What the kernel says; EAGAIN or EWOULDBLOCK if it is in use.
pub(crate) fn remove_module(name: &str) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: the name is a string that ends with 0.
    let result = unsafe { libc::syscall(libc::SYS_delete_module, name.as_ptr(), libc::O_NONBLOCK) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sets the wall clock.
///
/// # Errors
/// The time cannot be told in the kernel's numbers, or this process may not set it.
pub(crate) fn set_clock_ahead(by: Duration) -> io::Result<()> {
    let since = (SystemTime::now() + by).duration_since(UNIX_EPOCH);
    let seconds = since.map_err(io::Error::other)?.as_secs();
    let time = libc::timespec {
        tv_sec: i64::try_from(seconds).map_err(io::Error::other)?,
        tv_nsec: 0,
    };
    // SAFETY: `time` lives through the call.
    match unsafe { libc::clock_settime(libc::CLOCK_REALTIME, &raw const time) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
