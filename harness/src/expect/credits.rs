//! The credits family: the ledgers say what each packet took and each event gave back.

use super::process::Processes;
use super::{nanoseconds, reported_at_will};
use crate::evidence::Evidence;
use controller::{BufferSize, Detail, Entry, LinkKind, Opcode, Pool, Profile};
use evidence::{HciChannel, Scenario};
use metrics::Snapshot;
use metrics::catalogue::{
    COMPLETED_PACKETS, COMPLETED_PACKETS_EVENTS, SCO_FLOW_CONTROL, SLOTS_AT_SEND, SLOTS_CAPACITY,
    SLOTS_EXHAUSTED, SLOTS_FREE, SLOTS_MINIMUM, USER_CHANNEL,
};

/// The four pools of a profile, and their names as label values.
fn pools(profile: &Profile) -> [(Pool, &'static str, BufferSize); 4] {
    [
        (Pool::Acl, "acl", profile.acl),
        (Pool::Sco, "sco", profile.sco),
        (Pool::Le, "le", profile.le),
        (Pool::Iso, "iso", profile.iso),
    ]
}

/// Adds the family's series.
pub(super) fn expect(snapshot: &mut Snapshot, scenario: &Scenario, evidence: &Evidence) {
    for (hci, profile, entries) in super::devices(scenario, evidence) {
        let processes = Processes::of(scenario, evidence, hci);
        let hci = format!("hci{hci}");
        // Packets of raw sockets take no slot of the kernel's, and are given back to nobody.
        let is_raw = |entry: &&Entry| processes.at(nanoseconds(entry)) == Some(HciChannel::Raw);
        let is_of_raw_socket =
            |entry: &&Entry| matches!(entry.detail, Detail::DataFromHost { .. }) && is_raw(entry);
        let counted = entries.iter().filter(|entry| !is_of_raw_socket(entry));
        let counted: Vec<&Entry> = counted.collect();
        let user_since_ns = processes.user_since_ns();
        let is_kernels =
            |entry: &Entry| user_since_ns.is_none_or(|since| nanoseconds(entry) < since);
        expect_slots(snapshot, &hci, profile, &counted, is_kernels);
        expect_reports(snapshot, &hci, &counted);
        expect_exhausted(snapshot, evidence, &hci, profile, &counted);
        let of_device = [("hci", hci.as_str())];
        let driven_since_ns = user_since_ns.unwrap_or(0);
        let of_driver = entries
            .iter()
            .skip_while(|e| nanoseconds(e) < driven_since_ns);
        snapshot.set(
            &SCO_FLOW_CONTROL,
            &of_device,
            flow_control(of_driver).into(),
        );
        snapshot.set(&USER_CHANNEL, &of_device, user_since_ns.is_some().into());
    }
}

fn expect_slots(
    snapshot: &mut Snapshot,
    hci: &str,
    profile: &Profile,
    entries: &[&Entry],
    is_kernels: impl Fn(&Entry) -> bool,
) {
    for (pool, kind, size) in pools(profile) {
        let labels = [("hci", hci), ("kind", kind)];
        let mut free = i64::from(size.packets);
        let changes = entries.iter().flat_map(|entry| {
            let changes = slots_after(entry, pool, profile);
            changes.into_iter().map(|slots| (slots, is_kernels(entry)))
        });
        for (slots, is_kernels) in changes {
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
                // Kernel: hci_conn.c hci_conn_del() has no case for synchronous links: their slots are gone.
                Slots::Flushed { .. } if pool == Pool::Sco && is_kernels => {}
                Slots::Flushed { left } => free = i64::from(left),
                Slots::Forgotten => free = 0,
                Slots::Read => free = i64::from(size.packets),
            }
        }
        if size.packets > 0 {
            snapshot.set(&SLOTS_CAPACITY, &labels, i64::from(size.packets));
            snapshot.set(&SLOTS_FREE, &labels, free);
        }
    }
}

