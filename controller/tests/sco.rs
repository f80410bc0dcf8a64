//! Synchronous links between two controllers, and their data.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::readers::check_captures;
use common::{Pair, SUCCESS, addr};
use controller::{AckPolicy, ConnHandle, Direction, LinkKind, PacketKind};
use rstest::rstest;

const CONNECTION_COMPLETE: u8 = 0x03;
const CONNECTION_REQUEST: u8 = 0x04;
const DISCONNECTION_COMPLETE: u8 = 0x05;
const NUMBER_OF_COMPLETED_PACKETS: u8 = 0x13;
const SYNC_COMPLETE: u8 = 0x2c;

const CVSD: u16 = 0x0060;
const TRANSPARENT: u16 = 0x0063;
/// All packet types, EDR among them.
const ANY: u16 = 0x003f;
/// HV3 and nothing else.
const HV3: u16 = 0x03c4;

/// Bandwidths, latency, voice setting, retransmission effort, packet types.
fn wish(latency_ms: u16, voice: u16, packet_types: u16) -> Vec<u8> {
    let bandwidth = 8000u32.to_le_bytes();
    [
        &bandwidth[..],
        &bandwidth,
        &latency_ms.to_le_bytes(),
        &voice.to_le_bytes(),
        &[2],
        &packet_types.to_le_bytes(),
    ]
    .concat()
}

fn set_up(pair: &mut Pair, acl: ConnHandle, wish: &[u8]) {
    pair.command(pair.a, 0x0428, &[&acl.get().to_le_bytes(), wish].concat());
}

fn accept(pair: &mut Pair, wish: &[u8]) {
    pair.command(pair.b, 0x0429, &[&addr(1).to_wire()[..], wish].concat());
}

/// An eSCO link on a new ACL link: its handles.
fn connect(pair: &mut Pair) -> (ConnHandle, ConnHandle) {
    let (acl, _) = pair.connect();
    set_up(pair, acl, &wish(0xffff, CVSD, ANY));
    accept(pair, &wish(0xffff, CVSD, ANY));
    pair.sent();
    pair.air.take_ledger();
    let [a, b] = [pair.a, pair.b].map(|id| pair.air.links(id).last().unwrap().0);
    (a, b)
}

fn sco(pair: &mut Pair, handle: ConnHandle, payload: &[u8]) {
    let [low, high] = handle.get().to_le_bytes();
    let length = u8::try_from(payload.len()).unwrap();
    let packet = [&[3, low, high, length], payload].concat();
    pair.air.from_host(pair.a, &packet, pair.now);
}

/// Check that the two hosts get the link that both wishes allow: kind, interval, window, packet length, coding.
#[rstest]
#[case::cvsd_s3(0x000a, CVSD, ANY, &[2, 12, 4, 60, 0, 60, 0, 2])]
#[case::cvsd_s1(0x0007, CVSD, 0x03c8, &[2, 6, 4, 30, 0, 30, 0, 2])]
#[case::msbc_t2(0x000d, TRANSPARENT, 0x0380, &[2, 12, 4, 60, 0, 60, 0, 3])]
#[case::msbc_t1(0x0008, TRANSPARENT, 0x03c8, &[2, 6, 4, 30, 0, 30, 0, 3])]
#[case::hv3(0xffff, CVSD, HV3, &[0, 0, 0, 0, 0, 0, 0, 2])]
fn set_up_accepted_connects_both(
    #[case] latency_ms: u16,
    #[case] voice: u16,
    #[case] packet_types: u16,
    #[case] expected: &[u8],
) {
    let mut pair = Pair::new(|_| {});
    let (acl, _) = pair.connect();
    set_up(&mut pair, acl, &wish(latency_ms, voice, packet_types));
    let request = [&addr(1).to_wire()[..], &[0, 0, 0, expected[0]]].concat();
    assert_eq!(pair.events(pair.b, CONNECTION_REQUEST), [request]);
    accept(&mut pair, &wish(0xffff, voice, ANY));
    let sent = pair.sent();
    let complete = |handle: u16, peer| {
        let [low, high] = handle.to_le_bytes();
        let head = [0x04, SYNC_COMPLETE, 17, SUCCESS, low, high];
        [&head[..], &addr(peer).to_wire(), expected].concat()
    };
    assert_eq!(
        sent[1..],
        [(pair.b, complete(0x102, 1)), (pair.a, complete(0x002, 2))]
    );
}

