//! LE: advertising, scanning, connecting, and what the ends agree on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Pair, addr};
use controller::{ConnHandle, ControllerId, LinkKind, Pool};
use rstest::rstest;

const A: ControllerId = ControllerId::from_index(0);
const B: ControllerId = ControllerId::from_index(1);

const META: u8 = 0x3e;
const CONNECTION_COMPLETE: u8 = 0x01;
const ADVERTISING_REPORT: u8 = 0x02;
const DATA_LENGTH_CHANGE: u8 = 0x07;
const ENHANCED_CONNECTION_COMPLETE: u8 = 0x0a;
const EXTENDED_REPORT: u8 = 0x0d;
const SET_TERMINATED: u8 = 0x12;

/// Two controllers whose hosts hear every LE event.
fn pair() -> Pair {
    let mut pair = Pair::new(|_| {});
    for id in [pair.a, pair.b] {
        pair.command(id, 0x2001, &[0xff; 8]);
    }
    pair.sent();
    pair
}

/// The subevents that have gone to one host, each with its parameters.
fn subevents(pair: &mut Pair, id: ControllerId) -> Vec<(u8, Vec<u8>)> {
    let events = pair.events(id, META);
    let split = |event: Vec<u8>| (event[0], event[1..].to_vec());
    events.into_iter().map(split).collect()
}

fn codes(pair: &mut Pair, id: ControllerId) -> Vec<u8> {
    subevents(pair, id)
        .into_iter()
        .map(|(code, _)| code)
        .collect()
}

/// B advertises, connectable, with this legacy data.
fn advertise(pair: &mut Pair, data: &[u8]) {
    let parameters = [0xa0, 0, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0];
    pair.command(pair.b, 0x2006, &parameters);
    let mut block = vec![u8::try_from(data.len()).unwrap()];
    block.extend(data);
    block.resize(32, 0);
    pair.command(pair.b, 0x2008, &block);
    pair.command(pair.b, 0x200a, &[1]);
}

/// B has an extended set 3: connectable, with data of this length.
fn advertise_extended(pair: &mut Pair, bytes: usize, duration_10ms: u16) {
    let head = [3, 1, 0, 0xa0, 0, 0, 0xa0, 0, 0, 7, 0];
    let parameters = [&head[..], &[0; 7], &[0, 0, 1, 0, 1, 5, 0]].concat();
    pair.command(pair.b, 0x2036, &parameters);
    let data = [
        &[3, 3, 1, u8::try_from(bytes).unwrap()],
        &vec![0x5a; bytes][..],
    ]
    .concat();
    pair.command(pair.b, 0x2037, &data);
    let [low, high] = duration_10ms.to_le_bytes();
    pair.command(pair.b, 0x2039, &[1, 1, 3, low, high, 0]);
}

fn scan(pair: &mut Pair, filter_duplicates: u8) {
    pair.command(pair.a, 0x200b, &[0, 0x10, 0, 0x10, 0, 0, 0]);
    pair.command(pair.a, 0x200c, &[1, filter_duplicates]);
}

/// Peer, then interval 24–40, latency 0, timeout 420 ms.
fn create(pair: &mut Pair, filter_policy: u8) {
    let timing = [24, 0, 40, 0, 0, 0, 42, 0, 0, 0, 0, 0];
    let parameters = [
        &[0x60, 0, 0x60, 0, filter_policy, 0][..],
        &addr(2).to_wire(),
        &[0],
        &timing,
    ]
    .concat();
    pair.command(pair.a, 0x200d, &parameters);
}

fn connect(pair: &mut Pair) -> (ConnHandle, ConnHandle) {
    advertise(pair, &[]);
    create(pair, 0);
    pair.sent();
    pair.air.take_ledger();
    pair.handles()
}

/// Check that an advertiser is reported with its type, address and data, once, whichever of scanner and advertiser begins first.
#[rstest]
#[case::scanner_first(true)]
#[case::advertiser_first(false)]
fn advertiser_is_reported_once(#[case] scanner_first: bool) {
    let mut pair = pair();
    if scanner_first {
        scan(&mut pair, 1);
    }
    advertise(&mut pair, &[2, 1, 6]);
    if !scanner_first {
        scan(&mut pair, 1);
    }
    pair.wait(Duration::from_secs(3));
    let report = [&[1, 0, 0][..], &addr(2).to_wire(), &[3, 2, 1, 6, 0xd6]].concat();
    assert_eq!(subevents(&mut pair, A), [(ADVERTISING_REPORT, report)]);
}

