//! Connected isochronous streams between two controllers, and their data.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::readers::check_captures;
use common::{Pair, addr};
use controller::{ConnHandle, ControllerId, Detail, Direction, Entry, Fate, PacketKind};
use rstest::rstest;

const A: ControllerId = ControllerId::from_index(0);
const B: ControllerId = ControllerId::from_index(1);

const COMMAND_COMPLETE: u8 = 0x0e;
const COMMAND_STATUS: u8 = 0x0f;
const META: u8 = 0x3e;
const CIS_ESTABLISHED: u8 = 0x19;
const CIS_REQUEST: u8 = 0x1a;
/// First handle of a stream at A, after its LE link, and at B.
const CIS_A: [u8; 2] = [0x02, 0x00];
const CIS_B: [u8; 2] = [0x02, 0x01];

/// Two hosts with an LE link and one configured stream: group 1, stream 2, 40 bytes each 10 ms both ways.
fn configured() -> Pair {
    let mut pair = Pair::new(|_| {});
    for id in [A, B] {
        pair.command(id, 0x2001, &[0xff; 8]);
        pair.command(id, 0x2074, &[32, 1]);
    }
    pair.command(B, 0x200a, &[1]);
    let timing = [24, 0, 40, 0, 0, 0, 42, 0, 0, 0, 0, 0];
    let head = [0x60, 0, 0x60, 0, 0, 0];
    pair.command(
        A,
        0x200d,
        &[&head[..], &addr(2).to_wire(), &[0], &timing].concat(),
    );
    pair.sent();
    set_cig(&mut pair);
    let complete = [&[1, 0x62, 0x20, 0, 1, 1][..], &CIS_A].concat();
    assert_eq!(pair.events(A, COMMAND_COMPLETE), [complete]);
    pair
}

fn set_cig(pair: &mut Pair) {
    let interval = [0x10, 0x27, 0];
    let stream = [2, 40, 0, 40, 0, 2, 2, 1, 1];
    let group = [
        &[1][..],
        &interval,
        &interval,
        &[0, 0, 0, 10, 0, 10, 0, 1],
        &stream,
    ];
    pair.command(A, 0x2062, &group.concat());
}

fn create(pair: &mut Pair) {
    pair.command(A, 0x2064, &[&[1][..], &CIS_A, &[0x01, 0x00]].concat());
}

/// The same, with the stream connected.
fn connected() -> Pair {
    let mut pair = configured();
    create(&mut pair);
    pair.command(B, 0x2066, &CIS_B);
    pair.sent();
    pair
}

