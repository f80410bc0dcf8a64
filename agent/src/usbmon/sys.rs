//! The ioctls of `/dev/usbmonN`.
//!
//! Kernel: v6.12 drivers/usb/mon/mon_bin.c, Documentation/usb/usbmon.rst.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;

/// Bytes of an event's header.
pub(super) const HEADER_BYTES: usize = 64;

/// `struct mon_get_arg`, as MON_IOCX_GETX takes it.
#[repr(C)]
struct mon_get_arg {
    hdr: *mut u8,
    data: *mut u8,
    alloc: usize,
}

/// `struct mon_bin_stats`.
#[derive(Debug, Default, Clone, Copy)]
#[repr(C)]
struct mon_bin_stats {
    queued: u32,
    dropped: u32,
}

const MON_IOCX_GETX: libc::c_ulong = 0x4018_920a;
const MON_IOCG_STATS: libc::c_ulong = 0x8008_9203;
const MON_IOCT_RING_SIZE: libc::c_ulong = 0x9204;

const _: () = {
    assert!(size_of::<mon_get_arg>() == 24);
    assert!(size_of::<mon_bin_stats>() == 8);
};

/// Takes the next event: its header, and as much of its data as `data` holds. The device must be open without waiting.
///
/// # Errors
/// `WouldBlock` if there is none, or what the kernel says.
pub(super) fn next_event(
    device: &File,
    header: &mut [u8; HEADER_BYTES],
    data: &mut [u8],
) -> io::Result<()> {
    let mut argument = mon_get_arg {
        hdr: header.as_mut_ptr(),
        data: data.as_mut_ptr(),
        alloc: data.len(),
    };
    // SAFETY: the kernel writes 64 bytes to `hdr` and at most `alloc` bytes to `data`; both are exclusively borrowed for the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), MON_IOCX_GETX, &raw mut argument) };
    check(result)
}

/// Events that the kernel had no room for since the last call.
///
/// # Errors
/// What the kernel says.
pub(super) fn dropped(device: &File) -> io::Result<u32> {
    let mut stats = mon_bin_stats::default();
    // SAFETY: the kernel writes the 8 bytes of `stats`, which is exclusively borrowed for the call.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), MON_IOCG_STATS, &raw mut stats) };
    check(result).map(|()| stats.dropped)
}

/// Gives the kernel room for so many bytes of events.
///
/// # Errors
/// What the kernel says.
pub(super) fn set_ring_size(device: &File, bytes: libc::c_int) -> io::Result<()> {
    // SAFETY: takes a number.
    check(unsafe { libc::ioctl(device.as_raw_fd(), MON_IOCT_RING_SIZE, bytes) })
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        0.. => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
