//! What the metrics must be, from the two witnesses that are not eBPF: what the socket calls
//! returned, and the controllers' ledgers.

use crate::evidence::Evidence;
use crate::outcome::Deviation;
use controller::{
    BufferSize, Detail, Direction, Entry, L2capHeader, LinkKind, PacketKind, Pool, Profile,
};
use evidence::{CallCount, DeviceCounters, Direction as CallDirection, Scenario, Service, Step};
use metrics::Snapshot;
use metrics::catalogue::{
    COMPLETED_PACKETS, COMPLETED_PACKETS_EVENTS, SLOTS_AT_SEND, SLOTS_CAPACITY, SLOTS_FREE,
    SLOTS_MINIMUM, SOCKET_BYTES, SOCKET_CALLS,
};
use std::collections::BTreeMap;

/// The expected snapshot of a scenario, given what its witnesses saw.
#[must_use]
pub fn expect(scenario: &Scenario, evidence: &Evidence) -> Snapshot {
    let mut snapshot = Snapshot::new();
    for call in &evidence.calls {
        expect_calls(&mut snapshot, call);
    }
    expect_kernel_writes(&mut snapshot, scenario, evidence);
    for ((hci, entries), profile) in evidence.ledgers.iter().zip(&scenario.controllers) {
        expect_slots(&mut snapshot, &format!("hci{hci}"), profile, entries);
    }
    snapshot
}

fn expect_calls(snapshot: &mut Snapshot, call: &CallCount) {
    let CallCount {
        protocol,
        direction,
        result,
        calls,
        bytes,
    } = call;
    let common = [
        ("proto", protocol.label()),
        ("direction", direction.label()),
        ("origin", "user"),
    ];
    let labels = [common[0], common[1], common[2], ("result", result.as_str())];
    snapshot.add(&SOCKET_CALLS, &labels, *calls);
    // A peek takes nothing out of the queue: its bytes are counted when they are read.
    if matches!(direction, CallDirection::Read | CallDirection::Write) {
        snapshot.add(&SOCKET_BYTES, &common, *bytes);
    }
}

/// The kernel's own writes on L2CAP sockets: in a scenario with RFCOMM, every PDU on a channel of
/// its own (not signaling) is one write of the kernel's.
///
/// Kernel: net/bluetooth/rfcomm/core.c rfcomm_send_frame() makes one kernel_sendmsg() a frame.
fn expect_kernel_writes(snapshot: &mut Snapshot, scenario: &Scenario, evidence: &Evidence) {
    let rfcomm = |step: &Step| {
        matches!(
            step,
            Step::Listen {
                service: Service::Rfcomm { .. },
                ..
            }
        )
    };
    if !scenario.steps.iter().any(rfcomm) {
        return;
    }
    let labels = [
        ("proto", "l2cap"),
        ("direction", "write"),
        ("origin", "kernel"),
    ];
    let with_result = [labels[0], labels[1], labels[2], ("result", "ok")];
    for header in evidence.ledgers.values().flatten().filter_map(begun_pdu) {
        snapshot.add(&SOCKET_CALLS, &with_result, 1);
        snapshot.add(&SOCKET_BYTES, &labels, u64::from(header.length));
    }
}

/// The L2CAP PDU that a packet from the host begins, unless it is on a fixed channel.
/// Spec: Core 5.4, Vol 3, Part A, 2.1: dynamically allocated channels begin at 0x0040.
fn begun_pdu(entry: &Entry) -> Option<L2capHeader> {
    match entry.detail {
        Detail::DataFromHost {
            l2cap: Some(header),
            ..
        } if header.cid >= 0x40 => Some(header),
        _ => None,
    }
}

