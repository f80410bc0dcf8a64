//! Transfers from the host: commands over the control endpoint, ACL data over bulk OUT, each taken in order.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Dongle, FromHost, RESTART_PATIENCE, error_of};
use crate::transport::usbredir::wire::{Message, Packet, status};
use crate::transport::usbredir::{UsbEndpoint, UsbFaultAction};

const HCI_RESET: [u8; 3] = [0x01, 0x03, 0x0c];

/// What waits to be taken.
#[derive(Debug, Default)]
pub(super) struct OutQueue {
    waiting: VecDeque<Request>,
    /// A transfer that failed on the bus: host controllers try it again, and until then (at most so long) nothing else gets through.
    failed: Option<(Vec<u8>, Duration)>,
    /// What the host took back. A host controller that stops the endpoint to take one transfer back takes back all, and offers the others
    /// again.
    taken_back: Vec<Request>,
    /// The last that were answered. A host that takes one back after that has not seen the answer, and offers the transfer again: a host
    /// controller whose endpoint stalled takes back all that it had offered behind.
    answered: VecDeque<Request>,
    /// Until when to wait for the host to take back what waited when it took the first back.
    stale_until: Duration,
}

#[derive(Debug, Clone)]
struct Request {
    /// What to answer but for the status.
    answer: Packet,
    /// For the controller.
    packet: Vec<u8>,
    /// When to answer (`None`: never) and with which status, once it is at the front.
    verdict: Option<(Option<Duration>, u8)>,
    /// It was there when the host took another back, and is going to be taken back too.
    stale: bool,
    /// The controller knows of it already.
    told: bool,
}

/// More than a host has under way at a time.
const REMEMBERED_TRANSFERS: usize = 64;

impl Dongle {
    fn queue(&mut self, endpoint: UsbEndpoint) -> &mut OutQueue {
        match endpoint {
            UsbEndpoint::Commands => &mut self.commands,
            _ => &mut self.acl_out,
        }
    }

    /// Takes what the host sent, in order, as far as faults let it.
    pub(super) fn serve_out(&mut self, endpoint: UsbEndpoint, now: Duration) {
        loop {
            if !self.queue(endpoint).is_open(now) {
                return;
            }
            let waits = self.queue(endpoint).waiting.front().map(|r| r.verdict);
            let (due, code) = match waits {
                None => return,
                Some(Some(verdict)) => verdict,
                Some(None) => {
                    let verdict = verdict(self.faults.strike(endpoint), now);
                    if let Some(first) = self.queue(endpoint).waiting.front_mut() {
                        first.verdict = Some(verdict);
                    }
                    verdict
                }
            };
            if due.is_none_or(|due| due > now) {
                return;
            }
            if let Some(request) = self.queue(endpoint).waiting.pop_front() {
                self.take(endpoint, request, code, now);
            }
        }
    }

    fn take(&mut self, endpoint: UsbEndpoint, request: Request, code: u8, now: Duration) {
        self.ledger.write(endpoint, code, request.bytes());
        self.queue(endpoint).remember(&request, code, now);
        let Request {
            mut answer,
            packet,
            told,
            ..
        } = request;
        set_status(&mut answer.message, code);
        self.answer(&answer);
        match code {
            status::SUCCESS | status::STALL | status::BABBLE if told => return,
            status::SUCCESS => {}
            // Host controllers do not try again after these.
            status::STALL | status::BABBLE => {
                self.to_controller.push_back(FromHost::Lost(packet));
                return;
            }
            _ => {
                let until = now + RESTART_PATIENCE;
                self.queue(endpoint).failed = Some((packet, until));
                return;
            }
        }
        if packet.starts_with(&HCI_RESET) {
            // What was meant for the host before is of no use to it any more.
            self.events.waiting.clear();
            self.acl_in.waiting.clear();
            let lost = self.acl_out.never_offered_again();
            self.to_controller.extend(lost.map(FromHost::Lost));
        }
        self.to_controller.push_back(FromHost::Packet(packet));
    }

    /// Gives a transfer back that the host does not want any more, if it waits; if it was answered, the answer is taken back.
    pub(super) fn cancel_out(&mut self, id: u64, now: Duration) {
        for endpoint in [UsbEndpoint::Commands, UsbEndpoint::AclOut] {
            if let Some(mut answer) = self.queue(endpoint).take_back(id, now) {
                self.ledger.write(endpoint, status::CANCELLED, 0);
                set_status(&mut answer.message, status::CANCELLED);
                self.answer(&answer);
            } else if let Some((code, bytes)) = self.queue(endpoint).take_answer_back(id, now) {
                self.ledger.take_back(endpoint, code, bytes);
            }
        }
    }
}

