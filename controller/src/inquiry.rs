//! Inquiries: who is there, over BR/EDR.
//!
//! Spec: Core 5.4, Vol 4, Part E, 7.1.1, 7.1.2, 7.7.1, 7.7.2, 7.7.33, 7.7.38.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::air::Air;
use crate::hci::event::{
    ExtendedInquiryResult, InquiryComplete, InquiryResult, InquiryResultWithRssi,
};
use crate::timers::{Timer, TimerKey};
use crate::types::{ControllerId, Status};

/// An inquiry that is going on.
#[derive(Debug)]
pub(crate) struct Inquiry {
    code: [u8; 3],
    /// How many devices the host still wants to hear of; `None` is all.
    left: Option<u8>,
    heard: BTreeSet<ControllerId>,
    timer: TimerKey,
}

/// Page scan repetition mode R1: what the controllers' default page scan interval amounts to.
const R1: u8 = 1;
const RSSI_DBM: i8 = -42;
/// Inquiry modes that the host can set.
const STANDARD: u8 = 0;
const WITH_RSSI: u8 = 1;

impl Air {
    /// Begins an inquiry; devices that listen answer at once, others when they begin to.
    pub(crate) fn inquire(
        &mut self,
        id: ControllerId,
        code: [u8; 3],
        time: Duration,
        left: Option<u8>,
    ) {
        let at = self.now.saturating_add(time);
        let timer = self.timers.set(at, Timer::Inquiry { id });
        self.get_mut(id).inquiry = Some(Inquiry {
            code,
            left,
            heard: BTreeSet::new(),
            timer,
        });
        let others: Vec<_> = self.ids().filter(|other| *other != id).collect();
        for other in others {
            self.answer_inquiry(other, id);
        }
    }

    /// Has a device answer an inquiry, if it hears it and has not answered.
    pub(crate) fn answer_inquiry(&mut self, id: ControllerId, inquirer: ControllerId) {
        let listener = self.get(id);
        let codes = listener.settings.inquiry_codes.0.clone();
        if !listener.inquiry_scan() {
            return;
        }
        let Some(inquiry) = &mut self.get_mut(inquirer).inquiry else {
            return;
        };
        if !codes.contains(&inquiry.code) || !inquiry.heard.insert(id) {
            return;
        }
        inquiry.left = inquiry.left.map(|left| left.saturating_sub(1));
        let last = inquiry.left == Some(0);
        self.report_device(inquirer, id);
        if last {
            self.end_inquiry(inquirer);
            let status = Status::SUCCESS;
            self.event(inquirer, &InquiryComplete { status });
        }
    }

    fn report_device(&mut self, inquirer: ControllerId, id: ControllerId) {
        let device = self.get(id);
        let (addr, class) = (device.profile.addr, device.settings.class);
        let response = device.settings.inquiry_response.data;
        let (count, repetition, reserved, clock_offset) = (1, R1, 0, 0);
        let rssi_dbm = RSSI_DBM;
        match self.get(inquirer).settings.inquiry_mode {
            STANDARD => {
                let event = InquiryResult {
                    count,
                    addr,
                    repetition,
                    reserved: [reserved; 2],
                    class,
                    clock_offset,
                };
                self.event(inquirer, &event);
            }
            mode if mode == WITH_RSSI || response == Default::default() => {
                let event = InquiryResultWithRssi {
                    count,
                    addr,
                    repetition,
                    reserved,
                    class,
                    clock_offset,
                    rssi_dbm,
                };
                self.event(inquirer, &event);
            }
            _ => {
                let event = ExtendedInquiryResult {
                    count,
                    addr,
                    repetition,
                    reserved,
                    class,
                    clock_offset,
                    rssi_dbm,
                    response,
                };
                self.event(inquirer, &event);
            }
        }
    }

    /// Ends an inquiry silently. `false` if there is none.
    pub(crate) fn end_inquiry(&mut self, id: ControllerId) -> bool {
        let Some(inquiry) = self.get_mut(id).inquiry.take() else {
            return false;
        };
        self.timers.cancel(inquiry.timer);
        true
    }

    /// The time of an inquiry is over.
    pub(crate) fn inquiry_timeout(&mut self, id: ControllerId) {
        if self.end_inquiry(id) {
            let status = Status::SUCCESS;
            self.event(id, &InquiryComplete { status });
        }
    }
}
