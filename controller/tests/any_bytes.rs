//! Whatever a host sends, a controller survives.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::time::Duration;

use common::Pair;
use controller::{ControllerId, Opcode};
use proptest::prelude::*;

/// Opcodes that are mostly known, and parameters that are mostly too short or too long.
fn command() -> impl Strategy<Value = Vec<u8>> {
    let group = prop::sample::select(vec![1u16, 2, 3, 4, 5, 8]);
    let parameters = prop::collection::vec(any::<u8>(), 0..40);
    (group, 0u16..0x80, parameters).prop_map(|(group, command, parameters)| {
        let [low, high] = (group << 10 | command).to_le_bytes();
        let length = u8::try_from(parameters.len()).unwrap();
        [&[1, low, high, length], &parameters[..]].concat()
    })
}

/// A command that B's or A's address begins, so that pages and requests are hit.
fn about_peer() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop::sample::select(vec![
        0x0405u16, 0x0408, 0x0409, 0x040a, 0x0419, 0x041a, 0x080b,
    ]);
    (opcode, 1u8..4, 0u8..3).prop_map(|(opcode, peer, role)| {
        let rest: &[u8] = match opcode {
            0x0405 => &[0x18, 0xcc, 2, 0, 0, 0, 1],
            0x0408 | 0x041a => &[],
            0x0419 => &[2, 0, 0, 0],
            0x040a => &[0x0f],
            _ => &[role],
        };
        let parameters = [&common::addr(peer).to_wire()[..], rest].concat();
        let [low, high] = opcode.to_le_bytes();
        [
            &[1, low, high, u8::try_from(parameters.len()).unwrap()],
            &parameters[..],
        ]
        .concat()
    })
}

/// A command or data packet for a handle that is likely there.
fn about_link() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop::sample::select(vec![
        0x0406u16, 0x041b, 0x041c, 0x041d, 0x0803, 0x0804, 0x0c36,
    ]);
    let handle = prop::sample::select(vec![0x0001u16, 0x0002, 0x0101, 0x0102]);
    let rest = prop::collection::vec(0u8..0x20, 0..9);
    (opcode, handle, rest, any::<bool>()).prop_map(|(opcode, handle, rest, data)| {
        let [low, high] = handle.to_le_bytes();
        let length = u8::try_from(rest.len()).unwrap();
        if data {
            return [&[2, low, high, length, 0], &rest[..]].concat();
        }
        let [opcode_low, opcode_high] = opcode.to_le_bytes();
        [
            &[1, opcode_low, opcode_high, length + 2, low, high],
            &rest[..],
        ]
        .concat()
    })
}

fn packet() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        2 => prop::collection::vec(any::<u8>(), 0..64),
        4 => command(),
        4 => about_peer(),
        4 => about_link(),
        1 => Just(vec![1, 0x1a, 0x0c, 1, 3]),
        1 => Just(vec![1, 0x03, 0x0c, 0]),
    ]
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
        packets in prop::collection::vec((any::<bool>(), packet(), 0u64..2_000), 0..60),
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
        pair.wait(Duration::from_secs(120));
        prop_assert_eq!(pair.air.next_deadline(), None);
        prop_assert_eq!(links(&pair, pair.a).len(), links(&pair, pair.b).len());
    }
}