impl Request {
    fn bytes(&self) -> usize {
        self.packet.len().saturating_sub(1)
    }
}

impl OutQueue {
    /// Takes a transfer. One that was taken back before meets the same fate again.
    pub(super) fn push(&mut self, answer: Packet, packet: Vec<u8>) {
        let again = self.taken_back.iter().position(|r| r.packet == packet);
        let again = again.map(|at| self.taken_back.remove(at));
        self.waiting.push_back(Request {
            answer,
            packet,
            verdict: again.as_ref().and_then(|before| before.verdict),
            stale: false,
            told: again.is_some_and(|before| before.told),
        });
    }

    fn remember(&mut self, request: &Request, code: u8, now: Duration) {
        self.answered.push_back(Request {
            verdict: Some((Some(now), code)),
            told: code != status::IO_ERROR,
            ..request.clone()
        });
        if self.answered.len() > REMEMBERED_TRANSFERS {
            self.answered.pop_front();
        }
    }

    /// The answer that is due to a transfer that is taken back.
    fn take_back(&mut self, id: u64, now: Duration) -> Option<Packet> {
        let at = self
            .waiting
            .iter()
            .position(|request| request.answer.id == id)?;
        let request = self.waiting.remove(at)?;
        let answer = request.answer.clone();
        self.expect_again(request, now);
        Some(answer)
    }

    /// What was answered to a transfer that is taken back, and how many bytes it has.
    fn take_answer_back(&mut self, id: u64, now: Duration) -> Option<(u8, usize)> {
        let answered = |request: &Request| request.answer.id == id;
        let at = self.answered.iter().rposition(answered)?;
        let request = self.answered.remove(at)?;
        let (_, code) = request.verdict?;
        let bytes = request.bytes();
        self.expect_again(request, now);
        Some((code, bytes))
    }

    fn expect_again(&mut self, request: Request, now: Duration) {
        self.waiting.iter_mut().for_each(|other| other.stale = true);
        self.stale_until = now + RESTART_PATIENCE;
        if self.taken_back.len() < REMEMBERED_TRANSFERS {
            self.taken_back.push(request);
        }
    }

    /// The packets that the host took back for good and the controller does not know of, in the order in which it had sent them.
    fn never_offered_again(&mut self) -> impl Iterator<Item = Vec<u8>> + use<> {
        self.taken_back.sort_by_key(|request| request.answer.id);
        let lost = std::mem::take(&mut self.taken_back).into_iter();
        lost.filter(|request| !request.told)
            .map(|request| request.packet)
    }

    /// Can the first transfer be taken? Puts the one in front that is tried again, if it has come.
    fn is_open(&mut self, now: Duration) -> bool {
        if let Some(first) = self.waiting.front_mut().filter(|first| first.stale) {
            if now < self.stale_until {
                return false;
            }
            first.stale = false;
        }
        let Some((failed, until)) = &self.failed else {
            return true;
        };
        let again = self.waiting.iter().position(|r| r.packet == *failed);
        match again.and_then(|at| self.waiting.remove(at)) {
            Some(request) => self.waiting.push_front(request),
            None if now < *until => return false,
            None => {}
        }
        self.failed = None;
        true
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        if let Some((_, until)) = self.failed {
            return Some(until);
        }
        let first = self.waiting.front()?;
        if first.stale {
            return Some(self.stale_until);
        }
        let (due, _) = first.verdict?;
        due
    }
}

/// When a transfer from the host is to be answered, and how.
fn verdict(action: Option<UsbFaultAction>, now: Duration) -> (Option<Duration>, u8) {
    match action {
        Some(UsbFaultAction::Hold(time)) => (Some(now.saturating_add(time)), status::SUCCESS),
        Some(UsbFaultAction::Never) => (None, status::SUCCESS),
        other => (Some(now), error_of(other).unwrap_or(status::SUCCESS)),
    }
}

fn set_status(message: &mut Message, code: u8) {
    match message {
        Message::Control(control) => control.status = code,
        Message::Bulk(bulk) => bulk.status = code,
        _ => {}
    }
}
