//! Ways to attach on the kernels that are tested before each merge. That all scenarios are exact on them is
//! tested in `tests/kernels.rs`.

use crate::common::{Run, scenario};
use harness::outcome::Outcome;
use metrics::State;
use rstest::rstest;

/// Check that a kernel that can preempt its own code gets no programs that lose events there.
#[test]
fn preemptible_kernel_gets_kprobes() {
    let result = Run::new("debian:7.3", scenario("l2cap-threads")).go();
    assert_eq!(result.outcome, Outcome::Passed);
    let lossy = result.evidence.probes.iter().find(|probe| {
        matches!(probe.attach.as_str(), "fentry" | "fexit") && probe.state == State::Attached
    });
    assert_eq!(lossy, None);
}

/// Check that kprobes, the fallback, count the same.
#[rstest]
#[case("debian:6.1")]
#[case("debian:6.12")]
fn kprobes_are_as_exact(#[case] kernel: &str) {
    let mut run = Run::new(kernel, scenario("l2cap-seqpacket"));
    run.payload
        .agent_arguments
        .extend(["--attach".to_owned(), "kprobe".to_owned()]);
    let result = run.go();
    assert_eq!(result.outcome, Outcome::Passed);
    let kinds: Vec<&str> = result
        .evidence
        .probes
        .iter()
        .map(|probe| probe.attach.as_str())
        .collect();
    assert!(kinds.contains(&"kretprobe"), "{kinds:?}");
    assert!(!kinds.contains(&"fexit"), "{kinds:?}");
}
