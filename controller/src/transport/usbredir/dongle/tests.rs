//! A dongle and the other end, without either's socket.

use proptest::prelude::*;

use super::super::UsbStatus;
use super::super::descriptors::EVENTS_IN;
use super::super::wire::tests::hello;
use super::super::wire::{
    Control, SetAltSetting, SetConfiguration, StartInterruptReceiving, StartIsoStream,
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

    fn cancel(&mut self, id: u64, now: Duration) {
        let mut bytes = Vec::new();
        let message = Message::CancelDataPacket;
        Packet { id, message }.encode(true, &mut bytes);
        self.dongle.from_host(&bytes, now).unwrap();
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
    assert!(matches!(&host.heard()[0].message, Message::Control(c) if c.status == status::STALL));
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
    host.cancel(third, ms(0));
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
    let stalls = sums.iter().find(|sum| sum.status == UsbStatus::Stall);
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

/// Check that a transfer that is never taken is still not when the host takes it back and offers it again, and that one that the host does not
/// offer again is lost when it resets the controller.
#[test]
fn transfer_that_is_taken_back_for_good_is_lost_at_the_reset() {
    let mut host = Host::configured();
    host.dongle
        .add_fault(fault(UsbEndpoint::AclOut, 1, UsbFaultAction::Never));
    let ids = [host.bulk_out(&[1], ms(0)), host.bulk_out(&[2], ms(0))];
    for id in ids {
        host.cancel(id, ms(1));
        host.dongle.advance(ms(1));
    }
    assert_eq!(host.statuses(), ids.map(|id| (id, status::CANCELLED)));
    let again = host.bulk_out(&[1], ms(2));
    assert_eq!(
        (host.statuses(), host.dongle.to_controller()),
        (vec![], None)
    );
    host.cancel(again, ms(3));
    host.send(control(0x20, 0, 0, 3, &[3, 12, 0]), ms(4));
    let heard: Vec<_> = std::iter::from_fn(|| host.dongle.to_controller()).collect();
    let lost = [vec![2, 2], vec![2, 1]].map(FromHost::Lost);
    let reset = FromHost::Packet(vec![1, 3, 12, 0]);
    assert_eq!(heard, [&lost[..], &[reset]].concat());
}

/// Check that transfers behind a stalled one that were answered before the host knew of the stall, and that it therefore takes back and offers
/// again, meet the same fate again: one stalls, one has arrived and does not arrive twice.
#[test]
fn answers_that_the_host_did_not_see_are_given_again() {
    let mut host = Host::configured();
    host.dongle
        .add_fault(fault(UsbEndpoint::AclOut, 2, UsbFaultAction::Stall));
    let offer = |host: &mut Host| [1, 2, 3].map(|byte| host.bulk_out(&[byte], ms(0)));
    let [stalled, behind, last] = offer(&mut host);
    let fates = [(stalled, 4), (behind, 4), (last, 0)];
    assert_eq!(host.statuses(), fates);
    for id in [behind, last] {
        host.cancel(id, ms(1));
    }
    assert!(host.statuses().is_empty());
    let again = [2, 3].map(|byte| host.bulk_out(&[byte], ms(2)));
    assert_eq!(host.statuses(), [(again[0], 4), (again[1], 0)]);
    let heard: Vec<_> = std::iter::from_fn(|| host.dongle.to_controller()).collect();
    let lost = [1, 2].map(|byte| FromHost::Lost(vec![2, byte]));
    assert_eq!(heard, [&lost[..], &[FromHost::Packet(vec![2, 3])]].concat());
    let sums = host.dongle.transfers();
    let sums = sums.iter().map(|s| (s.status, s.transfers, s.bytes));
    let (success, cancelled) = (UsbStatus::Success, UsbStatus::Cancelled);
    let wanted = [(success, 1, 1), (cancelled, 2, 0), (UsbStatus::Stall, 2, 0)];
    assert_eq!(sums.collect::<Vec<_>>(), wanted);
}

/// Check that an error that the host did not see, since it took the transfer back, comes again.
#[test]
fn error_in_a_transfer_that_was_taken_back_comes_again() {
    let mut host = Host::configured();
    host.dongle
        .add_fault(fault(UsbEndpoint::AclIn, 1, UsbFaultAction::Stall));
    let first = host.send(bulk(ACL_IN, 64, &[]), ms(0));
    host.dongle.from_controller(&[2, 7], ms(0));
    assert_eq!(host.statuses(), [(first, status::STALL)]);
    host.cancel(first, ms(1));
    let offers = [ms(1), ms(1)].map(|now| host.send(bulk(ACL_IN, 64, &[]), now));
    assert_eq!(host.statuses(), [(offers[0], 4), (offers[1], 0)]);
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
        host.cancel(id, ms(1));
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
    host.cancel(stale, ms(1));
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

/// Check that a dongle without room for voice stays as it was, and takes the next request.
#[test]
fn alternate_setting_that_is_refused_changes_nothing() {
    let mut host = Host::configured();
    host.dongle
        .add_fault(fault(UsbEndpoint::ScoOut, 1, UsbFaultAction::NoRoom));
    let mut ask = |alt| {
        let interface = 1;
        host.send(
            Message::SetAltSetting(SetAltSetting { interface, alt }),
            ms(0),
        );
        host.heard().into_iter().find_map(|packet| {
            let Message::AltSettingStatus(answer) = packet.message else {
                return None;
            };
            Some((answer.status, answer.alt))
        })
    };
    assert_eq!(ask(0), Some((status::SUCCESS, 0)));
    assert_eq!(ask(2), Some((status::STALL, 0)));
    assert_eq!(ask(2), Some((status::SUCCESS, 2)));
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