/// Events that report completed packets, of links that there are and of others. Nobody gets a slot for packets of the latter.
fn expect_reports(snapshot: &mut Snapshot, hci: &str, entries: &[&Entry]) {
    let at_will = entries.iter().filter_map(|entry| reported_at_will(entry));
    for packets in at_will.clone() {
        let labels = [("hci", hci), ("kind", "unknown")];
        snapshot.add(&COMPLETED_PACKETS, &labels, u64::from(packets));
    }
    let reports = entries.iter().filter(|e| !e.completed().is_empty());
    let events = reports.count() + at_will.count();
    let events = u64::try_from(events).expect("a count fits");
    snapshot.add(&COMPLETED_PACKETS_EVENTS, &[("hci", hci)], events);
}

/// Each time that a pool is empty lasts at least from the packet to the event as they crossed the
/// boundary: the host sees to the one before and to the other after.
fn expect_exhausted(
    snapshot: &mut Snapshot,
    evidence: &Evidence,
    hci: &str,
    profile: &Profile,
    entries: &[&Entry],
) {
    let period = evidence.observed_in;
    let longest = (period.ended_ns - period.began_ns).cast_unsigned();
    for (pool, kind, _) in pools(profile) {
        let labels = [("hci", hci), ("kind", kind)];
        let mut since = None;
        for entry in entries {
            for slots in slots_after(entry, pool, profile) {
                match slots {
                    Slots::Taken(0) => since = Some(entry.time),
                    Slots::Taken(_) | Slots::Flushed { .. } | Slots::Forgotten | Slots::Read => {}
                    Slots::Returned { .. } => {
                        if let Some(since) = since.take() {
                            let low = u64::try_from((entry.time - since).as_nanos());
                            let low = low.unwrap_or(u64::MAX);
                            snapshot.observe_between(&SLOTS_EXHAUSTED, &labels, low, longest);
                        }
                    }
                }
            }
        }
    }
}

/// Has the host turned on flow control of SCO packets? Spec: Core 5.4, Vol 4, Part E, 7.3.37.
fn flow_control<'a>(mut entries: impl Iterator<Item = &'a Entry>) -> u8 {
    const WRITE_SYNCHRONOUS_FLOW_CONTROL_ENABLE: Opcode = Opcode(0x0c2f);
    let turned_on = |entry: &'a Entry| match &entry.detail {
        Detail::Command { opcode, known, .. } => {
            *known && *opcode == WRITE_SYNCHRONOUS_FLOW_CONTROL_ENABLE
        }
        _ => false,
    };
    entries.any(turned_on).into()
}

/// What a packet does to a pool.
enum Slots {
    /// A data packet took one.
    Taken(u16),
    /// An event gave some back.
    Returned { packets: u16, left: u16 },
    /// A link went, and its packets with it. No event counts them.
    Flushed { left: u16 },
    /// The host counts from 0: a reset. Kernel: hci_core.c hci_dev_do_reset(), which does not read the numbers again.
    Forgotten,
    /// The host has read how many there are.
    Read,
}

const RESET: Opcode = Opcode(0x0c03);
const READ_BUFFER_SIZE: Opcode = Opcode(0x1005);
const LE_READ_BUFFER_SIZE: Opcode = Opcode(0x2002);
const LE_READ_BUFFER_SIZE_V2: Opcode = Opcode(0x2060);

/// What a command of the host's does to its idea of a pool.
fn command(opcode: Opcode, pool: Pool) -> Option<Slots> {
    match (opcode, pool) {
        (RESET, _) => Some(Slots::Forgotten),
        (READ_BUFFER_SIZE, Pool::Acl | Pool::Sco)
        | (LE_READ_BUFFER_SIZE, Pool::Le)
        | (LE_READ_BUFFER_SIZE_V2, Pool::Le | Pool::Iso) => Some(Slots::Read),
        _ => None,
    }
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
        Detail::Event {
            flushed: Some(link),
            ..
        } if link.pool == pool => vec![Slots::Flushed {
            left: link.slots_after,
        }],
        Detail::Command { opcode, .. } => command(*opcode, pool).into_iter().collect(),
        _ => Vec::new(),
    }
}
