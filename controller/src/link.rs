//! Links between two controllers: how they begin, change and end.

use std::time::Duration;

use crate::air::Air;
use crate::buffers::AckPolicy;
use crate::hci::event::{
    ConnectionComplete, DisconnectionComplete, Event as _, ModeChange, RoleChange,
};
use crate::le::connection::LeLink;
use crate::ledger::{CompletedLink, Detail};
use crate::pairing::Security;
use crate::timers::{Timer, TimerKey};
use crate::types::{BdAddr, ConnHandle, ControllerId, LinkKind, Role, Status};

/// One end of a link, as its controller knows it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) kind: LinkKind,
    pub(crate) peer: Peer,
    pub(crate) role: Role,
    pub(crate) policy: u16,
    /// Zero is never.
    pub(crate) supervision_timeout: Duration,
    pub(crate) mode: Mode,
    /// The ACL or LE link without which this one (SCO, eSCO, CIS) is not.
    pub(crate) carrier: Option<ConnHandle>,
    pub(crate) le: LeLink,
    pub(crate) security: Security,
    /// Where isochronous data goes.
    pub(crate) paths: DataPaths,
    /// The other end is gone without a word; the timer that will notice, if any.
    pub(crate) lost: Option<Option<TimerKey>>,
}

/// The data paths of one end of an isochronous link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct DataPaths {
    pub(crate) from_host: bool,
    pub(crate) to_host: bool,
}

/// The other end of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) controller: ControllerId,
    pub(crate) handle: ConnHandle,
    pub(crate) addr: BdAddr,
}

/// What one end brings into a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct End {
    pub(crate) id: ControllerId,
    pub(crate) handle: ConnHandle,
    pub(crate) role: Role,
    /// The address that the other end knows it by.
    pub(crate) addr: BdAddr,
    pub(crate) carrier: Option<ConnHandle>,
}

/// Whether the devices listen all the time; the number is the one of the Mode Change event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    Active = 0,
    Sniff = 2,
}

/// Link type of a SCO connection in connection events, and of SCO and eSCO data.
pub(crate) const LINK_TYPE_SCO: u8 = 0x00;
/// Link type of an ACL connection in connection events.
pub(crate) const LINK_TYPE_ACL: u8 = 0x01;
/// Link type of an eSCO connection in connection events.
pub(crate) const LINK_TYPE_ESCO: u8 = 0x02;
/// Link type of isochronous data in Data Buffer Overflow.
pub(crate) const LINK_TYPE_ISO: u8 = 0x02;

impl Air {
    /// Makes both ends of a link.
    pub(crate) fn join(&mut self, kind: LinkKind, ends: [End; 2]) {
        let [first, second] = ends;
        let central = if first.role == Role::Central {
            first
        } else {
            second
        };
        let supervision_timeout = self.get(central.id).profile.supervision_timeout;
        for (me, other) in [(first, second), (second, first)] {
            let controller = self.get_mut(me.id);
            let link = Link {
                kind,
                peer: Peer {
                    controller: other.id,
                    handle: other.handle,
                    addr: other.addr,
                },
                role: me.role,
                policy: controller.settings.default_link_policy,
                supervision_timeout,
                mode: Mode::Active,
                carrier: me.carrier,
                le: LeLink::default(),
                security: Security::default(),
                paths: DataPaths::default(),
                lost: None,
            };
            controller.links.insert(me.handle, link);
        }
    }

    /// Joins two controllers by an ACL link and tells both hosts; without a free handle at one end, tells them that.
    pub(crate) fn open_acl(&mut self, central: ControllerId, peripheral: ControllerId) {
        let handles = (
            self.get(central).free_handle(),
            self.get(peripheral).free_handle(),
        );
        let (Some(at_central), Some(at_peripheral)) = handles else {
            self.refuse_acl(central, peripheral, Status::REJECTED_LIMITED_RESOURCES);
            return;
        };
        let end = |air: &Self, id: ControllerId, handle, role| End {
            id,
            handle,
            role,
            addr: air.get(id).profile.addr,
            carrier: None,
        };
        let first = end(self, central, at_central, Role::Central);
        let second = end(self, peripheral, at_peripheral, Role::Peripheral);
        self.join(LinkKind::Acl, [first, second]);
        for (me, other) in [(first, second), (second, first)] {
            self.connection_complete(me.id, other.addr, Status::SUCCESS, me.handle);
        }
    }

