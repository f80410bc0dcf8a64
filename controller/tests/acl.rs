//! ACL data between two controllers, and what the ledger says of it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::Pair;
use controller::{
    AckPolicy, CompletedLink, Detail, Direction, Entry, Fate, Fault, FaultAction, L2capHeader,
    LinkKind, PacketHead, PacketKind, Pool,
};
use rstest::rstest;

const COMPLETED_PACKETS: u8 = 0x13;
const DATA_BUFFER_OVERFLOW: u8 = 0x1a;

/// Free buffers after each data packet from A's host.
fn slots(pair: &Pair) -> Vec<Option<u16>> {
    let ledger = pair.air.ledger();
    let sent = ledger.select(pair.a, PacketKind::Acl, Direction::HostToController);
    sent.map(Entry::slots_after).collect()
}

/// Packets and free buffers of each acknowledgement to A's host.
fn acks(pair: &mut Pair) -> Vec<(u16, u16)> {
    pair.sent();
    let events = pair
        .air
        .ledger()
        .select(pair.a, PacketKind::Event, Direction::ControllerToHost);
    events
        .flat_map(Entry::completed)
        .map(|done| (done.packets, done.slots_after))
        .collect()
}

/// Check that a connection, data both ways and its end are in the ledger entry by entry, and in the sums.
#[test]
fn ledger_of_a_connection_is_exact() {
    let mut pair = Pair::new(|_| {});
    let (at_a, at_b) = pair.connect();
    pair.now = Duration::from_millis(7);
    pair.acl(pair.a, at_a, 0b00, &[0x11; 11]);
    pair.acl(pair.b, at_b, 0b01, &[0x22; 13]);
    let packets = pair.sent();
    assert_eq!(
        packets[0],
        (pair.b, [&[2, 0x01, 0x21, 11, 0][..], &[0x11; 11]].concat())
    );
    assert_eq!(
        packets[1],
        (pair.a, vec![4, COMPLETED_PACKETS, 5, 1, 0x01, 0x00, 1, 0])
    );
    assert_eq!(
        packets[2],
        (pair.a, [&[2, 0x01, 0x10, 13, 0][..], &[0x22; 13]].concat())
    );
    let ledger = pair.air.take_ledger();
    let entry = |controller, direction, kind, length_bytes, head: &[u8], detail| Entry {
        time: Duration::from_millis(7),
        controller,
        direction,
        kind: Some(kind),
        length_bytes,
        head: PacketHead::of(head),
        detail,
    };
    let from_host = |handle, payload_bytes, l2cap| Detail::DataFromHost {
        handle,
        link: Some(LinkKind::Acl),
        payload_bytes,
        slots_after: Some(6),
        l2cap,
        fate: Fate::Forwarded,
    };
    // The first packet begins a PDU, the second goes on with one.
    let begins = Some(L2capHeader {
        cid: 0x1111,
        length: 0x1111,
    });
    let to_host = |handle, payload_bytes| Detail::DataToHost {
        handle,
        link: LinkKind::Acl,
        payload_bytes,
    };
    let completed = |handle| Detail::Completed {
        links: vec![CompletedLink {
            handle,
            pool: Pool::Acl,
            packets: 1,
            slots_after: 7,
        }],
    };
    let (out, back) = (Direction::HostToController, Direction::ControllerToHost);
    let (acl, event) = (PacketKind::Acl, PacketKind::Event);
    let out_a = [0x01, 0x00, 11, 0, 0x11, 0x11, 0x11, 0x11];
    let out_b = [0x01, 0x11, 13, 0, 0x22, 0x22, 0x22, 0x22];
    assert_eq!(
        ledger.entries(),
        [
            entry(pair.a, out, acl, 15, &out_a, from_host(at_a, 11, begins)),
            entry(pair.b, out, acl, 17, &out_b, from_host(at_b, 13, None)),
            entry(pair.b, back, acl, 15, &packets[0].1[1..], to_host(at_b, 11)),
            entry(pair.a, back, event, 7, &packets[1].1[1..], completed(at_a)),
            entry(pair.a, back, acl, 17, &packets[2].1[1..], to_host(at_a, 13)),
            entry(pair.b, back, event, 7, &packets[3].1[1..], completed(at_b)),
        ]
    );
    let sums = ledger.totals(pair.a, acl, out);
    assert_eq!((sums.packets, sums.bytes, sums.payload_bytes), (1, 15, 11));
    assert_eq!(
        ledger
            .all_totals()
            .map(|(.., sums)| sums.packets)
            .sum::<u64>(),
        6
    );
    pair.disconnect(pair.b, at_b, 0x13);
    pair.sent();
    let ledger = pair.air.ledger();
    let codes: Vec<_> = ledger
        .of(pair.b)
        .map(|entry| (entry.direction, entry.length_bytes))
        .collect();
    assert_eq!(codes, [(out, 6), (back, 6), (back, 6)]);
}

