//! Which errors are planted in which scenario: in what it is about.

mod devices;

use super::plant::{Packets, Plant};
use controller::Direction::{ControllerToHost, HostToController};
use controller::PacketKind::{Acl, Iso, Sco};
use evidence::Direction::{ErrorQueue, Peek, Read, Write};
use evidence::Protocol;
use metrics::catalogue as of;

/// A scenario's own errors; none for one that is not in the table.
#[must_use]
pub fn of(scenario: &str) -> &'static [Plant] {
    let row = rows().find(|(name, _)| *name == scenario);
    row.map_or(&[], |(_, plants)| plants)
}

const fn sent(hci: u16, kind: controller::PacketKind) -> Packets {
    let way = HostToController;
    Packets { hci, way, kind }
}

const fn received(hci: u16, kind: controller::PacketKind) -> Packets {
    let way = ControllerToHost;
    Packets { hci, way, kind }
}

const L2CAP: Protocol = Protocol::L2cap;
const HCI0: (&str, &str) = ("hci", "hci0");
const HCI1: (&str, &str) = ("hci", "hci1");

/// A scenario and its errors.
type Row = (&'static str, &'static [Plant]);

/// Every scenario and its errors.
fn rows() -> impl Iterator<Item = &'static Row> {
    CONTROLS.iter().chain(devices::CONTROLS)
}

