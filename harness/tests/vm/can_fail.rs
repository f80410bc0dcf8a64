//! Each way in which a run can go wrong, planted, and reported as itself.

use crate::common::{Run, lab, scenario};
use controller::{ControllerId, Direction, Fault, FaultAction, PacketKind};
use evidence::{Misbehavior, Scenario, Step};
use harness::case::CaseResult;
use harness::outcome::{DeathClass, Deviation, Outcome};
use harness::splats::SplatKind;
use rstest::rstest;
use std::process::Command;
use std::time::Duration;

const KERNEL: &str = "debian:6.12";

/// The scenario with one more step after the connection stands.
fn with_step(step: Step) -> Scenario {
    let mut scenario = scenario("l2cap-seqpacket");
    scenario.steps.insert(2, step);
    scenario
}

fn misbehave(how: Misbehavior) -> CaseResult {
    Run::new(KERNEL, with_step(Step::Misbehave { how })).go()
}

fn death(outcome: Outcome) -> (DeathClass, String) {
    match outcome {
        Outcome::Died { class, phase, .. } => (class, phase),
        other => panic!("{other:?}"),
    }
}

/// Check that a probe that counts one call too many per series is found in exactly these series.
#[test]
fn probe_off_by_one_differs_by_one() {
    let object = "socket.bpf.o";
    let payload = lab()
        .built
        .with_object(object, "socket_off_by_one.bpf.o")
        .unwrap();
    let result = Run {
        payload,
        ..Run::new(KERNEL, scenario("l2cap-seqpacket"))
    }
    .go();
    let Outcome::Differs { differences } = &result.outcome else {
        panic!("{:?}", result.outcome)
    };
    let values: Vec<_> = differences
        .iter()
        .map(|d| (d.metric.as_str(), d.expected.as_str(), d.observed.as_str()))
        .collect();
    // What went wrong in a guest that lives comes with what crossed each controller's boundary.
    let captures: Vec<_> = result.captures.iter().map(|c| c.name.as_str()).collect();
    assert_eq!(captures, ["hci0.btsnoop", "hci1.btsnoop"]);
    for capture in &result.captures {
        assert!(capture.bytes.starts_with(b"btsnoop\0"), "{}", capture.name);
        assert!(capture.bytes.len() > 1000, "{}", capture.bytes.len());
    }
    let calls = "bluetooth_socket_calls_total";
    assert_eq!(
        values,
        [(calls, "52", "53"), (calls, "1", "2"), (calls, "52", "53")]
    );
}

/// The differences that a run of the scenario with another object in a family's place shows.
fn with_object(scenario_name: &str, object: &str, other: &str) -> Vec<Deviation> {
    let payload = lab().built.with_object(object, other).unwrap();
    let result = Run {
        payload,
        ..Run::new(KERNEL, scenario(scenario_name))
    }
    .go();
    match result.outcome {
        Outcome::Differs { differences } => differences,
        other => panic!("{other:?}"),
    }
}

/// Check that a probe that counts one packet too many per kind and direction is found in exactly these
/// series: commands, events and ACL both ways, of two devices.
#[test]
fn packet_off_by_one_differs_by_one() {
    let differences = with_object("l2cap-seqpacket", "hci.bpf.o", "hci_off_by_one.bpf.o");
    assert_eq!(differences.len(), 8, "{differences:?}");
    for difference in differences {
        let number = |text: &str| text.parse::<u64>().unwrap();
        assert_eq!(difference.metric, "bluetooth_hci_packets_total");
        let (expected, observed) = (number(&difference.expected), number(&difference.observed));
        assert_eq!(observed, expected + 1);
    }
}

/// Check that times that are taken for half as long as they are fall out of their limits.
#[test]
fn times_halved_are_out_of_their_limits() {
    for (scenario, metric) in [
        ("delayed-acks", "bluetooth_hci_ack_seconds"),
        ("waiting-packets", "bluetooth_hci_queue_seconds"),
    ] {
        let differences = with_object(scenario, "latency.bpf.o", "latency_halved.bpf.o");
        let found = differences.iter().any(|difference| {
            difference.metric == metric && difference.labels.contains("hci=\"hci0\"")
        });
        assert!(found, "{differences:?}");
    }
}

/// Check that a probe that takes every buffer for one byte fuller, and every time for half as long, is
/// found, in these metrics alone.
#[test]
fn buffer_with_bias_differs_in_bytes_and_times() {
    let differences = with_object("full-buffer", "buffer.bpf.o", "buffer_with_bias.bpf.o");
    let metrics: Vec<&str> = differences.iter().map(|d| d.metric.as_str()).collect();
    assert_eq!(
        metrics,
        [
            "bluetooth_socket_buffer_full_seconds",
            "bluetooth_socket_buffer_occupied_bytes"
        ]
    );
}

