//! Packet slots in the controllers' buffers, as the host counts them.

use super::times::TIMES;
use super::{Family, HCI, Kind, Label, LabelValues, Metric, Unit};

const KIND: Label = Label {
    name: "kind",
    values: LabelValues::OneOf(&["acl", "sco", "le", "iso"]),
    help: "the pool of slots: le is used by LE links if the controller has LE buffers of its own, \
           else they use acl; iso falls back to le, then acl, in the same way",
};

/// Slots that are free now.
pub static SLOTS_FREE: Metric = Metric {
    name: "bluetooth_hci_slots_free",
    family: Family::Credits,
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[HCI, KIND],
    help: "Packets of this kind that the host may send before the controller reports completed ones",
    meaning: "hci_dev.acl_cnt, sco_cnt, le_cnt or iso_cnt at the moment the snapshot is taken, for \
              each device that exists. 0 means that packets wait in the host. A pool that the \
              controller does not have has capacity 0 and no series here. For a device on the user \
              channel, for which the kernel counts nothing, it is worked out from the packets that \
              cross: capacity, less those sent, plus those completed or gone with their link.",
    functions: &["bluetooth:hci_dev_list"],
    caveats: &[
        "sco stays at its capacity unless the kernel uses SCO flow control, which no hardware \
         driver turns on up to 7.3. With it, slots of packets that are in the controller when a \
         synchronous link ends are gone until the device was down and up: hci_conn_del gives back \
         those of other links alone (seen from 6.16 to 7.3).",
        "A device on the user channel has series from the process's Reset and Read Buffer Size on; \
         none if the probes were loaded after these.",
        "A device that is down keeps the numbers that it had, or has 0 where the kernel \
         zeroes them on close (commit cdf88b35e06f, 2026, and stable releases). One that was reset \
         by ioctl HCIDEVRESET has 0 until it was down and up: the kernel does not ask again.",
    ],
};

/// Slots that the controller has.
pub static SLOTS_CAPACITY: Metric = Metric {
    name: "bluetooth_hci_slots_capacity",
    family: Family::Credits,
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[HCI, KIND],
    help: "Packets of this kind that the controller can hold, as it said itself",
    meaning: "hci_dev.acl_pkts, sco_pkts, le_pkts or iso_pkts at the moment the snapshot is taken. \
              A device that was never up has none. Only pools above 0 have a series. For a device on \
              the user channel it is what the controller has answered to the process.",
    functions: &["bluetooth:hci_dev_list", "bluetooth:hci_send_to_monitor"],
    caveats: &[SLOTS_FREE.caveats[1]],
};

/// Lowest value after a send.
pub static SLOTS_MINIMUM: Metric = Metric {
    name: "bluetooth_hci_slots_minimum",
    family: Family::Credits,
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[HCI, KIND],
    help: "Fewest free slots right after a send since the probes were loaded",
    meaning: "The smallest value that bluetooth_hci_slots_at_send has counted for this device and \
              kind. No series before the first packet that takes a slot.",
    functions: SLOTS_AT_SEND.functions,
    caveats: SLOTS_AT_SEND.caveats,
};

/// Free slots after each send.
pub static SLOTS_AT_SEND: Metric = Metric {
    name: "bluetooth_hci_slots_at_send",
    family: Family::Credits,
    kind: Kind::Histogram {
        bounds: &[0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32, 64, 128, 256],
    },
    unit: Unit::Count,
    labels: &[HCI, KIND],
    help: "Free slots right after each packet that takes one was handed to the driver",
    meaning: "For each packet that takes a slot: the pool's counter when hci_send_frame is \
              entered, minus 1, which is the value that the scheduler stores when the function has \
              returned. With capacity C and n packets that the controller has not yet completed, \
              the n-th of them included, the value is C - n. The number of values is the number of \
              packets that took a slot: fragments count one by one. Commands, packets written to a \
              raw HCI socket, and SCO packets without SCO flow control take none and are not in \
              it. A packet that the driver refuses has taken its slot all the same. A packet that a \
              process sends on the user channel takes a slot of those that it was told of.",
    functions: &["bluetooth:hci_send_to_monitor", "bluetooth:hci_tx_work"],
    caveats: &[
        "The scheduler's counter is changed in code that is inlined everywhere, so the value is \
         worked out, never read, at the moment it is stored.",
        "Kernels without \"Fix LE quote calculation\" (6.11, and stable releases of 2024) store the \
         le pool's counter once a batch: there the packets since the last event are subtracted.",
        "Completions count when the host has processed them, which is later than when the \
         controller sent them.",
    ],
};

