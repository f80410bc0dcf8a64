//! What can be done to controllers from the side, as data: for those who cannot reach the air itself.

use serde::{Deserialize, Serialize};

use crate::air::Air;
use crate::buffers::AckPolicy;
use crate::faults::Fault;
use crate::types::{ConnHandle, ControllerId};

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Action {
    /// [`Air::set_ack_policy`] for all links of a controller that have none of their own.
    Acks(ControllerId, AckPolicy),
    /// [`Air::flush_acks`].
    FlushAcks(ControllerId),
    /// [`Air::complete_extra`] for each link of a controller.
    AckExtra(ControllerId, u16),
    /// [`Air::add_fault`].
    Inject(Fault),
    /// [`Air::hardware_error`].
    HardwareError(ControllerId, u8),
    /// [`Air::inject`].
    SendToHost(ControllerId, Vec<u8>),
    /// [`Air::lose_link`] for each link of a controller.
    LoseLinks(ControllerId),
}

impl Action {
    /// Whom it is done to.
    pub const fn controller(&self) -> ControllerId {
        match self {
            Self::Acks(id, _)
            | Self::FlushAcks(id)
            | Self::AckExtra(id, _)
            | Self::HardwareError(id, _)
            | Self::SendToHost(id, _)
            | Self::LoseLinks(id) => *id,
            Self::Inject(fault) => fault.controller,
        }
    }
}

impl Air {
    /// Does it.
    pub fn act(&mut self, action: Action) {
        match action {
            Action::Acks(id, policy) => self.set_ack_policy(id, None, policy),
            Action::FlushAcks(id) => self.flush_acks(id),
            Action::Inject(fault) => self.add_fault(fault),
            Action::HardwareError(id, code) => self.hardware_error(id, code),
            Action::SendToHost(id, packet) => self.inject(id, packet),
            Action::AckExtra(id, packets) => self.on_each_link(id, |air, handle| {
                air.complete_extra(id, handle, packets);
            }),
            Action::LoseLinks(id) => self.on_each_link(id, |air, handle| air.lose_link(id, handle)),
        }
    }

    fn on_each_link(&mut self, id: ControllerId, act: impl Fn(&mut Self, ConnHandle)) {
        let handles: Vec<ConnHandle> = self.links(id).map(|(handle, _)| handle).collect();
        handles.into_iter().for_each(|handle| act(self, handle));
    }
}
