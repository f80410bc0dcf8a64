//! The bulk IN endpoint: ACL data into transfers that the host offers.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Dongle, RESTART_PATIENCE, error_of};
use crate::hci::wire::Rest;
use crate::transport::usbredir::UsbEndpoint;
use crate::transport::usbredir::wire::{Bulk, Message, Packet, status};

/// More than a host has under way at a time.
const REMEMBERED_TRANSFERS: usize = 16;

#[derive(Debug, Default)]
pub(super) struct AclIn {
    /// Transfers that the host offers.
    pub(super) offered: VecDeque<(u64, Bulk)>,
    /// So many of them were there when one before ended with an error: host controllers take them back and offer them anew. Until when to wait
    /// for that.
    pub(super) stale: usize,
    stale_until: Duration,
    /// How the last transfers were answered, and what went into them. A host that takes one back after that has not seen it, and never will.
    answered: VecDeque<Answered>,
    /// An error that came back that way.
    again: Option<u8>,
    /// So many of those that wait came back that way.
    returned: usize,
    pub(super) waiting: VecDeque<Vec<u8>>,
}

#[derive(Debug)]
struct Answered {
    id: u64,
    code: u8,
    data: Vec<u8>,
}

impl Dongle {
    pub(super) fn serve_acl_in(&mut self, now: Duration) {
        while !self.acl_in.waiting.is_empty()
            && let Some((id, mut bulk)) = self.acl_in.next_offer(now)
        {
            let asked = usize::from(bulk.length) | usize::from(bulk.length_high) << 16;
            let again = self.acl_in.again.take();
            let error = again.or_else(|| error_of(self.faults.strike(UsbEndpoint::AclIn)));
            let data = match error {
                Some(_) => Vec::new(),
                None => self.acl_in.cut(asked),
            };
            if error.is_some() {
                self.acl_in.stale = self.acl_in.offered.len();
                self.acl_in.stale_until = now + RESTART_PATIENCE;
            }
            bulk.status = error.unwrap_or(status::SUCCESS);
            self.ledger
                .write(UsbEndpoint::AclIn, bulk.status, data.len());
            self.acl_in.remember(id, bulk.status, &data);
            bulk.length = u16::try_from(data.len()).unwrap_or(u16::MAX);
            bulk.length_high = 0;
            bulk.data = Rest(data);
            let message = Message::Bulk(bulk);
            self.answer(&Packet { id, message });
        }
    }
}

impl AclIn {
    /// The first transfer that data may go into.
    fn next_offer(&mut self, now: Duration) -> Option<(u64, Bulk)> {
        if now >= self.stale_until {
            self.stale = 0;
        }
        self.offered.remove(self.stale)
    }

    fn remember(&mut self, id: u64, code: u8, data: &[u8]) {
        let data = data.to_vec();
        self.answered.push_back(Answered { id, code, data });
        if self.answered.len() > REMEMBERED_TRANSFERS {
            self.answered.pop_front();
        }
    }

    /// Puts back what went into a transfer that the host takes back, in front of what waits; how it was answered, and how many bytes there were.
    pub(super) fn take_back(&mut self, id: u64) -> Option<(u8, usize)> {
        let answered = |answered: &Answered| answered.id == id;
        let at = self.answered.iter().rposition(answered)?;
        let Answered { code, data, .. } = self.answered.remove(at)?;
        let bytes = data.len();
        if code != status::SUCCESS {
            self.again = Some(code);
        }
        if bytes > 0 {
            self.waiting.insert(self.returned, data);
            self.returned += 1;
        }
        Some((code, bytes))
    }

    /// When transfers that the host has not taken back are used all the same.
    pub(super) fn next_due(&self) -> Option<Duration> {
        (self.stale > 0 && !self.waiting.is_empty()).then_some(self.stale_until)
    }

    /// Takes at most so many bytes off the first packet.
    fn cut(&mut self, at_most: usize) -> Vec<u8> {
        let Some(first) = self.waiting.front_mut() else {
            return Vec::new();
        };
        if first.len() <= at_most {
            self.returned = self.returned.saturating_sub(1);
            return self.waiting.pop_front().unwrap_or_default();
        }
        first.drain(..at_most).collect()
    }
}
