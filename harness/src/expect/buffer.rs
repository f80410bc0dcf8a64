//! The buffer family: how many messages found room follows from the calls and the ledgers; how much
//! they occupied, from `/proc/net` while nothing could leave; who was turned away, from the calls.

use crate::evidence::Evidence;
use controller::transport::usbredir::UsbFaultAction;
use controller::{Detail, Entry, LinkKind};
use evidence::{
    CallCount, Direction as CallDirection, L2capMode, Period, Protocol, Scenario, SendBuffer,
    Service, Step, Traffic,
};
use metrics::Snapshot;
use metrics::catalogue::{BUFFER_FILL, BUFFER_FULL_TIME, BUFFER_OCCUPIED, BUFFER_WOULD_BLOCK};

/// net.core.wmem_default, the limit of a socket that nobody set another for, and more than RFCOMM's.
const DEFAULT_LIMIT: u64 = 212_992;
/// How many messages of a stream are under way at a time; the agent has the same.
const WINDOW_MESSAGES: u64 = 64;
/// Memory of one message of a scenario: below this, since each fits into one ACL buffer.
const LARGEST_MESSAGE: u64 = 4096;

/// Adds the family's series.
pub(super) fn expect(snapshot: &mut Snapshot, scenario: &Scenario, evidence: &Evidence) {
    for protocol in [
        Protocol::L2cap,
        Protocol::Sco,
        Protocol::Hci,
        Protocol::Rfcomm,
        Protocol::Iso,
    ] {
        expect_messages(snapshot, scenario, evidence, protocol);
        expect_turned_away(snapshot, scenario, evidence, protocol);
    }
    expect_full_times(snapshot, scenario, evidence);
}

/// What each message occupied: exactly, where the agent looked and nothing could leave; else between
/// nothing and one message more than the limit, which is what the kernel's own check lets in.
/// Kernel: net/core/sock.c sock_alloc_send_pskb().
fn expect_messages(
    snapshot: &mut Snapshot,
    scenario: &Scenario,
    evidence: &Evidence,
    protocol: Protocol,
) {
    let labels = [("proto", protocol.label())];
    let mut messages = messages(scenario, evidence, protocol);
    // RFCOMM's messages leave their socket for another of the kernel's while nothing crosses.
    let still = |witness: &&SendBuffer| {
        witness.protocol == protocol && witness.still && protocol != Protocol::Rfcomm
    };
    for witness in evidence.send_buffers.iter().filter(still) {
        for bytes in &witness.occupied {
            snapshot.observe(&BUFFER_OCCUPIED, &labels, *bytes);
            snapshot.observe(&BUFFER_FILL, &labels, bytes * 100 / witness.limit);
            messages = messages.saturating_sub(1);
        }
        for _ in 0..written_alone(scenario, protocol) {
            let bytes = witness.occupied.first().copied().unwrap_or(0);
            snapshot.observe(&BUFFER_OCCUPIED, &labels, bytes);
            snapshot.observe(&BUFFER_FILL, &labels, bytes * 100 / witness.limit);
            messages = messages.saturating_sub(1);
        }
    }
    let highest = largest_limit(scenario) + LARGEST_MESSAGE;
    for _ in 0..messages {
        snapshot.observe_between(&BUFFER_OCCUPIED, &labels, 1, highest);
        // No limit is below SOCK_MIN_SNDBUF, which is more than one message.
        snapshot.observe_between(&BUFFER_FILL, &labels, 0, 199);
    }
}

/// How many pieces of memory were taken: one a write, but for L2CAP one for each packet.
fn messages(scenario: &Scenario, evidence: &Evidence, protocol: Protocol) -> u64 {
    // The ledger of a device that is gone has gone with it, and what was not taken is in none; there each message is one packet.
    if protocol == Protocol::L2cap && !loses(scenario) {
        let entries = evidence.ledgers.values().flatten();
        // S-frames of enhanced retransmission mode: control and FCS alone, less than any scenario
        // writes in it.
        let least = if retransmits(scenario) { 5 } else { 0 };
        let of_socket = |entry: &&Entry| is_of_l2cap_socket(entry, least);
        return u64::try_from(entries.filter(of_socket).count()).unwrap_or(u64::MAX);
    }
    let ok = |call: &&CallCount| {
        call.protocol == protocol && call.direction == CallDirection::Write && call.result == "ok"
    };
    let calls = evidence.calls.iter().filter(ok);
    let written: u64 = calls.map(|call| call.calls).sum();
    if protocol == Protocol::Hci && !is_management_buffered(evidence) {
        return written.saturating_sub(evidence.management_writes);
    }
    written
}

