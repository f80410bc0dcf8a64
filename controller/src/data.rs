//! Data packets of every kind from one host to another.

use crate::air::{Air, Outgoing};
use crate::faults::FaultAction;
use crate::hci::event::DataBufferOverflow;
use crate::hci::packet::{DataPacket, data_packet};
use crate::held::{Held, HeldData};
use crate::ledger::{Detail, Direction, Fate, L2capHeader};
use crate::link::{LINK_TYPE_ACL, LINK_TYPE_ISO, LINK_TYPE_SCO, Link};
use crate::profile::Profile;
use crate::types::{ConnHandle, ControllerId, LinkKind, PacketKind};

/// Packet boundary flag of a first ACL packet from the host that must not be flushed.
const FIRST_NON_FLUSHABLE: u8 = 0b00;
/// Packet boundary flag of a first ACL packet to the host, and of a first packet that may be flushed from the host.
const FIRST_FLUSHABLE: u8 = 0b10;
const BOUNDARY_MASK: u8 = 0b0011;

/// The header of the L2CAP PDU that begins with this packet.
fn l2cap_header(link: LinkKind, packet: DataPacket<'_>) -> Option<L2capHeader> {
    let first = matches!(
        packet.flags & BOUNDARY_MASK,
        FIRST_NON_FLUSHABLE | FIRST_FLUSHABLE
    );
    let asynchronous = matches!(link, LinkKind::Acl | LinkKind::Le);
    let header = packet
        .payload
        .first_chunk::<4>()
        .filter(|_| first && asynchronous)?;
    let [length_low, length_high, cid_low, cid_high] = *header;
    Some(L2capHeader {
        cid: u16::from_le_bytes([cid_low, cid_high]),
        length: u16::from_le_bytes([length_low, length_high]),
    })
}

impl Air {
    /// Takes a data packet from a host, passes it on, and says what happened to it.
    ///
    /// Spec: Core 5.4, Vol 4, Part E, 5.4.2, 5.4.3, 5.4.5.
    pub(crate) fn data_from_host(
        &mut self,
        id: ControllerId,
        kind: PacketKind,
        packet: DataPacket<'_>,
    ) -> Detail {
        let DataPacket {
            handle, payload, ..
        } = packet;
        let payload_bytes = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        let link = self.get(id).links.get(&handle).map(|link| link.kind);
        let link = link.filter(|link| link.packet_kind() == kind);
        let detail = |slots_after, fate| Detail::DataFromHost {
            handle,
            link,
            payload_bytes,
            slots_after,
            l2cap: link.and_then(|link| l2cap_header(link, packet)),
            fate,
        };
        let Some(link_kind) = link else {
            return detail(None, Fate::NoLink);
        };
        let fate = self.buffer(id, link_kind, packet);
        let buffers = &self.get(id).buffers;
        let free = buffers.free(buffers.pool(link_kind));
        let slots_after = self.get(id).counts(link_kind).then_some(free);
        self.carry_out(id, kind, packet, fate);
        self.complete_due(id);
        detail(slots_after, fate)
    }

    /// Says what became of a data packet that a host sent and that did not arrive.
    pub(crate) fn data_lost(
        &mut self,
        id: ControllerId,
        kind: PacketKind,
        packet: DataPacket<'_>,
    ) -> Detail {
        let DataPacket {
            handle, payload, ..
        } = packet;
        let link = self.get(id).links.get(&handle).map(|link| link.kind);
        let link = link.filter(|link| link.packet_kind() == kind);
        let counted = link.filter(|link| self.get(id).counts(*link));
        let slots_after = counted.map(|link| {
            let buffers = &mut self.get_mut(id).buffers;
            let pool = buffers.pool(link);
            buffers.lose(handle, pool);
            buffers.free(pool)
        });
        Detail::DataFromHost {
            handle,
            link,
            payload_bytes: u16::try_from(payload.len()).unwrap_or(u16::MAX),
            slots_after,
            l2cap: link.and_then(|link| l2cap_header(link, packet)),
            fate: Fate::LostOnTheWay,
        }
    }