/// Scenarios of what sockets and links carry, and of what happens on a bus.
static CONTROLS: &[Row] = &[
    (
        "l2cap-seqpacket",
        &[
            Plant::Call(L2CAP, Write, "EMSGSIZE"),
            Plant::Unlisted(sent(0, Acl)),
        ],
    ),
    (
        "l2cap-stream-and-ertm",
        &[
            Plant::Unlisted(received(1, Acl)),
            Plant::OneMore(
                &of::SOCKET_BYTES,
                &[("proto", "l2cap"), ("direction", "read")],
            ),
        ],
    ),
    (
        "l2cap-fragmented",
        &[
            Plant::Unlisted(sent(0, Acl)),
            Plant::ListedTwice(received(0, Acl)),
            Plant::OneMore(&of::SLOTS_AT_SEND, &[HCI0, ("kind", "acl")]),
        ],
    ),
    (
        "l2cap-threads",
        &[
            Plant::Call(L2CAP, Write, "ok"),
            Plant::OneMore(
                &of::SOCKET_CALLS,
                &[("direction", "read"), ("result", "ok")],
            ),
        ],
    ),
    (
        "peek-and-errqueue",
        &[
            Plant::Call(L2CAP, Peek, "ok"),
            Plant::Call(L2CAP, ErrorQueue, "EAGAIN"),
        ],
    ),
    ("tx-timestamps", &[Plant::Call(L2CAP, ErrorQueue, "ok")]),
    (
        "disconnect-mid-traffic",
        &[
            Plant::Call(L2CAP, Write, "ENOTCONN"),
            Plant::Call(L2CAP, Write, "ECONNRESET"),
        ],
    ),
    (
        "stalled-controller",
        &[
            Plant::Call(L2CAP, Write, "EAGAIN"),
            Plant::OneMore(
                &of::BUFFER_WOULD_BLOCK,
                &[("proto", "l2cap"), ("cause", "full")],
            ),
            Plant::OneMore(&of::SLOTS_MINIMUM, &[HCI0, ("kind", "acl")]),
        ],
    ),
    (
        "interrupted-calls",
        &[
            Plant::Call(L2CAP, Write, "EINTR"),
            Plant::Call(L2CAP, Read, "EINTR"),
            Plant::Call(L2CAP, Write, "ERESTARTSYS"),
            Plant::Call(L2CAP, Read, "ERESTARTSYS"),
        ],
    ),
    (
        "small-sndbuf",
        &[
            Plant::Unlisted(sent(0, Acl)),
            Plant::OneMore(&of::SLOTS_AT_SEND, &[HCI0, ("kind", "acl")]),
        ],
    ),
    (
        "full-buffer",
        &[
            Plant::Call(L2CAP, Write, "EAGAIN"),
            Plant::OneMore(&of::BUFFER_OCCUPIED, &[("proto", "l2cap")]),
            Plant::Halved(&of::BUFFER_FULL_TIME, &[("proto", "l2cap")]),
        ],
    ),
    (
        "delayed-acks",
        &[Plant::Halved(&of::ACK_TIME, &[HCI0, ("kind", "acl")])],
    ),
    (
        "waiting-packets",
        &[Plant::Halved(&of::QUEUE_TIME, &[HCI0, ("kind", "acl")])],
    ),
    ("slow-command", &[Plant::Halved(&of::COMMAND_TIME, &[HCI0])]),
    (
        "l2cap-le-coc",
        &[
            Plant::Call(L2CAP, Write, "EMSGSIZE"),
            Plant::OneMore(&of::COMPLETED_PACKETS, &[HCI0, ("kind", "le")]),
            Plant::Unlisted(received(1, Acl)),
        ],
    ),
    (
        "iso-cis",
        &[
            Plant::Unlisted(sent(0, Iso)),
            Plant::OneMore(&of::SLOTS_AT_SEND, &[HCI1, ("kind", "iso")]),
        ],
    ),
    (
        "le-link-loss",
        &[
            Plant::OneMore(&of::UNACKNOWLEDGED, &[HCI0, ("kind", "le")]),
            Plant::Unlisted(sent(0, Acl)),
        ],
    ),
    (
        "iso-stalled",
        &[
            Plant::OneMore(&of::BUFFER_WOULD_BLOCK, &[("proto", "iso")]),
            Plant::Halved(&of::BUFFER_FULL_TIME, &[("proto", "iso")]),
            Plant::OneMore(&of::UNACKNOWLEDGED, &[HCI0, ("kind", "iso")]),
        ],
    ),
    (
        "sco-stalled",
        &[
            Plant::Call(Protocol::Sco, Write, "EAGAIN"),
            Plant::Halved(&of::BUFFER_FULL_TIME, &[("proto", "sco")]),
            Plant::OneMore(&of::UNACKNOWLEDGED, &[HCI0, ("kind", "sco")]),
        ],
    ),
    (
        "rfcomm-stalled",
        &[
            Plant::Call(Protocol::Rfcomm, Write, "EAGAIN"),
            Plant::OneMore(&of::BUFFER_WOULD_BLOCK, &[("proto", "rfcomm")]),
        ],
    ),
    (
        "sco-cvsd",
        &[
            Plant::Unlisted(received(1, Sco)),
            Plant::Call(Protocol::Sco, Write, "ok"),
        ],
    ),
    (
        "sco-msbc",
        &[
            Plant::ListedTwice(sent(1, Sco)),
            Plant::Call(Protocol::Sco, Read, "ok"),
        ],
    ),
    (
        "rfcomm",
        &[
            Plant::Call(Protocol::Rfcomm, Read, "ok"),
            Plant::OneMore(
                &of::SOCKET_CALLS,
                &[("origin", "kernel"), ("proto", "l2cap")],
            ),
        ],
    ),
    (
        "usb-l2cap",
        &[
            Plant::Unlisted(sent(0, Acl)),
            Plant::OneMore(&of::URB_SUBMITTED, &[HCI0, ("endpoint", "bulk")]),
        ],
    ),
    (
        "usb-two-dongles",
        &[
            Plant::Unlisted(sent(1, Acl)),
            Plant::OneMore(
                &of::URB_BYTES,
                &[HCI1, ("endpoint", "bulk"), ("direction", "out")],
            ),
        ],
    ),
    (
        "usb-sco-cvsd",
        &[
            Plant::Unlisted(sent(0, Sco)),
            Plant::OneMore(&of::URB_COMPLETED, &[HCI0, ("endpoint", "isoc")]),
        ],
    ),
    (
        "usb-sco-faults",
        &[Plant::OneMore(
            &of::URB_ISOC_PACKETS,
            &[HCI1, ("direction", "in"), ("status", "EPROTO")],
        )],
    ),
    (
        "usb-sco-refused",
        &[
            Plant::Call(Protocol::Sco, Write, "ok"),
            Plant::OneMore(&of::URB_REFUSED, &[HCI0, ("endpoint", "isoc")]),
            Plant::OneMore(&of::SEND_FAILURES, &[HCI0, ("kind", "sco")]),
        ],
    ),
    (
        "usb-stall",
        &[Plant::OneMore(
            &of::URB_COMPLETED,
            &[HCI0, ("endpoint", "bulk"), ("status", "EPIPE")],
        )],
    ),
    (
        "usb-retry",
        &[
            Plant::Unlisted(sent(0, Acl)),
            Plant::OneMore(
                &of::URB_COMPLETED,
                &[HCI0, ("endpoint", "bulk"), ("direction", "out")],
            ),
        ],
    ),
    (
        "usb-held-urb",
        &[Plant::Halved(
            &of::URB_LATENCY,
            &[HCI0, ("endpoint", "bulk")],
        )],
    ),
    (
        "usb-errors-in",
        &[Plant::OneMore(
            &of::URB_COMPLETED,
            &[HCI1, ("status", "EOVERFLOW")],
        )],
    ),
    (
        "usb-refused-packets",
        &[
            Plant::OneMore(&of::SEND_FAILURES, &[HCI0, ("kind", "sco")]),
            Plant::OneMore(
                &of::PACKETS,
                &[HCI0, ("kind", "sco"), ("direction", "sent")],
            ),
        ],
    ),
    (
        "l2cap-le-coc-suspended",
        &[
            Plant::Call(L2CAP, Write, "EAGAIN"),
            Plant::OneMore(&of::BUFFER_WOULD_BLOCK, &[("cause", "suspended")]),
        ],
    ),
    (
        "usb-le-coc",
        &[
            Plant::Unlisted(sent(1, Acl)),
            Plant::OneMore(&of::SLOTS_AT_SEND, &[HCI0, ("kind", "le")]),
        ],
    ),
    (
        "usb-sco-msbc",
        &[
            Plant::Unlisted(sent(0, Sco)),
            Plant::OneMore(&of::URB_COMPLETED, &[HCI1, ("endpoint", "isoc")]),
        ],
    ),
    (
        "usb-autosuspend",
        &[
            Plant::Call(Protocol::Hci, Write, "ok"),
            Plant::OneMore(&of::URB_DEFERRED, &[HCI0]),
        ],
    ),
    (
        "usb-reset-in-flight",
        &[Plant::OneMore(
            &of::URB_COMPLETED,
            &[
                HCI0,
                ("endpoint", "bulk"),
                ("direction", "out"),
                ("status", "ENOENT"),
            ],
        )],
    ),
    (
        "usb-unplug-mid-traffic",
        &[
            Plant::Call(L2CAP, Write, "ECONNABORTED"),
            Plant::Call(L2CAP, Write, "ENOTCONN"),
        ],
    ),
    (
        "usb-driver-reload",
        &[
            Plant::Unlisted(sent(0, Acl)),
            Plant::OneMore(&of::URB_SUBMITTED, &[HCI0, ("endpoint", "bulk")]),
        ],
    ),
    (
        "usb-and-vhci",
        &[
            Plant::Unlisted(received(1, Acl)),
            Plant::OneMore(&of::URB_SUBMITTED, &[HCI0, ("endpoint", "bulk")]),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Check that every scenario has errors of its own, once, and that no row is of a scenario that there is not.
    #[test]
    fn every_scenario_has_controls_of_its_own() {
        let scenarios = crate::scenarios::all();
        let scenarios: BTreeSet<&str> = scenarios.iter().map(|s| s.name.as_str()).collect();
        let names: Vec<&str> = rows().map(|(name, _)| *name).collect();
        let distinct: BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(distinct.len(), names.len(), "a scenario has two rows");
        assert_eq!(distinct, scenarios);
        assert!(rows().all(|(_, plants)| !plants.is_empty()));
    }
}
