//! Links between two controllers: how they begin, change and end.

use crate::air::Air;
use crate::buffers::AckPolicy;
use crate::hci::event::{ConnectionComplete, DisconnectionComplete, ModeChange, RoleChange};
use crate::timers::{Timer, TimerKey, slots};
use crate::types::{BdAddr, ConnHandle, ControllerId, LinkKind, Role, Status};

/// One end of a link, as its controller knows it.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) kind: LinkKind,
    pub(crate) peer: Peer,
    pub(crate) role: Role,
    pub(crate) policy: u16,
    pub(crate) supervision_timeout_slots: u16,
    pub(crate) mode: Mode,
    /// The other end is gone without a word; the timer that will notice, if any.
    pub(crate) lost: Option<Option<TimerKey>>,
}

/// The other end of a link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) controller: ControllerId,
    pub(crate) handle: ConnHandle,
    pub(crate) addr: BdAddr,
}

/// Whether the devices listen all the time; the number is the one of the Mode Change event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    Active = 0,
    Sniff = 2,
}

/// Link type of an ACL connection in connection events.
pub(crate) const LINK_TYPE_ACL: u8 = 0x01;
/// 20 s, the default of the specification.
const SUPERVISION_TIMEOUT_SLOTS: u16 = 0x7d00;

impl Air {
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
        let ends = [
            (
                central,
                at_central,
                peripheral,
                at_peripheral,
                Role::Central,
            ),
            (
                peripheral,
                at_peripheral,
                central,
                at_central,
                Role::Peripheral,
            ),
        ];
        for (id, handle, controller, peer_handle, role) in ends {
            let addr = self.get(controller).profile.addr;
            let me = self.get_mut(id);
            let link = Link {
                kind: LinkKind::Acl,
                peer: Peer {
                    controller,
                    handle: peer_handle,
                    addr,
                },
                role,
                policy: me.settings.default_link_policy,
                supervision_timeout_slots: SUPERVISION_TIMEOUT_SLOTS,
                mode: Mode::Active,
                lost: None,
            };
            me.links.insert(handle, link);
            self.connection_complete(id, addr, Status::SUCCESS, handle);
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

    /// Ends a link at the wish of one host: `id` hears that it did, the peer hears `reason`.
    pub(crate) fn close(&mut self, id: ControllerId, handle: ConnHandle, reason: Status) {
        let Some(link) = self.forget_link(id, handle) else {
            return;
        };
        self.disconnection_complete(id, handle, Status::LOCAL_HOST_TERMINATED);
        if link.lost.is_none() {
            let Peer {
                controller, handle, ..
            } = link.peer;
            self.forget_link(controller, handle);
            self.disconnection_complete(controller, handle, reason);
        }
    }

    /// Cuts a link at one end only. The other end notices when its supervision timeout has passed.
    pub(crate) fn vanish(&mut self, id: ControllerId, handle: ConnHandle) {
        let Some(link) = self.forget_link(id, handle) else {
            return;
        };
        if link.lost.is_some() {
            return;
        }
        let Peer {
            controller, handle, ..
        } = link.peer;
        let now = self.now;
        let Some(left) = self.get(controller).links.get(&handle) else {
            return;
        };
        let timer = match left.supervision_timeout_slots {
            0 => None,
            timeout => {
                let timer = Timer::Supervision {
                    id: controller,
                    handle,
                };
                Some(self.timers.set(now.saturating_add(slots(timeout)), timer))
            }
        };
        let peer = self.get_mut(controller);
        peer.buffers.set_policy(Some(handle), AckPolicy::Never);
        if let Some(left) = peer.links.get_mut(&handle) {
            left.lost = Some(timer);
        }
    }

    /// The supervision timeout of a lost link has passed.
    pub(crate) fn supervision_timeout(&mut self, id: ControllerId, handle: ConnHandle) {
        if self.forget_link(id, handle).is_some() {
            self.disconnection_complete(id, handle, Status::CONNECTION_TIMEOUT);
        }
    }

    fn forget_link(&mut self, id: ControllerId, handle: ConnHandle) -> Option<Link> {
        let controller = self.get_mut(id);
        let link = controller.links.remove(&handle)?;
        controller.buffers.forget(handle);
        if let Some(Some(timer)) = link.lost {
            self.timers.cancel(timer);
        }
        Some(link)
    }

    fn disconnection_complete(&mut self, id: ControllerId, handle: ConnHandle, reason: Status) {
        self.event(
            id,
            &DisconnectionComplete {
                status: Status::SUCCESS,
                handle,
                reason,
            },
        );
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
    fn ends(&self, id: ControllerId, handle: ConnHandle) -> Vec<(ControllerId, ConnHandle)> {
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