/// Check that wishes that cannot be met, refusals and silence end the request at both ends with the same status.
#[rstest]
#[case::air_mode(Some(wish(0xffff, CVSD, ANY)), 0x1d)]
#[case::no_common_type(Some(wish(0xffff, TRANSPARENT, HV3)), 0x11)]
#[case::rejected(None, 0x0d)]
fn set_up_not_agreed_tells_both(#[case] answer: Option<Vec<u8>>, #[case] status: u8) {
    let mut pair = Pair::new(|_| {});
    let (acl, _) = pair.connect();
    set_up(&mut pair, acl, &wish(0x000d, TRANSPARENT, 0x0380));
    match answer {
        Some(wish) => accept(&mut pair, &wish),
        None => pair.command(
            pair.b,
            0x042a,
            &[&addr(1).to_wire()[..], &[status]].concat(),
        ),
    }
    let sent = pair.sent();
    let ends: Vec<_> = sent.iter().filter(|(_, p)| p[1] == SYNC_COMPLETE).collect();
    assert_eq!(ends.len(), 2);
    assert!(
        ends.iter().all(|(_, packet)| packet[3] == status),
        "{ends:?}"
    );
    assert_eq!(pair.air.links(pair.b).count(), 1);
    assert_eq!(pair.air.next_deadline(), None);
}

/// Check that a request that is never answered ends at the accept timeout.
#[test]
fn set_up_unanswered_times_out() {
    let mut pair = Pair::new(|_| {});
    let (acl, _) = pair.connect();
    set_up(&mut pair, acl, &wish(0xffff, CVSD, ANY));
    pair.wait(Duration::from_micros(625) * 0x1f40);
    assert_eq!(pair.events(pair.a, SYNC_COMPLETE)[0][0], 0x10);
}

/// Check that the commands of 1.1 give a SCO link, and Connection Complete to whoever used them.
#[test]
fn add_sco_accepted_as_connection_completes_as_sco() {
    let mut pair = Pair::new(|_| {});
    let (acl, _) = pair.connect();
    let [low, high] = acl.get().to_le_bytes();
    pair.command(pair.a, 0x0407, &[low, high, 0xe0, 0]);
    pair.accept();
    let sent = pair.sent();
    let complete: Vec<_> = sent
        .iter()
        .filter(|(_, packet)| packet[1] == CONNECTION_COMPLETE)
        .map(|(id, packet)| (*id, packet[3], packet[12]))
        .collect();
    assert_eq!(complete, [(pair.b, 0, 0), (pair.a, 0, 0)]);
}

/// Check that data arrives whole at the other end and, without flow control, is not acknowledged and takes no buffer.
#[rstest]
#[case::cvsd(48)]
#[case::msbc(60)]
fn sco_data_without_flow_control_arrives(#[case] bytes: usize) {
    let mut pair = Pair::new(|_| {});
    let (at_a, at_b) = connect(&mut pair);
    for number in 0..29 {
        sco(&mut pair, at_a, &vec![number; bytes]);
    }
    let [low, high] = at_b.get().to_le_bytes();
    let sent = pair.sent();
    assert_eq!(sent.len(), 29);
    for (number, packet) in (0u8..).zip(&sent) {
        let head = [3, low, high, u8::try_from(bytes).unwrap()];
        assert_eq!(packet.1, [&head[..], &vec![number; bytes]].concat());
    }
    let ledger = pair.air.ledger();
    let out = ledger.totals(pair.a, PacketKind::Sco, Direction::HostToController);
    assert_eq!(out.payload_bytes, 29 * u64::try_from(bytes).unwrap());
    assert!(ledger.of(pair.a).all(|entry| entry.slots_after().is_none()));
}

