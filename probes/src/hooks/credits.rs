//! The credits family: packets to the driver and events from the controller, the list of devices.

use super::{DEVICE_LIST, ENTRY, Feed, Hook, Partial};
use metrics::AttachKind::Run;
use metrics::catalogue::{
    COMPLETED_PACKETS, COMPLETED_PACKETS_EVENTS, SCO_FLOW_CONTROL, SLOTS_AT_SEND, SLOTS_CAPACITY,
    SLOTS_EXHAUSTED, SLOTS_FREE, SLOTS_MINIMUM, USER_CHANNEL,
};
use metrics::{Family, Metric};

const ISO: &[(&str, &str)] = &[("kind", "iso")];

/// Kernels before 6.0 have no pool for ISO.
pub(super) const PARTIAL: &[Partial] = &[
    iso("hci_send_to_monitor", &SLOTS_AT_SEND),
    iso("hci_send_to_monitor", &SLOTS_MINIMUM),
    iso("hci_send_to_monitor", &COMPLETED_PACKETS),
    iso("hci_send_to_monitor", &SLOTS_EXHAUSTED),
    iso("slots", &SLOTS_FREE),
    iso("slots", &SLOTS_CAPACITY),
];

const fn iso(event: &'static str, metric: &'static Metric) -> Partial {
    Partial {
        family: Family::Credits,
        event,
        structure: "hci_dev",
        member: "iso_pkts",
        feed: Feed {
            metric,
            labels: ISO,
        },
    }
}

/// The events.
pub(super) const HOOKS: &[Hook] = &[
    Hook {
        event: "hci_send_to_monitor",
        module: "bluetooth",
        symbol: "hci_send_to_monitor",
        variants: ENTRY,
        structs: &["hci_dev", "hci_conn", "bt_skb_cb"],
        feeds: &[
            Feed {
                metric: &SLOTS_AT_SEND,
                labels: &[],
            },
            Feed {
                metric: &SLOTS_MINIMUM,
                labels: &[],
            },
            Feed {
                metric: &COMPLETED_PACKETS,
                labels: &[],
            },
            Feed {
                metric: &COMPLETED_PACKETS_EVENTS,
                labels: &[],
            },
            Feed {
                metric: &SLOTS_EXHAUSTED,
                labels: &[],
            },
        ],
    },
    Hook {
        event: "hci_unregister_dev",
        module: "bluetooth",
        symbol: "hci_unregister_dev",
        variants: ENTRY,
        structs: &["hci_dev"],
        // Without it a new device goes on with the counts of the last one of its number.
        feeds: &[],
    },
    Hook {
        event: "slots",
        module: "bluetooth",
        symbol: DEVICE_LIST,
        variants: &[&[Run]],
        structs: &["hci_dev"],
        feeds: &[
            Feed {
                metric: &SLOTS_FREE,
                labels: &[],
            },
            Feed {
                metric: &SLOTS_CAPACITY,
                labels: &[],
            },
            Feed {
                metric: &SCO_FLOW_CONTROL,
                labels: &[],
            },
            Feed {
                metric: &USER_CHANNEL,
                labels: &[],
            },
        ],
    },
];
