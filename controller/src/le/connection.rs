//! LE connections: initiators, and what the two ends agree on later.
//!
//! Spec: Core 5.4, Vol 4, Part E, 7.8.12, 7.8.13, 7.8.18, 7.8.33, 7.8.66; Vol 6, Part B, 5.1 (procedures).

use std::time::Duration;

use super::advertising::{AdvertisingSet, SetId, properties};
use super::{ConnectionTiming, LeAddr};
use crate::air::Air;
use crate::hci::le_event::{
    ConnectionComplete, ConnectionUpdateComplete, DataLengthChange, EnhancedConnectionComplete,
    LeEvent as _, PhyUpdateComplete, passes_le_mask,
};
use crate::link::End;
use crate::profile::LeFeatures;
use crate::types::{BdAddr, ConnHandle, ControllerId, LinkKind, Role, Status};

/// A host that waits for a connectable advertiser.
#[derive(Debug, Clone)]
pub(crate) struct Initiator {
    /// `None` is every device of the accept list.
    pub(crate) peer: Option<LeAddr>,
    pub(crate) own_kind: u8,
    pub(crate) timing: ConnectionTiming,
}

/// What is special to one end of an LE link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LeLink {
    /// The longest payload that this end sends in one packet on the air.
    tx: DataLength,
    pub(crate) tx_phy: u8,
    pub(crate) rx_phy: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct DataLength {
    bytes: u16,
    time_us: u16,
}

/// What every device can receive.
const SHORTEST: DataLength = DataLength {
    bytes: 27,
    time_us: 328,
};
/// What a device with LE Data Packet Length Extension can receive.
pub(crate) const MAX_DATA_BYTES: u16 = 251;
/// The same on the 1M PHY.
pub(crate) const MAX_DATA_TIME_US: u16 = 2120;

impl Default for LeLink {
    fn default() -> Self {
        Self {
            tx: SHORTEST,
            tx_phy: 1,
            rx_phy: 1,
        }
    }
}

/// A unit of LE supervision timeouts.
const TIMEOUT_UNIT: Duration = Duration::from_millis(10);

impl Air {
    /// Joins initiators and advertisers that have found each other.
    pub(crate) fn try_connecting(&mut self) {
        let ids: Vec<_> = self.ids().collect();
        for id in ids {
            let Some(initiator) = self.get(id).initiator.clone() else {
                continue;
            };
            let on_air = self.advertisers_but(id);
            let found = on_air
                .into_iter()
                .find(|(other, _, set)| self.match_up(id, &initiator, *other, set));
            if let Some((other, which, set)) = found {
                self.get_mut(id).initiator = None;
                self.stop_advertising(other, which);
                self.open_le(id, &initiator, other, which, &set);
            }
        }
    }

    /// Whether an initiator and an advertiser want each other.
    fn match_up(
        &self,
        id: ControllerId,
        initiator: &Initiator,
        other: ControllerId,
        set: &AdvertisingSet,
    ) -> bool {
        let addr = self.advertised_addr(other, set);
        let wanted = match initiator.peer {
            Some(peer) => peer.identity() == addr,
            None => self.get(id).accepts(addr),
        };
        let own = self.initiator_addr(id, initiator.own_kind);
        let may = if set.has(properties::DIRECTED) {
            set.peer.identity() == own
        } else {
            set.filter_policy & 2 == 0 || self.get(other).accepts(own)
        };
        let connected = self.get(id).le_link_to(addr.addr).is_some();
        set.has(properties::CONNECTABLE) && wanted && may && !connected
    }

    fn initiator_addr(&self, id: ControllerId, own_kind: u8) -> LeAddr {
        let controller = self.get(id);
        let kind = own_kind & 1;
        let addr = match kind {
            0 => controller.profile.addr,
            _ => controller.settings.le_random_addr,
        };
        LeAddr { kind, addr }
    }

    fn open_le(
        &mut self,
        central: ControllerId,
        initiator: &Initiator,
        peripheral: ControllerId,
        which: SetId,
        set: &AdvertisingSet,
    ) {
        let handles = (
            self.get(central).free_handle(),
            self.get(peripheral).free_handle(),
        );
        let (Some(at_central), Some(at_peripheral)) = handles else {
            self.le_connection_failed(central, Status::REJECTED_LIMITED_RESOURCES);
            return;
        };
        let initiator_addr = self.initiator_addr(central, initiator.own_kind);
        let advertiser_addr = self.advertised_addr(peripheral, set);
        let end = |id, handle, role, addr: LeAddr| End {
            id,
            handle,
            role,
            addr: addr.addr,
            carrier: None,
        };
        let first = end(central, at_central, Role::Central, initiator_addr);
        let second = end(peripheral, at_peripheral, Role::Peripheral, advertiser_addr);
        self.join(LinkKind::Le, [first, second]);
        let timing = initiator.timing;
        let ends = [(first, advertiser_addr), (second, initiator_addr)];
        for (me, peer) in ends {
            let timeout = TIMEOUT_UNIT * u32::from(timing.timeout);
            if let Some(link) = self.get_mut(me.id).links.get_mut(&me.handle) {
                link.supervision_timeout = timeout;
            }
            self.le_connected(me.id, Status::SUCCESS, me.handle, me.role, peer, timing);
        }
        self.set_terminated(peripheral, which, Status::SUCCESS, at_peripheral);
        self.lengthen(central, at_central);
    }

