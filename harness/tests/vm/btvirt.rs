//! These controllers against BlueZ's, in the same kernel: the same traffic gives the same values.
//!
//! What a controller decides by itself has to be the same for that: ours get the numbers of btvirt's buffers, and acknowledge at once.

use crate::common::{Run, scenario};
use controller::{AckPolicy, BufferSize};
use evidence::{Scenario, Transport};
use metrics::{Family, Series, Snapshot, diff};
use rstest::rstest;
use std::fs;
use std::path::PathBuf;

const KERNEL: &str = "debian:6.12";
/// As btvirt has it. BlueZ: emulator/btdev.c.
const BUFFERS: BufferSize = BufferSize {
    mtu: 192,
    packets: 1,
};

/// btvirt, its loader and its library, if this machine has them.
fn btvirt() -> Option<Vec<(String, Vec<u8>)>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("btvirt"));
    let libraries = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/libc.so.6"];
    let files: [(&str, Vec<PathBuf>); 3] = [
        ("btvirt", on_path.collect()),
        ("ld.so", vec!["/lib64/ld-linux-x86-64.so.2".into()]),
        ("libc.so.6", libraries.map(PathBuf::from).into()),
    ];
    let read = |(name, places): (&str, Vec<PathBuf>)| {
        let bytes = places.iter().find_map(|place| fs::read(place).ok())?;
        Some((name.to_owned(), bytes))
    };
    files.into_iter().map(read).collect()
}

/// The values that do not say how a controller is set up: socket calls, and what data packets of one kind did to the one slot that there is.
fn observed(scenario: Scenario, files: Vec<(String, Vec<u8>)>, kind: &str) -> Snapshot {
    let mut run = Run::new(KERNEL, scenario);
    run.payload.objects.extend(files);
    let result = run.go();
    assert!(result.evidence.done, "{:?}", result.outcome);
    let of_kind = |series: &Series| match series.labels.get("kind") {
        Some(other) => other == kind,
        None => series.metric.starts_with("bluetooth_socket_"),
    };
    let is_time = |series: &Series| series.metric.ends_with("_seconds");
    let observed = result.evidence.observed.unwrap();
    observed
        .restrict(&[Family::Socket, Family::Buffer, Family::Credits, Family::Hci])
        .filter(|series, _| of_kind(series) && !is_time(series))
}

/// Check that both give the same values, and that these are not a few.
#[rstest]
#[case::seqpacket("l2cap-seqpacket", "acl")]
#[case::ertm("l2cap-stream-and-ertm", "acl")]
#[case::fragmented("l2cap-fragmented", "acl")]
#[case::le("l2cap-le-coc", "le")]
fn btvirt_gives_the_same_values(#[case] name: &str, #[case] kind: &str) {
    let Some(files) = btvirt() else {
        eprintln!("not applicable: this machine has no btvirt (Debian: package bluez-test-tools)");
        return;
    };
    let mut ours = scenario(name);
    for profile in &mut ours.controllers {
        profile.ack = AckPolicy::Immediate;
        match kind {
            "le" => profile.le = BUFFERS,
            _ => profile.acl = BUFFERS,
        }
    }
    let mut theirs = ours.clone();
    theirs.transports = vec![Transport::Btvirt; theirs.controllers.len()];
    let expected = observed(theirs, files, kind);
    assert!(expected.len() > 10, "{expected:#?}");
    let differences = diff(&expected, &observed(ours, Vec::new(), kind));
    assert!(differences.is_empty(), "{differences:#?}");
}
