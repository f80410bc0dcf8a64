//! The dongle: a state machine between usbredir messages and HCI packets. No I/O, no clock of its own.
//!
//! Spec: Core 5.4, Vol 4, Part B: which packets go over which endpoint.

mod acl_in;
mod events;
mod out;
mod setup;

use std::collections::VecDeque;
use std::time::Duration;

use self::acl_in::AclIn;
use self::events::Events;
use self::out::OutQueue;
use super::UsbEndpoint;
use super::descriptors::{self, ACL_IN, ACL_OUT, SCO_IN, SCO_OUT};
use super::faults::{UsbFault, UsbFaultAction, UsbFaults, UsbLedger, UsbTransfers};
use super::voice::{VoiceIn, VoiceOut};
use super::wire::{
    Bulk, CAPABILITIES, Decoder, DeviceConnect, Hello, Iso, Message, Packet, ProtocolError, status,
};
use crate::hci::wire::Rest;
use crate::types::PacketKind;

/// What a dongle is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DongleSettings {
    /// It can wake its host, without which hosts do not suspend it while it is in use.
    pub remote_wakeup: bool,
    /// It is not plugged in until [`Dongle::plug`] says so.
    pub unplugged: bool,
}

/// One Bluetooth dongle.
#[derive(Debug)]
pub struct Dongle {
    settings: DongleSettings,
    decoder: Decoder,
    output: Vec<u8>,
    to_controller: VecDeque<FromHost>,
    plug: Plug,
    alt: u8,
    configuration: u8,
    commands: OutQueue,
    acl_out: OutQueue,
    events: Events,
    acl_in: AclIn,
    voice_in: VoiceIn,
    voice_out: VoiceOut,
    faults: UsbFaults,
    ledger: UsbLedger,
}

/// What the host sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromHost {
    /// An HCI packet, with its H4 indicator.
    Packet(Vec<u8>),
    /// One that a stalled endpoint did not take.
    Lost(Vec<u8>),
}

/// Whether the host sees the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plug {
    /// The other end has not said hello.
    Greeting {
        wanted: bool,
    },
    In,
    Out,
    /// The other end has not yet confirmed that it is out.
    Leaving {
        wanted: bool,
    },
}

/// Packets that are kept for a host that does not listen; more are refused.
const KEPT_PACKETS: usize = 4096;
/// How long a host may take to start over after an error on the interrupt endpoint, or to try again on another. Then it is taken for one
/// that does not.
const RESTART_PATIENCE: Duration = Duration::from_secs(2);
const FULL_SPEED: u8 = 1;
const NAME: &[u8] = b"bluetooth-metrics controller";

impl Dongle {
    /// A dongle whose other end is to say hello first.
    pub fn new(settings: DongleSettings) -> Self {
        let mut dongle = Self {
            settings,
            decoder: Decoder::default(),
            output: Vec::new(),
            to_controller: VecDeque::new(),
            plug: Plug::Greeting {
                wanted: !settings.unplugged,
            },
            alt: 0,
            configuration: 0,
            commands: OutQueue::default(),
            acl_out: OutQueue::default(),
            events: Events::default(),
            acl_in: AclIn::default(),
            voice_in: VoiceIn::default(),
            voice_out: VoiceOut::default(),
            faults: UsbFaults::default(),
            ledger: UsbLedger::default(),
        };
        let mut version = [0; 64];
        version[..NAME.len()].copy_from_slice(NAME);
        dongle.tell(Message::Hello(Hello {
            version,
            capabilities: Rest(CAPABILITIES.to_le_bytes().to_vec()),
        }));
        dongle
    }

    /// Takes bytes from the other end.
    ///
    /// # Errors
    /// They are not usbredir; the conversation cannot go on.
    pub fn from_host(&mut self, bytes: &[u8], now: Duration) -> Result<(), ProtocolError> {
        self.decoder.push(bytes);
        while let Some(packet) = self.decoder.next()? {
            self.obey(packet, now);
        }
        Ok(())
    }

