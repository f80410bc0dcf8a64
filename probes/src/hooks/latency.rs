//! The latency family: where packets enter their queues, and all that passes to and from drivers.

use super::{ENTRY, Feed, Hook, RETURN};
use metrics::catalogue::{ACK_TIME, ACKS_UNMATCHED, IN_FLIGHT, QUEUE_TIME, UNACKNOWLEDGED};

const fn hook(
    function: &'static str,
    structs: &'static [&'static str],
    feeds: &'static [Feed],
) -> Hook {
    Hook {
        event: function,
        module: "bluetooth",
        symbol: function,
        variants: ENTRY,
        structs,
        feeds,
    }
}

macro_rules! feeds {
    ($($metric:ident $($kind:literal)?),*) => {
        const { &[$(Feed { metric: &$metric, labels: &[$(("kind", $kind))?] }),*] }
    };
}

/// The events.
pub(super) const HOOKS: &[Hook] = &[
    hook(
        "hci_send_acl",
        &["hci_chan", "hci_conn"],
        feeds!(QUEUE_TIME "acl", QUEUE_TIME "le"),
    ),
    hook("hci_send_sco", &["hci_conn"], feeds!(QUEUE_TIME "sco")),
    hook("hci_send_iso", &["hci_conn"], feeds!(QUEUE_TIME "iso")),
    hook(
        "hci_send_to_monitor",
        &["hci_dev", "bt_skb_cb"],
        feeds!(QUEUE_TIME, ACK_TIME, IN_FLIGHT, ACKS_UNMATCHED),
    ),
    Hook {
        variants: RETURN,
        // Without it the times of a link on which the driver refuses packets become too long.
        ..hook("hci_send_frame", &[], &[])
    },
    hook(
        "hci_conn_del",
        &["hci_conn", "hci_dev"],
        feeds!(UNACKNOWLEDGED),
    ),
    // Without it a new device goes on with the counts of the last one of its number.
    hook("hci_unregister_dev", &["hci_dev"], &[]),
];
