//! Synchronous connections (SCO and eSCO): from the request to the link.
//!
//! Spec: Core 5.4, Vol 4, Part E, 7.1.26–7.1.28, 7.1.45, 7.1.46; Vol 2, Part B, 4.6.1 and 4.6.2 (the links).

use crate::air::Air;
use crate::hci::event::{ConnectionComplete, ConnectionRequest, SynchronousConnectionComplete};
use crate::link::{End, LINK_TYPE_ESCO, LINK_TYPE_SCO};
use crate::timers::{Timer, TimerKey, slots};
use crate::types::{BdAddr, ConnHandle, ControllerId, LinkKind, Status};

/// How audio travels on the air; the number is the one of the Synchronous Connection Complete event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum AirMode {
    MuLaw = 0,
    ALaw = 1,
    Cvsd = 2,
    Transparent = 3,
}

/// What a host wants of a synchronous link.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SyncWish {
    pub(crate) packet_types: u16,
    pub(crate) max_latency_ms: u16,
    pub(crate) retransmission: u8,
    pub(crate) air_mode: AirMode,
}

/// A request for a synchronous connection that waits for the host's answer.
#[derive(Debug)]
pub(crate) struct SyncRequest {
    from: ControllerId,
    /// The ACL link at the end that asks.
    carrier: ConnHandle,
    wish: SyncWish,
    /// The asking host used Add SCO Connection, and expects Connection Complete.
    legacy: bool,
    timer: TimerKey,
}

/// What the two ends have agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Agreed {
    kind: LinkKind,
    interval_slots: u8,
    window_slots: u8,
    packet_bytes: u16,
    air_mode: AirMode,
}

/// HV1, HV2, HV3.
const SCO_PACKETS: u16 = 0x0007;
/// EV3, EV4, EV5.
const EV_PACKETS: u16 = 0x0038;
/// 2-EV3, 3-EV3, 2-EV5, 3-EV5; here a set bit forbids.
const EDR_PACKETS: u16 = 0x03c0;
const NO_2_EV3: u16 = 0x0040;

impl AirMode {
    /// Spec: Core 5.4, Vol 4, Part E, 6.12: the two lowest bits of a voice setting.
    pub(crate) const fn of_voice_setting(voice_setting: u16) -> Self {
        match voice_setting & 3 {
            0 => Self::Cvsd,
            1 => Self::MuLaw,
            2 => Self::ALaw,
            _ => Self::Transparent,
        }
    }

    /// Spec: Assigned Numbers, 2.11: coding formats; mSBC goes over the air as it is.
    pub(crate) const fn of_coding_format(format: u8) -> Option<Self> {
        match format {
            0 => Some(Self::MuLaw),
            1 => Some(Self::ALaw),
            2 => Some(Self::Cvsd),
            3 | 5 => Some(Self::Transparent),
            _ => None,
        }
    }
}

impl SyncWish {
    /// What the older commands imply: any SCO packet of these types, coded as the controller's voice setting says.
    pub(crate) const fn sco(packet_types: u16, voice_setting: u16) -> Self {
        Self {
            packet_types: packet_types & SCO_PACKETS | EDR_PACKETS,
            max_latency_ms: 0xffff,
            retransmission: 0xff,
            air_mode: AirMode::of_voice_setting(voice_setting),
        }
    }

    /// The kind of link, eSCO first; `None` if no packet type is allowed.
    fn kind(self) -> Option<LinkKind> {
        if self.packet_types & EV_PACKETS != 0 || self.packet_types & EDR_PACKETS != EDR_PACKETS {
            Some(LinkKind::Esco)
        } else if self.packet_types & SCO_PACKETS != 0 {
            Some(LinkKind::Sco)
        } else {
            None
        }
    }

    /// What both want.
    fn and(self, other: Self) -> Self {
        let allowed = SCO_PACKETS | EV_PACKETS;
        Self {
            packet_types: self.packet_types & other.packet_types & allowed
                | (self.packet_types | other.packet_types) & EDR_PACKETS,
            max_latency_ms: self.max_latency_ms.min(other.max_latency_ms),
            ..self
        }
    }

    /// 64 kb/s in the longest packets that the latency allows: 60 bytes each 7.5 ms, or 30 bytes each 3.75 ms.
    fn settle(self) -> Option<Agreed> {
        let kind = self.kind()?;
        let air_mode = self.air_mode;
        if kind == LinkKind::Sco {
            return Some(Agreed {
                kind,
                interval_slots: 0,
                window_slots: 0,
                packet_bytes: 0,
                air_mode,
            });
        }
        let long = self.packet_types & NO_2_EV3 == 0 && self.max_latency_ms >= 10;
        let (interval_slots, packet_bytes) = if long { (12, 60) } else { (6, 30) };
        let window_slots = match self.retransmission {
            0 => 0,
            2 => 4,
            _ => 2,
        };
        Some(Agreed {
            kind,
            interval_slots,
            window_slots,
            packet_bytes,
            air_mode,
        })
    }
}

impl Air {
    /// Asks the peer of an ACL link for a synchronous connection.
    pub(crate) fn ask_sync(
        &mut self,
        id: ControllerId,
        carrier: ConnHandle,
        wish: SyncWish,
        legacy: bool,
    ) -> Result<(), Status> {
        let link = self.get(id).links.get(&carrier);
        let link = link.filter(|link| link.kind == LinkKind::Acl);
        let link = link.ok_or(Status::UNKNOWN_CONNECTION)?;
        let kind = wish.kind().ok_or(Status::INVALID_PARAMETERS)?;
        let (acceptor, lost) = (link.peer.controller, link.lost.is_some());
        let controller = self.get(id);
        let (addr, class) = (controller.profile.addr, controller.settings.class);
        let there = self.get(acceptor);
        let back = &controller.sync_requests;
        if lost || there.sync_requests.contains_key(&addr) || back.contains_key(&there.profile.addr)
        {
            return Err(Status::COMMAND_DISALLOWED);
        }
        let at = self
            .now
            .saturating_add(slots(there.settings.accept_timeout_slots));
        let timer = self.timers.set(at, Timer::AcceptSync { acceptor, addr });
        let request = SyncRequest {
            from: id,
            carrier,
            wish,
            legacy,
            timer,
        };
        self.get_mut(acceptor).sync_requests.insert(addr, request);
        let link_type = link_type(kind);
        let event = ConnectionRequest {
            addr,
            class,
            link_type,
        };
        self.event(acceptor, &event);
        Ok(())
    }

