//! Packets that the driver refuses: they are in no ledger. The scenario says which and how many; the kernel's log is the second witness.

use super::refused_voice;
use crate::evidence::Evidence;
use crate::outcome::Deviation;
use evidence::{Scenario, Step};
use metrics::Snapshot;
use metrics::catalogue::{BYTES, PACKETS, SEND_FAILURES};
use std::collections::BTreeMap;

/// Packets that a step has a driver refuse.
struct Refused<'a> {
    /// N of hciN.
    hci: usize,
    packet: &'a [u8],
    times: u64,
}

/// All of them. Guests have no other devices, so the n-th controller is hciN.
fn refused(scenario: &Scenario) -> Vec<Refused<'_>> {
    let mut devices = BTreeMap::new();
    let mut found = Vec::new();
    for step in &scenario.steps {
        match step {
            Step::OpenHci {
                socket, controller, ..
            } => {
                devices.insert(socket, *controller);
            }
            Step::HciRefused {
                socket,
                packet,
                times,
            } => found.extend(devices.get(socket).map(|hci| Refused {
                hci: *hci,
                packet,
                times: u64::from(*times),
            })),
            _ => {}
        }
    }
    found
}

/// Adds what refused packets make of the HCI family's series: the host began to hand them over.
pub(super) fn expect(snapshot: &mut Snapshot, scenario: &Scenario) {
    for Refused { hci, packet, times } in refused(scenario) {
        let Some((indicator, rest)) = packet.split_first() else {
            continue;
        };
        let hci = format!("hci{hci}");
        let labels = [("hci", hci.as_str()), ("kind", kind_name(*indicator))];
        let sent = [labels[0], labels[1], ("direction", "sent")];
        let length = u64::try_from(rest.len()).expect("a length fits");
        snapshot.add(&PACKETS, &sent, times);
        snapshot.add(&BYTES, &sent, times * length);
        snapshot.add(&SEND_FAILURES, &labels, times);
    }
}

/// Spec: Core 5.4, Vol 4, Part A, 2.
fn kind_name(indicator: u8) -> &'static str {
    match indicator {
        1 => "command",
        2 => "acl",
        3 => "sco",
        4 => "event",
        5 => "iso",
        _ => "other",
    }
}

/// The kernel says of each packet that the driver refused it. Kernel: net/bluetooth/hci_core.c `hci_send_frame()`.
const MESSAGE: &str = "sending frame failed (";

/// Where the kernel's log does not say so as often as the scenario does.
pub(super) fn cross_check(scenario: &Scenario, evidence: &Evidence) -> Vec<Deviation> {
    let mut wanted: BTreeMap<usize, u64> = BTreeMap::new();
    for Refused { hci, times, .. } in refused(scenario) {
        *wanted.entry(hci).or_default() += times;
    }
    for hci in 0..scenario.controllers.len() {
        let number = u16::try_from(hci).map(|hci| refused_voice::number(scenario, hci));
        let number = number.unwrap_or(0);
        if number > 0 {
            *wanted.entry(hci).or_default() += u64::from(number);
        }
    }
    let said = |hci: usize| {
        let device = format!("hci{hci}");
        let lines = evidence.kmsg.iter().filter(|(_, _, text)| {
            let mut words = text.split([' ', ':']);
            text.contains(MESSAGE) && words.any(|word| word == device)
        });
        u64::try_from(lines.count()).expect("a count fits")
    };
    let all = wanted
        .into_iter()
        .map(|(hci, wanted)| (hci, wanted, said(hci)));
    let differing = all.filter(|(_, wanted, said)| wanted != said);
    differing
        .map(|(hci, wanted, said)| Deviation {
            metric: "kernel log: sending frame failed".to_owned(),
            labels: format!("{{hci=\"hci{hci}\"}}"),
            expected: wanted.to_string(),
            observed: said.to_string(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scenario() -> Scenario {
        let mut all = crate::scenarios::all().into_iter();
        all.find(|s| s.name == "usb-refused-packets").unwrap()
    }

    /// Check that refused packets are expected by kind, with their bytes, and that nobody else's are.
    #[test]
    fn refused_packets_are_expected_by_kind() {
        let mut snapshot = Snapshot::new();
        expect(&mut snapshot, &scenario());
        let lines = snapshot
            .iter()
            .map(|(series, value)| format!("{}{} {value}", series.metric, series.labels));
        let lines: Vec<_> = lines.collect();
        assert_eq!(
            lines,
            [
                // 11 of 20 bytes, 13 of 51.
                r#"bluetooth_hci_bytes_total{direction="sent",hci="hci0",kind="sco"} 883"#,
                r#"bluetooth_hci_packets_total{direction="sent",hci="hci0",kind="sco"} 24"#,
                r#"bluetooth_hci_send_failures_total{hci="hci0",kind="sco"} 24"#,
            ]
        );
    }

    /// Check that the log's lines are counted by device, in both forms that kernels have, and that one too few is told.
    #[test]
    fn lines_of_the_log_are_counted_by_device() {
        let mut evidence = Evidence::default();
        let line = |text: &str| (3, 0, text.to_owned());
        evidence.kmsg = vec![line("Bluetooth: hci1: sending frame failed (-19)")];
        evidence
            .kmsg
            .extend((0..12).map(|_| line("Bluetooth: hci0: sending frame failed (-19)")));
        evidence
            .kmsg
            .extend((0..11).map(|_| line("Bluetooth: hci0 sending frame failed (-84)")));
        let found = cross_check(&scenario(), &evidence);
        assert_eq!(
            (found[0].expected.as_str(), found[0].observed.as_str()),
            ("24", "23")
        );
        evidence.kmsg.push(evidence.kmsg[1].clone());
        assert_eq!(cross_check(&scenario(), &evidence), []);
    }
}