fn set_up_path(pair: &mut Pair, id: ControllerId, direction: u8) {
    let handle = if id == A { CIS_A } else { CIS_B };
    let path = [&handle[..], &[direction, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    pair.command(id, 0x206e, &path);
}

fn iso(pair: &mut Pair, payload: &[u8]) {
    let [low, high] = CIS_A;
    let packet = [
        &[5, low, high | 0x20, u8::try_from(payload.len()).unwrap(), 0],
        payload,
    ]
    .concat();
    pair.air.from_host(A, &packet, pair.now);
}

fn fates(pair: &Pair) -> Vec<Fate> {
    let fate = |entry: &Entry| match entry.detail {
        Detail::DataFromHost { fate, .. } => Some(fate),
        _ => None,
    };
    pair.air
        .ledger()
        .entries()
        .iter()
        .filter_map(fate)
        .collect()
}

/// Check that the peripheral is asked, with its own handles, and that accepting gives both the stream's parameters.
#[test]
fn create_cis_accepted_connects_both() {
    let mut pair = configured();
    create(&mut pair);
    let request = [&[CIS_REQUEST, 0x01, 0x01][..], &CIS_B, &[1, 2]].concat();
    assert_eq!(pair.events(B, META), [request]);
    pair.command(B, 0x2066, &CIS_B);
    let established = |handle: [u8; 2]| {
        let delay = [0x88, 0x13, 0];
        let latency = [0x10, 0x27, 0];
        let rest = [2, 2, 1, 1, 1, 1, 1, 40, 0, 40, 0, 8, 0];
        let head = [4, META, 29, CIS_ESTABLISHED, 0];
        [
            &head[..],
            &handle,
            &delay,
            &delay,
            &latency,
            &latency,
            &rest,
        ]
        .concat()
    };
    let sent = pair.sent();
    assert_eq!(
        sent[1..],
        [(A, established(CIS_A)), (B, established(CIS_B))]
    );
}

/// Check that a refusal and silence end the request with the reason, and that the stream can be asked for again.
#[rstest]
#[case::refused(Some(0x0d), 0x0d)]
#[case::silent(None, 0x10)]
fn create_cis_not_accepted_fails(#[case] answer: Option<u8>, #[case] status: u8) {
    let mut pair = configured();
    create(&mut pair);
    match answer {
        Some(why) => pair.command(B, 0x2067, &[&CIS_B[..], &[why]].concat()),
        None => pair.wait(Duration::from_micros(625) * 0x1f40),
    }
    let events = pair.events(A, META);
    assert_eq!(
        (events.len(), events[0][0], events[0][1]),
        (1, CIS_ESTABLISHED, status)
    );
    create(&mut pair);
    assert_eq!(pair.events(A, COMMAND_STATUS), [[0, 1, 0x64, 0x20]]);
}

/// Check that a peer whose host does not do isochronous channels is not asked.
#[test]
fn create_cis_without_host_support_fails() {
    let mut pair = configured();
    pair.command(B, 0x2074, &[32, 0]);
    create(&mut pair);
    assert_eq!(pair.events(A, META)[0][..2], [CIS_ESTABLISHED, 0x1a]);
}

/// Check that data needs a path at both ends, arrives as it was sent, and takes ISO buffers that are acknowledged.
#[test]
fn iso_data_goes_once_there_are_paths() {
    let mut pair = connected();
    pair.air.take_ledger();
    let payload = [&[7, 0, 40, 0][..], &[0x5a; 40]].concat();
    iso(&mut pair, &payload);
    set_up_path(&mut pair, A, 0);
    iso(&mut pair, &payload);
    set_up_path(&mut pair, B, 1);
    iso(&mut pair, &payload);
    let expected = [Fate::NoDataPath, Fate::NoDataPath, Fate::Forwarded];
    assert_eq!(fates(&pair), expected);
    let slots: Vec<_> = pair
        .air
        .ledger()
        .entries()
        .iter()
        .filter_map(Entry::slots_after)
        .collect();
    assert_eq!(slots, [5; 3]);
    let sent = pair.sent();
    let [low, high] = CIS_B;
    let arrived = [&[5, low, high | 0x20, 44, 0], &payload[..]].concat();
    let data: Vec<_> = sent.iter().filter(|(_, packet)| packet[0] == 5).collect();
    assert_eq!(data, [&(B, arrived)]);
    let acks = sent.iter().filter(|(_, packet)| packet[1] == 0x13).count();
    assert_eq!(acks, 3);
    let back = Direction::ControllerToHost;
    assert_eq!(
        pair.air
            .ledger()
            .totals(B, PacketKind::Iso, back)
            .payload_bytes,
        44
    );
}

/// Check that a path is set up once, and removed only if it is there.
#[test]
fn data_path_is_there_or_not() {
    let mut pair = connected();
    set_up_path(&mut pair, A, 0);
    set_up_path(&mut pair, A, 0);
    pair.command(A, 0x206f, &[&CIS_A[..], &[3]].concat());
    pair.command(A, 0x206f, &[&CIS_A[..], &[1]].concat());
    let statuses: Vec<_> = pair
        .events(A, COMMAND_COMPLETE)
        .iter()
        .map(|event| event[3])
        .collect();
    assert_eq!(statuses, [0, 0x0c, 0x0c, 0]);
}

/// Check that a group cannot be changed or removed while its stream is on the air, and that handles stay the same afterwards.
#[test]
fn cig_in_use_cannot_be_changed() {
    let mut pair = connected();
    set_cig(&mut pair);
    pair.command(A, 0x2065, &[1]);
    let statuses: Vec<_> = pair
        .events(A, COMMAND_COMPLETE)
        .iter()
        .map(|event| event[3])
        .collect();
    assert_eq!(statuses, [0x0c, 0x0c]);
    pair.disconnect(A, ConnHandle::from_low_bits(2), 0x13);
    set_cig(&mut pair);
    pair.command(A, 0x2065, &[1]);
    let complete = pair.events(A, COMMAND_COMPLETE);
    assert_eq!(
        complete[0],
        [&[1, 0x62, 0x20, 0, 1, 1][..], &CIS_A].concat()
    );
    assert_eq!(complete[1], [1, 0x65, 0x20, 0, 1]);
}

/// Check that an LE link that ends takes its stream with it, first, at both ends.
#[test]
fn disconnect_le_ends_cis_first() {
    let mut pair = connected();
    pair.disconnect(A, ConnHandle::from_low_bits(1), 0x13);
    let sent = pair.sent();
    let ended: Vec<_> = sent[1..].iter().map(|(id, p)| (*id, p[4], p[6])).collect();
    assert_eq!(
        ended,
        [(A, 2, 0x16), (B, 2, 0x13), (A, 1, 0x16), (B, 1, 0x13)]
    );
}

/// Check that btmon and Wireshark see each packet of an isochronous stream in a capture.
#[test]
fn capture_of_iso_reads_as_the_ledger_says() {
    check_captures(connected(), 3, |pair| {
        set_up_path(pair, A, 0);
        set_up_path(pair, B, 1);
        for _ in 0..37 {
            iso(pair, &[0x33; 40]);
        }
    });
}