/// Check that each policy acknowledges as many packets, at the times and with the free buffers, as it says.
#[rstest]
#[case::immediate(AckPolicy::Immediate, &[6, 6, 6, 6, 6], &[(1, 7); 5])]
#[case::batch(AckPolicy::Batch(3), &[6, 5, 4, 6, 5], &[(3, 7)])]
#[case::on_command(AckPolicy::OnCommand, &[6, 5, 4, 3, 2], &[])]
#[case::never(AckPolicy::Never, &[6, 5, 4, 3, 2], &[])]
fn ack_policy_five_packets(
    #[case] policy: AckPolicy,
    #[case] free: &[u16],
    #[case] acked: &[(u16, u16)],
) {
    let mut pair = Pair::new(|profile| profile.ack = policy);
    let (at_a, _) = pair.connect();
    for _ in 0..5 {
        pair.acl(pair.a, at_a, 0, &[0; 3]);
    }
    assert_eq!(
        slots(&pair),
        free.iter().map(|slots| Some(*slots)).collect::<Vec<_>>()
    );
    assert_eq!(acks(&mut pair), acked);
}

/// Check that a flush acknowledges what is outstanding in one event, unless the policy is never to.
#[rstest]
#[case::on_command(AckPolicy::OnCommand, &[(5, 7)])]
#[case::batch_not_full(AckPolicy::Batch(6), &[(5, 7)])]
#[case::never(AckPolicy::Never, &[])]
fn flush_acks_five_outstanding(#[case] policy: AckPolicy, #[case] acked: &[(u16, u16)]) {
    let mut pair = Pair::new(|profile| profile.ack = policy);
    let (at_a, _) = pair.connect();
    for _ in 0..5 {
        pair.acl(pair.a, at_a, 0, &[0; 3]);
    }
    pair.air.flush_acks(pair.a);
    assert_eq!(acks(&mut pair), acked);
}

/// Check that delayed acknowledgements come each at its time, which is what the deadline says.
#[test]
fn ack_after_delay_comes_at_the_deadline() {
    let delay = Duration::from_millis(17);
    let mut pair = Pair::new(|profile| profile.ack = AckPolicy::After(delay));
    let (at_a, _) = pair.connect();
    pair.acl(pair.a, at_a, 0, &[0]);
    pair.wait(Duration::from_millis(5));
    pair.acl(pair.a, at_a, 0, &[0]);
    assert_eq!(pair.air.next_deadline(), Some(delay));
    pair.wait(Duration::from_millis(12));
    assert_eq!(acks(&mut pair), [(1, 6)]);
    assert_eq!(
        pair.air.next_deadline(),
        Some(delay + Duration::from_millis(5))
    );
    pair.wait(Duration::from_millis(5));
    assert_eq!(acks(&mut pair), [(1, 6), (1, 7)]);
}

/// Check that a packet beyond the buffers is not passed on, is reported, and is in the ledger as what it is.
#[test]
fn acl_beyond_buffers_overflows() {
    let mut pair = Pair::new(|profile| {
        profile.acl.packets = 2;
        profile.ack = AckPolicy::OnCommand;
    });
    let (at_a, _) = pair.connect();
    for _ in 0..3 {
        pair.acl(pair.a, at_a, 0, &[0; 3]);
    }
    assert_eq!(slots(&pair), [Some(1), Some(0), Some(0)]);
    let last = pair.air.ledger().entries().last().unwrap().detail.clone();
    assert!(
        matches!(
            last,
            Detail::DataFromHost {
                fate: Fate::Overflow,
                ..
            }
        ),
        "{last:?}"
    );
    let sent = pair.sent();
    let overflow = vec![4, DATA_BUFFER_OVERFLOW, 1, 1];
    assert_eq!(sent.iter().filter(|(id, _)| *id == pair.b).count(), 2);
    assert_eq!(sent.last(), Some(&(pair.a, overflow)));
}

