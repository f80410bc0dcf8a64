//! USB request blocks of Bluetooth controllers.

use super::times::TIMES;
use super::{Family, HCI, Kind, Label, LabelValues, Metric, Unit};

const ENDPOINT: Label = Label {
    name: "endpoint",
    values: LabelValues::OneOf(&["control", "interrupt", "bulk", "isoc"]),
    help: "the endpoint's kind: control carries commands, interrupt events, bulk ACL data (and ISO \
           data), isoc SCO data",
};

const OUT_ENDPOINT: Label = Label {
    name: "endpoint",
    values: LabelValues::OneOf(&["control", "bulk", "isoc"]),
    help: "the endpoint's kind: control carries commands, bulk ACL data (and ISO data), isoc SCO data",
};

const DIRECTION: Label = Label {
    name: "direction",
    values: LabelValues::OneOf(&["in", "out"]),
    help: "in: towards the host",
};

const STATUS: Label = Label {
    name: "status",
    values: LabelValues::Result,
    help: "how it ended: EPIPE a stall, EPROTO, EILSEQ or ETIME an error on the bus, EOVERFLOW \
           babble, ENOENT or ECONNRESET taken back by the host, ESHUTDOWN or ENODEV the device is gone",
};

const SUBMIT: &[&str] = &["usbcore:usb_submit_urb"];
const GIVEBACK: &[&str] = &[
    "usbcore:__usb_hcd_giveback_urb",
    "usbcore:usb_hcd_giveback_urb",
];

const STANDARD_REQUESTS: &str = "Standard control requests (to set an alternate setting, say) are usbcore's and not counted; \
     class and vendor requests, which carry commands and firmware, are.";

/// What every metric of URBs that ended says.
const ENDS: &[&str] = &[
    "URBs that were under way when the probes were loaded are in none of the metrics, nor are those \
     that end when their device is gone already.",
    STANDARD_REQUESTS,
    NO_ENDS,
];

const NO_ENDS: &str = "Completions come in softirq context, where the kernel passes a kprobe's program over, and counts \
     it nowhere, if it interrupts another program: on kernels without BTF of modules (5.10), where \
     there is no other place to see them, the metrics of completions are absent. Those of submissions, \
     which come from tasks, are exact there too.";

/// URBs that were submitted.
pub static URB_SUBMITTED: Metric = Metric {
    name: "bluetooth_urb_submitted_total",
    family: Family::Urb,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI, OUT_ENDPOINT],
    help: "USB request blocks from the host that the driver submitted",
    meaning: "Calls of usb_submit_urb with data for a device that has an HCI device on it, refused \
              ones (bluetooth_urb_refused_total) included. Requests towards the host, which arm an \
              endpoint and are submitted again and again, are counted when they complete.",
    functions: SUBMIT,
    caveats: &[STANDARD_REQUESTS],
};

/// URBs that were not taken.
pub static URB_REFUSED: Metric = Metric {
    name: "bluetooth_urb_refused_total",
    family: Family::Urb,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI, OUT_ENDPOINT],
    help: "USB request blocks from the host whose submission failed",
    meaning: "Submissions after which the driver took its mark off the URB (usb_unanchor_urb) while \
              it was not completed, as btusb does when usb_submit_urb fails. They are in \
              bluetooth_urb_submitted_total and in no other metric of the family.",
    functions: &["usbcore:usb_unanchor_urb"],
    caveats: &[
        "A driver that does not mark its URBs has none here, and its refused ones stay in flight.",
        "btusb goes on submitting frames of a voice link for which the device has refused an \
         alternate setting: each is refused (EMSGSIZE), and usbmon shows none of them.",
    ],
};

/// URBs that ended.
pub static URB_COMPLETED: Metric = Metric {
    name: "bluetooth_urb_completed_total",
    family: Family::Urb,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI, ENDPOINT, DIRECTION, STATUS],
    help: "USB request blocks that ended, by how",
    meaning: "URBs that the host controller's driver gave back. An error that the host controller \
              mended by trying again is not seen. Isochronous URBs are ok whatever became of their \
              packets (bluetooth_urb_isoc_packets_total).",
    functions: GIVEBACK,
    caveats: ENDS,
};

/// Bytes that URBs moved.
pub static URB_BYTES: Metric = Metric {
    name: "bluetooth_urb_bytes_total",
    family: Family::Urb,
    kind: Kind::Counter,
    unit: Unit::Bytes,
    labels: &[HCI, ENDPOINT, DIRECTION],
    help: "Bytes that completed USB request blocks moved",
    meaning: "Sum of urb.actual_length at completion, failed ones included: what went over the bus, \
              HCI headers and all, the eight bytes of a control request not.",
    functions: GIVEBACK,
    caveats: ENDS,
};

/// URBs under way.
pub static URB_IN_FLIGHT: Metric = Metric {
    name: "bluetooth_urb_in_flight",
    family: Family::Urb,
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[HCI, OUT_ENDPOINT],
    help: "USB request blocks from the host that are submitted and have not ended",
    meaning: "Data that the controller has not taken. A series exists from the first submission on. \
              Requests towards the host are always under way: they wait for data.",
    functions: GIVEBACK,
    caveats: ENDS,
};

/// Time from submission to completion.
pub static URB_LATENCY: Metric = Metric {
    name: "bluetooth_urb_latency_seconds",
    family: Family::Urb,
    kind: TIMES,
    unit: Unit::Nanoseconds,
    labels: &[HCI, OUT_ENDPOINT],
    help: "Time from the submission of a USB request block from the host to its completion",
    meaning: "From the entry of usb_submit_urb to the entry of __usb_hcd_giveback_urb, for each URB \
              from the host that ended, however it ended. It holds the wait in the host controller's \
              ring, the bus, the controller's own delay, and the time until the kernel handles the \
              completion. Requests towards the host wait for data by design: they have no latency.",
    functions: GIVEBACK,
    caveats: ENDS,
};

/// Packets of isochronous URBs.
pub static URB_ISOC_PACKETS: Metric = Metric {
    name: "bluetooth_urb_isoc_packets_total",
    family: Family::Urb,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI, DIRECTION, STATUS],
    help: "Packets of isochronous USB request blocks that ended, by how",
    meaning: "urb.iso_frame_desc[].status of each packet of each completed URB, empty packets \
              included. A packet that went wrong is lost: nothing tries again.",
    functions: GIVEBACK,
    caveats: &[
        NO_ENDS,
        "Of an URB that was taken back, packets that were not begun have the status EXDEV, or that of an earlier use.",
    ],
};

/// URBs that had to wait for the device.
pub static URB_DEFERRED: Metric = Metric {
    name: "bluetooth_urb_deferred_total",
    family: Family::Urb,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[HCI, OUT_ENDPOINT],
    help: "USB request blocks that waited for a suspended device to resume before they were submitted",
    meaning: "URBs that the driver had marked twice (usb_anchor_urb) when it submitted them: btusb \
              puts what comes while the device is suspended on a list of its own first. Counted when \
              they are submitted; the wait is not in bluetooth_urb_latency_seconds.",
    functions: &["usbcore:usb_anchor_urb", "usbcore:usb_submit_urb"],
    caveats: &[
        "What was put off and then dropped, because the device went or was closed, is not counted.",
    ],
};
