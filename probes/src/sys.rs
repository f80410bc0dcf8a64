//! The one call that libbpf-rs does not wrap.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libbpf_sys::{bpf_prog_get_info_by_fd, bpf_prog_info};

/// Runs of a program that the kernel skipped, because it was already running on that CPU.
///
/// Kernels before 5.12 do not count them and answer 0.
pub(crate) fn recursion_misses(prog: BorrowedFd<'_>) -> io::Result<u64> {
    let mut info = bpf_prog_info::default();
    let mut length = u32::try_from(size_of::<bpf_prog_info>()).map_err(io::Error::other)?;
    // SAFETY: `info` is writable for `length` bytes, and all its pointers and counts are 0, so that
    // the kernel writes to nothing else.
    let result =
        unsafe { bpf_prog_get_info_by_fd(prog.as_raw_fd(), &raw mut info, &raw mut length) };
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(info.recursion_misses)
}
