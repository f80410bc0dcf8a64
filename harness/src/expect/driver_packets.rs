//! Packets between a process and a device's driver itself: they reach no controller, and are in no ledger. The agent has each answered.

use evidence::{Scenario, Step};
use metrics::Snapshot;
use metrics::catalogue::{BYTES, PACKETS, SEND_FAILURES};
use std::collections::BTreeMap;

/// A command without parameters, and what is left of one that is cut short. Kernel: v6.16 include/net/bluetooth/hci_drv.h.
const COMMAND_BYTES: u64 = 4;
const SHORT_BYTES: u64 = 3;
/// Command Status with its header.
const ANSWER_BYTES: u64 = 7;

/// Adds what such packets make of the HCI family's series.
pub(super) fn expect(snapshot: &mut Snapshot, scenario: &Scenario) {
    let mut devices = BTreeMap::new();
    for step in &scenario.steps {
        match step {
            Step::OpenHci {
                socket, controller, ..
            } => {
                devices.insert(socket, *controller);
            }
            Step::DriverPackets {
                socket,
                answered,
                short,
            } => {
                // Guests have no other devices, so the n-th controller is hciN.
                if let Some(hci) = devices.get(socket) {
                    let (answered, short) = (u64::from(*answered), u64::from(*short));
                    expect_packets(snapshot, &format!("hci{hci}"), answered, short);
                }
            }
            _ => {}
        }
    }
}

fn expect_packets(snapshot: &mut Snapshot, hci: &str, answered: u64, short: u64) {
    let labels = [("hci", hci), ("kind", "other")];
    let sent = [labels[0], labels[1], ("direction", "sent")];
    let received = [labels[0], labels[1], ("direction", "received")];
    snapshot.add(&PACKETS, &sent, answered + short);
    snapshot.add(&PACKETS, &received, answered);
    let bytes = answered * COMMAND_BYTES + short * SHORT_BYTES;
    snapshot.add(&BYTES, &sent, bytes);
    snapshot.add(&BYTES, &received, answered * ANSWER_BYTES);
    snapshot.add(&SEND_FAILURES, &labels, short);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that commands and answers are expected with their lengths, and those that are cut short as refused.
    #[test]
    fn driver_packets_are_expected_both_ways() {
        let mut all = crate::scenarios::all().into_iter();
        let scenario = all.find(|s| s.name == "driver-packets").unwrap();
        let mut snapshot = Snapshot::new();
        expect(&mut snapshot, &scenario);
        let lines: Vec<String> = snapshot
            .iter()
            .map(|(series, value)| format!("{}{} {value}", series.metric, series.labels))
            .collect();
        assert_eq!(
            lines,
            [
                r#"bluetooth_hci_bytes_total{direction="received",hci="hci1",kind="other"} 91"#,
                r#"bluetooth_hci_bytes_total{direction="sent",hci="hci1",kind="other"} 67"#,
                r#"bluetooth_hci_packets_total{direction="received",hci="hci1",kind="other"} 13"#,
                r#"bluetooth_hci_packets_total{direction="sent",hci="hci1",kind="other"} 18"#,
                r#"bluetooth_hci_send_failures_total{hci="hci1",kind="other"} 5"#,
            ]
        );
    }
}