    /// Has both ends use the length that their hosts suggest, as controllers do of their own accord.
    fn lengthen(&mut self, id: ControllerId, handle: ConnHandle) {
        for (id, handle) in self.ends(id, handle) {
            let length = self.get(id).settings.le_data_length;
            self.set_data_length(id, handle, length.max_bytes, length.max_time_us);
        }
    }

    /// Sets how long packets this end may send, within what the other can receive. Both hosts hear of a change.
    pub(crate) fn set_data_length(
        &mut self,
        id: ControllerId,
        handle: ConnHandle,
        bytes: u16,
        time_us: u16,
    ) {
        let ends = self.ends(id, handle);
        let able = |id| {
            let features = self.profile(id).le_features;
            features.has(LeFeatures::DATA_LENGTH)
        };
        if ends.is_empty() || !ends.iter().all(|(id, _)| able(*id)) {
            return;
        }
        let tx = DataLength {
            bytes: bytes.clamp(SHORTEST.bytes, MAX_DATA_BYTES),
            time_us: time_us.clamp(SHORTEST.time_us, MAX_DATA_TIME_US),
        };
        let link = self.get_mut(id).links.get_mut(&handle);
        let changed = link.is_some_and(|link| std::mem::replace(&mut link.le.tx, tx) != tx);
        if !changed {
            return;
        }
        let lengths = |air: &Self, (id, handle): (ControllerId, ConnHandle)| {
            let link = air.get(id).links.get(&handle);
            link.map_or(SHORTEST, |link| link.le.tx)
        };
        if let [first, second] = ends[..] {
            for (me, other) in [(first, second), (second, first)] {
                let (tx, rx) = (lengths(self, me), lengths(self, other));
                let event = DataLengthChange {
                    handle: me.1,
                    max_tx_bytes: tx.bytes,
                    max_tx_time_us: tx.time_us,
                    max_rx_bytes: rx.bytes,
                    max_rx_time_us: rx.time_us,
                };
                self.le_event(me.0, &event);
            }
        }
    }

    /// Gives both ends new timing, and tells both hosts.
    pub(crate) fn update_timing(
        &mut self,
        id: ControllerId,
        handle: ConnHandle,
        timing: ConnectionTiming,
    ) {
        let ConnectionTiming {
            interval,
            latency,
            timeout,
        } = timing;
        for (id, handle) in self.ends(id, handle) {
            if let Some(link) = self.get_mut(id).links.get_mut(&handle) {
                link.supervision_timeout = TIMEOUT_UNIT * u32::from(timeout);
            }
            let event = ConnectionUpdateComplete {
                status: Status::SUCCESS,
                handle,
                interval,
                latency,
                timeout,
            };
            self.le_event(id, &event);
        }
    }

    /// Gives one end's sender and the other's receiver a PHY, and the other way round; both hosts hear it if something changes, this one
    /// always does.
    pub(crate) fn set_phys(&mut self, id: ControllerId, handle: ConnHandle, tx: u8, rx: u8) {
        for (number, (end, handle)) in self.ends(id, handle).into_iter().enumerate() {
            let (tx_phy, rx_phy) = if number == 0 { (tx, rx) } else { (rx, tx) };
            let Some(link) = self.get_mut(end).links.get_mut(&handle) else {
                continue;
            };
            let before = (link.le.tx_phy, link.le.rx_phy);
            (link.le.tx_phy, link.le.rx_phy) = (tx_phy, rx_phy);
            if number == 0 || before != (tx_phy, rx_phy) {
                let status = Status::SUCCESS;
                let event = PhyUpdateComplete {
                    status,
                    handle,
                    tx_phy,
                    rx_phy,
                };
                self.le_event(end, &event);
            }
        }
    }

    /// Tells a host that no connection has come about.
    pub(crate) fn le_connection_failed(&mut self, id: ControllerId, status: Status) {
        let timing = ConnectionTiming {
            interval: 0,
            latency: 0,
            timeout: 0,
        };
        let (handle, peer) = (ConnHandle::default(), LeAddr::default());
        self.le_connected(id, status, handle, Role::Central, peer, timing);
    }

    /// Sends the newer of the two connection events that the host wants.
    fn le_connected(
        &mut self,
        id: ControllerId,
        status: Status,
        handle: ConnHandle,
        role: Role,
        peer: LeAddr,
        timing: ConnectionTiming,
    ) {
        let ConnectionTiming {
            interval,
            latency,
            timeout,
        } = timing;
        let clock_accuracy = 0;
        let mask = self.get(id).settings.le_event_mask;
        if passes_le_mask(EnhancedConnectionComplete::SUBEVENT, mask) {
            let event = EnhancedConnectionComplete {
                status,
                handle,
                role,
                peer,
                local_resolvable: BdAddr::default(),
                peer_resolvable: BdAddr::default(),
                interval,
                latency,
                timeout,
                clock_accuracy,
            };
            self.le_event(id, &event);
            return;
        }
        let event = ConnectionComplete {
            status,
            handle,
            role,
            peer,
            interval,
            latency,
            timeout,
            clock_accuracy,
        };
        self.le_event(id, &event);
    }
}
