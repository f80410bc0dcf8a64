//! Connections between two controllers, from the first page to the end, as their hosts see them.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Pair, SUCCESS, addr};
use rstest::rstest;

const CONNECTION_COMPLETE: u8 = 0x03;
const CONNECTION_REQUEST: u8 = 0x04;
const DISCONNECTION_COMPLETE: u8 = 0x05;
const ROLE_CHANGE: u8 = 0x12;

fn connection_complete(status: u8, handle: u16, peer: u8) -> Vec<u8> {
    let [low, high] = handle.to_le_bytes();
    [&[status, low, high][..], &addr(peer).to_wire(), &[1, 0]].concat()
}

/// Check that a page reaches the paged host alone, after the pager's Command Status, and that accepting connects both.
#[test]
fn create_connection_accepted_connects_both() {
    let mut pair = Pair::new(|_| {});
    pair.create_connection();
    let request = [
        &[0x04, CONNECTION_REQUEST, 10][..],
        &addr(1).to_wire(),
        &[0, 0, 0, 1],
    ]
    .concat();
    let status = vec![0x04, 0x0f, 4, SUCCESS, 1, 0x05, 0x04];
    assert_eq!(pair.sent(), [(pair.a, status), (pair.b, request)]);
    pair.accept();
    let sent = pair.sent();
    let complete = |handle, peer| {
        [
            &[0x04, CONNECTION_COMPLETE, 11][..],
            &connection_complete(SUCCESS, handle, peer),
        ]
        .concat()
    };
    assert_eq!(
        sent,
        [
            (pair.b, vec![0x04, 0x0f, 4, SUCCESS, 1, 0x09, 0x04]),
            (pair.a, complete(0x001, 2)),
            (pair.b, complete(0x101, 1)),
        ]
    );
}

/// Check that a host that takes the central's role gets it, and that both are told before the connection is complete.
#[test]
fn accept_as_central_switches_roles() {
    let mut pair = Pair::new(|_| {});
    pair.create_connection();
    pair.sent();
    pair.command(pair.b, 0x0409, &[&addr(1).to_wire()[..], &[0]].concat());
    let codes: Vec<_> = pair
        .sent()
        .iter()
        .map(|(id, packet)| (*id, packet[1]))
        .collect();
    let (a, b) = (pair.a, pair.b);
    assert_eq!(
        codes,
        [
            (b, 0x0f),
            (b, ROLE_CHANGE),
            (a, ROLE_CHANGE),
            (b, CONNECTION_COMPLETE),
            (a, CONNECTION_COMPLETE)
        ]
    );
    let (at_a, _) = pair.handles();
    pair.command(a, 0x0809, &at_a.get().to_le_bytes());
    assert_eq!(
        pair.events(a, 0x0e),
        [[1, 0x09, 0x08, SUCCESS, 0x01, 0x00, 1]]
    );
}

/// Check that a refusal gives both hosts the reason.
#[test]
fn create_connection_rejected_tells_both() {
    let mut pair = Pair::new(|_| {});
    pair.create_connection();
    pair.sent();
    pair.command(pair.b, 0x040a, &[&addr(1).to_wire()[..], &[0x0f]].concat());
    let sent = pair.sent();
    let complete: Vec<_> = sent
        .iter()
        .skip(1)
        .map(|(id, packet)| (*id, packet[1], packet[3]))
        .collect();
    assert_eq!(
        complete,
        [
            (pair.b, CONNECTION_COMPLETE, 0x0f),
            (pair.a, CONNECTION_COMPLETE, 0x0f)
        ]
    );
    assert_eq!(pair.air.next_deadline(), None);
}

/// Check that a page that nobody hears ends with a page timeout, at the time that the host set and not before.
#[test]
fn create_connection_without_page_scan_times_out() {
    let mut pair = Pair::new(|_| {});
    pair.command(pair.b, 0x0c1a, &[0]);
    pair.command(pair.a, 0x0c18, &[0x40, 0x06]); // 1600 slots = 1 s
    pair.create_connection();
    pair.wait(Duration::from_millis(999));
    assert_eq!(
        pair.events(pair.a, CONNECTION_COMPLETE),
        Vec::<Vec<u8>>::new()
    );
    pair.wait(Duration::from_millis(1));
    assert_eq!(
        pair.events(pair.a, CONNECTION_COMPLETE),
        [connection_complete(0x04, 0, 2)]
    );
}

/// Check that a device that begins to listen while it is paged hears the page.
#[test]
fn page_scan_enabled_during_page_is_heard() {
    let mut pair = Pair::new(|_| {});
    pair.command(pair.b, 0x0c1a, &[0]);
    pair.create_connection();
    assert_eq!(pair.events(pair.b, CONNECTION_REQUEST).len(), 0);
    pair.command(pair.b, 0x0c1a, &[2]);
    assert_eq!(pair.events(pair.b, CONNECTION_REQUEST).len(), 1);
}

