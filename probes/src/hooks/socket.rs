//! The socket family: the calls of each protocol.

use super::{Feed, Hook};
use metrics::AttachKind::{Fexit, Kprobe, Kretprobe};
use metrics::catalogue::{SOCKET_BYTES, SOCKET_CALLS};

macro_rules! socket_hooks {
    ($($module:literal $proto:literal),*) => { &[$(
        Hook {
            event: concat!($proto, "_sock_sendmsg"),
            module: $module,
            symbol: concat!($proto, "_sock_sendmsg"),
            variants: &[&[Fexit], &[Kprobe, Kretprobe]],
            structs: &[],
            feeds: &[
                Feed { metric: &SOCKET_CALLS, labels: &[("proto", $proto), ("direction", "write")] },
                Feed { metric: &SOCKET_BYTES, labels: &[("proto", $proto), ("direction", "write")] },
            ],
        },
        Hook {
            event: concat!($proto, "_sock_recvmsg"),
            module: $module,
            symbol: concat!($proto, "_sock_recvmsg"),
            variants: &[&[Fexit], &[Kprobe, Kretprobe]],
            structs: &[],
            feeds: &[
                Feed { metric: &SOCKET_CALLS, labels: &[("proto", $proto), ("direction", "read")] },
                Feed { metric: &SOCKET_CALLS, labels: &[("proto", $proto), ("direction", "peek")] },
                Feed { metric: &SOCKET_CALLS, labels: &[("proto", $proto), ("direction", "errqueue")] },
                Feed { metric: &SOCKET_BYTES, labels: &[("proto", $proto), ("direction", "read")] },
            ],
        },
    )*] };
}

/// The events.
pub(super) const HOOKS: &[Hook] = socket_hooks!(
    "bluetooth" "l2cap", "bluetooth" "sco", "bluetooth" "hci", "rfcomm" "rfcomm", "bluetooth" "iso"
);
