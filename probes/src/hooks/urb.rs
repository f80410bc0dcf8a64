//! The urb family: USB request blocks, and the devices that they belong to.

use super::{DEVICE_LIST, ENTRY, Feed, Hook};
use metrics::AttachKind::Run;
use metrics::Metric;
use metrics::catalogue::{
    URB_BYTES, URB_COMPLETED, URB_DEFERRED, URB_IN_FLIGHT, URB_ISOC_PACKETS, URB_LATENCY,
    URB_REFUSED, URB_SUBMITTED,
};

const fn all_of(metric: &'static Metric) -> Feed {
    Feed {
        metric,
        labels: &[],
    }
}

/// Every metric of the family: without these events none of them is right.
const EVERYTHING: &[Feed] = &[
    all_of(&URB_SUBMITTED),
    all_of(&URB_REFUSED),
    all_of(&URB_COMPLETED),
    all_of(&URB_BYTES),
    all_of(&URB_IN_FLIGHT),
    all_of(&URB_LATENCY),
    all_of(&URB_ISOC_PACKETS),
    all_of(&URB_DEFERRED),
];

/// What is known of URBs when they end. In a kernel that shows no ends, the rest is right all the same.
const ENDS: &[Feed] = &[
    all_of(&URB_COMPLETED),
    all_of(&URB_BYTES),
    all_of(&URB_IN_FLIGHT),
    all_of(&URB_LATENCY),
    all_of(&URB_ISOC_PACKETS),
];

/// The event of URBs that end.
pub(crate) const GIVEBACK: &str = "usb_giveback";

/// The events.
pub(super) const HOOKS: &[Hook] = &[
    Hook {
        event: "usb_submit_urb",
        module: "usbcore",
        symbol: "usb_submit_urb",
        variants: ENTRY,
        structs: &["urb", "usb_device"],
        feeds: EVERYTHING,
    },
    Hook {
        event: GIVEBACK,
        module: "usbcore",
        symbol: "__usb_hcd_giveback_urb",
        variants: ENTRY,
        structs: &["urb"],
        feeds: ENDS,
    },
    Hook {
        event: "usb_anchor_urb",
        module: "usbcore",
        symbol: "usb_anchor_urb",
        variants: ENTRY,
        structs: &["urb", "usb_device"],
        feeds: &[all_of(&URB_DEFERRED)],
    },
    Hook {
        event: "usb_unanchor_urb",
        module: "usbcore",
        symbol: "usb_unanchor_urb",
        variants: ENTRY,
        structs: &["urb", "usb_device"],
        feeds: &[all_of(&URB_REFUSED), all_of(&URB_IN_FLIGHT)],
    },
    Hook {
        event: "hci_sock_dev_event",
        module: "bluetooth",
        symbol: "hci_sock_dev_event",
        variants: ENTRY,
        structs: &["hci_dev"],
        feeds: EVERYTHING,
    },
    Hook {
        event: "devices",
        module: "bluetooth",
        symbol: DEVICE_LIST,
        variants: &[&[Run]],
        structs: &["hci_dev"],
        // Without it, devices that are there already are seen once something happens to them.
        feeds: &[],
    },
];
