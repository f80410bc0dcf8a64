//! The witnesses against each other: what the kernel counted, and what crossed the boundary.

use crate::evidence::Evidence;
use crate::outcome::Deviation;
use controller::{Direction, Entry, PacketKind};
use evidence::{DeviceCounters, PastKernel};
use std::collections::BTreeMap;

/// Where the kernel's own counters (ioctl HCIGETDEVINFO) and the ledgers disagree. Neither has to
/// do with the probes: a disagreement means that a witness is wrong.
#[must_use]
pub fn cross_check(evidence: &Evidence) -> Vec<Deviation> {
    let mut deviations = Vec::new();
    for (hci, entries) in &evidence.ledgers {
        match evidence.devices.get(hci) {
            Some(device) => {
                let past_kernel = evidence.user_channel.get(hci).copied().unwrap_or_default();
                deviations.extend(cross_check_device(device, entries, past_kernel));
            }
            None => deviations.push(witness("", *hci, "counters", "none")),
        }
    }
    deviations
}

/// `past_kernel`: what a process read on the user channel. Kernel: hci_rx_work() frees that before it counts it.
fn cross_check_device(
    device: &DeviceCounters,
    entries: &[Entry],
    past_kernel: PastKernel,
) -> Vec<Deviation> {
    let counted = count_packets(entries);
    let sums = |direction, kind| counted.get(&(direction, kind)).copied().unwrap_or(0);
    let (sent, received) = (Direction::HostToController, Direction::ControllerToHost);
    let pairs = [
        ("acl_tx", sums(sent, PacketKind::Acl), device.acl_sent),
        (
            "acl_rx",
            sums(received, PacketKind::Acl).saturating_sub(past_kernel.acl),
            device.acl_received,
        ),
        ("sco_tx", sums(sent, PacketKind::Sco), device.sco_sent),
        (
            "sco_rx",
            sums(received, PacketKind::Sco),
            device.sco_received,
        ),
        (
            "cmd_tx",
            sums(sent, PacketKind::Command),
            device.commands_sent,
        ),
        (
            "evt_rx",
            sums(received, PacketKind::Event).saturating_sub(past_kernel.events),
            device.events_received,
        ),
    ];
    let differing = pairs.iter().filter(|(_, ledger, kernel)| ledger != kernel);
    differing
        .map(|(field, ledger, kernel)| {
            witness(field, device.hci, &ledger.to_string(), &kernel.to_string())
        })
        .collect()
}

/// Packets by direction and kind; 32 bits as the kernel's counters have.
fn count_packets(entries: &[Entry]) -> BTreeMap<(Direction, PacketKind), u32> {
    let mut counts = BTreeMap::new();
    for entry in entries {
        if let Some(kind) = entry.kind {
            *counts.entry((entry.direction, kind)).or_default() += 1;
        }
    }
    counts
}

fn witness(field: &str, hci: u16, expected: &str, observed: &str) -> Deviation {
    Deviation {
        metric: format!("HCIGETDEVINFO {field}").trim_end().to_owned(),
        labels: format!("{{hci=\"hci{hci}\"}}"),
        expected: expected.to_owned(),
        observed: observed.to_owned(),
    }
}
