//! A report to test with.

use super::{KernelInfo, Report, SCHEMA};
use crate::case::CaseResult;
use crate::drive::Timings;
use crate::evidence::Evidence;
use crate::machine::Accel;
use crate::outcome::{DeathClass, Deviation, Outcome};
use std::collections::BTreeMap;

use metrics::Snapshot;
use metrics::catalogue::{SLOTS_FREE, SOCKET_CALLS};

const KERNELS: [&str; 3] = ["debian:6.1", "debian:6.12", "debian:7.3"];

/// One scenario, one outcome per kernel.
pub(crate) fn report(outcomes: Vec<Outcome>) -> Report {
    let results: Vec<CaseResult> = outcomes
        .into_iter()
        .zip(KERNELS)
        .map(|(outcome, kernel)| result(kernel, outcome))
        .collect();
    let info = |kernel: &str| KernelInfo {
        release: format!("{}.0-1-amd64", &kernel[7..]),
        version: Some(format!("{}.0-1", &kernel[7..])),
    };
    Report {
        schema: SCHEMA.to_owned(),
        accel: Accel::Tcg,
        accel_reason: "no /dev/kvm".to_owned(),
        total_ms: 12_340,
        options: Vec::new(),
        kernels: KERNELS.iter().map(|k| ((*k).to_owned(), info(k))).collect(),
        foretold: BTreeMap::new(),
        results,
        not_started: 0,
    }
}

fn result(kernel: &str, outcome: Outcome) -> CaseResult {
    let observed = match &outcome {
        Outcome::Differs { .. } => Some(snapshot(24)),
        Outcome::Passed => Some(snapshot(23)),
        _ => None,
    };
    CaseResult {
        timings: Timings {
            boot_ms: Some(1700),
            ..Timings::default()
        },
        expected: snapshot(23),
        evidence: Evidence {
            release: Some(format!("{}.0-1-amd64", &kernel[7..])),
            phase: "connecting".to_owned(),
            console: vec!["[ 1.0] Kernel panic - not syncing: x".to_owned()],
            observed,
            ..Evidence::default()
        },
        ..CaseResult::bare(&kernel.parse().unwrap(), "l2cap-seqpacket", outcome)
    }
}

const LABELS: [(&str, &str); 4] = [
    ("direction", "write"),
    ("origin", "user"),
    ("proto", "l2cap"),
    ("result", "ok"),
];

fn snapshot(calls: u64) -> Snapshot {
    let mut snapshot = Snapshot::new();
    snapshot.add(&SOCKET_CALLS, &LABELS, calls);
    snapshot.set(&SLOTS_FREE, &[("hci", "hci0"), ("kind", "acl")], 7);
    snapshot
}

/// One value is wrong.
pub(crate) fn differs() -> Outcome {
    let labels = LABELS.map(|(name, value)| format!("{name}={value:?}"));
    Outcome::Differs {
        differences: vec![Deviation {
            metric: "bluetooth_socket_calls_total".to_owned(),
            labels: format!("{{{}}}", labels.join(",")),
            expected: "23".to_owned(),
            observed: "24".to_owned(),
        }],
    }
}

/// The kernel panicked.
pub(crate) fn died() -> Outcome {
    Outcome::Died {
        class: DeathClass::Panic,
        phase: "connecting".to_owned(),
        detail: "Kernel panic - not syncing: <x>".to_owned(),
    }
}
