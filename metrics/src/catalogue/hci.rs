//! What crosses between host and controllers, and what goes wrong there.

use super::times::TIMES;
use super::{Family, HCI, Kind, Label, LabelValues, Metric, Unit};

const KIND: Label = Label {
    name: "kind",
    values: LabelValues::OneOf(&["command", "acl", "sco", "event", "iso", "other"]),
    help: "the packet's indicator; other: a vendor's or a driver's own",
};

const DIRECTION: Label = Label {
    name: "direction",
    values: LabelValues::OneOf(&["sent", "received"]),
    help: "sent: from the host to the controller; received: from the controller to the host",
};

/// Packets by kind and direction.
pub static PACKETS: Metric = Metric {
    name: "bluetooth_hci_packets_total",
    family: Family::Hci,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI, KIND, DIRECTION],
    help: "HCI packets between host and controller",
    meaning: "sent: packets that the host began to hand to the driver, those that the driver then \
              refused included (bluetooth_hci_send_failures_total). received: packets that the \
              host took out of the driver's queue, whatever it then did with them: packets of a \
              device on the user channel, of unknown links and malformed ones count too. Packets \
              for a device that is down are refused before that and do not count. Each fragment is a \
              packet.",
    functions: &["bluetooth:hci_send_to_monitor"],
    caveats: &[
        "Packets that a driver answers itself (HCI_DRV_PKT, kernel 6.16 and later) are kind other.",
    ],
};

/// Bytes by kind and direction.
pub static BYTES: Metric = Metric {
    name: "bluetooth_hci_bytes_total",
    family: Family::Hci,
    kind: Kind::Counter,
    unit: Unit::Bytes,
    labels: &[HCI, KIND, DIRECTION],
    help: "Bytes of HCI packets between host and controller, headers included",
    meaning: "Lengths of the packets that bluetooth_hci_packets_total counts, with their HCI \
              headers and without the packet indicator.",
    functions: PACKETS.functions,
    caveats: PACKETS.caveats,
};

/// Commands by opcode.
pub static COMMANDS: Metric = Metric {
    name: "bluetooth_hci_commands_total",
    family: Family::Hci,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        HCI,
        Label {
            name: "opcode",
            values: LabelValues::Opcode,
            help: "the command's number as btmon writes it, 0x0c03; vendor: group 0x3f; other: not \
                   in the specification's ranges",
        },
    ],
    help: "HCI commands that the host sent",
    meaning: "The packets that bluetooth_hci_packets_total counts as sent commands, by their number.",
    functions: PACKETS.functions,
    caveats: &[],
};

/// Events by code.
pub static EVENTS: Metric = Metric {
    name: "bluetooth_hci_events_total",
    family: Family::Hci,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        HCI,
        Label {
            name: "event",
            values: LabelValues::Byte,
            help: "the event's code, 0x0e; 0x3e: all LE events; 0xff: all of the vendor's",
        },
    ],
    help: "HCI events that the host received",
    meaning: "The packets that bluetooth_hci_packets_total counts as received events, by their \
              code, whether the host could use them or not.",
    functions: PACKETS.functions,
    caveats: &[],
};

/// LE events by subevent.
pub static LE_EVENTS: Metric = Metric {
    name: "bluetooth_hci_le_events_total",
    family: Family::Hci,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        HCI,
        Label {
            name: "subevent",
            values: LabelValues::Byte,
            help: "the LE event's subevent code, 0x0a",
        },
    ],
    help: "LE Meta events that the host received",
    meaning: "The events that bluetooth_hci_events_total counts as 0x3e, by their subevent.",
    functions: PACKETS.functions,
    caveats: &[],
};

/// Time from command to answer.
pub static COMMAND_TIME: Metric = Metric {
    name: "bluetooth_hci_command_seconds",
    family: Family::Hci,
    kind: TIMES,
    unit: Unit::Nanoseconds,
    labels: &[HCI],
    help: "Time from a command to its Command Complete or Command Status event",
    meaning: "From when the host began to hand the command to the driver to when it took the \
              answer out of the driver's queue; an answer is the first Command Complete or \
              Command Status event with the command's number. What the command sets off may take \
              longer: Command Status says that it has begun. Commands without an answer are in \
              bluetooth_hci_commands_unanswered_total.",
    functions: PACKETS.functions,
    caveats: &[],
};

