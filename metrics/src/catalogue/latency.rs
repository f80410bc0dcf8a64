//! How long data packets wait in the host, and how long controllers take to complete them.

use super::times::TIMES;
use super::{Family, HCI, Kind, Label, LabelValues, Metric, Unit};

const LINK: Label = Label {
    name: "kind",
    values: LabelValues::OneOf(&["acl", "le", "sco", "iso", "unknown"]),
    help: "the link's kind; acl: BR/EDR; unknown: the host knows no such link, since a process sent \
           the packet on a raw HCI socket or on the user channel",
};

/// Time in the host's queue.
pub static QUEUE_TIME: Metric = Metric {
    name: "bluetooth_hci_queue_seconds",
    family: Family::Latency,
    kind: TIMES,
    unit: Unit::Nanoseconds,
    labels: &[HCI, LINK],
    help: "Time that data packets wait in the host for the driver",
    meaning: "From hci_send_acl, hci_send_sco or hci_send_iso, where a packet enters its link's \
              queue, to when the host begins to hand it to the driver. Fragments count one by one, \
              from when the first of them entered the queue. It grows when the controller has no \
              free slots. Time in the queues of L2CAP before that (a channel without credits, \
              retransmission) is not in it, nor is time in the driver after it. Packets that never \
              leave the queue, because their link goes, do not count.",
    functions: &[
        "bluetooth:hci_send_acl",
        "bluetooth:hci_send_sco",
        "bluetooth:hci_send_iso",
        "bluetooth:hci_send_to_monitor",
    ],
    caveats: &[
        "4096 waiting packets are followed; of more, those that wait longest do not count.",
        "ISO links exist from kernel 6.0 on.",
    ],
};

/// Time in the driver and the controller.
pub static ACK_TIME: Metric = Metric {
    name: "bluetooth_hci_ack_seconds",
    family: Family::Latency,
    kind: TIMES,
    unit: Unit::Nanoseconds,
    labels: &[HCI, LINK],
    help: "Time from handing a data packet to the driver to the controller's report of completion",
    meaning: "From when the host begins to hand the packet to the driver to when it takes the \
              Number Of Completed Packets event out of the driver's queue. Reports name a link and \
              a number; they are taken to mean the packets that have waited longest. Completed \
              means sent, failed or flushed, and controllers report several at a time: the time is \
              an upper bound of the time on the air.",
    functions: &["bluetooth:hci_send_to_monitor"],
    caveats: &[
        "sco appears only where the kernel uses SCO flow control, which no hardware driver turns \
         on up to 7.3: elsewhere controllers do not report such packets.",
        "64 packets of a link are followed at a time; more count as truncated in \
         bluetooth_probe_drops_total.",
        "On kernels before 6.0 packets that the driver refused are taken to be in the controller, \
         and the times of the link's later packets are too long.",
    ],
};

/// Packets in the controller.
pub static IN_FLIGHT: Metric = Metric {
    name: "bluetooth_hci_packets_in_flight",
    family: Family::Latency,
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[HCI, LINK],
    help: "Data packets that the controller has not yet reported as completed",
    meaning: "Packets handed to the driver, less those reported as completed, refused by the \
              driver or given up with their link, at the moment the snapshot is taken. There is a \
              series for each kind of link that has had such a packet.",
    functions: ACK_TIME.functions,
    caveats: ACK_TIME.caveats,
};

/// Packets that were never reported.
pub static UNACKNOWLEDGED: Metric = Metric {
    name: "bluetooth_hci_packets_unacknowledged_total",
    family: Family::Latency,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI, LINK],
    help: "Data packets that were in the controller when their link went",
    meaning: "Packets that no Number Of Completed Packets event will name: controllers flush them \
              when a link ends, without a report. Whether they were sent is not known.",
    functions: &["bluetooth:hci_conn_del", "bluetooth:hci_send_to_monitor"],
    caveats: &[],
};

/// Reports of packets that were not sent.
pub static ACKS_UNMATCHED: Metric = Metric {
    name: "bluetooth_hci_acks_unmatched_total",
    family: Family::Latency,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI],
    help: "Packets reported as completed that were not in the controller",
    meaning: "Reports for a link that is gone, for packets sent before the probes were loaded, or \
              for more packets than were sent: a controller that counts wrong.",
    functions: ACK_TIME.functions,
    caveats: &[],
};