/// Are commands to the management interface messages in a send buffer? Before, they were copied to plain memory.
/// Kernel: v5.16 net/bluetooth/hci_sock.c hci_sock_sendmsg().
fn is_management_buffered(evidence: &Evidence) -> bool {
    let release = evidence.release.as_deref().unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= (5_u32, 16_u32),
        _ => true,
    }
}

/// How many messages, as long as those that fill the buffer, are written alone and read before the next:
/// each occupies what the first message of the fill occupied.
fn written_alone(scenario: &Scenario, protocol: Protocol) -> usize {
    let filling = scenario.steps.iter().find_map(|step| match step {
        Step::FillUntilFull { bytes, .. } => Some(*bytes),
        _ => None,
    });
    let alone = |pair: &&[Step]| match pair {
        [Step::Write { bytes, .. }, Step::Read { bytes: read, .. }] => {
            Some(*bytes) == filling && bytes == read && protocol == Protocol::L2cap
        }
        _ => false,
    };
    scenario.steps.windows(2).filter(alone).count()
}

/// Does a controller go, or does it never take what was sent to it?
fn loses(scenario: &Scenario) -> bool {
    let loses = |step: &Step| match step {
        Step::Unplug { .. } | Step::UnplugUnderWrite { .. } => true,
        Step::UsbFault { fault } => fault.action == UsbFaultAction::Never,
        _ => false,
    };
    scenario.steps.iter().any(loses)
}

fn retransmits(scenario: &Scenario) -> bool {
    let mode = |step: &Step| match step {
        Step::Listen {
            service: Service::L2cap { mode, .. },
            ..
        } => *mode == L2capMode::EnhancedRetransmission,
        _ => false,
    };
    scenario.steps.iter().any(mode)
}

/// Is it a packet of a message written to an L2CAP socket? On fixed channels the kernel sends for
/// itself. A later fragment has no header of its own.
fn is_of_l2cap_socket(entry: &Entry, least: u16) -> bool {
    match &entry.detail {
        Detail::DataFromHost {
            link: Some(LinkKind::Acl | LinkKind::Le),
            l2cap,
            ..
        } => l2cap.is_none_or(|header| header.cid >= 0x40 && header.length >= least),
        _ => false,
    }
}

fn expect_turned_away(
    snapshot: &mut Snapshot,
    scenario: &Scenario,
    evidence: &Evidence,
    protocol: Protocol,
) {
    let eagain = |call: &&CallCount| {
        call.protocol == protocol
            && call.direction == CallDirection::Write
            && call.result == "EAGAIN"
    };
    for call in evidence.calls.iter().filter(eagain) {
        let cause = if suspends(scenario) {
            "suspended"
        } else {
            "full"
        };
        let labels = [("proto", protocol.label()), ("cause", cause)];
        snapshot.add(&BUFFER_WOULD_BLOCK, &labels, call.calls);
    }
}

/// Do the scenario's sockets run out of the peer's credits before they run out of room?
fn suspends(scenario: &Scenario) -> bool {
    scenario
        .steps
        .iter()
        .any(|step| matches!(step, Step::Listen { service, .. } if has_credits(*service)))
}

/// Has each channel credits of its own?
const fn has_credits(service: Service) -> bool {
    matches!(service, Service::L2capLe { .. })
}

/// The highest limit that a socket of the scenario has.
fn largest_limit(scenario: &Scenario) -> u64 {
    let asked = scenario.steps.iter().filter_map(|step| match step {
        // Kernel: net/core/sock.c sk_setsockopt() doubles it.
        Step::SendBuffer { bytes, .. } => Some(2 * u64::from(*bytes)),
        _ => None,
    });
    asked.chain([DEFAULT_LIMIT]).max().unwrap_or(DEFAULT_LIMIT)
}