/// Check that packets without a link or too long for the buffers take none and go nowhere.
#[rstest]
#[case::no_link(0x0ffe, 3, Fate::NoLink)]
#[case::too_long(0x0001, 1022, Fate::TooLong)]
fn acl_impossible_packet_goes_nowhere(
    #[case] handle: u16,
    #[case] length: usize,
    #[case] expected: Fate,
) {
    let mut pair = Pair::new(|_| {});
    pair.connect();
    pair.acl(
        pair.a,
        controller::ConnHandle::from_low_bits(handle),
        0,
        &vec![0; length],
    );
    let entry = pair.air.ledger().entries()[0].detail.clone();
    let Detail::DataFromHost { fate, .. } = entry else {
        panic!("{entry:?}")
    };
    assert_eq!(fate, expected);
    assert_eq!(pair.sent(), []);
}

/// Check that a swallowed packet is acknowledged but does not arrive, and that the ledger says so.
#[test]
fn fault_drop_swallows_one_packet() {
    let mut pair = Pair::new(|_| {});
    let (at_a, _) = pair.connect();
    pair.air.add_fault(Fault {
        controller: pair.a,
        direction: Direction::HostToController,
        kind: PacketKind::Acl,
        after: 1,
        action: FaultAction::Drop,
    });
    for _ in 0..3 {
        pair.acl(pair.a, at_a, 0, &[0; 3]);
    }
    assert_eq!(acks(&mut pair).len(), 3);
    let ledger = pair.air.ledger();
    let (out, back) = (Direction::HostToController, Direction::ControllerToHost);
    assert_eq!(ledger.totals(pair.a, PacketKind::Acl, out).packets, 3);
    assert_eq!(ledger.totals(pair.b, PacketKind::Acl, back).packets, 2);
    let dropped = |entry: &&Entry| {
        matches!(
            entry.detail,
            Detail::DataFromHost {
                fate: Fate::Dropped,
                ..
            }
        )
    };
    assert_eq!(ledger.entries().iter().filter(dropped).count(), 1);
}

/// Check that a disconnection frees the buffers of its link without acknowledging them.
#[test]
fn disconnect_frees_outstanding_buffers() {
    let mut pair = Pair::new(|profile| profile.ack = AckPolicy::OnCommand);
    let (at_a, _) = pair.connect();
    for _ in 0..5 {
        pair.acl(pair.a, at_a, 0, &[0; 3]);
    }
    pair.disconnect(pair.a, at_a, 0x13);
    assert_eq!(acks(&mut pair), []);
    let (at_a, _) = pair.connect();
    pair.acl(pair.a, at_a, 0, &[0; 3]);
    assert_eq!(slots(&pair), [Some(6)]);
}

/// Check that data to a peer that is gone stays in its buffer, even under a policy that acknowledges at once.
#[test]
fn acl_to_lost_peer_is_not_acknowledged() {
    let mut pair = Pair::new(|_| {});
    let (at_a, _) = pair.connect();
    pair.command(pair.b, 0x0c03, &[]);
    pair.sent();
    pair.acl(pair.a, at_a, 0, &[0; 3]);
    assert_eq!(acks(&mut pair), []);
    assert_eq!(slots(&pair), [Some(6)]);
}

/// Check that the packets of a link that ends, which the host takes as flushed, are in the ledger beside the event that ends it.
#[test]
fn ledger_of_a_disconnection_has_what_was_flushed() {
    let mut pair = Pair::new(|profile| profile.ack = AckPolicy::OnCommand);
    let (at_a, _) = pair.connect();
    for _ in 0..3 {
        pair.acl(pair.a, at_a, 0, &[0; 5]);
    }
    pair.disconnect(pair.a, at_a, 0x13);
    pair.sent();
    let of = |id| {
        let entries = pair.air.ledger().of(id);
        let flushed = entries.filter_map(|entry| match entry.detail {
            Detail::Event { flushed, .. } => flushed.map(|link| (link.packets, link.slots_after)),
            _ => None,
        });
        flushed.collect::<Vec<_>>()
    };
    assert_eq!((of(pair.a), of(pair.b)), (vec![(3, 7)], vec![(0, 7)]));
}
