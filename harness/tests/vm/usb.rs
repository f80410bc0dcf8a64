//! Scenarios on USB, and that what is wrong there is found.

use crate::common::{Run, lab, scenario, tshark};
use controller::PacketKind;
use controller::transport::usbredir::UsbFaultAction;
use evidence::Step;
use harness::case::CaseResult;
use harness::outcome::Outcome;
use harness::usbmon::{UrbEnd, UrbKind, urbs};

const KERNEL: &str = "debian:6.12";

/// What comes of a scenario when another object stands in the urb family's place.
fn with_object(scenario_name: &str, instead: &str) -> CaseResult {
    let payload = lab().built.with_object("urb.bpf.o", instead).unwrap();
    Run {
        payload,
        ..Run::new(KERNEL, scenario(scenario_name))
    }
    .go()
}

/// The metrics that differ.
fn differing(result: &CaseResult) -> Vec<&str> {
    let Outcome::Differs { differences } = &result.outcome else {
        panic!("{:?}", result.outcome)
    };
    let mut metrics: Vec<&str> = differences.iter().map(|d| d.metric.as_str()).collect();
    metrics.dedup();
    metrics
}

/// Check that tshark reads the captures that come with a case that went wrong, and finds in them what other witnesses saw.
fn check_captures(result: &CaseResult) {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<&str> = result.captures.iter().map(|c| c.name.as_str()).collect();
    let expected = [
        "hci0.btsnoop",
        "hci1.btsnoop",
        "usb0.pcap",
        "usb1.pcap",
        "usbmon.pcap",
    ];
    assert_eq!(names, expected);
    for capture in &result.captures {
        let path = folder.path().join(&capture.name);
        std::fs::write(&path, &capture.bytes).unwrap();
        if capture.name.ends_with(".pcap") {
            let Some(lines) = tshark::fields(&path, &["usb.urb_type", "usb.transfer_type"]) else {
                return;
            };
            // 3 is bulk.
            let is_bulk_end = |line: &&Vec<String>| line[0] == "'C'" && line[1] == "0x03";
            let ended = urbs(&capture.bytes).unwrap().into_iter().filter(|urb| {
                let completed = matches!(urb.end, Some(UrbEnd::Completed { .. }));
                completed && urb.place.kind == UrbKind::Bulk
            });
            let (seen, ended) = (lines.iter().filter(is_bulk_end).count(), ended.count());
            assert_eq!(seen, ended, "{}", capture.name);
            assert!(ended > 100, "{}: {ended}", capture.name);
        } else {
            let hci: u16 = capture.name[3..4].parse().unwrap();
            let Some(lines) = tshark::fields(&path, &["hci_h4.type"]) else {
                return;
            };
            // The capture goes on after the ledger was filed.
            let ledger = &result.evidence.ledgers[&hci];
            let crossed = ledger
                .iter()
                .map(|entry| entry.kind.map(PacketKind::indicator));
            let crossed: Vec<String> = crossed
                .map(|kind| format!("{:#04x}", kind.unwrap()))
                .collect();
            let seen = lines.iter().map(|line| line[0].as_str());
            let seen: Vec<&str> = seen.take(crossed.len()).collect();
            assert_eq!(seen, crossed, "{}", capture.name);
        }
    }
}

/// Check that a probe that counts each completion twice is found in the completions alone, and what is captured then.
#[test]
fn urb_probe_off_by_one_is_found() {
    let result = with_object("usb-l2cap", "urb_off_by_one.bpf.o");
    assert_eq!(differing(&result), ["bluetooth_urb_completed_total"]);
    check_captures(&result);
}

/// Check that times that are half as long as they were are found where a transfer was held for a known time.
#[test]
fn urb_probe_that_halves_times_is_found() {
    let result = with_object("usb-held-urb", "urb_halved.bpf.o");
    assert_eq!(differing(&result), ["bluetooth_urb_latency_seconds"]);
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