/// Check that with flow control each packet holds a buffer until it is acknowledged.
#[test]
fn sco_flow_control_counts_buffers() {
    let mut pair = Pair::new(|profile| profile.ack = AckPolicy::OnCommand);
    pair.command(pair.a, 0x0c2f, &[1]);
    let (at_a, _) = connect(&mut pair);
    for _ in 0..9 {
        sco(&mut pair, at_a, &[0; 48]);
    }
    let entries = pair.air.ledger().of(pair.a);
    let slots: Vec<_> = entries.filter_map(controller::Entry::slots_after).collect();
    assert_eq!(slots, [7, 6, 5, 4, 3, 2, 1, 0, 0]);
    pair.sent();
    pair.air.flush_acks(pair.a);
    let [low, high] = at_a.get().to_le_bytes();
    let acks = pair.events(pair.a, NUMBER_OF_COMPLETED_PACKETS);
    assert_eq!(acks, [[1, low, high, 8, 0]]);
    pair.command(pair.a, 0x0c2f, &[0]);
    assert_eq!(pair.events(pair.a, 0x0e), [[1, 0x2f, 0x0c, 0x0c]]);
}

/// Check that an ACL link that ends takes its synchronous link with it, first, at both ends.
#[test]
fn disconnect_acl_ends_sco_first() {
    let mut pair = Pair::new(|_| {});
    let (sco_a, sco_b) = connect(&mut pair);
    let (acl_a, acl_b) = pair.handles();
    pair.disconnect(pair.a, acl_a, 0x13);
    let sent = pair.sent();
    let ended: Vec<_> = sent
        .iter()
        .filter(|(_, packet)| packet[1] == DISCONNECTION_COMPLETE)
        .map(|(id, packet)| (*id, u16::from_le_bytes([packet[4], packet[5]]), packet[6]))
        .collect();
    let (a, b) = (pair.a, pair.b);
    let expected = [
        (a, sco_a, 0x16),
        (b, sco_b, 0x13),
        (a, acl_a, 0x16),
        (b, acl_b, 0x13),
    ];
    assert_eq!(
        ended,
        expected.map(|(id, handle, why)| (id, handle.get(), why))
    );
    assert_eq!(
        (pair.air.links(a).count(), pair.air.links(b).count()),
        (0, 0)
    );
}

/// Check that a synchronous link can end alone.
#[test]
fn disconnect_sco_leaves_acl() {
    let mut pair = Pair::new(|_| {});
    let (sco_a, _) = connect(&mut pair);
    pair.disconnect(pair.a, sco_a, 0x13);
    assert_eq!(pair.events(pair.b, DISCONNECTION_COMPLETE).len(), 1);
    assert_eq!(pair.air.links(pair.b).count(), 1);
}

/// Check that data entries name the kind of link.
#[test]
fn sco_data_is_in_the_ledger_as_esco() {
    let mut pair = Pair::new(|_| {});
    let (at_a, _) = connect(&mut pair);
    sco(&mut pair, at_a, &[0; 60]);
    let entry = pair.air.ledger().entries()[0].clone();
    let text = format!("{:?}", entry.detail);
    assert!(
        text.contains(&format!("link: Some({:?})", LinkKind::Esco)),
        "{text}"
    );
}

/// Check that btmon and Wireshark see each command, event, ACL and SCO packet of a capture, with its direction.
#[test]
fn capture_of_acl_and_sco_reads_as_the_ledger_says() {
    let mut pair = Pair::new(|_| {});
    let (at_a, _) = connect(&mut pair);
    let (acl_a, acl_b) = pair.handles();
    check_captures(pair, 5, |pair| {
        for _ in 0..23 {
            pair.acl(pair.a, acl_a, 0, &[4, 0, 0x40, 0, 1, 2, 3, 4]);
        }
        for _ in 0..29 {
            pair.acl(pair.b, acl_b, 0, &[2, 0, 0x40, 0, 1, 2]);
        }
        for _ in 0..31 {
            sco(pair, at_a, &[0x55; 48]);
        }
        pair.disconnect(pair.a, acl_a, 0x13);
    });
}
