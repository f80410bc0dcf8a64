//! Connected isochronous streams: groups, requests, links.
//!
//! Spec: Core 5.4, Vol 4, Part E, 7.8.97–7.8.103; Vol 6, Part B, 4.5.13 and 4.5.14.

use std::collections::BTreeMap;

use crate::air::Air;
use crate::hci::le_event::{CisEstablished, CisRequest};
use crate::link::End;
use crate::profile::LeFeatures;
use crate::timers::{Timer, TimerKey, slots};
use crate::types::{ConnHandle, ControllerId, LinkKind, Role, Status};

/// A group of streams that the central's host has configured.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cig {
    pub(crate) timing: CigTiming,
    pub(crate) streams: BTreeMap<u8, Cis>,
}

/// What all streams of a group share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct CigTiming {
    pub(crate) interval_us: u32,
}

/// One configured stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cis {
    /// The central's handle, which it keeps between connections.
    pub(crate) handle: ConnHandle,
    pub(crate) sdu_to_peripheral_bytes: u16,
    pub(crate) sdu_to_central_bytes: u16,
    pub(crate) phy_to_peripheral: u8,
    pub(crate) phy_to_central: u8,
}

/// A stream that the peripheral's host has not accepted or refused yet; it is known by the peripheral's handle.
#[derive(Debug, Clone)]
pub(crate) struct PendingCis {
    central: ControllerId,
    timing: CigTiming,
    cis: Cis,
    /// The LE link, at the peripheral.
    pub(crate) acl: ConnHandle,
    /// The LE link, at the central.
    central_acl: ConnHandle,
    timer: TimerKey,
}

impl Air {
    /// Asks the peer of an LE link for a stream that is configured here.
    pub(crate) fn ask_cis(
        &mut self,
        id: ControllerId,
        (cig_id, cis_id): (u8, u8),
        acl: ConnHandle,
    ) {
        let cig = self.get(id).cigs.get(&cig_id);
        let found = cig.and_then(|cig| Some((cig.timing, *cig.streams.get(&cis_id)?)));
        let Some((timing, cis)) = found else {
            return;
        };
        let refused = |air: &mut Self, why| {
            air.cis_established(id, cis.handle, cis, timing, why);
        };
        let [_, (peripheral, there)] = self.ends(id, acl)[..] else {
            return refused(self, Status::UNKNOWN_CONNECTION);
        };
        let able = LeFeatures::CIS_PERIPHERAL | LeFeatures::ISO_HOST;
        if self.get(peripheral).le_features() & able != able {
            return refused(self, Status::UNSUPPORTED_REMOTE_FEATURE);
        }
        let Some(handle) = self.get(peripheral).free_handle() else {
            return refused(self, Status::REJECTED_LIMITED_RESOURCES);
        };
        let timeout = slots(self.get(peripheral).settings.accept_timeout_slots);
        let at = self.now.saturating_add(timeout);
        let acceptor = peripheral;
        let timer = self.timers.set(at, Timer::AcceptCis { acceptor, handle });
        let pending = PendingCis {
            central: id,
            timing,
            cis,
            acl: there,
            central_acl: acl,
            timer,
        };
        self.get_mut(peripheral).pending_cis.insert(handle, pending);
        let event = CisRequest {
            acl: there,
            cis: handle,
            cig_id,
            cis_id,
        };
        self.le_event(peripheral, &event);
    }

    /// Whether a stream of this central is asked for at some peripheral.
    pub(crate) fn cis_is_pending(&self, central: ControllerId, handle: ConnHandle) -> bool {
        let is_it =
            |pending: &PendingCis| (pending.central, pending.cis.handle) == (central, handle);
        self.ids()
            .any(|id| self.get(id).pending_cis.values().any(is_it))
    }

    fn take_pending(&mut self, id: ControllerId, handle: ConnHandle) -> Option<PendingCis> {
        let pending = self.get_mut(id).pending_cis.remove(&handle)?;
        self.timers.cancel(pending.timer);
        Some(pending)
    }

    /// The host accepts a stream. `false` if there is no such request.
    pub(crate) fn accept_cis(&mut self, id: ControllerId, handle: ConnHandle) -> bool {
        let Some(pending) = self.take_pending(id, handle) else {
            return false;
        };
        let PendingCis {
            central,
            timing,
            cis,
            acl,
            central_acl,
            ..
        } = pending;
        let end = |air: &Self, id, handle, role, carrier| End {
            id,
            handle,
            role,
            addr: air.get(id).profile.addr,
            carrier: Some(carrier),
        };
        let first = end(self, central, cis.handle, Role::Central, central_acl);
        let second = end(self, id, handle, Role::Peripheral, acl);
        self.join(LinkKind::Cis, [first, second]);
        for end in [first, second] {
            self.cis_established(end.id, end.handle, cis, timing, Status::SUCCESS);
        }
        true
    }

    /// The host refuses a stream: only the central hears of it. `false` if there is no such request.
    pub(crate) fn reject_cis(&mut self, id: ControllerId, handle: ConnHandle, why: Status) -> bool {
        let Some(pending) = self.take_pending(id, handle) else {
            return false;
        };
        let PendingCis {
            central,
            timing,
            cis,
            ..
        } = pending;
        self.cis_established(central, cis.handle, cis, timing, why);
        true
    }

    /// The host has not answered: both hear of it.
    pub(crate) fn cis_accept_timeout(&mut self, id: ControllerId, handle: ConnHandle) {
        let pending = self.get(id).pending_cis.get(&handle).cloned();
        if let Some(PendingCis { cis, timing, .. }) = pending {
            let why = Status::ACCEPT_TIMEOUT;
            self.reject_cis(id, handle, why);
            self.cis_established(id, handle, cis, timing, why);
        }
    }

    /// Ends the requests that came over an LE link, at its peripheral.
    pub(crate) fn end_cis_requests(&mut self, id: ControllerId, acl: ConnHandle, why: Status) {
        let pending = self.get(id).pending_cis.iter();
        let over = pending.filter(|(_, pending)| pending.acl == acl);
        let handles: Vec<_> = over.map(|(handle, _)| *handle).collect();
        for handle in handles {
            self.reject_cis(id, handle, why);
        }
    }

    /// One packet each way and interval, sent once.
    fn cis_established(
        &mut self,
        id: ControllerId,
        handle: ConnHandle,
        cis: Cis,
        timing: CigTiming,
        status: Status,
    ) {
        let delay_us = microseconds(timing.interval_us / 2);
        let burst = |bytes: u16| u8::from(bytes > 0);
        let event = CisEstablished {
            status,
            handle,
            cig_sync_delay_us: delay_us,
            cis_sync_delay_us: delay_us,
            latency_to_peripheral_us: microseconds(timing.interval_us),
            latency_to_central_us: microseconds(timing.interval_us),
            phy_to_peripheral: cis.phy_to_peripheral,
            phy_to_central: cis.phy_to_central,
            subevents: 1,
            burst_to_peripheral: burst(cis.sdu_to_peripheral_bytes),
            burst_to_central: burst(cis.sdu_to_central_bytes),
            flush_to_peripheral: 1,
            flush_to_central: 1,
            pdu_to_peripheral_bytes: cis.sdu_to_peripheral_bytes,
            pdu_to_central_bytes: cis.sdu_to_central_bytes,
            interval: u16::try_from(timing.interval_us / 1250).unwrap_or(u16::MAX),
        };
        self.le_event(id, &event);
    }
}

/// The lower 24 bits, as on the wire.
fn microseconds(time_us: u32) -> [u8; 3] {
    let [low, middle, high, _] = time_us.to_le_bytes();
    [low, middle, high]
}
