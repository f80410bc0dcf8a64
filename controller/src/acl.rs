//! ACL data from one host to another.

use crate::air::{Air, Outgoing};
use crate::faults::FaultAction;
use crate::hci::event::DataBufferOverflow;
use crate::hci::packet::{DataPacket, acl_packet};
use crate::ledger::{Detail, Direction, Fate};
use crate::link::LINK_TYPE_ACL;
use crate::types::{ConnHandle, ControllerId, LinkKind, PacketKind};

/// Packet boundary flag of a first packet from the host that must not be flushed.
const FIRST_NON_FLUSHABLE: u8 = 0b00;
/// Packet boundary flag of a first packet to the host of a BR/EDR link, and of a first packet that may be flushed from the host.
const FIRST_FLUSHABLE: u8 = 0b10;
const BOUNDARY_MASK: u8 = 0b0011;

impl Air {
    /// Takes an ACL packet from a host, passes it on, and says what happened to it.
    ///
    /// Spec: Core 5.4, Vol 4, Part E, 5.4.2.
    pub(crate) fn acl_from_host(&mut self, id: ControllerId, packet: DataPacket<'_>) -> Detail {
        let DataPacket {
            handle,
            flags: _,
            payload,
        } = packet;
        let payload_bytes = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let controller = self.get(id);
        let link = controller.links.get(&handle).map(|link| link.kind);
        let link = link.filter(|kind| matches!(kind, LinkKind::Acl | LinkKind::Le));
        let Some(kind) = link else {
            let (slots_after, fate) = (None, Fate::NoLink);
            return Detail::DataFromHost {
                handle,
                link,
                payload_bytes,
                slots_after,
                fate,
            };
        };
        let fate = self.buffer_acl(id, kind, packet);
        let buffers = &self.get(id).buffers;
        let slots_after = Some(buffers.free(buffers.pool(kind)));
        match fate {
            Fate::Forwarded => self.forward_acl(id, packet),
            Fate::Overflow => self.event(
                id,
                &DataBufferOverflow {
                    link_type: LINK_TYPE_ACL,
                },
            ),
            _ => {}
        }
        self.complete_due(id);
        Detail::DataFromHost {
            handle,
            link,
            payload_bytes,
            slots_after,
            fate,
        }
    }

    /// Puts the packet into a buffer, and decides what becomes of it.
    fn buffer_acl(&mut self, id: ControllerId, kind: LinkKind, packet: DataPacket<'_>) -> Fate {
        let now = self.now;
        let controller = self.get_mut(id);
        let pool = controller.buffers.pool(kind);
        let profile = &controller.profile;
        let mtu = if kind == LinkKind::Le && profile.le.packets > 0 {
            profile.le.mtu
        } else {
            profile.acl.mtu
        };
        if packet.payload.len() > usize::from(mtu) {
            return Fate::TooLong;
        }
        if !controller.buffers.take(packet.handle, pool, now) {
            return Fate::Overflow;
        }
        let link = controller.links.get(&packet.handle);
        let lost = link.is_some_and(|link| link.lost.is_some());
        match self
            .faults
            .strike(id, Direction::HostToController, PacketKind::Acl)
        {
            Some(FaultAction::Drop) => Fate::Dropped,
            None if lost => Fate::PeerGone,
            None => Fate::Forwarded,
        }
    }

    fn forward_acl(&mut self, id: ControllerId, packet: DataPacket<'_>) {
        let Some(link) = self.get(id).links.get(&packet.handle) else {
            return;
        };
        let (peer, kind) = (link.peer, link.kind);
        let flags = match packet.flags & BOUNDARY_MASK {
            FIRST_NON_FLUSHABLE => packet.flags | FIRST_FLUSHABLE,
            _ => packet.flags,
        };
        self.data_to_host(
            peer.controller,
            peer.handle,
            kind,
            acl_packet(peer.handle, flags, packet.payload),
            packet.payload.len(),
        );
    }

    fn data_to_host(
        &mut self,
        controller: ControllerId,
        handle: ConnHandle,
        link: LinkKind,
        packet: Vec<u8>,
        payload_bytes: usize,
    ) {
        let payload_bytes = u16::try_from(payload_bytes).unwrap_or(u16::MAX);
        let detail = Detail::DataToHost {
            handle,
            link,
            payload_bytes,
        };
        self.outbox.push_back(Outgoing {
            controller,
            kind: PacketKind::Acl,
            packet,
            detail,
        });
    }
}
