//! Scenarios on USB, and that what is wrong there is found.

use crate::common::{Run, lab, scenario};
use controller::transport::usbredir::UsbFaultAction;
use evidence::Step;
use harness::outcome::Outcome;

const KERNEL: &str = "debian:6.12";

/// The metrics that differ when another object stands in the urb family's place.
fn differing(scenario_name: &str, instead: &str) -> Vec<String> {
    let payload = lab().built.with_object("urb.bpf.o", instead).unwrap();
    let result = Run {
        payload,
        ..Run::new(KERNEL, scenario(scenario_name))
    }
    .go();
    let Outcome::Differs { differences } = result.outcome else {
        panic!("{:?}", result.outcome)
    };
    let mut metrics: Vec<String> = differences.into_iter().map(|d| d.metric).collect();
    metrics.dedup();
    metrics
}

/// Check that a probe that counts each completion twice is found in the completions alone.
#[test]
fn urb_probe_off_by_one_is_found() {
    let found = differing("usb-l2cap", "urb_off_by_one.bpf.o");
    assert_eq!(found, ["bluetooth_urb_completed_total"]);
}

/// Check that times that are half as long as they were are found where a transfer was held for a known time.
#[test]
fn urb_probe_that_halves_times_is_found() {
    let found = differing("usb-held-urb", "urb_halved.bpf.o");
    assert_eq!(found, ["bluetooth_urb_latency_seconds"]);
}

/// Check that an error on the bus that nobody planted is found by the kernel's own monitor and by the driver's counter.
#[test]
fn stall_that_was_not_expected_is_found() {
    let mut secret = scenario("usb-stall");
    let stalls = |step: &Step| matches!(step, Step::UsbFault { fault } if fault.action == UsbFaultAction::Stall);
    let honest = secret.steps.iter().position(stalls).unwrap();
    if let Step::UsbFault { fault } = &mut secret.steps[honest] {
        // Four are stalled, and the fifth message arrives where nobody reads it.
        fault.times -= 1;
    }
    let result = Run::new(KERNEL, secret).go();
    assert!(
        matches!(result.outcome, Outcome::Failed { .. }),
        "{:?}",
        result.outcome
    );
}
