//! Safe calls over owned descriptors of Bluetooth sockets.

use super::sys;
use libc::{c_int, c_void, socklen_t};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::time::Duration;

/// Structs that may be handed to the kernel as bytes and filled by it: plain integers, `repr(C)`.
///
/// # Safety
/// Any bit pattern must be a valid value.
pub(super) unsafe trait Plain: Copy + Default {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for sys::sockaddr_l2 {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for sys::sockaddr_rc {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for sys::sockaddr_sco {}
// SAFETY: integers.
unsafe impl Plain for sys::sockaddr_hci {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for sys::sockaddr_iso {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for sys::hci_ufilter {}
// SAFETY: an integer.
unsafe impl Plain for u16 {}
// SAFETY: an integer.
unsafe impl Plain for sys::bt_voice {}
// SAFETY: integers.
unsafe impl Plain for sys::bt_security {}
// SAFETY: integers.
unsafe impl Plain for sys::l2cap_options {}
// SAFETY: an integer.
unsafe impl Plain for u32 {}
// SAFETY: integers.
unsafe impl Plain for sys::hci_dev_req {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for sys::hci_dev_list {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for sys::hci_dev_info {}
// SAFETY: integers and arrays of them.
unsafe impl Plain for sys::hci_conn_list {}

/// socket(2), close-on-exec.
pub(super) fn socket(kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes no memory.
    let raw = unsafe { libc::socket(sys::AF_BLUETOOTH, kind | libc::SOCK_CLOEXEC, protocol) };
    own(raw)
}

/// bind(2).
pub(super) fn bind<T: Plain>(socket: BorrowedFd<'_>, address: &T) -> io::Result<()> {
    let (pointer, length) = as_sockaddr(address);
    // SAFETY: `pointer` is good for `length` bytes while `address` is borrowed.
    check(unsafe { libc::bind(socket.as_raw_fd(), pointer, length) })
}

/// connect(2).
pub(super) fn connect<T: Plain>(socket: BorrowedFd<'_>, address: &T) -> io::Result<()> {
    let (pointer, length) = as_sockaddr(address);
    // SAFETY: `pointer` is good for `length` bytes while `address` is borrowed.
    check(unsafe { libc::connect(socket.as_raw_fd(), pointer, length) })
}

/// listen(2).
pub(super) fn listen(socket: BorrowedFd<'_>, backlog: c_int) -> io::Result<()> {
    // SAFETY: takes no memory.
    check(unsafe { libc::listen(socket.as_raw_fd(), backlog) })
}

/// accept4(2), close-on-exec; the peer's address is not asked for.
pub(super) fn accept(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let none = std::ptr::null_mut();
    // SAFETY: null pointers mean that no address is wanted.
    let raw = unsafe {
        libc::accept4(
            socket.as_raw_fd(),
            none,
            std::ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    };
    own(raw)
}

/// send(2); the number of bytes taken.
pub(super) fn send(socket: BorrowedFd<'_>, bytes: &[u8], flags: c_int) -> io::Result<usize> {
    let pointer = bytes.as_ptr().cast::<c_void>();
    // SAFETY: `pointer` is good for `bytes.len()` bytes.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            pointer,
            bytes.len(),
            flags | libc::MSG_NOSIGNAL,
        )
    };
    usize::try_from(sent).map_err(|_negative| io::Error::last_os_error())
}

/// recv(2); the number of bytes put into `buffer`.
pub(super) fn recv(socket: BorrowedFd<'_>, buffer: &mut [u8], flags: c_int) -> io::Result<usize> {
    let pointer = buffer.as_mut_ptr().cast::<c_void>();
    // SAFETY: `pointer` is good for `buffer.len()` bytes.
    let got = unsafe { libc::recv(socket.as_raw_fd(), pointer, buffer.len(), flags) };
    usize::try_from(got).map_err(|_negative| io::Error::last_os_error())
}

/// What recvmsg(2) with MSG_ERRQUEUE gives besides data: level, type and bytes of each control message.
pub(super) type ControlMessages = Vec<(c_int, c_int, Vec<u8>)>;

/// recvmsg(2) with MSG_ERRQUEUE, without waiting; the number of bytes of data, which are thrown away.
pub(super) fn recv_error(socket: BorrowedFd<'_>) -> io::Result<(usize, ControlMessages)> {
    let mut data = [0_u8; 64];
    // Aligned as control messages are.
    let mut control = [0_u64; 64];
    let mut vector = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    };
    // SAFETY: a message header of zeros is one without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut vector;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control);
    let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
    // SAFETY: the header's pointers are good for their lengths during the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let got = usize::try_from(got).map_err(|_negative| io::Error::last_os_error())?;
    let length = message.msg_controllen.min(size_of_val(&control));
    let bytes: Vec<u8> = control.iter().flat_map(|word| word.to_ne_bytes()).collect();
    Ok((
        got,
        control_messages(bytes.get(..length).unwrap_or_default()),
    ))
}

/// Reads control messages: length (8 bytes, itself and the next two included), level, type, data, padding to 8 bytes.
fn control_messages(mut bytes: &[u8]) -> ControlMessages {
    let mut messages = Vec::new();
    while let Some((header, _)) = bytes.split_first_chunk::<16>() {
        let word = |at: usize| header.get(at..at + 4).and_then(|word| word.try_into().ok());
        let length = header
            .first_chunk::<8>()
            .map_or(0, |n| u64::from_ne_bytes(*n));
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let Some(data) = bytes.get(16..length) else {
            break;
        };
        let [level, kind] = [8, 12].map(|at| word(at).map_or(0, i32::from_ne_bytes));
        messages.push((level, kind, data.to_owned()));
        bytes = bytes.get(length.next_multiple_of(8)..).unwrap_or_default();
    }
    messages
}

/// poll(2) for `events`, or for an error or hang-up.
///
/// # Errors
/// What poll(2) says; `TimedOut` if nothing came.
pub(super) fn wait_for(socket: BorrowedFd<'_>, events: i16, timeout: Duration) -> io::Result<()> {
    let mut wanted = libc::pollfd {
        fd: socket.as_raw_fd(),
        events,
        revents: 0,
    };
    let timeout = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: one pollfd, valid for the call.
    match unsafe { libc::poll(&raw mut wanted, 1, timeout) } {
        0 => Err(io::ErrorKind::TimedOut.into()),
        1 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// getsockopt(2).
pub(super) fn get_option<T: Plain>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
) -> io::Result<T> {
    let mut value = T::default();
    let mut length = length_of::<T>();
    let pointer = (&raw mut value).cast::<c_void>();
    // SAFETY: `pointer` is good for `length` bytes, and any bytes are a valid `T`.
    check(unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, pointer, &raw mut length) })?;
    Ok(value)
}

/// setsockopt(2).
pub(super) fn set_option<T: Plain>(
    socket: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    let pointer = std::ptr::from_ref(value).cast::<c_void>();
    // SAFETY: `pointer` is good for the length of one `T`.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, pointer, length_of::<T>()) })
}

/// ioctl(2) whose argument is a number.
pub(super) fn ioctl_number(
    socket: BorrowedFd<'_>,
    request: libc::c_ulong,
    argument: libc::c_ulong,
) -> io::Result<()> {
    // SAFETY: these requests take a number, no memory.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), request, argument) })
}

/// ioctl(2) whose argument is a struct that the kernel may fill.
pub(super) fn ioctl_struct<T: Plain>(
    socket: BorrowedFd<'_>,
    request: libc::c_ulong,
    argument: &mut T,
) -> io::Result<()> {
    let pointer: *mut T = argument;
    // SAFETY: the request reads or fills exactly this struct, for which every bit pattern is valid.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), request, pointer) })
}

/// SO_RCVTIMEO and SO_SNDTIMEO, so that no call waits for ever.
pub(super) fn set_timeouts(socket: BorrowedFd<'_>, limit: Duration) -> io::Result<()> {
    for option in [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO] {
        set_timeout(socket, option, limit)?;
    }
    Ok(())
}

/// One of them; zero: none.
pub(super) fn set_timeout(
    socket: BorrowedFd<'_>,
    option: c_int,
    limit: Duration,
) -> io::Result<()> {
    let timeout = libc::timeval {
        tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
        tv_usec: limit.subsec_micros().into(),
    };
    let pointer = (&raw const timeout).cast::<c_void>();
    // SAFETY: `pointer` is good for one timeval.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            pointer,
            length_of::<libc::timeval>(),
        )
    })
}

fn as_sockaddr<T: Plain>(address: &T) -> (*const libc::sockaddr, socklen_t) {
    let pointer: *const T = address;
    (pointer.cast(), length_of::<T>())
}

fn length_of<T>() -> socklen_t {
    socklen_t::try_from(size_of::<T>()).expect("socket structs are small")
}

fn own(raw: c_int) -> io::Result<OwnedFd> {
    check(raw.min(0))?;
    // SAFETY: the kernel just returned this descriptor and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

fn check(result: c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::control_messages;

    /// Check that control messages are told apart, and that one that is cut or lies about its length ends
    /// the reading.
    #[test]
    fn control_messages_of_any_bytes_are_read_as_far_as_they_go() {
        let header = |length: u64, level: i32, kind: i32| {
            [
                &length.to_ne_bytes()[..],
                &level.to_ne_bytes(),
                &kind.to_ne_bytes(),
            ]
            .concat()
        };
        let padded = [header(19, 1, 2), vec![7, 8, 9, 0, 0, 0, 0, 0]].concat();
        let both = [padded.clone(), header(16, 3, 4)].concat();
        let first = (1, 2, vec![7, 8, 9]);
        assert_eq!(control_messages(&both), [first.clone(), (3, 4, vec![])]);
        let lying = [padded, header(99, 3, 4)].concat();
        assert_eq!(control_messages(&lying), [first]);
        assert_eq!(control_messages(&header(3, 1, 2)), []);
    }
}