/// Commands that wait for an answer.
pub static COMMANDS_PENDING: Metric = Metric {
    name: "bluetooth_hci_commands_pending",
    family: Family::Hci,
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[HCI],
    help: "Commands that wait for their answer",
    meaning: "Commands that were sent, are not answered and not given up, at the moment the \
              snapshot is taken; at most 4. A device has the series from its first packet on.",
    functions: PACKETS.functions,
    caveats: &[],
};

/// Commands that were given up.
pub static COMMANDS_UNANSWERED: Metric = Metric {
    name: "bluetooth_hci_commands_unanswered_total",
    family: Family::Hci,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI],
    help: "Commands whose answer is no longer awaited",
    meaning: "Commands that waited when the host's command timer ran out, and the oldest of five \
              that wait at a time. An answer that comes later is unmatched. A driver's vendor \
              commands that never have an answer end up here.",
    functions: &["bluetooth:hci_cmd_timeout", "bluetooth:hci_send_to_monitor"],
    caveats: &[],
};

/// Answers to nothing.
pub static ANSWERS_UNMATCHED: Metric = Metric {
    name: "bluetooth_hci_answers_unmatched_total",
    family: Family::Hci,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI],
    help: "Command Complete and Command Status events without a command that waits for them",
    meaning: "Second answers to one command, answers to commands that were given up, and answers \
              to commands sent before the probes were loaded. Events with opcode 0, by which a \
              controller says that it takes commands again, are none.",
    functions: PACKETS.functions,
    caveats: &[],
};

/// Answers that say that a command failed.
pub static COMMAND_FAILURES: Metric = Metric {
    name: "bluetooth_hci_command_failures_total",
    family: Family::Hci,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        HCI,
        Label {
            name: "status",
            values: LabelValues::Byte,
            help: "the error code, 0x0c; never 0x00",
        },
    ],
    help: "Answers to commands with another status than success",
    meaning: "Command Complete and Command Status events whose status is not 0, matched or not. \
              What fails after Command Status has said that it begins is not in it: other events \
              say so.",
    functions: PACKETS.functions,
    caveats: &[
        "The first return parameter is taken for the status, as the host does; the few commands \
         that return another one first are not told apart.",
    ],
};

/// What goes wrong with a controller.
pub static ERRORS: Metric = Metric {
    name: "bluetooth_hci_errors_total",
    family: Family::Hci,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        HCI,
        Label {
            name: "error",
            values: LabelValues::OneOf(&[
                "hardware_error",
                "command_timeout",
                "command_credit_timeout",
                "reset",
            ]),
            help: "hardware_error: the controller's Hardware Error event; command_timeout: no \
                   answer within the host's 2 s; command_credit_timeout: 4 s without a sign that \
                   the controller takes commands again; reset: the host takes the device down and \
                   up again because of an error",
        },
    ],
    help: "Errors of a controller that the host noticed",
    meaning: "One for each Hardware Error event and for each run of the kernel's function for the \
              case.",
    functions: &[
        "bluetooth:hci_send_to_monitor",
        "bluetooth:hci_cmd_timeout",
        "bluetooth:hci_ncmd_timeout",
        "bluetooth:hci_error_reset",
    ],
    caveats: &[
        "Kernels before 5.15 do not watch for command credits: no command_credit_timeout. Later ones \
         make up a Hardware Error event then, which counts as one that came: as hardware_error, and \
         among events and packets.",
    ],
};

/// Packets that drivers refused.
pub static SEND_FAILURES: Metric = Metric {
    name: "bluetooth_hci_send_failures_total",
    family: Family::Hci,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI, KIND],
    help: "Packets that the driver refused, or that found the device not running",
    meaning: "Sent packets for which hci_send_frame returned an error. A driver may take a packet \
              and fail later: that is not in it.",
    functions: &["bluetooth:hci_send_frame"],
    caveats: &[
        "On kernels before 6.0 hci_send_frame returns nothing: there is no series.",
        "hci_vhci takes every packet. btusb refuses voice without a link, or before the alternate \
         setting for it is chosen, and everything when the dongle is gone.",
    ],
};