    /// The host accepts a request, with a wish of its own unless it used the command for ACL.
    pub(crate) fn accept_sync(
        &mut self,
        id: ControllerId,
        addr: BdAddr,
        wish: Option<SyncWish>,
    ) -> Result<(), Status> {
        let requests = &self.get(id).sync_requests;
        let request = requests.get(&addr).ok_or(Status::UNKNOWN_CONNECTION)?;
        let legacy = wish.is_none();
        let wish = wish.unwrap_or_else(|| {
            let voice_setting = self.get(id).settings.voice_setting;
            SyncWish::sco(SCO_PACKETS, voice_setting)
        });
        if legacy && request.wish.kind() != Some(LinkKind::Sco) {
            return Err(Status::COMMAND_DISALLOWED);
        }
        if wish.air_mode != request.wish.air_mode {
            self.end_sync(id, addr, Err(Status::SCO_AIR_MODE_REJECTED), legacy);
            return Ok(());
        }
        let agreed = request.wish.and(wish).settle();
        self.end_sync(id, addr, agreed.ok_or(Status::UNSUPPORTED), legacy);
        Ok(())
    }

    /// Ends a request without a connection. `false` if there is none.
    pub(crate) fn reject_sync(&mut self, id: ControllerId, addr: BdAddr, why: Status) -> bool {
        let there = self.get(id).sync_requests.contains_key(&addr);
        self.end_sync(id, addr, Err(why), false);
        there
    }

    fn end_sync(
        &mut self,
        id: ControllerId,
        addr: BdAddr,
        agreed: Result<Agreed, Status>,
        legacy: bool,
    ) {
        let Some(request) = self.get_mut(id).sync_requests.remove(&addr) else {
            return;
        };
        self.timers.cancel(request.timer);
        let asker = request.from;
        let kind = request.wish.kind().unwrap_or(LinkKind::Sco);
        let result = agreed.and_then(|agreed| {
            let handles = self.open_sync(asker, request.carrier, agreed);
            handles.map(|handles| (agreed, handles))
        });
        let own = self.get(id).profile.addr;
        let (at_asker, at_acceptor) = match result {
            Ok((agreed, (first, second))) => (Ok((agreed, first)), Ok((agreed, second))),
            Err(why) => (Err(why), Err(why)),
        };
        self.sync_complete(id, addr, kind, at_acceptor, legacy);
        self.sync_complete(asker, own, kind, at_asker, request.legacy);
    }

    /// Makes the link: the handles at the end of the ACL link and at its peer's.
    fn open_sync(
        &mut self,
        id: ControllerId,
        carrier: ConnHandle,
        agreed: Agreed,
    ) -> Result<(ConnHandle, ConnHandle), Status> {
        let link = self.get(id).links.get(&carrier);
        let link = link.ok_or(Status::UNKNOWN_CONNECTION)?;
        let (peer, role) = (link.peer, link.role);
        let handles = (
            self.get(id).free_handle(),
            self.get(peer.controller).free_handle(),
        );
        let (Some(here), Some(there)) = handles else {
            return Err(Status::REJECTED_LIMITED_RESOURCES);
        };
        let first = End {
            id,
            handle: here,
            role,
            addr: self.get(id).profile.addr,
            carrier: Some(carrier),
        };
        let second = End {
            id: peer.controller,
            handle: there,
            role: role.other(),
            addr: peer.addr,
            carrier: Some(peer.handle),
        };
        self.join(agreed.kind, [first, second]);
        Ok((here, there))
    }

    fn sync_complete(
        &mut self,
        id: ControllerId,
        addr: BdAddr,
        wanted: LinkKind,
        result: Result<(Agreed, ConnHandle), Status>,
        legacy: bool,
    ) {
        let (status, handle) = match result {
            Ok((_, handle)) => (Status::SUCCESS, handle),
            Err(status) => (status, ConnHandle::default()),
        };
        let agreed = result.ok().map(|(agreed, _)| agreed);
        let link_type = link_type(agreed.map_or(wanted, |agreed| agreed.kind));
        if legacy {
            let event = ConnectionComplete {
                status,
                handle,
                addr,
                link_type,
                encryption: 0,
            };
            self.event(id, &event);
            return;
        }
        let event = SynchronousConnectionComplete {
            status,
            handle,
            addr,
            link_type,
            interval_slots: agreed.map_or(0, |agreed| agreed.interval_slots),
            retransmission_window_slots: agreed.map_or(0, |agreed| agreed.window_slots),
            rx_packet_bytes: agreed.map_or(0, |agreed| agreed.packet_bytes),
            tx_packet_bytes: agreed.map_or(0, |agreed| agreed.packet_bytes),
            air_mode: agreed.map_or(AirMode::Cvsd, |agreed| agreed.air_mode) as u8,
        };
        self.event(id, &event);
    }
}

const fn link_type(kind: LinkKind) -> u8 {
    match kind {
        LinkKind::Esco => LINK_TYPE_ESCO,
        _ => LINK_TYPE_SCO,
    }
}
