//! Paging: from Create Connection to Connection Complete, and everything that can come between.
//!
//! Spec: Core 5.4, Vol 4, Part E, 7.1.5–7.1.9; Vol 2, Part F, 3.1.

use crate::air::Air;
use crate::hci::event::{ConnectionRequest, RemoteNameRequestComplete, RoleChange};
use crate::link::LINK_TYPE_ACL;
use crate::timers::{Timer, TimerKey, slots};
use crate::types::{BdAddr, ConnHandle, ControllerId, Role, Status};

/// A device that is being paged.
#[derive(Debug)]
pub(crate) struct Page {
    /// Whether the pager would become the peripheral.
    allow_role_switch: bool,
    progress: Progress,
}

#[derive(Debug)]
enum Progress {
    /// Nobody has answered yet.
    Calling(TimerKey),
    /// This controller has, and asks its host.
    Answered(ControllerId),
}

/// A connection request that waits for the host's answer.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) from: ControllerId,
    timer: TimerKey,
}

impl Air {
    /// Begins to page a device.
    pub(crate) fn page(&mut self, pager: ControllerId, addr: BdAddr, allow_role_switch: bool) {
        let timeout = slots(self.get(pager).settings.page_timeout_slots);
        let at = self.now.saturating_add(timeout);
        let timer = self.timers.set(at, Timer::Page { pager, addr });
        let page = Page {
            allow_role_switch,
            progress: Progress::Calling(timer),
        };
        self.get_mut(pager).pages.insert(addr, page);
        self.call(pager, addr);
    }

    /// Has the paged device answer, if it listens.
    fn call(&mut self, pager: ControllerId, addr: BdAddr) {
        let Some(paged) = self.reachable(pager, addr) else {
            return;
        };
        let from = self.get(pager).profile.addr;
        let known = self.get(paged);
        if known.requests.contains_key(&from) || known.link_to(from).is_some() {
            return;
        }
        let Some(page) = self.get_mut(pager).pages.get_mut(&addr) else {
            return;
        };
        let answered = Progress::Answered(paged);
        let Progress::Calling(timer) = std::mem::replace(&mut page.progress, answered) else {
            return;
        };
        self.timers.cancel(timer);
        self.request_connection(pager, paged);
    }

    fn request_connection(&mut self, pager: ControllerId, paged: ControllerId) {
        let (addr, class) = (self.get(pager).profile.addr, self.get(pager).settings.class);
        let timeout = slots(self.get(paged).settings.accept_timeout_slots);
        let at = self.now.saturating_add(timeout);
        let timer = self.timers.set(
            at,
            Timer::Accept {
                acceptor: paged,
                addr,
            },
        );
        self.get_mut(paged)
            .requests
            .insert(addr, Request { from: pager, timer });
        self.event(
            paged,
            &ConnectionRequest {
                addr,
                class,
                link_type: LINK_TYPE_ACL,
            },
        );
    }

    /// The controller with this address, if it is another one that hears pages.
    pub(crate) fn reachable(&self, from: ControllerId, addr: BdAddr) -> Option<ControllerId> {
        let mut others = self.ids().filter(|id| *id != from);
        others.find(|id| self.get(*id).profile.addr == addr && self.get(*id).page_scan())
    }

    /// Has those who page `id` or inquire in vain try again: it may listen now.
    pub(crate) fn scan_changed(&mut self, id: ControllerId) {
        let others: Vec<_> = self.ids().filter(|other| *other != id).collect();
        for other in others {
            self.answer_inquiry(id, other);
        }
        if !self.get(id).page_scan() {
            return;
        }
        let addr = self.get(id).profile.addr;
        let others: Vec<_> = self.ids().filter(|other| *other != id).collect();
        for other in others {
            self.call(other, addr);
            if self.get(other).names.contains_key(&addr) {
                self.tell_name(other, addr);
            }
        }
    }