/// Check that a scanner that wants duplicates gets one each interval, and none after it has stopped.
#[test]
fn advertiser_is_reported_each_interval_without_filter() {
    let mut pair = pair();
    advertise(&mut pair, &[]);
    scan(&mut pair, 0);
    pair.wait(Duration::from_millis(250));
    assert_eq!(codes(&mut pair, A), [ADVERTISING_REPORT; 3]);
    pair.command(pair.a, 0x200c, &[0, 0]);
    pair.wait(Duration::from_secs(3));
    assert_eq!(codes(&mut pair, A), []);
    assert_eq!(pair.air.next_deadline(), None);
}

/// Check that an accept-list scanner reports listed devices only.
#[rstest]
#[case::listed(2, 1)]
#[case::not_listed(3, 0)]
fn accept_list_filters_reports(#[case] listed: u8, #[case] reports: usize) {
    let mut pair = pair();
    let device = [&[0][..], &addr(listed).to_wire()].concat();
    pair.command(pair.a, 0x2011, &device);
    pair.command(pair.a, 0x200b, &[0, 0x10, 0, 0x10, 0, 0, 1]);
    pair.command(pair.a, 0x200c, &[1, 1]);
    advertise(&mut pair, &[]);
    assert_eq!(codes(&mut pair, A).len(), reports);
}

/// Check that long data of an extended set comes in two reports, the first marked incomplete, and that a legacy scanner hears none of it.
#[test]
fn extended_data_is_reported_in_parts() {
    let mut pair = pair();
    advertise_extended(&mut pair, 251, 0);
    pair.command(pair.a, 0x2041, &[0, 0, 1, 0, 0x10, 0, 0x10, 0]);
    pair.command(pair.a, 0x2042, &[1, 1, 0, 0, 0, 0]);
    let parts: Vec<_> = subevents(&mut pair, A)
        .into_iter()
        .map(|(code, event)| (code, u16::from_le_bytes([event[1], event[2]]), event[24]))
        .collect();
    assert_eq!(
        parts,
        [(EXTENDED_REPORT, 0x21, 229), (EXTENDED_REPORT, 0x01, 22)]
    );
    pair.command(pair.a, 0x2042, &[0, 0, 0, 0, 0, 0]);
    scan(&mut pair, 1);
    assert_eq!(codes(&mut pair, A), []);
}

/// Check that an extended set with a duration ends at its time and says so.
#[test]
fn extended_set_ends_at_its_duration() {
    let mut pair = pair();
    advertise_extended(&mut pair, 3, 50);
    pair.wait(Duration::from_millis(499));
    assert_eq!(codes(&mut pair, B), []);
    pair.wait(Duration::from_millis(1));
    let terminated = (SET_TERMINATED, vec![0x3c, 3, 0, 0, 0]);
    assert_eq!(subevents(&mut pair, B), [terminated]);
}

/// Check that both hosts get the connection, whichever begins first, in their roles and with the timing that the central chose.
#[rstest]
#[case::initiator_first(true)]
#[case::advertiser_first(false)]
fn create_connection_connects_both(#[case] initiator_first: bool) {
    let mut pair = pair();
    if initiator_first {
        create(&mut pair, 0);
    }
    advertise(&mut pair, &[]);
    if !initiator_first {
        create(&mut pair, 0);
    }
    let sent = pair.sent();
    let of = |handle: u16, role, peer| {
        let [low, high] = handle.to_le_bytes();
        [
            &[
                4,
                META,
                31,
                ENHANCED_CONNECTION_COMPLETE,
                0,
                low,
                high,
                role,
                0,
            ][..],
            &addr(peer).to_wire(),
            &[0; 12],
            &[40, 0, 0, 0, 42, 0, 0],
        ]
        .concat()
    };
    let complete = sent.into_iter().filter(|(_, packet)| packet[1] == META);
    let complete: Vec<_> = complete.collect();
    let (a, b) = (pair.a, pair.b);
    assert_eq!(complete, [(a, of(0x001, 0, 2)), (b, of(0x101, 1, 1))]);
}

/// Check that a host that does not want the newer event gets the older one.
#[test]
fn create_connection_masked_event_falls_back() {
    let mut pair = pair();
    pair.command(pair.a, 0x2001, &0x1fu64.to_le_bytes());
    advertise(&mut pair, &[]);
    create(&mut pair, 0);
    assert_eq!(codes(&mut pair, A), [CONNECTION_COMPLETE]);
}