    /// Tells both hosts that a connection did not come about.
    pub(crate) fn refuse_acl(&mut self, pager: ControllerId, paged: ControllerId, why: Status) {
        for (id, other) in [(paged, pager), (pager, paged)] {
            let addr = self.get(other).profile.addr;
            self.connection_complete(id, addr, why, ConnHandle::default());
        }
    }

    /// Sends Connection Complete for an ACL link.
    pub(crate) fn connection_complete(
        &mut self,
        id: ControllerId,
        addr: BdAddr,
        status: Status,
        handle: ConnHandle,
    ) {
        let link_type = LINK_TYPE_ACL;
        self.event(
            id,
            &ConnectionComplete {
                status,
                handle,
                addr,
                link_type,
                encryption: 0,
            },
        );
    }

    /// Ends a link at the wish of one host: `id` hears that it did, the peer hears `reason`. Links that it carries end before it.
    pub(crate) fn close(&mut self, id: ControllerId, handle: ConnHandle, reason: Status) {
        self.close_with(id, handle, Status::LOCAL_HOST_TERMINATED, reason);
    }

    /// Ends a link, with a reason for each end.
    pub(crate) fn close_with(
        &mut self,
        id: ControllerId,
        handle: ConnHandle,
        here: Status,
        there: Status,
    ) {
        self.end_requests(id, handle, there);
        for carried in self.carried(id, handle) {
            self.close_with(id, carried, here, there);
        }
        let Some((link, flushed)) = self.forget_link(id, handle) else {
            return;
        };
        self.disconnection_complete(id, flushed, here);
        if link.lost.is_none() {
            let Peer {
                controller, handle, ..
            } = link.peer;
            if let Some((_, flushed)) = self.forget_link(controller, handle) {
                self.disconnection_complete(controller, flushed, there);
            }
        }
    }

    /// Cuts a link at one end only. The other end notices when its supervision timeout has passed.
    pub(crate) fn vanish(&mut self, id: ControllerId, handle: ConnHandle) {
        self.end_requests(id, handle, Status::CONNECTION_TIMEOUT);
        for carried in self.carried(id, handle) {
            self.vanish(id, carried);
        }
        let Some((link, _)) = self.forget_link(id, handle) else {
            return;
        };
        if link.lost.is_none() {
            self.lose_end(link.peer.controller, link.peer.handle);
        }
    }

    /// Cuts a link at both ends, and all that it carries.
    pub(crate) fn cut(&mut self, id: ControllerId, handle: ConnHandle) {
        for carried in self.carried(id, handle) {
            self.cut(id, carried);
        }
        for (id, handle) in self.ends(id, handle) {
            self.end_requests(id, handle, Status::CONNECTION_TIMEOUT);
            self.lose_end(id, handle);
        }
    }

    /// From now on nothing comes from the other end. A carried link ends with its carrier, so it has no timer of its own.
    fn lose_end(&mut self, id: ControllerId, handle: ConnHandle) {
        let now = self.now;
        let Some(left) = self.get(id).links.get(&handle) else {
            return;
        };
        let never = left.supervision_timeout.is_zero() || left.carrier.is_some();
        let at = now.saturating_add(left.supervision_timeout);
        let timer = Timer::Supervision { id, handle };
        let timer = (!never).then(|| self.timers.set(at, timer));
        let controller = self.get_mut(id);
        controller
            .buffers
            .set_policy(Some(handle), AckPolicy::Never);
        if let Some(left) = controller.links.get_mut(&handle) {
            left.lost = Some(timer);
        }
    }

