//! What this process's own socket calls returned: the first witness.
//!
//! Written where the call returns, in user space; shares nothing with the probes.

use evidence::{CallCount, Direction, Protocol};
use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Debug, Default, Clone, Copy)]
struct Sum {
    calls: u64,
    bytes: u64,
}

/// Counts calls by protocol, direction and result. Shared between threads.
#[derive(Debug, Default)]
pub(crate) struct CallLog {
    sums: Mutex<BTreeMap<(Protocol, Direction, String), Sum>>,
    management_writes: AtomicU64,
}

impl CallLog {
    /// Counts one call and hands its result through.
    pub(crate) fn note(
        &self,
        protocol: Protocol,
        direction: Direction,
        result: io::Result<usize>,
    ) -> io::Result<usize> {
        let (name, bytes) = match &result {
            Ok(bytes) => ("ok".to_owned(), u64::try_from(*bytes).unwrap_or(u64::MAX)),
            Err(error) => (errno_name(error), 0),
        };
        let mut sums = self
            .sums
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let sum = sums.entry((protocol, direction, name)).or_default();
        sum.calls += 1;
        sum.bytes += bytes;
        result
    }

    /// Of the calls, one was a write to the management interface that succeeded.
    pub(crate) fn note_management_write(&self) {
        self.management_writes.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were noted.
    pub(crate) fn management_writes(&self) -> u64 {
        self.management_writes.load(Ordering::Relaxed)
    }

    /// All sums, sorted.
    pub(crate) fn counts(&self) -> Vec<CallCount> {
        let sums = self
            .sums
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        sums.iter()
            .map(|((protocol, direction, result), sum)| CallCount {
                protocol: *protocol,
                direction: *direction,
                result: result.clone(),
                calls: sum.calls,
                bytes: sum.bytes,
            })
            .collect()
    }
}

/// The C name of an error that a Bluetooth socket call can return; its number for any other.
fn errno_name(error: &io::Error) -> String {
    const NAMES: [(i32, &str); 18] = [
        (libc::EAGAIN, "EAGAIN"),
        (libc::EBADF, "EBADF"),
        (libc::EBADFD, "EBADFD"),
        (libc::ECONNABORTED, "ECONNABORTED"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
        (libc::ECONNRESET, "ECONNRESET"),
        (libc::EHOSTDOWN, "EHOSTDOWN"),
        (libc::EINTR, "EINTR"),
        (libc::EINVAL, "EINVAL"),
        (libc::EMSGSIZE, "EMSGSIZE"),
        (libc::ENETDOWN, "ENETDOWN"),
        (libc::ENODEV, "ENODEV"),
        (libc::ENOMEM, "ENOMEM"),
        (libc::ENOTCONN, "ENOTCONN"),
        (libc::EOPNOTSUPP, "EOPNOTSUPP"),
        (libc::EPIPE, "EPIPE"),
        (libc::ETIMEDOUT, "ETIMEDOUT"),
        // Never seen by user space; who interrupts a call knows whether it was this.
        (512, "ERESTARTSYS"),
    ];
    let number = error.raw_os_error().unwrap_or(0);
    let name = NAMES.iter().find(|(known, _)| *known == number);
    name.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that successes and failures are told apart and that bytes of successes add up.
    #[test]
    fn call_log_mixed_results_counts_each() {
        let log = CallLog::default();
        let write = |result| log.note(Protocol::L2cap, Direction::Write, result);
        assert!(write(Ok(101)).is_ok());
        assert!(write(Ok(307)).is_ok());
        assert!(write(Err(io::Error::from_raw_os_error(libc::EMSGSIZE))).is_err());
        let counts = log.counts();
        let short: Vec<_> = counts
            .iter()
            .map(|c| (c.result.as_str(), c.calls, c.bytes))
            .collect();
        assert_eq!(short, [("EMSGSIZE", 1, 0), ("ok", 2, 408)]);
    }
}
