//! How many packets a second two controllers carry, in process: no kernel, no threads, no clock.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]
#![allow(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::hint::black_box;
use std::time::Duration;

use controller::{Air, BdAddr, ControllerId, Profile};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const A: ControllerId = ControllerId::from_index(0);
const B: ControllerId = ControllerId::from_index(1);

fn addr(last: u8) -> BdAddr {
    BdAddr::from_wire([last, 0x53, 0x00, 0x5e, 0x00, 0x00])
}

fn drain(air: &mut Air) -> usize {
    std::iter::from_fn(|| air.to_host()).count()
}

/// Two controllers with an ACL link, 0x0001 at A, and a ledger of sums.
fn connected() -> Air {
    let mut air = Air::with_ledger_limit(0);
    for last in [1, 2] {
        air.add(Profile::dual_mode(addr(last)));
    }
    let page = [
        &[1, 5, 4, 13],
        &addr(2).to_wire()[..],
        &[0x18, 0xcc, 2, 0, 0, 0, 1],
    ]
    .concat();
    let accept = [&[1, 9, 4, 7], &addr(1).to_wire()[..], &[1]].concat();
    air.from_host(B, &[1, 0x1a, 0x0c, 1, 2], Duration::ZERO);
    air.from_host(A, &page, Duration::ZERO);
    air.from_host(B, &accept, Duration::ZERO);
    drain(&mut air);
    assert_eq!(air.links(A).count(), 1, "the benchmark needs a link");
    air
}

/// One ACL packet from A to B and its acknowledgement: two packets to hosts for one from a host.
fn acl(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("acl");
    group.throughput(Throughput::Elements(1));
    for bytes in [27u16, 1021] {
        let [low, high] = bytes.to_le_bytes();
        let packet = [&[2, 1, 0, low, high], &vec![0x5a; bytes.into()][..]].concat();
        let mut air = connected();
        group.bench_function(format!("{bytes} bytes"), |bencher| {
            bencher.iter(|| {
                air.from_host(A, black_box(&packet), Duration::ZERO);
                assert_eq!(drain(&mut air), 2);
            });
        });
    }
    group.finish();
}

/// One command and its answer.
fn command(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("command");
    group.throughput(Throughput::Elements(1));
    let mut air = connected();
    group.bench_function("Read BD_ADDR", |bencher| {
        bencher.iter(|| {
            air.from_host(A, black_box(&[1, 0x09, 0x10, 0]), Duration::ZERO);
            assert_eq!(drain(&mut air), 1);
        });
    });
    group.finish();
}

criterion_group!(benches, acl, command);
criterion_main!(benches);