/// The four pools of a profile, and their names as label values.
fn pools(profile: &Profile) -> [(Pool, &'static str, BufferSize); 4] {
    [
        (Pool::Acl, "acl", profile.acl),
        (Pool::Sco, "sco", profile.sco),
        (Pool::Le, "le", profile.le),
        (Pool::Iso, "iso", profile.iso),
    ]
}

fn expect_slots(snapshot: &mut Snapshot, hci: &str, profile: &Profile, entries: &[Entry]) {
    for (pool, kind, size) in pools(profile) {
        let labels = [("hci", hci), ("kind", kind)];
        let mut free = i64::from(size.packets);
        for slots in entries
            .iter()
            .flat_map(|entry| slots_after(entry, pool, profile))
        {
            match slots {
                Slots::Taken(left) => {
                    free = i64::from(left);
                    snapshot.observe(&SLOTS_AT_SEND, &labels, u64::from(left));
                    snapshot.set_minimum(&SLOTS_MINIMUM, &labels, free);
                }
                Slots::Returned { packets, left } => {
                    free = i64::from(left);
                    snapshot.add(&COMPLETED_PACKETS, &labels, u64::from(packets));
                }
            }
        }
        if size.packets > 0 {
            snapshot.set(&SLOTS_CAPACITY, &labels, i64::from(size.packets));
            snapshot.set(&SLOTS_FREE, &labels, free);
        }
    }
    let events = entries
        .iter()
        .filter(|entry| !entry.completed().is_empty())
        .count();
    let events = u64::try_from(events).expect("a count fits");
    snapshot.add(&COMPLETED_PACKETS_EVENTS, &[("hci", hci)], events);
}

/// What a packet does to a pool.
enum Slots {
    /// A data packet took one.
    Taken(u16),
    /// An event gave some back.
    Returned { packets: u16, left: u16 },
}

/// The pool that a link's packets take their slots from. LE links use the ACL buffers of a
/// controller that has none for LE. Spec: Core 5.4, Vol 4, Part E, 4.1.1.
fn pool_of(link: LinkKind, profile: &Profile) -> Pool {
    match link {
        LinkKind::Acl => Pool::Acl,
        LinkKind::Le if profile.le.packets == 0 => Pool::Acl,
        LinkKind::Le => Pool::Le,
        LinkKind::Sco | LinkKind::Esco => Pool::Sco,
        LinkKind::Cis | LinkKind::Bis => Pool::Iso,
    }
}

fn slots_after(entry: &Entry, pool: Pool, profile: &Profile) -> Vec<Slots> {
    match &entry.detail {
        Detail::DataFromHost {
            slots_after: Some(left),
            link: Some(link),
            ..
        } if pool_of(*link, profile) == pool => {
            vec![Slots::Taken(*left)]
        }
        Detail::Completed { links } => links
            .iter()
            .filter(|link| link.pool == pool)
            .map(|link| Slots::Returned {
                packets: link.packets,
                left: link.slots_after,
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Where the kernel's own counters (ioctl HCIGETDEVINFO) and the ledgers disagree. Neither has to
/// do with the probes: a disagreement means that a witness is wrong.
#[must_use]
pub fn cross_check(evidence: &Evidence) -> Vec<Deviation> {
    let mut deviations = Vec::new();
    for (hci, entries) in &evidence.ledgers {
        match evidence.devices.get(hci) {
            Some(device) => deviations.extend(cross_check_device(device, entries)),
            None => deviations.push(witness("", *hci, "counters", "none")),
        }
    }
    deviations
}

fn cross_check_device(device: &DeviceCounters, entries: &[Entry]) -> Vec<Deviation> {
    let counted = count_packets(entries);
    let sums = |direction, kind| counted.get(&(direction, kind)).copied().unwrap_or(0);
    let (sent, received) = (Direction::HostToController, Direction::ControllerToHost);
    let pairs = [
        ("acl_tx", sums(sent, PacketKind::Acl), device.acl_sent),
        (
            "acl_rx",
            sums(received, PacketKind::Acl),
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
            sums(received, PacketKind::Event),
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
