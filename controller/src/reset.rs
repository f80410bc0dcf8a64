//! Forgetting everything: at the host's command, or because the controller is pulled out.

use crate::air::Air;
use crate::types::{BdAddr, ConnHandle, ControllerId, Status};

impl Air {
    /// Puts a controller back into the state that it was added in, without a word to its host. Peers notice by and by.
    pub(crate) fn reset(&mut self, id: ControllerId) {
        let me = self.get(id);
        let pages: Vec<BdAddr> = me.pages.keys().copied().collect();
        let requests: Vec<BdAddr> = me.requests.keys().copied().collect();
        let names: Vec<BdAddr> = me.names.keys().copied().collect();
        let sync: Vec<BdAddr> = me.sync_requests.keys().copied().collect();
        let links: Vec<ConnHandle> = me.links.keys().copied().collect();
        self.get_mut(id).settings.event_mask = 0;
        for addr in pages {
            self.cancel_page(id, addr);
        }
        for addr in requests {
            self.reject(id, addr, Status::CONNECTION_TIMEOUT);
        }
        for addr in sync {
            self.reject_sync(id, addr, Status::CONNECTION_TIMEOUT);
        }
        for addr in names {
            self.end_name_request(id, addr, Status::UNKNOWN_CONNECTION);
        }
        for handle in links {
            self.vanish(id, handle);
        }
        self.end_inquiry(id);
        self.silence(id);
        let me = self.get_mut(id);
        me.settings = Default::default();
        me.buffers.reset();
    }

    /// Pulls a controller out: it forgets everything, and what was on its way to its host is lost. Peers notice when their supervision
    /// timeout has passed. It can be put back at any time: a host that comes finds it as it was added.
    pub fn unplug(&mut self, id: ControllerId) {
        self.reset(id);
        self.outbox.retain(|packet| packet.controller != id);
    }
}