    /// Takes out the bytes that are due to the other end.
    pub fn to_host(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.output)
    }

    /// The next HCI packet from the host.
    pub fn to_controller(&mut self) -> Option<FromHost> {
        self.to_controller.pop_front()
    }

    /// Takes an HCI packet for the host, with its H4 indicator; `false` if the host cannot get it.
    pub fn from_controller(&mut self, packet: &[u8], now: Duration) -> bool {
        let Some((indicator, bytes)) = packet.split_first() else {
            return false;
        };
        if self.plug != Plug::In {
            return false;
        }
        let taken = match PacketKind::from_indicator(*indicator) {
            Some(PacketKind::Event) if self.events.waiting.len() < KEPT_PACKETS => {
                self.events.push(bytes);
                true
            }
            Some(PacketKind::Acl | PacketKind::Iso) if self.acl_in.waiting.len() < KEPT_PACKETS => {
                self.acl_in.waiting.push_back(bytes.to_vec());
                true
            }
            Some(PacketKind::Sco) => self.voice_in.push(bytes, self.alt, &mut self.faults),
            _ => false,
        };
        self.serve_in(now);
        taken
    }

    /// When something is to happen next, if neither end does anything.
    pub fn next_deadline(&self) -> Option<Duration> {
        let holding = self.events.holding_until;
        let due = [
            self.commands.next_due(),
            self.acl_out.next_due(),
            self.voice_in.next_due(),
            self.acl_in.next_due(),
            holding,
        ];
        due.into_iter().flatten().min()
    }

    /// Does what is due. There may be packets [for the controller](Self::to_controller) afterwards.
    pub fn advance(&mut self, now: Duration) {
        if self.plug != Plug::In {
            return;
        }
        for queue in [UsbEndpoint::Commands, UsbEndpoint::AclOut] {
            self.serve_out(queue, now);
        }
        self.serve_in(now);
    }

    fn serve_in(&mut self, now: Duration) {
        self.serve_events(now);
        self.serve_acl_in(now);
        for packet in self.voice_in.due(now) {
            let length = packet.data.len();
            if length > 0 || packet.status != status::SUCCESS {
                self.ledger.write(UsbEndpoint::ScoIn, packet.status, length);
            }
            self.tell(Message::Iso(Iso {
                endpoint: SCO_IN,
                status: packet.status,
                length: u16::try_from(length).unwrap_or(u16::MAX),
                data: Rest(packet.data),
            }));
        }
    }

    /// Plugs the dongle in, as soon as the other end is ready for it.
    pub fn plug(&mut self) {
        match &mut self.plug {
            Plug::Greeting { wanted } | Plug::Leaving { wanted } => *wanted = true,
            Plug::Out => self.connect(),
            Plug::In => {}
        }
    }

    /// Pulls the dongle out. What was on its way is lost.
    pub fn unplug(&mut self) {
        match &mut self.plug {
            Plug::Greeting { wanted } | Plug::Leaving { wanted } => *wanted = false,
            Plug::Out => {}
            Plug::In => {
                self.tell(Message::DeviceDisconnect);
                self.forget();
                self.to_controller.clear();
                self.plug = Plug::Leaving { wanted: false };
            }
        }
    }

    /// Whether voice goes both ways: the host has taken an alternate setting with room for it, and polls.
    pub fn is_voice_ready(&self) -> bool {
        self.alt > 0 && self.voice_in.is_streaming()
    }

    /// Has something go wrong with transfers to come.
    pub fn add_fault(&mut self, fault: UsbFault) {
        self.faults.add(fault);
    }

    /// What crossed the bus since the dongle was plugged in.
    pub fn transfers(&self) -> Vec<UsbTransfers> {
        self.ledger.sums()
    }

    fn tell(&mut self, message: Message) {
        self.answer(&Packet { id: 0, message });
    }

    fn answer(&mut self, packet: &Packet) {
        packet.encode(self.decoder.wide_ids(), &mut self.output);
    }

    fn connect(&mut self) {
        self.ledger = UsbLedger::default();
        self.tell_interfaces();
        let [class, subclass, protocol] = descriptors::CLASS;
        self.tell(Message::DeviceConnect(DeviceConnect {
            speed: FULL_SPEED,
            class,
            subclass,
            protocol,
            vendor: descriptors::VENDOR,
            product: descriptors::PRODUCT,
            version: descriptors::VERSION,
        }));
        self.plug = Plug::In;
    }

    fn tell_interfaces(&mut self) {
        self.tell(Message::InterfaceInfo(descriptors::interface_info()));
        self.tell(Message::EpInfo(descriptors::endpoint_info(self.alt)));
    }

    /// What a reset of the bus leaves: nothing.
    fn forget(&mut self) {
        self.alt = 0;
        self.configuration = 0;
        self.commands = OutQueue::default();
        self.acl_out = OutQueue::default();
        self.events = Events::default();
        self.acl_in = AclIn::default();
        self.voice_in.stop();
        self.voice_out.clear();
    }

    fn obey(&mut self, packet: Packet, now: Duration) {
        let Packet { id, message } = packet;
        match message {
            Message::Hello(_) => {
                if self.plug == (Plug::Greeting { wanted: true }) {
                    self.connect();
                } else {
                    self.plug = Plug::Out;
                }
            }
            Message::DeviceDisconnectAck => self.left(),
            Message::Reset => self.forget(),
            Message::CancelDataPacket => self.cancel(id, now),
            Message::Control(control) => self.control(id, control, now),
            Message::Bulk(bulk) => self.bulk(id, bulk, now),
            Message::Iso(iso) if iso.endpoint == SCO_OUT => self.voice(&iso.data.0),
            other => self.configure(id, &other, now),
        }
    }

    fn left(&mut self) {
        if let Plug::Leaving { wanted } = self.plug {
            self.plug = Plug::Out;
            if wanted {
                self.connect();
            }
        }
    }

    fn bulk(&mut self, id: u64, mut bulk: Bulk, now: Duration) {
        match bulk.endpoint {
            ACL_OUT => {
                let packet = h4(PacketKind::Acl, &std::mem::take(&mut bulk.data.0));
                let answer = Packet {
                    id,
                    message: Message::Bulk(bulk),
                };
                self.acl_out.push(answer, packet);
                self.serve_out(UsbEndpoint::AclOut, now);
            }
            ACL_IN => {
                self.acl_in.offered.push_back((id, bulk));
                self.serve_acl_in(now);
            }
            _ => {
                bulk.status = status::INVALID;
                let message = Message::Bulk(bulk);
                self.answer(&Packet { id, message });
            }
        }
    }

    fn voice(&mut self, bytes: &[u8]) {
        self.ledger
            .write(UsbEndpoint::ScoOut, status::SUCCESS, bytes.len());
        for frame in self.voice_out.push(bytes) {
            let packet = FromHost::Packet(h4(PacketKind::Sco, &frame));
            self.to_controller.push_back(packet);
        }
    }

    /// Gives a transfer back that the host does not want any more, unless it is done.
    fn cancel(&mut self, id: u64, now: Duration) {
        self.cancel_out(id, now);
        let offered = &mut self.acl_in.offered;
        let at = offered.iter().position(|(offer, _)| *offer == id);
        let stale = &mut self.acl_in.stale;
        *stale -= usize::from(at.is_some_and(|at| at < *stale));
        if let Some((id, mut bulk)) = at.and_then(|at| offered.remove(at)) {
            self.ledger.write(UsbEndpoint::AclIn, status::CANCELLED, 0);
            bulk.status = status::CANCELLED;
            (bulk.length, bulk.length_high) = (0, 0);
            let message = Message::Bulk(bulk);
            self.answer(&Packet { id, message });
        } else if let Some((code, bytes)) = self.acl_in.take_back(id) {
            self.ledger.take_back(UsbEndpoint::AclIn, code, bytes);
        }
    }
}

fn error_of(action: Option<UsbFaultAction>) -> Option<u8> {
    match action {
        Some(UsbFaultAction::Stall) => Some(status::STALL),
        Some(UsbFaultAction::IoError) => Some(status::IO_ERROR),
        Some(UsbFaultAction::Babble) => Some(status::BABBLE),
        _ => None,
    }
}

fn h4(kind: PacketKind, bytes: &[u8]) -> Vec<u8> {
    [&[kind.indicator()], bytes].concat()
}

#[cfg(test)]
mod tests;
