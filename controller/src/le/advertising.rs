//! Advertisers: what they send, and for how long.
//!
//! Spec: Core 5.4, Vol 4, Part E, 7.8.5–7.8.9 and 7.8.52–7.8.60; Vol 6, Part B, 4.4.2.

use std::time::Duration;

use super::LeAddr;
use crate::air::Air;
use crate::hci::le_event::AdvertisingSetTerminated;
use crate::timers::{Timer, TimerKey};
use crate::types::{BdAddr, ConnHandle, ControllerId, Status};

/// Names an advertiser of one controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SetId {
    /// That of the commands without a handle.
    Legacy,
    /// An advertising set.
    Extended(u8),
}

/// Bits of the advertising event properties.
///
/// Spec: Core 5.4, Vol 4, Part E, 7.8.53.
pub(crate) mod properties {
    pub(crate) const CONNECTABLE: u16 = 1 << 0;
    pub(crate) const SCANNABLE: u16 = 1 << 1;
    pub(crate) const DIRECTED: u16 = 1 << 2;
    pub(crate) const HIGH_DUTY: u16 = 1 << 3;
    pub(crate) const LEGACY: u16 = 1 << 4;
}

/// One advertiser.
#[derive(Debug, Clone, Default)]
pub(crate) struct AdvertisingSet {
    pub(crate) properties: u16,
    pub(crate) own_kind: u8,
    /// The random address of an advertising set; the legacy advertiser has the controller's.
    pub(crate) random: Option<BdAddr>,
    pub(crate) peer: LeAddr,
    pub(crate) filter_policy: u8,
    /// In units of 0.625 ms.
    pub(crate) interval: u32,
    pub(crate) phys: (u8, u8),
    pub(crate) sid: u8,
    pub(crate) data: Vec<u8>,
    pub(crate) scan_response: Vec<u8>,
    pub(crate) enabled: bool,
    pub(crate) ends: Option<TimerKey>,
    /// Counts how often it was enabled or its data changed, so that scanners know what they have seen.
    pub(crate) generation: u64,
}

impl AdvertisingSet {
    /// An advertiser that has the defaults of Set Advertising Parameters: connectable and scannable, undirected.
    pub(crate) fn legacy() -> Self {
        use properties::{CONNECTABLE, LEGACY, SCANNABLE};
        Self {
            properties: CONNECTABLE | SCANNABLE | LEGACY,
            interval: 0x0800,
            phys: (1, 0),
            ..Self::default()
        }
    }

    pub(crate) const fn has(&self, properties: u16) -> bool {
        self.properties & properties == properties
    }

    /// How long directed advertising at a high duty cycle lasts at most.
    const HIGH_DUTY_TIME: Duration = Duration::from_millis(1280);
}

impl Air {
    /// The address that an advertiser sends under.
    pub(crate) fn advertised_addr(&self, id: ControllerId, set: &AdvertisingSet) -> LeAddr {
        let controller = self.get(id);
        let kind = set.own_kind & 1;
        let addr = match kind {
            0 => controller.profile.addr,
            _ => set.random.unwrap_or(controller.settings.le_random_addr),
        };
        LeAddr { kind, addr }
    }

    /// Has an advertiser begin, for a time or without end. Scanners hear it and initiators connect.
    pub(crate) fn start_advertising(
        &mut self,
        id: ControllerId,
        which: SetId,
        duration: Option<Duration>,
    ) {
        self.stop_advertising(id, which);
        let Some(set) = self.get_mut(id).advertisers.get_mut(&which) else {
            return;
        };
        set.enabled = true;
        set.generation += 1;
        let high_duty = set.has(properties::DIRECTED | properties::HIGH_DUTY);
        let time = duration.or(high_duty.then_some(AdvertisingSet::HIGH_DUTY_TIME));
        if let Some(time) = time {
            let at = self.now.saturating_add(time);
            let timer = self.timers.set(at, Timer::Advertising { id, which });
            if let Some(set) = self.get_mut(id).advertisers.get_mut(&which) {
                set.ends = Some(timer);
            }
        }
        self.advertised(id, which);
    }

    /// Has scanners and initiators hear an advertiser that has begun or changed.
    pub(crate) fn advertised(&mut self, id: ControllerId, which: SetId) {
        let others: Vec<_> = self.ids().filter(|other| *other != id).collect();
        for other in others {
            self.report(other, id, which);
        }
        self.try_connecting();
    }

    /// Ends an advertiser silently.
    pub(crate) fn stop_advertising(&mut self, id: ControllerId, which: SetId) {
        let Some(set) = self.get_mut(id).advertisers.get_mut(&which) else {
            return;
        };
        set.enabled = false;
        if let Some(timer) = set.ends.take() {
            self.timers.cancel(timer);
        }
    }

    /// The time of an advertiser is over.
    pub(crate) fn advertising_timeout(&mut self, id: ControllerId, which: SetId) {
        self.stop_advertising(id, which);
        match which {
            SetId::Extended(_) => {
                self.set_terminated(
                    id,
                    which,
                    Status::ADVERTISING_TIMEOUT,
                    ConnHandle::default(),
                );
            }
            SetId::Legacy => self.le_connection_failed(id, Status::ADVERTISING_TIMEOUT),
        }
    }

    /// Tells the host that an advertising set has ended; nothing for the legacy advertiser.
    pub(crate) fn set_terminated(
        &mut self,
        id: ControllerId,
        which: SetId,
        status: Status,
        handle: ConnHandle,
    ) {
        if let SetId::Extended(set) = which {
            let event = AdvertisingSetTerminated {
                status,
                set,
                handle,
                events: 0,
            };
            self.le_event(id, &event);
        }
    }
}
