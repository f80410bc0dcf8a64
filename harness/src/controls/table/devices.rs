//! Errors of scenarios about devices and controllers as a whole, and about what goes wrong with them.

use super::{HCI0, HCI1, L2CAP, Plant, Row, of, received, sent};
use controller::PacketKind::{Acl, Sco};
use evidence::Direction::Write;
use evidence::Protocol;

/// Scenarios and their errors.
pub(super) static CONTROLS: &[Row] = &[
    (
        "hci-raw-and-user-channel",
        &[
            Plant::PastKernel(2),
            Plant::OneMore(&of::COMMANDS, &[HCI0, ("opcode", "0x1009")]),
            Plant::Call(Protocol::Hci, Write, "ok"),
        ],
    ),
    (
        "user-channel-links",
        &[
            Plant::PastKernel(1),
            Plant::OneMore(&of::SLOTS_AT_SEND, &[HCI0, ("kind", "sco")]),
            Plant::OneMore(&of::COMPLETED_PACKETS, &[HCI0, ("kind", "iso")]),
            Plant::OneMore(&of::UNACKNOWLEDGED, &[HCI0, ("kind", "unknown")]),
            Plant::Unlisted(sent(0, Sco)),
        ],
    ),
    (
        "driver-packets",
        &[
            Plant::OneMore(&of::SEND_FAILURES, &[HCI1, ("kind", "other")]),
            Plant::OneMore(
                &of::BYTES,
                &[HCI1, ("kind", "other"), ("direction", "received")],
            ),
        ],
    ),
    (
        "controller-reset",
        &[
            Plant::OneMore(&of::COMMANDS, &[HCI0, ("opcode", "0x0c03")]),
            Plant::OneMore(&of::SLOTS_FREE, &[HCI0, ("kind", "acl")]),
        ],
    ),
    (
        "hardware-error",
        &[Plant::OneMore(
            &of::ERRORS,
            &[HCI0, ("error", "hardware_error")],
        )],
    ),
    (
        "unplug-replug",
        &[
            Plant::OneMore(
                &of::PACKETS,
                &[HCI0, ("kind", "acl"), ("direction", "sent")],
            ),
            Plant::Unlisted(sent(0, Acl)),
        ],
    ),
    (
        "unplug",
        &[Plant::Stale(
            &of::PACKETS,
            &[HCI0, ("kind", "acl"), ("direction", "sent")],
        )],
    ),
    (
        "completes-too-many",
        &[
            Plant::OneMore(&of::COMPLETED_PACKETS, &[HCI0, ("kind", "acl")]),
            Plant::OneMore(&of::SLOTS_FREE, &[HCI0, ("kind", "acl")]),
        ],
    ),
    (
        "completes-one-too-many",
        &[
            Plant::OneMore(&of::COMPLETED_PACKETS, &[HCI0, ("kind", "acl")]),
            Plant::OneMore(&of::ACKS_UNMATCHED, &[HCI0]),
        ],
    ),
    (
        "bredr-pairing",
        &[
            // Link Key Notification, Encryption Change.
            Plant::OneMore(&of::EVENTS, &[HCI0, ("event", "0x18")]),
            Plant::OneMore(&of::EVENTS, &[HCI1, ("event", "0x08")]),
        ],
    ),
    (
        "le-legacy",
        &[
            Plant::OneMore(&of::SLOTS_AT_SEND, &[HCI0, ("kind", "le")]),
            Plant::OneMore(&of::COMMANDS, &[HCI1, ("opcode", "0x200a")]),
        ],
    ),
    (
        "three-controllers",
        &[
            Plant::Unlisted(sent(2, Acl)),
            Plant::OneMore(&of::SLOTS_AT_SEND, &[("hci", "hci2"), ("kind", "acl")]),
        ],
    ),
    (
        "ack-policies",
        &[
            Plant::Halved(&of::ACK_TIME, &[HCI0, ("kind", "acl")]),
            Plant::OneMore(&of::IN_FLIGHT, &[HCI0, ("kind", "acl")]),
        ],
    ),
    (
        "unreliable-air",
        &[
            Plant::Unlisted(received(1, Acl)),
            Plant::ListedTwice(sent(0, Acl)),
        ],
    ),
    (
        "command-faults",
        &[
            Plant::OneMore(&of::COMMAND_FAILURES, &[HCI0]),
            Plant::OneMore(&of::ANSWERS_UNMATCHED, &[HCI0]),
        ],
    ),
    (
        "command-never-answered",
        &[
            Plant::OneMore(&of::COMMANDS_UNANSWERED, &[HCI0]),
            Plant::OneMore(&of::ERRORS, &[HCI0, ("error", "command_timeout")]),
        ],
    ),
    (
        "command-credits-withheld",
        &[
            Plant::OneMore(&of::ERRORS, &[HCI0, ("error", "command_credit_timeout")]),
            Plant::OneMore(&of::EVENTS, &[HCI0, ("event", "0x0f")]),
            Plant::Unlisted(sent(0, Acl)),
        ],
    ),
    (
        "completes-unknown-link",
        &[
            Plant::OneMore(&of::COMPLETED_PACKETS, &[HCI0, ("kind", "unknown")]),
            Plant::OneMore(&of::ACKS_UNMATCHED, &[HCI0]),
        ],
    ),
    (
        "garbage-events",
        &[
            Plant::OneMore(
                &of::PROBE_DROPS,
                &[("family", "hci"), ("reason", "malformed")],
            ),
            Plant::OneMore(&of::EVENTS, &[HCI0, ("event", "0x60")]),
        ],
    ),
    (
        "spoiled-events",
        &[
            Plant::OneMore(&of::EVENTS, &[HCI0, ("event", "0x0e")]),
            Plant::OneMore(
                &of::BYTES,
                &[HCI0, ("kind", "event"), ("direction", "received")],
            ),
        ],
    ),
    (
        "link-loss",
        &[
            Plant::Call(L2CAP, Write, "ETIMEDOUT"),
            Plant::OneMore(&of::UNACKNOWLEDGED, &[HCI0]),
        ],
    ),
];