    /// The supervision timeout of a lost link has passed.
    pub(crate) fn supervision_timeout(&mut self, id: ControllerId, handle: ConnHandle) {
        for carried in self.carried(id, handle) {
            self.supervision_timeout(id, carried);
        }
        if let Some((_, flushed)) = self.forget_link(id, handle) {
            self.disconnection_complete(id, flushed, Status::CONNECTION_TIMEOUT);
        }
    }

    /// The links that end with this one.
    fn carried(&self, id: ControllerId, handle: ConnHandle) -> Vec<ConnHandle> {
        let links = self.get(id).links.iter();
        let carried = links.filter(|(_, link)| link.carrier == Some(handle));
        carried.map(|(handle, _)| *handle).collect()
    }

    /// Ends what is being negotiated over a link.
    fn end_requests(&mut self, id: ControllerId, handle: ConnHandle, why: Status) {
        for (id, handle) in self.ends(id, handle) {
            let addr = self.get(id).links.get(&handle).map(|link| link.peer.addr);
            if let Some(addr) = addr {
                self.reject_sync(id, addr, why);
            }
            self.end_cis_requests(id, handle, why);
        }
    }

    /// The link, and what of it was in buffers.
    fn forget_link(
        &mut self,
        id: ControllerId,
        handle: ConnHandle,
    ) -> Option<(Link, CompletedLink)> {
        let controller = self.get_mut(id);
        let link = controller.links.remove(&handle)?;
        let pool = controller.buffers.pool(link.kind);
        let packets = controller.buffers.forget(handle);
        let slots_after = controller.buffers.free(pool);
        let flushed = CompletedLink {
            handle,
            pool,
            packets,
            slots_after,
        };
        self.forget_pairing((id, handle));
        if let Some(Some(timer)) = link.lost {
            self.timers.cancel(timer);
        }
        Some((link, flushed))
    }

    fn disconnection_complete(&mut self, id: ControllerId, flushed: CompletedLink, reason: Status) {
        let event = DisconnectionComplete {
            status: Status::SUCCESS,
            handle: flushed.handle,
            reason,
        };
        let detail = Detail::Event {
            code: DisconnectionComplete::CODE,
            subevent: None,
            opcode: None,
            flushed: Some(flushed),
        };
        self.event_with(id, &event, detail);
    }

    /// Gives both ends their new roles, and tells both hosts.
    pub(crate) fn switch_roles(&mut self, id: ControllerId, handle: ConnHandle) {
        for (id, handle) in self.ends(id, handle) {
            let Some(link) = self.get_mut(id).links.get_mut(&handle) else {
                continue;
            };
            link.role = link.role.other();
            let (addr, role) = (link.peer.addr, link.role);
            self.event(
                id,
                &RoleChange {
                    status: Status::SUCCESS,
                    addr,
                    role,
                },
            );
        }
    }

    /// Gives both ends their new mode, and tells both hosts.
    pub(crate) fn change_mode(
        &mut self,
        id: ControllerId,
        handle: ConnHandle,
        mode: Mode,
        interval_slots: u16,
    ) {
        for (id, handle) in self.ends(id, handle) {
            let Some(link) = self.get_mut(id).links.get_mut(&handle) else {
                continue;
            };
            link.mode = mode;
            let (status, mode) = (Status::SUCCESS, mode as u8);
            self.event(
                id,
                &ModeChange {
                    status,
                    handle,
                    mode,
                    interval_slots,
                },
            );
        }
    }

    /// Both ends of a link that is there and not lost: this one first.
    pub(crate) fn ends(
        &self,
        id: ControllerId,
        handle: ConnHandle,
    ) -> Vec<(ControllerId, ConnHandle)> {
        let link = self
            .get(id)
            .links
            .get(&handle)
            .filter(|link| link.lost.is_none());
        let peer = link.map(|link| (link.peer.controller, link.peer.handle));
        peer.map(|peer| vec![(id, handle), peer])
            .unwrap_or_default()
    }
}
