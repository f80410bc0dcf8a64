//! The interrupt IN endpoint: events.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Dongle, RESTART_PATIENCE, error_of};
use crate::hci::wire::Rest;
use crate::transport::usbredir::UsbEndpoint;
use crate::transport::usbredir::descriptors::{EVENT_PACKET_BYTES, EVENTS_IN};
use crate::transport::usbredir::wire::{Interrupt, Message, status};

#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) receiving: bool,
    pub(super) waiting: VecDeque<Vec<u8>>,
    /// An error was reported: nothing more until the host has started over, or until then.
    pub(super) holding_until: Option<Duration>,
}

impl Dongle {
    pub(super) fn serve_events(&mut self, now: Duration) {
        if self.events.holding_until.is_some_and(|until| until <= now) {
            self.events.holding_until = None;
        }
        while self.events.receiving && self.events.holding_until.is_none() {
            if self.events.waiting.is_empty() {
                return;
            }
            let (code, data) = match error_of(self.faults.strike(UsbEndpoint::Events)) {
                Some(code) => {
                    self.events.holding_until = Some(now + RESTART_PATIENCE);
                    (code, Vec::new())
                }
                None => {
                    let data = self.events.waiting.pop_front().unwrap_or_default();
                    (status::SUCCESS, data)
                }
            };
            self.ledger.write(UsbEndpoint::Events, code, data.len());
            self.tell(Message::Interrupt(Interrupt {
                endpoint: EVENTS_IN,
                status: code,
                length: u16::try_from(data.len()).unwrap_or(u16::MAX),
                data: Rest(data),
            }));
        }
    }
}

impl Events {
    /// Cuts an event into packets. A short one ends it, an empty one if need be: hosts that read whole events wait for that.
    pub(super) fn push(&mut self, event: &[u8]) {
        let chunks = event.chunks(EVENT_PACKET_BYTES);
        self.waiting.extend(chunks.map(<[u8]>::to_vec));
        if event.len().is_multiple_of(EVENT_PACKET_BYTES) {
            self.waiting.push_back(Vec::new());
        }
    }
}
