//! The buffer family: memory for messages, channels that may not send, packets that give it back.

use super::{ENTRY, Feed, Hook};
use crate::surface::VMLINUX;
use metrics::AttachKind::{self, Fentry, Fexit, Kprobe, Kretprobe};
use metrics::catalogue::{BUFFER_FILL, BUFFER_FULL_TIME, BUFFER_OCCUPIED, BUFFER_WOULD_BLOCK};

/// Begin and end of a call.
const BOTH: &[&[AttachKind]] = &[&[Fentry, Fexit], &[Kprobe, Kretprobe]];
/// The end of a call with its arguments.
const END: &[&[AttachKind]] = &[&[Fexit], &[Kprobe, Kretprobe]];

/// The events.
pub(super) const HOOKS: &[Hook] = &[
    Hook {
        event: "sock_alloc_send_pskb",
        module: VMLINUX,
        symbol: "sock_alloc_send_pskb",
        variants: BOTH,
        structs: &["sock"],
        feeds: &[
            Feed {
                metric: &BUFFER_OCCUPIED,
                labels: &[],
            },
            Feed {
                metric: &BUFFER_FILL,
                labels: &[],
            },
            Feed {
                metric: &BUFFER_WOULD_BLOCK,
                labels: &[("cause", "full")],
            },
        ],
    },
    Hook {
        event: "bt_sock_wait_ready",
        module: "bluetooth",
        symbol: "bt_sock_wait_ready",
        variants: END,
        structs: &["sock"],
        feeds: &[Feed {
            metric: &BUFFER_WOULD_BLOCK,
            labels: &[("cause", "suspended")],
        }],
    },
    Hook {
        event: "hci_send_frame",
        module: "bluetooth",
        symbol: "hci_send_frame",
        variants: ENTRY,
        structs: &["sock", "sk_buff"],
        feeds: &[Feed {
            metric: &BUFFER_FULL_TIME,
            labels: &[],
        }],
    },
    Hook {
        event: "bt_sock_unlink",
        module: "bluetooth",
        symbol: "bt_sock_unlink",
        variants: ENTRY,
        structs: &[],
        // Without it the time of a socket that was closed while it was full goes to the next one at
        // its address.
        feeds: &[],
    },
];
