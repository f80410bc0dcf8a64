//! Whatever hosts send, in whatever order and at whatever time, controllers survive, and the ledger adds up.
#![no_main]

use controller::{AckPolicy, Air, BdAddr, Btsnoop, ControllerId, Direction, PacketKind, Profile};
use std::time::Duration;

/// The first byte of each piece says who sends it and how long it waited; the second how long it is.
fn pieces(mut data: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (&[how, length], rest) = data.split_first_chunk()?;
        let (piece, rest) = rest.split_at_checked(length.into()).unwrap_or((rest, &[]));
        data = rest;
        Some((how, piece))
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut air = Air::new();
    let policies = [
        AckPolicy::Immediate,
        AckPolicy::Batch(3),
        AckPolicy::After(Duration::from_millis(7)),
    ];
    let profiles = [Profile::dual_mode, Profile::small_buffers, Profile::le_only];
    let ids: Vec<ControllerId> = (1..)
        .zip(profiles)
        .zip(policies)
        .map(|((last, profile), ack)| {
            let addr = BdAddr::from_wire([last, 0x53, 0x00, 0x5e, 0x00, 0x00]);
            air.add(Profile {
                ack,
                ..profile(addr)
            })
        })
        .collect();
    let mut capture =
        Btsnoop::new(std::io::sink(), Duration::ZERO).expect("a sink takes everything");
    let mut now = Duration::ZERO;
    let mut crossed = 0;
    for (how, piece) in pieces(data) {
        now += Duration::from_millis(u64::from(how >> 2));
        match ids.get(usize::from(how & 3)) {
            Some(id) => {
                air.from_host(*id, piece, now);
                crossed += 1;
            }
            None => air.unplug(ids[piece.len() % ids.len()]),
        }
        while let Some((_, packet)) = air.to_host() {
            assert!(
                PacketKind::from_indicator(packet[0])
                    .is_some_and(|kind| kind != PacketKind::Command)
            );
            capture
                .write(Direction::ControllerToHost, now, &packet)
                .expect("a sink takes everything");
            crossed += 1;
        }
    }
    assert_eq!(air.ledger().entries().len(), crossed);
});
