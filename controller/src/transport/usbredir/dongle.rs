//! The dongle: a state machine between usbredir messages and HCI packets. No I/O, no clock of its own.
//!
//! Spec: Core 5.4, Vol 4, Part B: which packets go over which endpoint.

use std::collections::VecDeque;
use std::time::Duration;

use super::UsbEndpoint;
use super::descriptors::{self, ACL_IN, ACL_OUT, EVENTS_IN, SCO_IN, SCO_OUT};
use super::faults::{UsbFault, UsbFaultAction, UsbFaults, UsbLedger, UsbTransfers};
use super::voice::{VoiceIn, VoiceOut};
use super::wire::{
    AltSettingStatus, Bulk, CAPABILITIES, ConfigurationStatus, Control, Decoder, DeviceConnect,
    Hello, Interrupt, InterruptReceivingStatus, Iso, IsoStreamStatus, Message, Packet,
    ProtocolError, status,
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

/// Transfers from the host, taken in order.
#[derive(Debug, Default)]
struct OutQueue {
    waiting: VecDeque<Request>,
    /// A transfer that failed on the bus: host controllers try it again, and until then (at most so long) nothing else gets through.
    failed: Option<(Vec<u8>, Duration)>,
}

#[derive(Debug)]
struct Request {
    /// What to answer but for the status.
    answer: Packet,
    /// For the controller.
    packet: Vec<u8>,
    /// When to answer (`None`: never) and with which status, once it is at the front.
    verdict: Option<(Option<Duration>, u8)>,
}

#[derive(Debug, Default)]
struct Events {
    receiving: bool,
    waiting: VecDeque<Vec<u8>>,
    /// An error was reported: nothing more until the host has started over, or until then.
    holding_until: Option<Duration>,
}

#[derive(Debug, Default)]
struct AclIn {
    /// Transfers that the host offers.
    offered: VecDeque<(u64, Bulk)>,
    /// So many of them were there when one before ended with an error: host controllers take them back and offer them anew. Until when to wait
    /// for that.
    stale: usize,
    stale_until: Duration,
    /// What went into the last transfers. A host that takes one back after that has not seen it, and never will.
    answered: VecDeque<(u64, Vec<u8>)>,
    /// So many of those that wait came back that way.
    returned: usize,
    waiting: VecDeque<Vec<u8>>,
}

/// More than a host has under way at a time.
const REMEMBERED_TRANSFERS: usize = 16;
/// Packets that are kept for a host that does not listen; more are refused.
const KEPT_PACKETS: usize = 4096;
/// How long a host may take to start over after an error on the interrupt endpoint, or to try again on another. Then it is taken for one
/// that does not.
const RESTART_PATIENCE: Duration = Duration::from_secs(2);
const HCI_RESET: [u8; 3] = [0x01, 0x03, 0x0c];
const FULL_SPEED: u8 = 1;
const NAME: &[u8] = b"bluetooth-metrics controller";

/// Control requests: USB 2.0, 9.4.
mod request {
    pub(super) const GET_STATUS: u8 = 0;
    pub(super) const CLEAR_FEATURE: u8 = 1;
    pub(super) const SET_FEATURE: u8 = 3;
    pub(super) const GET_DESCRIPTOR: u8 = 6;
    /// Bits 5 and 6 of the request type: standard, class or vendor.
    pub(super) const TYPE_MASK: u8 = 0x60;
    pub(super) const CLASS_TO_DEVICE: u8 = 0x20;
}

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
            Message::CancelDataPacket => self.cancel(id),
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

    /// Configurations, alternate settings, streams.
    fn configure(&mut self, id: u64, message: &Message, now: Duration) {
        let success = status::SUCCESS;
        let answer = match message {
            Message::SetConfiguration(set) => {
                self.forget();
                self.configuration = set.configuration;
                self.tell_interfaces();
                self.configuration_status()
            }
            Message::GetConfiguration => self.configuration_status(),
            Message::SetAltSetting(set) => self.set_alt(set.interface, set.alt),
            Message::GetAltSetting(get) => self.alt_status(get.interface, success),
            Message::StartIsoStream(start) => {
                if start.endpoint == SCO_IN {
                    self.voice_in.start(now);
                }
                stream_status(start.endpoint)
            }
            Message::StopIsoStream(stop) => {
                match stop.endpoint {
                    SCO_IN => self.voice_in.stop(),
                    _ => self.voice_out.clear(),
                }
                stream_status(stop.endpoint)
            }
            Message::StartInterruptReceiving(start) => {
                self.events.receiving = true;
                self.events.holding_until = None;
                receiving_status(start.endpoint)
            }
            Message::StopInterruptReceiving(stop) => {
                self.events.receiving = false;
                receiving_status(stop.endpoint)
            }
            _ => return,
        };
        self.answer(&Packet {
            id,
            message: answer,
        });
        self.advance(now);
    }

    fn set_alt(&mut self, interface: u8, alt: u8) -> Message {
        let known = match interface {
            0 => alt == 0,
            1 => usize::from(alt) < descriptors::SCO_PACKET_BYTES.len(),
            _ => false,
        };
        if !known {
            return self.alt_status(interface, status::INVALID);
        }
        if interface == 1 {
            self.alt = alt;
            self.voice_in.stop();
            self.voice_out.clear();
        }
        self.tell_interfaces();
        self.alt_status(interface, status::SUCCESS)
    }

    fn alt_status(&self, interface: u8, status: u8) -> Message {
        let alt = if interface == 1 { self.alt } else { 0 };
        Message::AltSettingStatus(AltSettingStatus {
            status,
            interface,
            alt,
        })
    }

    fn configuration_status(&self) -> Message {
        Message::ConfigurationStatus(ConfigurationStatus {
            status: status::SUCCESS,
            configuration: self.configuration,
        })
    }

    fn control(&mut self, id: u64, mut control: Control, now: Duration) {
        if control.request_type == request::CLASS_TO_DEVICE && control.endpoint & 0x7f == 0 {
            let packet = h4(PacketKind::Command, &std::mem::take(&mut control.data.0));
            let answer = Packet {
                id,
                message: Message::Control(control),
            };
            self.commands.push(answer, packet);
            self.serve_out(UsbEndpoint::Commands, now);
            return;
        }
        let (status, mut data) = self.standard(&control);
        data.truncate(control.length.into());
        control.status = status;
        if control.request_type & 0x80 != 0 {
            control.length = u16::try_from(data.len()).unwrap_or(u16::MAX);
        }
        control.data = Rest(data);
        let message = Message::Control(control);
        self.answer(&Packet { id, message });
    }

    /// Answers a standard request that the other end has not answered itself.
    fn standard(&self, control: &Control) -> (u8, Vec<u8>) {
        let [index, kind] = control.value.to_le_bytes();
        let is_standard = control.request_type & request::TYPE_MASK == 0;
        match (control.request, kind, index) {
            _ if !is_standard => (status::STALL, Vec::new()),
            (request::GET_DESCRIPTOR, 1, 0) => (status::SUCCESS, descriptors::device()),
            (request::GET_DESCRIPTOR, 2, 0) => {
                let descriptor = descriptors::configuration(self.settings.remote_wakeup);
                (status::SUCCESS, descriptor)
            }
            (request::GET_STATUS, ..) => (status::SUCCESS, vec![0, 0]),
            (request::CLEAR_FEATURE | request::SET_FEATURE, ..) => (status::SUCCESS, Vec::new()),
            _ => (status::STALL, Vec::new()),
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

    fn queue(&mut self, endpoint: UsbEndpoint) -> &mut OutQueue {
        match endpoint {
            UsbEndpoint::Commands => &mut self.commands,
            _ => &mut self.acl_out,
        }
    }

    /// Takes what the host sent, in order, as far as faults let it.
    fn serve_out(&mut self, endpoint: UsbEndpoint, now: Duration) {
        loop {
            if !self.queue(endpoint).is_open(now) {
                return;
            }
            let waits = self.queue(endpoint).waiting.front().map(|r| r.verdict);
            let (due, code) = match waits {
                None => return,
                Some(Some(verdict)) => verdict,
                Some(None) => {
                    let verdict = verdict(self.faults.strike(endpoint), now);
                    if let Some(first) = self.queue(endpoint).waiting.front_mut() {
                        first.verdict = Some(verdict);
                    }
                    verdict
                }
            };
            if due.is_none_or(|due| due > now) {
                return;
            }
            if let Some(request) = self.queue(endpoint).waiting.pop_front() {
                self.take(endpoint, request, code, now);
            }
        }
    }

    fn take(&mut self, endpoint: UsbEndpoint, request: Request, code: u8, now: Duration) {
        let Request {
            mut answer, packet, ..
        } = request;
        let bytes = packet.len().saturating_sub(1);
        self.ledger.write(endpoint, code, bytes);
        set_status(&mut answer.message, code);
        self.answer(&answer);
        match code {
            status::SUCCESS => {}
            // Host controllers do not try again after these.
            status::STALL | status::BABBLE => {
                self.to_controller.push_back(FromHost::Lost(packet));
                return;
            }
            _ => {
                let until = now + RESTART_PATIENCE;
                self.queue(endpoint).failed = Some((packet, until));
                return;
            }
        }
        if packet.starts_with(&HCI_RESET) {
            // What was meant for the host before is of no use to it any more.
            self.events.waiting.clear();
            self.acl_in.waiting.clear();
        }
        self.to_controller.push_back(FromHost::Packet(packet));
    }

    fn serve_events(&mut self, now: Duration) {
        if self.events.holding_until.is_some_and(|until| until <= now) {
            self.events.holding_until = None;
        }
        while self.events.receiving && self.events.holding_until.is_none() {
            if self.events.waiting.is_empty() {
                return;
            }
            let (code, data) = match error_of(self.faults.strike(UsbEndpoint::Events)) {
                Some(code) => {
                    self.events.holding_until = Some(now + RESTART_PATIENCE);
                    (code, Vec::new())
                }
                None => {
                    let data = self.events.waiting.pop_front().unwrap_or_default();
                    (status::SUCCESS, data)
                }
            };
            self.ledger.write(UsbEndpoint::Events, code, data.len());
            self.tell(Message::Interrupt(Interrupt {
                endpoint: EVENTS_IN,
                status: code,
                length: u16::try_from(data.len()).unwrap_or(u16::MAX),
                data: Rest(data),
            }));
        }
    }

    fn serve_acl_in(&mut self, now: Duration) {
        while !self.acl_in.waiting.is_empty()
            && let Some((id, mut bulk)) = self.acl_in.next_offer(now)
        {
            let asked = usize::from(bulk.length) | usize::from(bulk.length_high) << 16;
            let error = error_of(self.faults.strike(UsbEndpoint::AclIn));
            let data = match error {
                Some(_) => Vec::new(),
                None => self.acl_in.cut(asked),
            };
            if error.is_some() {
                self.acl_in.stale = self.acl_in.offered.len();
                self.acl_in.stale_until = now + RESTART_PATIENCE;
            }
            bulk.status = error.unwrap_or(status::SUCCESS);
            self.ledger
                .write(UsbEndpoint::AclIn, bulk.status, data.len());
            self.acl_in.remember(id, &data);
            bulk.length = u16::try_from(data.len()).unwrap_or(u16::MAX);
            bulk.length_high = 0;
            bulk.data = Rest(data);
            let message = Message::Bulk(bulk);
            self.answer(&Packet { id, message });
        }
    }

    /// Gives a transfer back that the host does not want any more, unless it is done.
    fn cancel(&mut self, id: u64) {
        for endpoint in [UsbEndpoint::Commands, UsbEndpoint::AclOut] {
            let waiting = &mut self.queue(endpoint).waiting;
            let at = waiting.iter().position(|request| request.answer.id == id);
            if let Some(mut request) = at.and_then(|at| waiting.remove(at)) {
                self.ledger.write(endpoint, status::CANCELLED, 0);
                set_status(&mut request.answer.message, status::CANCELLED);
                self.answer(&request.answer);
            }
        }
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
        } else if let Some(bytes) = self.acl_in.take_back(id) {
            self.ledger.take_back(UsbEndpoint::AclIn, bytes);
        }
    }
}

impl OutQueue {
    fn push(&mut self, answer: Packet, packet: Vec<u8>) {
        self.waiting.push_back(Request {
            answer,
            packet,
            verdict: None,
        });
    }

    /// Can the first transfer be taken? Puts the one in front that is tried again, if it has come.
    fn is_open(&mut self, now: Duration) -> bool {
        let Some((failed, until)) = &self.failed else {
            return true;
        };
        let again = self.waiting.iter().position(|r| r.packet == *failed);
        match again.and_then(|at| self.waiting.remove(at)) {
            Some(request) => self.waiting.push_front(request),
            None if now < *until => return false,
            None => {}
        }
        self.failed = None;
        true
    }

    fn next_due(&self) -> Option<Duration> {
        if let Some((_, until)) = self.failed {
            return Some(until);
        }
        let (due, _) = self.waiting.front()?.verdict?;
        due
    }
}

impl Events {
    /// Cuts an event into packets. A short one ends it, an empty one if need be: hosts that read whole events wait for that.
    fn push(&mut self, event: &[u8]) {
        let chunks = event.chunks(descriptors::EVENT_PACKET_BYTES);
        self.waiting.extend(chunks.map(<[u8]>::to_vec));
        if event.len().is_multiple_of(descriptors::EVENT_PACKET_BYTES) {
            self.waiting.push_back(Vec::new());
        }
    }
}

impl AclIn {
    /// The first transfer that data may go into.
    fn next_offer(&mut self, now: Duration) -> Option<(u64, Bulk)> {
        if now >= self.stale_until {
            self.stale = 0;
        }
        self.offered.remove(self.stale)
    }

    fn remember(&mut self, id: u64, data: &[u8]) {
        self.answered.push_back((id, data.to_vec()));
        if self.answered.len() > REMEMBERED_TRANSFERS {
            self.answered.pop_front();
        }
    }

    /// Puts back what went into a transfer that the host takes back, in front of what waits; how many bytes.
    fn take_back(&mut self, id: u64) -> Option<usize> {
        let at = self
            .answered
            .iter()
            .rposition(|(answered, _)| *answered == id)?;
        let (_, data) = self.answered.remove(at)?;
        let bytes = data.len();
        if bytes > 0 {
            self.waiting.insert(self.returned, data);
            self.returned += 1;
        }
        Some(bytes)
    }

    /// When transfers that the host has not taken back are used all the same.
    fn next_due(&self) -> Option<Duration> {
        (self.stale > 0 && !self.waiting.is_empty()).then_some(self.stale_until)
    }

    /// Takes at most so many bytes off the first packet.
    fn cut(&mut self, at_most: usize) -> Vec<u8> {
        let Some(first) = self.waiting.front_mut() else {
            return Vec::new();
        };
        if first.len() <= at_most {
            self.returned = self.returned.saturating_sub(1);
            return self.waiting.pop_front().unwrap_or_default();
        }
        first.drain(..at_most).collect()
    }
}

/// When a transfer from the host is to be answered, and how.
fn verdict(action: Option<UsbFaultAction>, now: Duration) -> (Option<Duration>, u8) {
    match action {
        Some(UsbFaultAction::Hold(time)) => (Some(now.saturating_add(time)), status::SUCCESS),
        Some(UsbFaultAction::Never) => (None, status::SUCCESS),
        other => (Some(now), error_of(other).unwrap_or(status::SUCCESS)),
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

fn set_status(message: &mut Message, code: u8) {
    match message {
        Message::Control(control) => control.status = code,
        Message::Bulk(bulk) => bulk.status = code,
        _ => {}
    }
}

fn stream_status(endpoint: u8) -> Message {
    Message::IsoStreamStatus(IsoStreamStatus {
        status: status::SUCCESS,
        endpoint,
    })
}

fn receiving_status(endpoint: u8) -> Message {
    Message::InterruptReceivingStatus(InterruptReceivingStatus {
        status: status::SUCCESS,
        endpoint,
    })
}

fn h4(kind: PacketKind, bytes: &[u8]) -> Vec<u8> {
    [&[kind.indicator()], bytes].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::tests::hello;
    use super::super::wire::{
        SetAltSetting, SetConfiguration, StartInterruptReceiving, StartIsoStream,
    };
    use super::*;
    use crate::types::ControllerId;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    /// The other end.
    struct Host {
        dongle: Dongle,
        decoder: Decoder,
        heard: Vec<Packet>,
        next_id: u64,
    }

    impl Host {
        fn new(settings: DongleSettings) -> Self {
            Self {
                dongle: Dongle::new(settings),
                decoder: Decoder::default(),
                heard: Vec::new(),
                next_id: 0,
            }
        }

        /// A host that has configured the dongle and receives events.
        fn configured() -> Self {
            let mut host = Self::new(DongleSettings::default());
            host.send(hello(CAPABILITIES), ms(0));
            host.send(
                Message::SetConfiguration(SetConfiguration { configuration: 1 }),
                ms(0),
            );
            let start = StartInterruptReceiving {
                endpoint: EVENTS_IN,
            };
            host.send(Message::StartInterruptReceiving(start), ms(0));
            host.heard();
            host
        }

        fn send(&mut self, message: Message, now: Duration) -> u64 {
            self.next_id += 1;
            let id = self.next_id;
            let wide_ids = self.decoder.wide_ids();
            // Its hello is answered with ours, which says how wide ids are from then on.
            self.listen();
            let mut bytes = Vec::new();
            Packet { id, message }.encode(wide_ids, &mut bytes);
            self.dongle.from_host(&bytes, now).unwrap();
            id
        }

        fn listen(&mut self) {
            let bytes = self.dongle.to_host();
            self.decoder.push(&bytes);
            while let Some(packet) = self.decoder.next().unwrap() {
                self.heard.push(packet);
            }
        }

        fn heard(&mut self) -> Vec<Packet> {
            self.listen();
            std::mem::take(&mut self.heard)
        }

        fn bulk_out(&mut self, bytes: &[u8], now: Duration) -> u64 {
            self.send(bulk(ACL_OUT, bytes.len(), bytes), now)
        }

        fn arrived(&mut self) -> Option<Vec<u8>> {
            match self.dongle.to_controller()? {
                FromHost::Packet(packet) => Some(packet),
                FromHost::Lost(packet) => panic!("lost: {packet:?}"),
            }
        }

        fn statuses(&mut self) -> Vec<(u64, u8)> {
            let status = |packet: Packet| match packet.message {
                Message::Bulk(bulk) => Some((packet.id, bulk.status)),
                _ => None,
            };
            self.heard().into_iter().filter_map(status).collect()
        }
    }

    fn bulk(endpoint: u8, length: usize, data: &[u8]) -> Message {
        Message::Bulk(Bulk {
            endpoint,
            status: 0,
            length: u16::try_from(length).unwrap(),
            stream: 0,
            length_high: 0,
            data: Rest(data.to_vec()),
        })
    }

    fn control(request_type: u8, request: u8, value: u16, length: u16, data: &[u8]) -> Message {
        Message::Control(Control {
            endpoint: request_type & 0x80,
            request,
            request_type,
            status: 0,
            value,
            index: 0,
            length,
            data: Rest(data.to_vec()),
        })
    }

    fn fault(endpoint: UsbEndpoint, times: u64, action: UsbFaultAction) -> UsbFault {
        UsbFault {
            controller: ControllerId::from_index(0),
            endpoint,
            after: 0,
            times,
            action,
        }
    }

    fn kinds(heard: &[Packet]) -> Vec<&'static str> {
        let kind = |packet: &Packet| match packet.message {
            Message::Hello(_) => "hello",
            Message::InterfaceInfo(_) => "interfaces",
            Message::EpInfo(_) => "endpoints",
            Message::DeviceConnect(_) => "connect",
            Message::DeviceDisconnect => "disconnect",
            Message::ConfigurationStatus(_) => "configured",
            Message::AltSettingStatus(_) => "alt",
            Message::IsoStreamStatus(_) => "stream",
            _ => "other",
        };
        heard.iter().map(kind).collect()
    }

    /// Check that a dongle is told of in the order that QEMU asks for, and that descriptors are cut to what is asked.
    #[test]
    fn dongle_that_is_greeted_connects_and_describes_itself() {
        let mut host = Host::new(DongleSettings::default());
        host.send(hello(CAPABILITIES), ms(0));
        assert_eq!(
            kinds(&host.heard()),
            ["hello", "interfaces", "endpoints", "connect"]
        );
        host.send(control(0x80, 6, 0x0200, 9, &[]), ms(0));
        let [
            Packet {
                message: Message::Control(answer),
                ..
            },
        ] = &host.heard()[..]
        else {
            panic!("one answer");
        };
        assert_eq!(
            (answer.status, answer.length, answer.data.0.len()),
            (0, 9, 9)
        );
        host.send(
            Message::SetConfiguration(SetConfiguration { configuration: 1 }),
            ms(0),
        );
        assert_eq!(
            kinds(&host.heard()),
            ["interfaces", "endpoints", "configured"]
        );
        host.send(control(0x80, 6, 0x0f00, 5, &[]), ms(0));
        assert!(
            matches!(&host.heard()[0].message, Message::Control(c) if c.status == status::STALL)
        );
    }

    /// Check that commands go in over endpoint 0 and events come out in packets of 16 bytes, of which a short one is the last.
    #[test]
    fn commands_and_events_pass() {
        let mut host = Host::configured();
        host.send(control(0x20, 0, 0, 3, &[3, 12, 0]), ms(0));
        assert_eq!(host.arrived(), Some(vec![1, 3, 12, 0]));
        host.heard();
        assert!(
            host.dongle
                .from_controller(&[&[4][..], &[9; 32]].concat(), ms(0))
        );
        assert!(
            host.dongle
                .from_controller(&[&[4][..], &[8; 17]].concat(), ms(0))
        );
        let length = |packet: Packet| match packet.message {
            Message::Interrupt(packet) => packet.data.0.len(),
            other => panic!("{other:?}"),
        };
        let lengths: Vec<usize> = host.heard().into_iter().map(length).collect();
        assert_eq!(lengths, [16, 16, 0, 16, 1]);
    }

    /// Check that a bulk IN transfer waits for data, gets no more than it has room for, and is given back when it is cancelled.
    #[test]
    fn bulk_in_waits_for_data() {
        let mut host = Host::configured();
        let first = host.send(bulk(ACL_IN, 5, &[]), ms(0));
        let second = host.send(bulk(ACL_IN, 64, &[]), ms(0));
        let third = host.send(bulk(ACL_IN, 64, &[]), ms(0));
        assert!(host.heard().is_empty());
        host.dongle
            .from_controller(&[2, 1, 2, 3, 4, 5, 6, 7], ms(0));
        let data = |packet: &Packet| match &packet.message {
            Message::Bulk(bulk) => (packet.id, bulk.data.0.clone()),
            other => panic!("{other:?}"),
        };
        let heard: Vec<_> = host.heard().iter().map(data).collect();
        assert_eq!(heard, [(first, vec![1, 2, 3, 4, 5]), (second, vec![6, 7])]);
        let mut cancel = Vec::new();
        let message = Message::CancelDataPacket;
        Packet { id: third, message }.encode(true, &mut cancel);
        host.dongle.from_host(&cancel, ms(0)).unwrap();
        assert_eq!(host.statuses(), [(third, status::CANCELLED)]);
    }

    /// Check that what a stall took is lost, that a held transfer is answered when its time is over, and that later ones wait for it.
    #[test]
    fn faults_of_bulk_out_strike_in_order() {
        let mut host = Host::configured();
        host.dongle
            .add_fault(fault(UsbEndpoint::AclOut, 1, UsbFaultAction::Stall));
        host.dongle
            .add_fault(fault(UsbEndpoint::AclOut, 1, UsbFaultAction::Hold(ms(20))));
        let stalled = host.bulk_out(&[1], ms(0));
        assert_eq!(host.statuses(), [(stalled, status::STALL)]);
        let lost = FromHost::Lost(vec![2, 1]);
        assert_eq!(host.dongle.to_controller(), Some(lost));
        let held = host.bulk_out(&[2], ms(5));
        let behind = host.bulk_out(&[3], ms(6));
        assert_eq!(host.dongle.next_deadline(), Some(ms(25)));
        host.dongle.advance(ms(24));
        assert_eq!(
            (host.statuses(), host.dongle.to_controller()),
            (vec![], None)
        );
        host.dongle.advance(ms(25));
        assert_eq!(host.statuses(), [(held, 0), (behind, 0)]);
        assert_eq!(host.arrived(), Some(vec![2, 2]));
        assert_eq!(host.arrived(), Some(vec![2, 3]));
        let sums = host.dongle.transfers();
        let stalls = sums
            .iter()
            .find(|sum| sum.status == super::super::UsbStatus::Stall);
        assert_eq!(stalls.map(|sum| (sum.transfers, sum.bytes)), Some((1, 0)));
    }

    /// Check that what was sent behind a transfer that failed on the bus waits until that is tried again.
    #[test]
    fn transfers_behind_a_failed_one_keep_their_order() {
        let mut host = Host::configured();
        host.dongle
            .add_fault(fault(UsbEndpoint::AclOut, 1, UsbFaultAction::IoError));
        let failed = host.bulk_out(&[1], ms(0));
        let behind = host.bulk_out(&[2], ms(0));
        assert_eq!(host.statuses(), [(failed, status::IO_ERROR)]);
        assert_eq!(host.arrived(), None);
        let again = host.bulk_out(&[1], ms(1));
        assert_eq!(host.statuses(), [(again, 0), (behind, 0)]);
        assert_eq!(host.arrived(), Some(vec![2, 1]));
        assert_eq!(host.arrived(), Some(vec![2, 2]));
    }

    /// Check that data that went into a transfer which the host had taken back comes again, in order.
    #[test]
    fn data_in_a_transfer_that_was_taken_back_comes_again() {
        let mut host = Host::configured();
        let offer = |host: &mut Host| host.send(bulk(ACL_IN, 64, &[]), ms(0));
        let ids = [offer(&mut host), offer(&mut host)];
        host.dongle.from_controller(&[2, 7], ms(0));
        host.dongle.from_controller(&[2, 8], ms(0));
        host.dongle.from_controller(&[2, 9], ms(0));
        assert_eq!(host.statuses(), ids.map(|id| (id, 0)));
        for id in ids {
            let mut cancel = Vec::new();
            let message = Message::CancelDataPacket;
            Packet { id, message }.encode(true, &mut cancel);
            host.dongle.from_host(&cancel, ms(1)).unwrap();
        }
        assert!(host.statuses().is_empty());
        for _ in 0..3 {
            offer(&mut host);
        }
        let data = |packet: Packet| match packet.message {
            Message::Bulk(bulk) => bulk.data.0,
            other => panic!("{other:?}"),
        };
        let heard: Vec<_> = host.heard().into_iter().map(data).collect();
        assert_eq!(heard, [[7], [8], [9]]);
        let sums = host.dongle.transfers();
        assert_eq!(sums.iter().map(|sum| sum.bytes).sum::<u64>(), 3);
    }

    /// Check that data does not go into transfers that the host is about to take back.
    #[test]
    fn data_after_an_error_waits_for_new_offers() {
        let mut host = Host::configured();
        let failed = host.send(bulk(ACL_IN, 64, &[]), ms(0));
        let stale = host.send(bulk(ACL_IN, 64, &[]), ms(0));
        host.dongle
            .add_fault(fault(UsbEndpoint::AclIn, 1, UsbFaultAction::Babble));
        host.dongle.from_controller(&[2, 7], ms(0));
        assert_eq!(host.statuses(), [(failed, status::BABBLE)]);
        let mut cancel = Vec::new();
        let message = Message::CancelDataPacket;
        Packet { id: stale, message }.encode(true, &mut cancel);
        host.dongle.from_host(&cancel, ms(1)).unwrap();
        assert_eq!(host.statuses(), [(stale, status::CANCELLED)]);
        let new = host.send(bulk(ACL_IN, 64, &[]), ms(1));
        assert_eq!(host.statuses(), [(new, 0)]);
    }

    /// Check that nothing follows an error on the interrupt endpoint until the host has started over, and that no event is lost.
    #[test]
    fn event_after_an_error_waits_for_the_host() {
        let mut host = Host::configured();
        host.dongle
            .add_fault(fault(UsbEndpoint::Events, 1, UsbFaultAction::IoError));
        host.dongle.from_controller(&[4, 0x0e, 0], ms(0));
        let packet = |packet: &Packet| match &packet.message {
            Message::Interrupt(packet) => Some((packet.status, packet.data.0.clone())),
            _ => None,
        };
        assert_eq!(
            host.heard().iter().find_map(packet),
            Some((status::IO_ERROR, vec![]))
        );
        let start = StartInterruptReceiving {
            endpoint: EVENTS_IN,
        };
        host.send(Message::StartInterruptReceiving(start), ms(1));
        assert_eq!(
            host.heard().iter().find_map(packet),
            Some((0, vec![0x0e, 0]))
        );
    }

    /// Check that voice needs an alternate setting and a stream, and goes both ways then.
    #[test]
    fn voice_passes_once_the_host_polls() {
        let mut host = Host::configured();
        let frame = [&[3, 1, 0, 6][..], &[5; 6]].concat();
        assert!(!host.dongle.from_controller(&frame, ms(0)));
        host.send(
            Message::SetAltSetting(SetAltSetting {
                interface: 1,
                alt: 1,
            }),
            ms(0),
        );
        assert_eq!(kinds(&host.heard()), ["interfaces", "endpoints", "alt"]);
        assert!(!host.dongle.is_voice_ready());
        let start = StartIsoStream {
            endpoint: SCO_IN,
            packets_per_urb: 10,
            urbs: 6,
        };
        host.send(Message::StartIsoStream(start), ms(0));
        assert!(host.dongle.is_voice_ready());
        assert!(host.dongle.from_controller(&frame, ms(0)));
        let iso = Iso {
            endpoint: SCO_OUT,
            status: 0,
            length: 9,
            data: Rest(frame[1..].to_vec()),
        };
        host.send(Message::Iso(iso), ms(0));
        assert_eq!(host.arrived(), Some(frame));
    }

    /// Check that a dongle that is pulled out comes back only when the host has let go of it.
    #[test]
    fn dongle_that_is_pulled_out_can_be_put_back() {
        let mut host = Host::configured();
        host.dongle.unplug();
        host.dongle.plug();
        assert_eq!(kinds(&host.heard()), ["disconnect"]);
        assert!(!host.dongle.from_controller(&[4, 0x0e, 0], ms(0)));
        host.send(Message::DeviceDisconnectAck, ms(0));
        assert_eq!(kinds(&host.heard()), ["interfaces", "endpoints", "connect"]);
    }

    proptest! {
        /// Check that no bytes after the hello make a dongle panic.
        #[test]
        fn dongle_given_any_messages_never_panics(
            messages in prop::collection::vec((0u32..110, prop::collection::vec(any::<u8>(), 0..40)), 0..40),
        ) {
            let mut host = Host::configured();
            for (number, (kind, body)) in messages.into_iter().enumerate() {
                let length = u32::try_from(body.len()).unwrap();
                let header = [kind.to_le_bytes(), length.to_le_bytes(), [1; 4], [0; 4]].concat();
                let now = ms(number.try_into().unwrap());
                if host.dongle.from_host(&[header, body].concat(), now).is_err() {
                    break;
                }
                host.dongle.from_controller(&[4, 0x0e, 0], now);
                host.dongle.advance(now);
            }
        }
    }
}
