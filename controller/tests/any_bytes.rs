//! Whatever a host sends, a controller survives.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::Pair;
use controller::{ControllerId, Direction, Fault, FaultAction, Opcode, PacketKind, Status};
use proptest::prelude::*;

/// A command with its length.
fn packet_of(opcode: u16, parameters: &[u8]) -> Vec<u8> {
    let [low, high] = opcode.to_le_bytes();
    let length = u8::try_from(parameters.len()).unwrap();
    [&[1, low, high, length], parameters].concat()
}

/// Opcodes that are mostly known, and parameters that are mostly too short or too long.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let group = prop::sample::select(vec![1u16, 2, 3, 4, 5, 8]);
    let parameters = prop::collection::vec(any::<u8>(), 0..70);
    (group, 0u16..0x80, parameters)
        .prop_map(|(group, command, parameters)| packet_of(group << 10 | command, &parameters))
}

/// A command that B's or A's address begins, so that pages, requests and pairings are hit.
fn about_peer() -> impl Strategy<Value = Vec<u8>> {
    let wish = [0xff; 8].iter().chain(&[0xff, 0xff, 0x60, 0, 2, 0x3f, 0]);
    let wish: Vec<u8> = wish.copied().collect();
    let commands: Vec<(u16, Vec<u8>)> = vec![
        (0x0405, vec![0x18, 0xcc, 2, 0, 0, 0, 1]),
        (0x0408, vec![]),
        (0x0409, vec![0]),
        (0x0409, vec![1]),
        (0x040a, vec![0x0f]),
        (0x040b, vec![7; 16]),
        (0x040c, vec![]),
        (0x040d, vec![4; 17]),
        (0x0419, vec![2, 0, 0, 0]),
        (0x041a, vec![]),
        (0x0429, wish),
        (0x042a, vec![0x0d]),
        (0x042b, vec![3, 0, 0]),
        (0x042c, vec![]),
        (0x080b, vec![0]),
    ];
    (prop::sample::select(commands), 1u8..4).prop_map(|((opcode, rest), peer)| {
        packet_of(opcode, &[&common::addr(peer).to_wire()[..], &rest].concat())
    })
}

/// A command or data packet for a handle that is likely there.
fn about_link() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop::sample::select(vec![
        0x0406u16, 0x0407, 0x0411, 0x0413, 0x041b, 0x041c, 0x041d, 0x0803, 0x0804, 0x0c36, 0x0c37,
        0x2015, 0x2016, 0x2022, 0x2030, 0x2032, 0x2066, 0x2067, 0x206f,
    ]);
    let low = 1u8..5;
    let rest = prop::collection::vec(0u8..0x20, 0..9);
    let kind = prop::sample::select(vec![1u8, 1, 2, 3, 5]);
    (opcode, low, 0u8..2, rest, kind).prop_map(|(opcode, low, high, rest, kind)| {
        let length = u8::try_from(rest.len()).unwrap();
        match kind {
            1 => packet_of(opcode, &[&[low, high], &rest[..]].concat()),
            3 => [&[3, low, high, length], &rest[..]].concat(),
            _ => [&[kind, low, high, length, 0], &rest[..]].concat(),
        }
    })
}

