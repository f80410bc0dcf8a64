//! The socket family: what the calls returned; the kernel's own writes are in the ledgers.

use crate::evidence::Evidence;
use controller::{Detail, Entry, L2capHeader};
use evidence::{CallCount, Direction as CallDirection, Scenario, Service, Step};
use metrics::Snapshot;
use metrics::catalogue::{SOCKET_BYTES, SOCKET_CALLS};

/// Adds the family's series.
pub(super) fn expect(snapshot: &mut Snapshot, scenario: &Scenario, evidence: &Evidence) {
    for call in &evidence.calls {
        expect_calls(snapshot, call);
    }
    expect_kernel_writes(snapshot, scenario, evidence);
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
