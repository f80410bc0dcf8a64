//! Calls that wait, and are interrupted by signals.

use super::Stage;
use crate::bluetooth::socket::{Interruptible, Socket};
use crate::sys;
use crate::transfer;
use anyhow::{Context as _, ensure};
use evidence::Direction;
use std::io;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::Duration;

/// A signal that comes before the call waits is lost; so it is sent again and again.
const SIGNAL_PAUSE: Duration = Duration::from_millis(5);
/// What a call without a time limit returns within the kernel. Kernel: include/net/sock.h `sock_intr_errno()`.
const ERESTARTSYS: i32 = 512;

impl Stage<'_> {
    /// Has reads, or writes of so many bytes, wait and be interrupted.
    pub(super) fn interrupt(
        &self,
        name: &str,
        writes: Option<usize>,
        limited: bool,
        times: u32,
    ) -> anyhow::Result<()> {
        let socket = self.socket(name)?;
        let limits = socket.set_limited(limited);
        limits.context("failed to set the time limits")?;
        for _ in 0..times {
            let result = interrupted(socket, writes)?;
            let direction = writes.map_or(Direction::Read, |_| Direction::Write);
            let error = match result {
                Err(error) if error.raw_os_error() == Some(libc::EINTR) => error,
                other => anyhow::bail!("a call that was to be interrupted gave {other:?}"),
            };
            // User space sees the same error either way.
            let within = if limited {
                error
            } else {
                io::Error::from_raw_os_error(ERESTARTSYS)
            };
            let noted = self.calls.note(socket.protocol(), direction, Err(within));
            ensure!(noted.is_err(), "an error became a success");
        }
        socket
            .set_limited(true)
            .context("failed to set the time limits")
    }
}

/// One call in a thread of its own, which gets signals until it ends.
fn interrupted(socket: &Socket, writes: Option<usize>) -> anyhow::Result<io::Result<usize>> {
    sys::catch_signal().context("failed to catch a signal")?;
    let thread_id = AtomicI32::new(0);
    let call = || {
        thread_id.store(sys::thread_id(), Ordering::Release);
        match writes {
            Some(bytes) => socket.wait_in(Interruptible::Write(&transfer::message(0, bytes))),
            None => socket.wait_in(Interruptible::Read),
        }
    };
    thread::scope(|scope| {
        let waiting = scope.spawn(call);
        while !waiting.is_finished() {
            thread::sleep(SIGNAL_PAUSE);
            match thread_id.load(Ordering::Acquire) {
                0 => {}
                thread => sys::signal_thread(thread),
            }
        }
        waiting
            .join()
            .map_err(|_panic| anyhow::anyhow!("a thread panicked"))
    })
}
