//! Misbehaviour on demand, packet by packet.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::{Pair, addr};
use controller::{
    ControllerId, Detail, Direction, Entry, Fate, Fault, FaultAction, PacketKind, Status,
};
use rstest::rstest;

const A: ControllerId = ControllerId::from_index(0);
const B: ControllerId = ControllerId::from_index(1);
const OUT: Direction = Direction::HostToController;
const BACK: Direction = Direction::ControllerToHost;
const DELAY: Duration = Duration::from_millis(17);

/// Read BD_ADDR and its answer.
const READ_ADDR: u16 = 0x1009;

fn fault(
    controller: ControllerId,
    direction: Direction,
    kind: PacketKind,
    action: FaultAction,
) -> Fault {
    Fault {
        controller,
        direction,
        kind,
        after: 1,
        action,
    }
}

/// A sends three packets of one byte, the second struck by a fault on the way out: what reaches B now, and 17 ms later.
fn three_packets(action: FaultAction) -> (Vec<u8>, Vec<u8>, Pair) {
    let mut pair = Pair::new(|_| {});
    let (at_a, _) = pair.connect();
    pair.air.add_fault(fault(A, OUT, PacketKind::Acl, action));
    for number in 1..=3 {
        pair.acl(A, at_a, 0, &[number]);
    }
    let data = |pair: &mut Pair| {
        let sent = pair.sent().into_iter();
        let data = sent.filter(|(id, packet)| *id == B && packet[0] == 2);
        data.map(|(_, packet)| packet[5]).collect::<Vec<_>>()
    };
    let now = data(&mut pair);
    pair.wait(DELAY);
    let later = data(&mut pair);
    (now, later, pair)
}

/// Check that one answer says that no further command may be sent, that the command is carried out all the same, and that the next answer is
/// as ever.
#[test]
fn credits_are_withheld_by_one_answer() {
    let mut pair = Pair::new(|_| {});
    let action = FaultAction::CommandCredits(0);
    pair.air
        .add_fault(fault(A, OUT, PacketKind::Command, action));
    for _ in 0..3 {
        pair.command(A, READ_ADDR, &[]);
    }
    let answers = pair.events(A, 0x0e);
    let credits: Vec<u8> = answers.iter().map(|event| event[0]).collect();
    assert_eq!(credits, [1, 0, 1]);
    assert!(answers.iter().all(|event| event[3..] == answers[0][3..]));
}

/// Check that each action on data from the host does to the second packet what it says and nothing to the others, that each packet is
/// acknowledged as often as it should be, and that the ledger says what happened.
#[rstest]
#[case::drop(FaultAction::Drop, &[1, 3], &[], 3, Fate::Dropped)]
#[case::delay(FaultAction::Delay(DELAY), &[1, 3], &[2], 3, Fate::Delayed(DELAY))]
#[case::duplicate(FaultAction::Duplicate, &[1, 2, 2, 3], &[], 3, Fate::Duplicated)]
#[case::extra_acks(FaultAction::ExtraAcks(5), &[1, 2, 3], &[], 8, Fate::OverAcknowledged(5))]
#[case::not_for_data(FaultAction::Truncate(1), &[1, 2, 3], &[], 3, Fate::Forwarded)]
fn data_fault_strikes_the_second_packet(
    #[case] action: FaultAction,
    #[case] now: &[u8],
    #[case] later: &[u8],
    #[case] acked: u16,
    #[case] fate: Fate,
) {
    let (got_now, got_later, pair) = three_packets(action);
    assert_eq!((&got_now[..], &got_later[..]), (now, later));
    let ledger = pair.air.ledger();
    let fates: Vec<_> = ledger
        .of(A)
        .filter_map(|entry| match entry.detail {
            Detail::DataFromHost { fate, .. } => Some(fate),
            _ => None,
        })
        .collect();
    assert_eq!(fates, [Fate::Forwarded, fate, Fate::Forwarded]);
    let acks = ledger.of(A).flat_map(Entry::completed);
    assert_eq!(acks.map(|link| link.packets).sum::<u16>(), acked);
}

/// The answers that A's host gets to two commands, the second of them struck: now, and 17 ms later.
fn two_commands(fault: Fault) -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut pair = Pair::new(|_| {});
    pair.air.add_fault(fault);
    pair.command(A, READ_ADDR, &[]);
    pair.command(A, READ_ADDR, &[]);
    let answers = |pair: &mut Pair| pair.sent().into_iter().map(|(_, p)| p).collect::<Vec<_>>();
    let now = answers(&mut pair);
    pair.wait(DELAY);
    (now, answers(&mut pair))
}