/// Commands that are right and lead somewhere: synchronous, LE and isochronous links, encryption, inquiries, advertising, scans.
fn forward() -> impl Strategy<Value = Vec<u8>> {
    let create_le = |peer: u8| {
        let rest = [0, 24, 0, 40, 0, 0, 0, 42, 0, 0, 0, 0, 0];
        [
            &[0x60, 0, 0x60, 0, 0, 0][..],
            &common::addr(peer).to_wire(),
            &rest,
        ]
        .concat()
    };
    let set_up_sync = |low, high| {
        let wish = [0xff; 8].iter().chain(&[0xff, 0xff, 0x60, 0, 2, 0x3f, 0]);
        [low, high].iter().chain(wish).copied().collect::<Vec<u8>>()
    };
    let cig = [
        1, 0x10, 0x27, 0, 0x10, 0x27, 0, 0, 0, 0, 10, 0, 10, 0, 1, 2, 40, 0, 40, 0, 1, 1, 1, 1,
    ];
    let path = |low, high, direction| vec![low, high, direction, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0];
    let commands: Vec<(u16, Vec<u8>)> = vec![
        (0x0401, vec![0x33, 0x8b, 0x9e, 4, 0]),
        (0x0428, set_up_sync(1, 0)),
        (0x0428, set_up_sync(1, 1)),
        (0x0c1a, vec![3]),
        (0x0c2f, vec![1]),
        (0x0c56, vec![1]),
        (0x2001, vec![0xff; 8]),
        (0x200a, vec![1]),
        (0x200c, vec![1, 0]),
        (0x200d, create_le(1)),
        (0x200d, create_le(2)),
        (0x2019, [&[1, 0][..], &[9; 26]].concat()),
        (0x201a, [&[1, 1][..], &[9; 16]].concat()),
        (0x2062, cig.to_vec()),
        (0x2064, vec![1, 2, 0, 1, 0]),
        (0x2066, vec![2, 1]),
        (0x206e, path(2, 0, 0)),
        (0x206e, path(2, 1, 1)),
        (0x2074, vec![32, 1]),
        (0x0c03, vec![]),
    ];
    prop::sample::select(commands).prop_map(|(opcode, rest)| packet_of(opcode, &rest))
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..64),
        4 => command(),
        4 => about_peer(),
        4 => about_link(),
        8 => forward(),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    let kind = prop::sample::select(PacketKind::ALL.to_vec());
    let action = prop::sample::select(vec![
        FaultAction::Drop,
        FaultAction::Delay(Duration::from_millis(700)),
        FaultAction::Duplicate,
        FaultAction::Error(Status::MEMORY_EXCEEDED),
        FaultAction::ExtraAcks(300),
        FaultAction::Truncate(1),
        FaultAction::Extend(9),
    ]);
    (0usize..2, any::<bool>(), kind, 0u64..4, action).prop_map(|(id, out, kind, after, action)| {
        let direction = if out {
            Direction::HostToController
        } else {
            Direction::ControllerToHost
        };
        Fault {
            controller: ControllerId::from_index(id),
            direction,
            kind,
            after,
            action,
        }
    })
}

/// The link that a controller has, as its peer has it.
fn links(pair: &Pair, id: ControllerId) -> Vec<controller::BdAddr> {
    pair.air.links(id).map(|(_, peer)| peer).collect()
}

proptest! {
    /// Check that any packets from both hosts are survived, that every command is answered exactly once, and that time passing ends
    /// everything that has a deadline.
    #[test]
    fn any_packets_are_survived(
        packets in prop::collection::vec((any::<bool>(), packet(), 0u64..2_000), 0..80),
    ) {
        let mut pair = Pair::new(|_| {});
        for (first, packet, milliseconds) in packets {
            let id = if first { pair.a } else { pair.b };
            pair.wait(Duration::from_millis(milliseconds));
            pair.air.from_host(id, &packet, pair.now);
            let sent = pair.sent();
            if let [1, low, high, length, parameters @ ..] = &packet[..] {
                let answered = [*low, *high];
                let answers = sent.iter().filter(|(to, event)| *to == id && match &event[..] {
                    [4, 0x0e, _, _, opcode @ ..] => opcode.starts_with(&answered),
                    [4, 0x0f, _, _, _, opcode @ ..] => opcode.starts_with(&answered),
                    _ => false,
                });
                let expected = usize::from(parameters.len() == usize::from(*length));
                prop_assert_eq!(answers.count(), expected, "{:?}", Opcode(u16::from_le_bytes(answered)));
            }
            for (_, event) in &sent {
                prop_assert!(event[0] != 4 || usize::from(event[2]) == event.len() - 3);
            }
        }
        settle(&mut pair)?;
    }

    /// Check that faults on top of any packets are survived as well.
    #[test]
    fn any_packets_and_faults_are_survived(
        packets in prop::collection::vec((any::<bool>(), packet(), 0u64..2_000, prop::option::of(fault())), 0..60),
    ) {
        let mut pair = Pair::new(|_| {});
        for (first, packet, milliseconds, fault) in packets {
            let id = if first { pair.a } else { pair.b };
            pair.wait(Duration::from_millis(milliseconds));
            fault.into_iter().for_each(|fault| pair.air.add_fault(fault));
            pair.air.from_host(id, &packet, pair.now);
            pair.sent();
        }
    }
}

/// Stops what goes on without end (scans that want duplicates), lets time pass, and checks that all is over that ends by itself.
fn settle(pair: &mut Pair) -> Result<(), TestCaseError> {
    for id in [pair.a, pair.b] {
        pair.command(id, 0x200c, &[0, 0]);
    }
    pair.wait(Duration::from_secs(120));
    prop_assert_eq!(pair.air.next_deadline(), None);
    prop_assert_eq!(links(pair, pair.a).len(), links(pair, pair.b).len());
    Ok(())
}

/// Check that the other parser can say no: to events that are cut off, and to those that are too long.
#[test]
fn second_opinion_refuses_broken_events() {
    assert!(common::second_opinion(&[0x05, 4, 0, 1, 0, 0x13]));
    assert!(!common::second_opinion(&[0x05, 3, 0, 1, 0]));
    assert!(!common::second_opinion(&[0x05, 5, 0, 1, 0, 0x13, 0]));
}