/// Check that a probe that takes a channel without credits for a full buffer is found, in this metric alone.
#[test]
fn cause_of_eagain_swapped_differs_in_both_causes() {
    let swapped = "buffer_causes_swapped.bpf.o";
    let differences = with_object("l2cap-le-coc-suspended", "buffer.bpf.o", swapped);
    let values: Vec<_> = differences
        .iter()
        .map(|d| (d.labels.as_str(), d.expected.as_str(), d.observed.as_str()))
        .collect();
    let metrics = differences.iter().map(|d| d.metric.as_str());
    assert!(
        metrics.eq(["bluetooth_socket_would_block_total"; 2]),
        "{differences:?}"
    );
    assert_eq!(
        values,
        [
            (r#"{cause="full",proto="l2cap"}"#, "nothing", "19"),
            (r#"{cause="suspended",proto="l2cap"}"#, "19", "nothing"),
        ]
    );
}

/// Check that a packet that the controller swallows is missed.
#[test]
fn packet_swallowed_by_controller_fails_the_transfer() {
    let fault = Fault {
        controller: ControllerId::from_index(0),
        direction: Direction::HostToController,
        kind: PacketKind::Acl,
        after: 5,
        action: FaultAction::Drop,
    };
    let result = Run::new(KERNEL, with_step(Step::Inject { fault })).go();
    let Outcome::Failed { step, error } = result.outcome else {
        panic!("{:?}", result.outcome)
    };
    assert!(step.contains("23 messages"), "{step}");
    assert!(error.contains("message 5 of 23"), "{error}");
}

/// Check that a kernel that panics is reported as that, with the console's last words.
#[test]
fn kernel_panic_is_a_panic() {
    let result = Run::new(KERNEL, with_step(Step::Panic)).go();
    let console = result.evidence.console.join("\n");
    let (class, phase) = death(result.outcome);
    assert_eq!(
        (class, phase.contains("crash the kernel")),
        (DeathClass::Panic, true)
    );
    assert!(console.contains("sysrq triggered crash"), "{console}");
}

/// Check that an agent that never answers is a hang, in the phase where it stopped.
#[test]
fn agent_that_never_answers_is_a_hang() {
    let patience = Duration::from_secs(20);
    let result = Run {
        patience,
        ..Run::new(KERNEL, with_step(Step::Hang))
    }
    .go();
    let (class, phase) = death(result.outcome);
    assert_eq!(
        (class, phase.contains("stop answering")),
        (DeathClass::Hang, true)
    );
}

/// Check that an agent that ends without its end record is reported as that.
#[test]
fn agent_that_ends_early_is_agent_died() {
    let mut payload = lab().built.payload.clone();
    payload.agent_arguments.push("--no-such-option".to_owned());
    let result = Run {
        payload,
        ..Run::new(KERNEL, scenario("l2cap-seqpacket"))
    }
    .go();
    assert_eq!(death(result.outcome).0, DeathClass::AgentDied);
}

/// Check that a QEMU that somebody kills is reported as that.
#[test]
fn qemu_killed_is_a_lost_vm() {
    let kill = |sign: harness::drive::Sign<'_>| {
        if sign.phase == "loading probes" {
            let pid = sign.qemu_pid.to_string();
            Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        }
    };
    let result = Run {
        watch: &kill,
        ..Run::new(KERNEL, scenario("l2cap-seqpacket"))
    }
    .go();
    assert_eq!(death(result.outcome).0, DeathClass::LostVm);
}

/// Check that a warning in the kernel's log makes a run wrong whose values are all right.
#[test]
fn kernel_warning_is_a_splat() {
    let result = misbehave(Misbehavior::KernelWarning);
    let Outcome::Splat { splats } = &result.outcome else {
        panic!("{:?}", result.outcome)
    };
    let kinds: Vec<_> = splats
        .iter()
        .map(|splat| (splat.kind, splat.level))
        .collect();
    assert_eq!(kinds, [(SplatKind::Warning, 4)]);
    assert!(splats[0].title.contains("planted"), "{splats:?}");
}

/// Check that a record that is not what was sent, or only half of it, is reported as that and
/// not as a lost machine, although the machine is lost in the second case.
#[rstest]
#[case::corrupt(Misbehavior::CorruptRecord, "checksum")]
#[case::truncated(Misbehavior::TruncatedRecord, "the stream ended after")]
fn damaged_record_is_a_corrupt_record(#[case] how: Misbehavior, #[case] says: &str) {
    let result = misbehave(how);
    let detail = result.outcome.detail();
    assert!(detail.contains(says), "{detail}");
    let (class, phase) = death(result.outcome);
    assert_eq!(class, DeathClass::CorruptRecord);
    assert!(phase.contains("go wrong on purpose"), "{phase}");
}