/// Check that each action on a command or its answer makes the second answer what it says.
#[rstest]
#[case::never(OUT, PacketKind::Command, FaultAction::Drop, 1, 0)]
#[case::late(OUT, PacketKind::Command, FaultAction::Delay(DELAY), 1, 1)]
#[case::twice(OUT, PacketKind::Command, FaultAction::Duplicate, 3, 0)]
#[case::answer_lost(BACK, PacketKind::Event, FaultAction::Drop, 1, 0)]
#[case::answer_late(BACK, PacketKind::Event, FaultAction::Delay(DELAY), 1, 1)]
#[case::answer_twice(BACK, PacketKind::Event, FaultAction::Duplicate, 3, 0)]
fn command_fault_changes_the_number_of_answers(
    #[case] direction: Direction,
    #[case] kind: PacketKind,
    #[case] action: FaultAction,
    #[case] now: usize,
    #[case] later: usize,
) {
    let (got_now, got_later) = two_commands(fault(A, direction, kind, action));
    assert_eq!((got_now.len(), got_later.len()), (now, later));
    let answer = [&[4, 0x0e, 10, 1, 0x09, 0x10, 0][..], &addr(1).to_wire()].concat();
    assert!(
        got_now
            .iter()
            .chain(&got_later)
            .all(|packet| *packet == answer)
    );
}

/// Check that a refused command has the form of its usual answer, and is not carried out.
#[test]
fn command_error_is_answered_in_form_and_not_carried_out() {
    let mut pair = Pair::new(|_| {});
    let action = FaultAction::Error(Status::MEMORY_EXCEEDED);
    let refuse = |pair: &mut Pair| {
        let fault = fault(A, OUT, PacketKind::Command, action);
        pair.air.add_fault(Fault { after: 0, ..fault });
    };
    refuse(&mut pair);
    pair.command(A, 0x0c24, &[1, 2, 3]);
    assert_eq!(pair.events(A, 0x0e), [[1, 0x24, 0x0c, 7]]);
    pair.command(A, 0x0c23, &[]);
    assert_eq!(pair.events(A, 0x0e), [[1, 0x23, 0x0c, 0, 0, 0, 0]]);
    refuse(&mut pair);
    pair.create_connection();
    assert_eq!(pair.sent(), [(A, vec![4, 0x0f, 4, 7, 1, 5, 4])]);
}

/// Check that a packet to the host is cut off or made longer while its header stays.
#[rstest]
#[case::truncated(FaultAction::Truncate(4), vec![4, 0x0e, 10, 1, 0x09])]
#[case::too_long(FaultAction::Extend(2), [&[4, 0x0e, 10, 1, 0x09, 0x10, 0][..], &addr(1).to_wire(), &[0xa5, 0xa5]].concat())]
fn event_fault_breaks_its_length(#[case] action: FaultAction, #[case] expected: Vec<u8>) {
    let (now, _) = two_commands(fault(A, BACK, PacketKind::Event, action));
    assert_eq!(now[1], expected);
    assert_ne!(now[0], expected);
}

/// Check that hardware errors and made-up packets go to the host, the latter whatever they hold, and that both are in the ledger.
#[test]
fn made_up_packets_reach_the_host() {
    let mut pair = Pair::new(|_| {});
    pair.air.hardware_error(A, 0x42);
    pair.air.inject(A, vec![4, 0xfe, 200, 1]);
    pair.air.inject(A, vec![9, 9]);
    let expected = [(A, vec![4, 0x10, 1, 0x42]), (A, vec![4, 0xfe, 200, 1])];
    assert_eq!(pair.sent(), expected);
    let entries = pair.air.ledger().entries();
    assert_eq!(entries.len(), 2);
    assert!(matches!(entries[1].detail, Detail::Injected));
}

/// Check that both ends of a cut link notice at the supervision timeout, that data sent meanwhile is not acknowledged, and that nothing
/// of the link is left.
#[test]
fn lost_link_ends_at_both_ends() {
    let mut pair = Pair::new(|_| {});
    let (at_a, _) = pair.connect();
    pair.air.lose_link(A, at_a);
    pair.acl(A, at_a, 0, &[1]);
    assert_eq!(pair.sent(), []);
    pair.wait(Duration::from_secs(20));
    let sent = pair.sent();
    let ended: Vec<_> = sent.iter().map(|(id, p)| (*id, p[1], p[6])).collect();
    assert_eq!(ended, [(A, 0x05, 0x08), (B, 0x05, 0x08)]);
    assert_eq!(
        (pair.air.links(A).count(), pair.air.links(B).count()),
        (0, 0)
    );
}

/// Check that a fault reads back from what it is written as.
#[rstest]
#[case(FaultAction::Drop)]
#[case(FaultAction::Delay(DELAY))]
#[case(FaultAction::Error(Status::MEMORY_EXCEEDED))]
#[case(FaultAction::ExtraAcks(3))]
fn fault_text_round_trips(#[case] action: FaultAction) {
    let fault = fault(A, OUT, PacketKind::Acl, action);
    let text = serde_json::to_string(&fault).unwrap();
    assert_eq!(serde_json::from_str::<Fault>(&text).unwrap(), fault);
}