    /// Nobody has answered a page.
    pub(crate) fn page_timeout(&mut self, pager: ControllerId, addr: BdAddr) {
        if self.get_mut(pager).pages.remove(&addr).is_some() {
            self.connection_complete(pager, addr, Status::PAGE_TIMEOUT, ConnHandle::default());
        }
    }

    /// Takes back a page; whoever has answered it hears that nothing comes of it. `false` if there is none.
    pub(crate) fn cancel_page(&mut self, pager: ControllerId, addr: BdAddr) -> bool {
        let Some(page) = self.get_mut(pager).pages.remove(&addr) else {
            return false;
        };
        let own = self.get(pager).profile.addr;
        match page.progress {
            Progress::Calling(timer) => self.timers.cancel(timer),
            Progress::Answered(paged) => {
                if self.take_request(paged, own).is_some() {
                    let why = Status::REMOTE_USER_TERMINATED;
                    self.connection_complete(paged, own, why, ConnHandle::default());
                }
            }
        }
        true
    }

    fn take_request(&mut self, id: ControllerId, addr: BdAddr) -> Option<ControllerId> {
        let request = self.get_mut(id).requests.remove(&addr)?;
        self.timers.cancel(request.timer);
        Some(request.from)
    }

    /// The host accepts a connection request, in the role it wants. `false` if there is none.
    pub(crate) fn accept(&mut self, id: ControllerId, addr: BdAddr, role: Role) -> bool {
        let Some(pager) = self.take_request(id, addr) else {
            return false;
        };
        let own = self.get(id).profile.addr;
        let page = self.get_mut(pager).pages.remove(&own);
        let may_switch = page.is_some_and(|page| page.allow_role_switch);
        if role == Role::Central && may_switch {
            for (id, addr, role) in [(id, addr, Role::Central), (pager, own, Role::Peripheral)] {
                self.event(
                    id,
                    &RoleChange {
                        status: Status::SUCCESS,
                        addr,
                        role,
                    },
                );
            }
            self.open_acl(id, pager);
        } else {
            self.open_acl(pager, id);
        }
        true
    }

    /// The host refuses a connection request, or has not answered it in time. `false` if there is none.
    pub(crate) fn reject(&mut self, id: ControllerId, addr: BdAddr, why: Status) -> bool {
        let Some(pager) = self.take_request(id, addr) else {
            return false;
        };
        let own = self.get(id).profile.addr;
        self.get_mut(pager).pages.remove(&own);
        self.refuse_acl(pager, id, why);
        true
    }

    /// Asks a device for its name.
    pub(crate) fn ask_name(&mut self, asker: ControllerId, addr: BdAddr) {
        let linked = self.get(asker).link_to(addr).is_some();
        if linked || self.reachable(asker, addr).is_some() {
            self.tell_name(asker, addr);
            return;
        }
        let timeout = slots(self.get(asker).settings.page_timeout_slots);
        let at = self.now.saturating_add(timeout);
        let timer = self.timers.set(at, Timer::RemoteName { asker, addr });
        self.get_mut(asker).names.insert(addr, timer);
    }

    fn tell_name(&mut self, asker: ControllerId, addr: BdAddr) {
        let named = self.ids().find(|id| self.get(*id).profile.addr == addr);
        let Some(name) = named.map(|id| self.get(id).settings.name) else {
            return;
        };
        if let Some(timer) = self.get_mut(asker).names.remove(&addr) {
            self.timers.cancel(timer);
        }
        let status = Status::SUCCESS;
        self.event(asker, &RemoteNameRequestComplete { status, addr, name });
    }

    /// Ends a name request without a name. `false` if there is none.
    pub(crate) fn end_name_request(
        &mut self,
        asker: ControllerId,
        addr: BdAddr,
        status: Status,
    ) -> bool {
        let Some(timer) = self.get_mut(asker).names.remove(&addr) else {
            return false;
        };
        self.timers.cancel(timer);
        let name = Default::default();
        self.event(asker, &RemoteNameRequestComplete { status, addr, name });
        true
    }
}