/// Check that a request that the host leaves unanswered ends at both ends.
#[test]
fn connection_request_unanswered_times_out() {
    let mut pair = Pair::new(|_| {});
    pair.create_connection();
    pair.wait(Duration::from_micros(625) * 0x1f40);
    let sent = pair.sent();
    let complete: Vec<_> = sent
        .iter()
        .skip(2)
        .map(|(id, packet)| (*id, packet[1], packet[3]))
        .collect();
    assert_eq!(
        complete,
        [
            (pair.b, CONNECTION_COMPLETE, 0x10),
            (pair.a, CONNECTION_COMPLETE, 0x10)
        ]
    );
}

/// Check that cancelling a page answers the cancel first, ends the page at both ends, and that accepting then is too late.
#[test]
fn create_connection_cancel_ends_the_page() {
    let mut pair = Pair::new(|_| {});
    pair.create_connection();
    pair.sent();
    pair.command(pair.a, 0x0408, &addr(2).to_wire());
    let sent = pair.sent();
    let codes: Vec<_> = sent.iter().map(|(id, packet)| (*id, packet[1])).collect();
    let (a, b) = (pair.a, pair.b);
    assert_eq!(
        codes,
        [
            (a, 0x0e),
            (b, CONNECTION_COMPLETE),
            (a, CONNECTION_COMPLETE)
        ]
    );
    pair.accept();
    assert_eq!(pair.events(b, 0x0f), [[0x02, 1, 0x09, 0x04]]);
}

/// Check that hanging up gives the host that did it 0x16 and the other the reason.
#[test]
fn disconnect_tells_both() {
    let mut pair = Pair::new(|_| {});
    let (at_a, _) = pair.connect();
    pair.disconnect(pair.a, at_a, 0x13);
    let sent = pair.sent();
    assert_eq!(
        sent[1],
        (
            pair.a,
            vec![0x04, DISCONNECTION_COMPLETE, 4, 0, 0x01, 0x00, 0x16]
        )
    );
    assert_eq!(
        sent[2],
        (
            pair.b,
            vec![0x04, DISCONNECTION_COMPLETE, 4, 0, 0x01, 0x01, 0x13]
        )
    );
    assert_eq!(
        (
            pair.air.links(pair.a).count(),
            pair.air.links(pair.b).count()
        ),
        (0, 0)
    );
}

/// Check that Disconnect refuses handles that are not there and reasons that it may not have.
#[rstest]
#[case::unknown_handle(0x0002, 0x13, 0x02)]
#[case::reason_of_events_only(0x0001, 0x16, 0x12)]
fn disconnect_bad_parameter_is_refused(
    #[case] handle: u16,
    #[case] reason: u8,
    #[case] status: u8,
) {
    let mut pair = Pair::new(|_| {});
    pair.connect();
    pair.disconnect(
        pair.a,
        controller::ConnHandle::from_low_bits(handle),
        reason,
    );
    assert_eq!(pair.events(pair.a, 0x0f), [[status, 1, 0x06, 0x04]]);
    assert_eq!(pair.air.links(pair.b).count(), 1);
}

/// Check that after a reset the peer loses the link when its supervision timeout has passed, and not before.
#[test]
fn reset_loses_links_after_supervision_timeout() {
    let mut pair = Pair::new(|_| {});
    pair.connect();
    pair.command(pair.a, 0x0c03, &[]);
    pair.wait(Duration::from_micros(625) * 0x7d00 - Duration::from_nanos(1));
    assert_eq!(pair.events(pair.b, DISCONNECTION_COMPLETE).len(), 0);
    pair.wait(Duration::from_nanos(1));
    assert_eq!(
        pair.events(pair.b, DISCONNECTION_COMPLETE),
        [[0, 0x01, 0x01, 0x08]]
    );
}

/// Check that a masked event is not sent, and that its neighbors are.
#[test]
fn event_mask_suppresses_connection_request() {
    let mut pair = Pair::new(|_| {});
    let mask: u64 = !(1 << 3);
    pair.command(pair.b, 0x0c01, &mask.to_le_bytes());
    pair.create_connection();
    assert_eq!(pair.events(pair.b, CONNECTION_REQUEST).len(), 0);
    pair.accept();
    assert_eq!(pair.events(pair.b, CONNECTION_COMPLETE).len(), 1);
}

/// Check that what a host asks about its peer comes from the peer's profile and settings.
#[test]
fn remote_questions_are_answered_from_the_peer() {
    let mut pair = Pair::new(|_| {});
    let (at_a, _) = pair.connect();
    let [low, high] = at_a.get().to_le_bytes();
    pair.command(pair.b, 0x0c56, &[1]);
    pair.command(pair.a, 0x041c, &[low, high, 1]);
    assert_eq!(
        pair.events(pair.a, 0x23),
        [[0, low, high, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0]]
    );
    pair.command(pair.a, 0x041d, &[low, high]);
    assert_eq!(
        pair.events(pair.a, 0x0c),
        [[0, low, high, 0x0b, 0xff, 0xff, 1, 0]]
    );
    let mut name = b"peer".to_vec();
    name.resize(248, 0);
    pair.command(pair.b, 0x0c13, &name);
    pair.command(
        pair.a,
        0x0419,
        &[&addr(2).to_wire()[..], &[1, 0, 0, 0]].concat(),
    );
    assert_eq!(
        pair.events(pair.a, 0x07),
        [[&[0][..], &addr(2).to_wire(), &name].concat()]
    );
}