/// Packets that controllers reported as completed.
pub static COMPLETED_PACKETS: Metric = Metric {
    name: "bluetooth_hci_completed_packets_total",
    family: Family::Credits,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        HCI,
        Label {
            name: "kind",
            values: LabelValues::OneOf(&["acl", "sco", "le", "iso", "unknown"]),
            help: "the pool that gets the slots back; unknown: no connection has that handle any \
                   more, so that the host ignores the report",
        },
    ],
    help: "Packets that the controller reported in Number Of Completed Packets events",
    meaning: "Sum of the counts in the events, by the pool of the handle's link. Completed means \
              sent, failed or flushed: it is not an acknowledgement by the peer. Counts are taken \
              as reported, before the host cuts its counter to the capacity. Events that the host \
              rejects as malformed are not in it; bluetooth_probe_drops_total counts them.",
    functions: &[
        "bluetooth:hci_num_comp_pkts_evt",
        "bluetooth:hci_send_to_monitor",
    ],
    caveats: &["For a device on the user channel, links are known from the process's Reset on."],
};

/// Events that report completed packets.
pub static COMPLETED_PACKETS_EVENTS: Metric = Metric {
    name: "bluetooth_hci_completed_packets_events_total",
    family: Family::Credits,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI],
    help: "Number Of Completed Packets events that the host, or the process in its place, was given",
    meaning: "One for each well-formed event, whatever number of handles it names. Together with \
              bluetooth_hci_completed_packets_total it says how many packets a controller \
              acknowledges at a time.",
    functions: COMPLETED_PACKETS.functions,
    caveats: COMPLETED_PACKETS.caveats,
};

/// How long no slot was free.
pub static SLOTS_EXHAUSTED: Metric = Metric {
    name: "bluetooth_hci_slots_exhausted_seconds",
    family: Family::Credits,
    kind: TIMES,
    unit: Unit::Nanoseconds,
    labels: &[HCI, KIND],
    help: "Time from the packet that took the last free slot to the event that gave slots back",
    meaning: "One value for each time that the pool was empty and then was not. Meanwhile packets of \
              this kind wait in the host. The sum over a period is the time for which the \
              controller, or the air behind it, was the bottleneck. A pool that is empty now gives \
              its value when slots come back; one whose device goes gives none.",
    functions: &["bluetooth:hci_send_to_monitor"],
    caveats: &[
        "Slots that come back because a link ends, or the controller is reset, without an event that \
         reports completed packets, do not end the time.",
    ],
};

/// Whether SCO packets take slots.
pub static SCO_FLOW_CONTROL: Metric = Metric {
    name: "bluetooth_hci_sco_flow_control",
    family: Family::Credits,
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[HCI],
    help: "1 if the host counts SCO packets against the controller's slots, else 0",
    meaning: "Flag HCI_SCO_FLOWCTL of the device, which the kernel sets when the controller has \
              accepted Write Synchronous Flow Control Enable. At 0, slots of kind sco stand still \
              and say nothing. For a device on the user channel: whether its process has had it \
              accepted.",
    functions: &["bluetooth:hci_dev_list"],
    caveats: &["Kernels that have no such flag never count SCO packets: 0."],
};

/// Whether a process drives the device.
pub static USER_CHANNEL: Metric = Metric {
    name: "bluetooth_hci_user_channel",
    family: Family::Credits,
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[HCI],
    help: "1 if a process drives the device over the user channel, past the kernel's host, else 0",
    meaning: "Flag HCI_USER_CHANNEL of the device. At 1 the kernel hands packets through and counts \
              none of them: every other metric of this family is then worked out from the packets \
              that cross, as the process has to count them itself.",
    functions: &["bluetooth:hci_dev_list"],
    caveats: &[SLOTS_FREE.caveats[1]],
};
