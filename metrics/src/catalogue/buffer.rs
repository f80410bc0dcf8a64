//! Send buffers of Bluetooth sockets.

use super::times::TIMES;
use super::{Family, Kind, Label, LabelValues, Metric, Unit};

const PROTO: Label = Label {
    name: "proto",
    values: LabelValues::OneOf(&["l2cap", "sco", "hci", "rfcomm", "iso"]),
    help: "protocol of the socket",
};

/// What occupies the buffer after each message.
pub static BUFFER_OCCUPIED: Metric = Metric {
    name: "bluetooth_socket_buffer_occupied_bytes",
    family: Family::Buffer,
    kind: Kind::Histogram {
        bounds: &[
            512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 98_304, 131_072, 212_992, 425_984,
            1_048_576, 4_194_304,
        ],
    },
    unit: Unit::Bytes,
    labels: &[PROTO],
    help: "Bytes that unsent messages occupy in a socket's send buffer, after each message",
    meaning: "sk_wmem_alloc - 1 of the socket right after memory for a message, or for a fragment of \
              one, was taken from its send buffer, the new one included. The kernel charges the \
              memory that a message takes, not its payload: a message of 100 bytes occupies some \
              800 or 1300, depending on the kernel. Memory goes back when the packet is handed to \
              the driver, so that packets in the controller or in USB requests are not in it. The \
              number of values is the number of messages and fragments that found room.",
    functions: &["vmlinux:sock_alloc_send_pskb"],
    caveats: &[
        "RFCOMM's messages occupy their socket until the kernel has copied them to the session's \
         L2CAP socket, where they are counted again, as l2cap.",
        "In enhanced retransmission mode messages occupy the buffer until the peer acknowledges them.",
    ],
};

/// The same against the limit.
pub static BUFFER_FILL: Metric = Metric {
    name: "bluetooth_socket_buffer_fill_ratio",
    family: Family::Buffer,
    kind: Kind::Histogram {
        bounds: &[5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 99, 110, 150],
    },
    unit: Unit::Percent,
    labels: &[PROTO],
    help: "Share of a socket's send buffer that unsent messages occupy, after each message",
    meaning: "bluetooth_socket_buffer_occupied_bytes divided by the limit (sk_sndbuf, which is twice \
              what SO_SNDBUF was set to), rounded down to percent. The kernel lets the last message \
              in while anything is free, so that a full buffer is at 1 or a little above. poll(2) \
              calls a socket writable below 0.5.",
    functions: BUFFER_OCCUPIED.functions,
    caveats: BUFFER_OCCUPIED.caveats,
};

/// Writes that were turned away.
pub static BUFFER_WOULD_BLOCK: Metric = Metric {
    name: "bluetooth_socket_would_block_total",
    family: Family::Buffer,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        PROTO,
        Label {
            name: "cause",
            values: LabelValues::OneOf(&["full", "suspended"]),
            help: "full: the send buffer has no room; suspended: the L2CAP channel may not send, \
                   because the peer gave no credits, or because encryption is not on yet",
        },
    ],
    help: "Writes that failed with EAGAIN, by what they would have waited for",
    meaning: "One for each time that a write which may not wait (O_NONBLOCK, MSG_DONTWAIT), or whose \
              time limit (SO_SNDTIMEO) was up, found no room or a channel that may not send. \
              Together the causes make the EAGAIN of bluetooth_socket_calls_total. Writes that \
              waited and then went on are not in it.",
    functions: &[
        "vmlinux:sock_alloc_send_pskb",
        "bluetooth:bt_sock_wait_ready",
    ],
    caveats: &[],
};

/// How long buffers stay full.
pub static BUFFER_FULL_TIME: Metric = Metric {
    name: "bluetooth_socket_buffer_full_seconds",
    family: Family::Buffer,
    kind: TIMES,
    unit: Unit::Nanoseconds,
    labels: &[PROTO],
    help: "Time from a write that found the send buffer full to the packet whose leaving made room",
    meaning: "Begins when a write, whether it waits or not, finds no room; further writes do not \
              begin anew. Ends when a packet of the socket is handed to the driver and so little \
              is left that the next write finds room. poll(2) waits longer: until half is free. A \
              socket that is closed while it is full gives no value.",
    functions: &["vmlinux:sock_alloc_send_pskb", "bluetooth:hci_send_frame"],
    caveats: &[
        "RFCOMM sockets give no values: their messages never reach a driver themselves.",
        "Channels in enhanced retransmission mode give no values while the peer's \
         acknowledgements, which make the room, are not packets of the socket.",
    ],
};