    /// Puts the packet into a buffer, and decides what becomes of it.
    fn buffer(&mut self, id: ControllerId, kind: LinkKind, packet: DataPacket<'_>) -> Fate {
        let now = self.now;
        let controller = self.get_mut(id);
        if packet.payload.len() > usize::from(mtu(&controller.profile, kind)) {
            return Fate::TooLong;
        }
        let counted = controller.counts(kind);
        let pool = controller.buffers.pool(kind);
        if counted && !controller.buffers.take(packet.handle, pool, now) {
            return Fate::Overflow;
        }
        let link = controller.links.get(&packet.handle);
        let lost = link.is_some_and(|link| link.lost.is_some());
        let struck = self
            .faults
            .strike(id, Direction::HostToController, kind.packet_kind());
        match struck {
            Some(FaultAction::Drop) => Fate::Dropped,
            _ if lost => Fate::PeerGone,
            Some(FaultAction::Delay(time)) => Fate::Delayed(time),
            Some(FaultAction::Duplicate) => Fate::Duplicated,
            Some(FaultAction::ExtraAcks(packets)) => Fate::OverAcknowledged(packets),
            _ if !self.has_paths(id, packet.handle) => Fate::NoDataPath,
            _ => Fate::Forwarded,
        }
    }

    fn carry_out(
        &mut self,
        id: ControllerId,
        kind: PacketKind,
        packet: DataPacket<'_>,
        fate: Fate,
    ) {
        match fate {
            Fate::Forwarded => self.forward(id, kind, packet),
            Fate::Duplicated => {
                self.forward(id, kind, packet);
                self.forward(id, kind, packet);
            }
            Fate::Delayed(time) => {
                let held = HeldData::new(id, kind, packet);
                self.hold(time, Held::Data(held));
            }
            Fate::OverAcknowledged(packets) => {
                self.forward(id, kind, packet);
                self.complete_extra(id, packet.handle, packets);
            }
            Fate::Overflow => {
                let link_type = match kind {
                    PacketKind::Sco => LINK_TYPE_SCO,
                    PacketKind::Iso => LINK_TYPE_ISO,
                    _ => LINK_TYPE_ACL,
                };
                self.event(id, &DataBufferOverflow { link_type });
            }
            Fate::NoLink
            | Fate::TooLong
            | Fate::PeerGone
            | Fate::Dropped
            | Fate::LostOnTheWay
            | Fate::NoDataPath => {}
        }
    }

    /// Passes a packet on to the other end of its link, if that is there.
    pub(crate) fn forward(&mut self, id: ControllerId, kind: PacketKind, packet: DataPacket<'_>) {
        let link = self.get(id).links.get(&packet.handle);
        let Some(link) = link.filter(|link| link.lost.is_none()) else {
            return;
        };
        let (peer, link_kind) = (link.peer, link.kind);
        if link_kind.packet_kind() != kind || !self.has_paths(id, packet.handle) {
            return;
        }
        let payload_bytes = u16::try_from(packet.payload.len()).unwrap_or(u16::MAX);
        let flags = flags_to_host(kind, packet.flags);
        self.outbox.push_back(Outgoing {
            controller: peer.controller,
            kind,
            packet: data_packet(kind, peer.handle, flags, packet.payload),
            detail: Detail::DataToHost {
                handle: peer.handle,
                link: link_kind,
                payload_bytes,
            },
            exempt: false,
        });
    }

    /// Whether data can go from this end to the other: isochronous data needs a data path at both.
    fn has_paths(&self, id: ControllerId, handle: ConnHandle) -> bool {
        let Some(link) = self.get(id).links.get(&handle) else {
            return false;
        };
        let Link { kind, peer, .. } = link;
        if kind.packet_kind() != PacketKind::Iso {
            return true;
        }
        let there = self.get(peer.controller).links.get(&peer.handle);
        link.paths.from_host && there.is_some_and(|there| there.paths.to_host)
    }
}

/// The longest payload that a packet from the host may have.
fn mtu(profile: &Profile, kind: LinkKind) -> u16 {
    match kind {
        LinkKind::Le if profile.le.packets > 0 => profile.le.mtu,
        LinkKind::Acl | LinkKind::Le => profile.acl.mtu,
        LinkKind::Sco | LinkKind::Esco => profile.sco.mtu.min(u8::MAX.into()),
        LinkKind::Cis | LinkKind::Bis => profile.iso.mtu,
    }
}

/// The flags of a packet to a host, made of those it came with.
fn flags_to_host(kind: PacketKind, flags: u8) -> u8 {
    match kind {
        PacketKind::Acl if flags & BOUNDARY_MASK == FIRST_NON_FLUSHABLE => flags | FIRST_FLUSHABLE,
        // Packet status: correctly received.
        PacketKind::Sco => 0,
        _ => flags,
    }
}