/// Full buffers. A socket that was filled while nothing could leave is full once: from before the agent
/// found it so, at least until a controller gives buffers back, at most until it is drained.
/// Writers that wait may find the buffer full, any number of times up to that of their messages, if it is
/// small or the messages are large.
fn expect_full_times(snapshot: &mut Snapshot, scenario: &Scenario, evidence: &Evidence) {
    let labels = [("proto", Protocol::L2cap.label())];
    let mut buffers = evidence.send_buffers.iter();
    let mut filled: Option<(Period, &SendBuffer)> = None;
    let mut released = None;
    let mut small = false;
    for (step, period) in scenario.steps.iter().zip(&evidence.steps) {
        match step {
            Step::SendBuffer { .. } => small = true,
            Step::FillUntilFull { .. } => {
                let buffer = buffers.next();
                filled = buffer
                    .filter(|buffer| has_full_times(buffer.protocol) && !suspends(scenario))
                    .map(|buffer| (*period, buffer));
                released = None;
            }
            Step::Acks { .. } | Step::FlushAcks { .. } => {
                released.get_or_insert(period.began_ns);
            }
            Step::Drain { .. } => {
                if let (Some((fill, buffer)), Some(released)) = (filled.take(), released) {
                    let labels = [("proto", buffer.protocol.label())];
                    let made_room_ns = completed_after(evidence, released).unwrap_or(released);
                    let low = (made_room_ns - buffer.full_ns).cast_unsigned();
                    let high = (period.ended_ns - fill.began_ns).cast_unsigned();
                    snapshot.observe_between(&BUFFER_FULL_TIME, &labels, low, high);
                }
            }
            Step::Transfer { traffic } if small || traffic.iter().any(is_large) => {
                let times = messages(scenario, evidence, Protocol::L2cap);
                let longest = (period.ended_ns - period.began_ns).cast_unsigned();
                snapshot.observe_up_to(&BUFFER_FULL_TIME, &labels, times, longest);
            }
            _ => {}
        }
    }
}

/// When a controller gave buffers back for the first time after that: before, nothing could leave.
fn completed_after(evidence: &Evidence, after_ns: i64) -> Option<i64> {
    let entries = evidence.ledgers.values().flatten();
    let reports = entries.filter(|entry| !entry.completed().is_empty());
    let times = reports.map(super::nanoseconds);
    times.filter(|at_ns| *at_ns >= after_ns).min()
}

/// RFCOMM's messages reach no driver themselves.
fn has_full_times(protocol: Protocol) -> bool {
    protocol != Protocol::Rfcomm
}

/// Can so many messages as are under way at a time fill a buffer that nobody made smaller? Each takes
/// less than twice its length and 2048 bytes.
fn is_large(traffic: &Traffic) -> bool {
    let bytes = u64::try_from(traffic.bytes).unwrap_or(u64::MAX);
    WINDOW_MESSAGES * (2 * bytes + 2048) >= DEFAULT_LIMIT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;
    use controller::{CompletedLink, ConnHandle, ControllerId, Direction, PacketHead, Pool};
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn completed(milliseconds: u64) -> Entry {
        let links = vec![CompletedLink {
            handle: ConnHandle::from_low_bits(5),
            pool: Pool::Iso,
            packets: 7,
            slots_after: 7,
        }];
        Entry {
            time: Duration::from_millis(milliseconds),
            controller: ControllerId::from_index(0),
            direction: Direction::ControllerToHost,
            kind: Some(controller::PacketKind::Event),
            length_bytes: 7,
            head: PacketHead::of(&[]),
            detail: Detail::Completed { links },
        }
    }

    /// Check that a buffer is full from when the agent found it so, until a controller gives buffers back after it was told to, and that
    /// reports from before do not count.
    #[test]
    fn buffer_is_full_until_buffers_come_back() {
        let all = scenarios::all();
        let mut scenario = all.into_iter().find(|s| s.name == "iso-stalled").unwrap();
        let steps = scenario.steps.iter().filter(|step| {
            matches!(
                step,
                Step::FillUntilFull { .. } | Step::FlushAcks { .. } | Step::Drain { .. }
            )
        });
        // The first and the last give back what the scenario does not wait for.
        scenario.steps = steps.skip(1).take(3).cloned().collect();
        let period = |began: i64, ended: i64| Period {
            began_ns: began * 1_000_000,
            ended_ns: ended * 1_000_000,
        };
        let evidence = Evidence {
            ledgers: BTreeMap::from([(0, vec![completed(90), completed(650)])]),
            steps: vec![period(100, 300), period(600, 601), period(602, 900)],
            send_buffers: vec![SendBuffer {
                protocol: Protocol::Iso,
                limit: 16_384,
                occupied: Vec::new(),
                still: true,
                full_ns: 150_000_000,
            }],
            ..Evidence::default()
        };
        let mut snapshot = Snapshot::new();
        expect_full_times(&mut snapshot, &scenario, &evidence);
        let text: Vec<String> = snapshot.iter().map(|(_, v)| v.to_string()).collect();
        assert!(
            text[0].starts_with("1 values, sum 500000000 to 800000000 "),
            "{text:?}"
        );
    }
}
