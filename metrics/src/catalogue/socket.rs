//! Reads and writes on Bluetooth sockets.

use super::{Family, Kind, Label, LabelValues, Metric, Unit};

const PROTO: Label = Label {
    name: "proto",
    values: LabelValues::OneOf(&["l2cap", "sco", "hci", "rfcomm", "iso"]),
    help: "protocol of the socket",
};

const ORIGIN: Label = Label {
    name: "origin",
    values: LabelValues::OneOf(&["user", "kernel"]),
    help: "user: a process on its own socket; kernel: a kernel thread, or a socket of the kernel \
           itself (RFCOMM, BNEP and HIDP over L2CAP)",
};

/// Calls by protocol, direction, result and origin.
pub static SOCKET_CALLS: Metric = Metric {
    name: "bluetooth_socket_calls_total",
    family: Family::Socket,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        PROTO,
        Label {
            name: "direction",
            values: LabelValues::OneOf(&["read", "write", "peek", "errqueue"]),
            help: "write; read; peek: a read with MSG_PEEK, which leaves the data in the queue; \
                   errqueue: a read with MSG_ERRQUEUE, which fetches time stamps",
        },
        Label {
            name: "result",
            values: LabelValues::Result,
            help: "ok, or the error's name; ERESTARTSYS is a blocking call that a signal \
                   interrupted, which the caller sees as EINTR or not at all",
        },
        ORIGIN,
    ],
    help: "Calls to sendmsg and recvmsg of Bluetooth sockets that returned",
    meaning: "One for each return of a protocol's sendmsg or recvmsg function, whatever system \
              call led there (read, write, send, recv, sendmsg, io_uring). A read that returns 0 \
              (the peer closed) is ok. A blocked call counts when it returns, not before. It does \
              not say that the data left the host: a write that is ok has filled a queue. Calls \
              that fail before the protocol is reached (bad descriptor, security module) are not \
              in it. RFCOMM terminals and BNEP network traffic make no RFCOMM or BNEP socket \
              calls; they appear as l2cap with origin kernel.",
    functions: &[
        "bluetooth:l2cap_sock_sendmsg",
        "bluetooth:l2cap_sock_recvmsg",
        "bluetooth:sco_sock_sendmsg",
        "bluetooth:sco_sock_recvmsg",
        "bluetooth:hci_sock_sendmsg",
        "bluetooth:hci_sock_recvmsg",
        "bluetooth:iso_sock_sendmsg",
        "bluetooth:iso_sock_recvmsg",
        "rfcomm:rfcomm_sock_sendmsg",
        "rfcomm:rfcomm_sock_recvmsg",
    ],
    caveats: &[
        "ISO sockets exist from kernel 6.0 on, and only while the experimental feature is enabled.",
        "Before 6.15 the kernel ignores MSG_ERRQUEUE here and delivers data; the call counts as \
         errqueue all the same.",
        "With kprobes a call that returns while all return-probe instances are taken is lost; \
         bluetooth_probe_missed_total counts these.",
    ],
};

/// Payload bytes that calls moved.
pub static SOCKET_BYTES: Metric = Metric {
    name: "bluetooth_socket_bytes_total",
    family: Family::Socket,
    kind: Kind::Counter,
    unit: Unit::Bytes,
    labels: &[
        PROTO,
        Label {
            name: "direction",
            values: LabelValues::OneOf(&["read", "write"]),
            help: "read or write",
        },
        ORIGIN,
    ],
    help: "Payload bytes that Bluetooth sockets accepted and delivered",
    meaning: "Sum of the positive return values of the calls counted as read and write by \
              bluetooth_socket_calls_total: payload as the caller sees it, without L2CAP, RFCOMM \
              or HCI headers, except on HCI sockets, whose payload is HCI packets. Peeks and \
              error-queue reads are not in it. A datagram that is cut short by a small buffer \
              counts with the bytes that were delivered, unless the caller passed MSG_TRUNC.",
    functions: SOCKET_CALLS.functions,
    caveats: &[],
};
