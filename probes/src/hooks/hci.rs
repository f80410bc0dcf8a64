//! The HCI family: packets both ways, and the kernel's functions for what goes wrong.

use super::{ENTRY, Feed, Hook, RETURN};
use metrics::catalogue::{
    ANSWERS_UNMATCHED, BYTES, COMMAND_FAILURES, COMMAND_TIME, COMMANDS, COMMANDS_PENDING,
    COMMANDS_UNANSWERED, ERRORS, EVENTS, LE_EVENTS, PACKETS, SEND_FAILURES,
};

macro_rules! feeds {
    ($($metric:ident $($error:literal)?),*) => {
        const { &[$(Feed { metric: &$metric, labels: &[$(("error", $error))?] }),*] }
    };
}

const fn error_hook(function: &'static str, feeds: &'static [Feed]) -> Hook {
    Hook {
        event: function,
        module: "bluetooth",
        symbol: function,
        variants: ENTRY,
        structs: &["hci_dev"],
        feeds,
    }
}

/// The events.
pub(super) const HOOKS: &[Hook] = &[
    Hook {
        event: "hci_send_to_monitor",
        module: "bluetooth",
        symbol: "hci_send_to_monitor",
        variants: ENTRY,
        structs: &["hci_dev", "bt_skb_cb"],
        feeds: feeds!(
            PACKETS,
            BYTES,
            COMMANDS,
            EVENTS,
            LE_EVENTS,
            COMMAND_TIME,
            COMMANDS_PENDING,
            ANSWERS_UNMATCHED,
            COMMAND_FAILURES,
            ERRORS "hardware_error"
        ),
    },
    Hook {
        event: "hci_send_frame",
        module: "bluetooth",
        symbol: "hci_send_frame",
        variants: RETURN,
        structs: &[],
        feeds: feeds!(SEND_FAILURES),
    },
    error_hook(
        "hci_cmd_timeout",
        feeds!(ERRORS "command_timeout", COMMANDS_UNANSWERED),
    ),
    error_hook("hci_ncmd_timeout", feeds!(ERRORS "command_credit_timeout")),
    error_hook("hci_error_reset", feeds!(ERRORS "reset")),
    Hook {
        event: "hci_unregister_dev",
        module: "bluetooth",
        symbol: "hci_unregister_dev",
        variants: ENTRY,
        structs: &["hci_dev"],
        // Without it a new device goes on with the counts of the last one of its number.
        feeds: &[],
    },
];
