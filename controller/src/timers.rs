//! What is to happen later.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::le::advertising::SetId;
use crate::types::{BdAddr, ConnHandle, ControllerId};

/// Something that happens when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The device that is paged has not answered.
    Page { pager: ControllerId, addr: BdAddr },
    /// The host has not answered a connection request.
    Accept {
        acceptor: ControllerId,
        addr: BdAddr,
    },
    /// The device whose name is asked for has not answered.
    RemoteName { asker: ControllerId, addr: BdAddr },
    /// The host has not answered a request for a synchronous connection.
    AcceptSync {
        acceptor: ControllerId,
        addr: BdAddr,
    },
    /// The host has not answered a request for an isochronous stream.
    AcceptCis {
        acceptor: ControllerId,
        handle: ConnHandle,
    },
    /// The time of an inquiry is over.
    Inquiry { id: ControllerId },
    /// The time of an LE advertiser is over.
    Advertising { id: ControllerId, which: SetId },
    /// A scanner that wants duplicates is to report them.
    ScanAgain { id: ControllerId },
    /// The time of an LE scan is over.
    ScanEnds { id: ControllerId },
    /// No host has answered in a pairing.
    Pairing { number: u64 },
    /// A packet that was held back is to go on.
    Release { number: u64 },
    /// The other end of a link is gone.
    Supervision {
        id: ControllerId,
        handle: ConnHandle,
    },
}

/// Names one timer that was set, for cancelling it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TimerKey {
    at: Duration,
    serial: u64,
}

/// Timers by time; those of one instant in the order they were set.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    set: BTreeMap<TimerKey, Timer>,
    serial: u64,
}

impl Timers {
    pub(crate) fn set(&mut self, at: Duration, timer: Timer) -> TimerKey {
        self.serial += 1;
        let key = TimerKey {
            at,
            serial: self.serial,
        };
        self.set.insert(key, timer);
        key
    }

    pub(crate) fn cancel(&mut self, key: TimerKey) {
        self.set.remove(&key);
    }

    pub(crate) fn next(&self) -> Option<Duration> {
        self.set.first_key_value().map(|(key, _)| key.at)
    }

    /// Takes out the next timer, if its time has come.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<Timer> {
        let entry = self.set.first_entry()?;
        (entry.key().at <= now).then(|| entry.remove())
    }
}

/// A number of baseband slots (625 µs each).
pub(crate) fn slots(number: u16) -> Duration {
    Duration::from_micros(625) * u32::from(number)
}

/// A time in baseband slots, rounded down; as many as the field holds if it is longer.
pub(crate) fn in_slots(time: Duration) -> u16 {
    u16::try_from(time.as_micros() / 625).unwrap_or(u16::MAX)
}