/// Check that the peer must be in the accept list if that is what is asked for, and that cancelling answers as the specification says.
#[test]
fn create_connection_with_accept_list_waits_for_listed_peer() {
    let mut pair = pair();
    advertise(&mut pair, &[]);
    create(&mut pair, 1);
    assert_eq!(codes(&mut pair, A), []);
    pair.command(pair.a, 0x200e, &[]);
    let cancelled = pair.sent();
    assert_eq!(cancelled[0].1, [4, 0x0e, 4, 1, 0x0e, 0x20, 0]);
    assert_eq!(cancelled[1].1[3..5], [ENHANCED_CONNECTION_COMPLETE, 2]);
    pair.command(pair.a, 0x2011, &[&[0][..], &addr(2).to_wire()].concat());
    create(&mut pair, 1);
    assert_eq!(codes(&mut pair, A), [ENHANCED_CONNECTION_COMPLETE]);
}

/// Check that an extended set that connects ends, after the connection event, with the handle of the link.
#[test]
fn extended_set_connects_and_terminates() {
    let mut pair = pair();
    advertise_extended(&mut pair, 3, 0);
    create(&mut pair, 0);
    let events = subevents(&mut pair, B);
    assert_eq!(events[0].0, ENHANCED_CONNECTION_COMPLETE);
    assert_eq!(events[1], (SET_TERMINATED, vec![0, 3, 0x01, 0x01, 0]));
}

/// Check that data length follows what the hosts suggest, at both ends and only when it changes.
#[test]
fn data_length_follows_suggestions() {
    let mut pair = pair();
    pair.command(pair.b, 0x2024, &[251, 0, 0x48, 0x08]);
    advertise(&mut pair, &[]);
    create(&mut pair, 0);
    let change = |handle: u16, tx: u16, tx_time: u16, rx: u16, rx_time: u16| {
        let fields = [handle, tx, tx_time, rx, rx_time];
        (DATA_LENGTH_CHANGE, fields.map(u16::to_le_bytes).concat())
    };
    let at_a = subevents(&mut pair, A);
    assert_eq!(at_a[1..], [change(0x001, 27, 328, 251, 2120)]);
    pair.command(pair.a, 0x2022, &[0x01, 0x00, 251, 0, 0x48, 0x08]);
    pair.command(pair.a, 0x2022, &[0x01, 0x00, 251, 0, 0x48, 0x08]);
    let at_b = subevents(&mut pair, B);
    assert_eq!(at_b, [change(0x101, 251, 2120, 251, 2120)]);
}

/// Check that LE data takes LE buffers and is acknowledged as such.
#[test]
fn le_data_has_its_own_buffers() {
    let mut pair = pair();
    let (at_a, at_b) = connect(&mut pair);
    pair.acl(pair.a, at_a, 0, &[9; 251]);
    let sent = pair.sent();
    let [low, high] = (at_b.get() | 0x2000).to_le_bytes();
    assert_eq!(sent[0].1[..5], [2, low, high, 251, 0]);
    let entries = pair.air.ledger().entries();
    assert_eq!(entries[0].slots_after(), Some(4));
    let text = format!("{:?}", entries[0].detail);
    assert!(text.contains(&format!("{:?}", LinkKind::Le)), "{text}");
    assert_eq!(entries[2].completed()[0].pool, Pool::Le);
}

/// Check that the central updates timing at both ends and the peripheral may not.
#[test]
fn connection_update_reaches_both() {
    let mut pair = pair();
    let (at_a, at_b) = connect(&mut pair);
    let timing = [50, 0, 60, 0, 1, 0, 100, 0, 0, 0, 0, 0];
    let ask = |pair: &mut Pair, id, handle: ConnHandle| {
        pair.command(
            id,
            0x2013,
            &[&handle.get().to_le_bytes()[..], &timing].concat(),
        );
    };
    ask(&mut pair, A, at_a);
    let [low, high] = at_b.get().to_le_bytes();
    let update = (0x03, vec![0, low, high, 60, 0, 1, 0, 100, 0]);
    assert_eq!(subevents(&mut pair, B), [update]);
    ask(&mut pair, B, at_b);
    assert_eq!(pair.events(pair.b, 0x0f), [[0x1a, 1, 0x13, 0x20]]);
}

/// Check that a lost LE link ends after the supervision timeout of its timing.
#[test]
fn lost_link_ends_after_supervision_timeout() {
    let mut pair = pair();
    let (at_a, _) = connect(&mut pair);
    pair.air.lose_link(pair.a, at_a);
    pair.wait(Duration::from_millis(419));
    assert_eq!(pair.events(pair.a, 0x05).len(), 0);
    pair.wait(Duration::from_millis(1));
    let sent = pair.sent();
    let ended: Vec<_> = sent
        .iter()
        .map(|(id, packet)| (*id, packet[1], packet[6]))
        .collect();
    assert_eq!(ended, [(pair.a, 0x05, 0x08), (pair.b, 0x05, 0x08)]);
}
