//! The socket family: the calls of each protocol.

use super::{Feed, Hook};
use metrics::AttachKind::{self, Fexit, Kprobe, Kretprobe};
use metrics::catalogue::{SOCKET_BYTES, SOCKET_CALLS};

/// For both calls of a protocol.
const CALL: &[&[AttachKind]] = &[&[Fexit], &[Kprobe, Kretprobe]];
/// Programs at trampolines keep a module from being unloaded, which this one may be at any time.
const CALL_OF_UNLOADABLE: &[&[AttachKind]] = &[&[Kprobe, Kretprobe], &[Fexit]];

macro_rules! socket_hooks {
    ($($module:literal $proto:literal $variants:ident),*) => { &[$(
        Hook {
            event: concat!($proto, "_sock_sendmsg"),
            module: $module,
            symbol: concat!($proto, "_sock_sendmsg"),
            variants: $variants,
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
            variants: $variants,
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
    "bluetooth" "l2cap" CALL,
    "bluetooth" "sco" CALL,
    "bluetooth" "hci" CALL,
    "rfcomm" "rfcomm" CALL_OF_UNLOADABLE,
    "bluetooth" "iso" CALL
);
