//! The witnesses against each other: what the kernel counted, and what crossed the boundary.

use super::{command_credits, refused, refused_voice};
use crate::evidence::Evidence;
use crate::outcome::Deviation;
use controller::{Direction, Entry, PacketKind};
use evidence::{DeviceCounters, PastKernel, Scenario};
use std::collections::BTreeMap;

/// Where the kernel's own counters (ioctl HCIGETDEVINFO), its log, and the ledgers disagree. None of
/// them has to do with the probes: a disagreement means that a witness is wrong.
#[must_use]
pub fn cross_check(scenario: &Scenario, evidence: &Evidence) -> Vec<Deviation> {
    let mut deviations = refused::cross_check(scenario, evidence);
    for (hci, entries) in &evidence.ledgers {
        match evidence.devices.get(hci) {
            Some(device) => {
                let past_kernel = evidence.user_channel.get(hci).copied().unwrap_or_default();
                let made_up = command_credits::timeouts(scenario, evidence, *hci);
                let apart = Apart {
                    past_kernel,
                    made_up: u32::try_from(made_up).unwrap_or(u32::MAX),
                    refused_voice: refused_voice::number(scenario, *hci),
                };
                deviations.extend(cross_check_device(device, entries, apart));
            }
            None => deviations.push(witness("", *hci, "counters", "none")),
        }
    }
    deviations
}

/// What only one of two witnesses counts.
struct Apart {
    /// What a process read on the user channel. Kernel: hci_rx_work() frees that before it counts it.
    past_kernel: PastKernel,
    /// Events that the kernel made up.
    made_up: u32,
    /// Frames that the driver refused, and counted as sent before. Kernel: drivers/bluetooth/btusb.c `btusb_send_frame()`.
    refused_voice: u32,
}

fn cross_check_device(device: &DeviceCounters, entries: &[Entry], apart: Apart) -> Vec<Deviation> {
    let Apart {
        past_kernel,
        made_up,
        refused_voice,
    } = apart;
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
        (
            "sco_tx",
            sums(sent, PacketKind::Sco) + refused_voice,
            device.sco_sent,
        ),
        (
            "sco_rx",
            sums(received, PacketKind::Sco).saturating_sub(past_kernel.sco),
            device.sco_received,
        ),
        (
            "cmd_tx",
            sums(sent, PacketKind::Command),
            device.commands_sent,
        ),
        (
            "evt_rx",
            (sums(received, PacketKind::Event) + made_up).saturating_sub(past_kernel.events),
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
