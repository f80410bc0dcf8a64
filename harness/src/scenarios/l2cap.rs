//! L2CAP over BR/EDR.

use super::build::{
    DEFAULT_MTU, EAGAIN, ECONNRESET, EMSGSIZE, ENOTCONN, PSM, connect, connected, failing_write,
    l2cap, listen, scenario, traffic, transfer, two_controllers,
};
use evidence::{Feature, L2capMode, Scenario, Service, Step};

/// Traffic both ways over one channel, and a write that is too long.
///
/// Kernel: l2cap_core.c l2cap_chan_send() refuses what is longer than the outgoing MTU.
pub(super) fn seqpacket() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 23, 101));
    steps.push(transfer("server", "client", 29, 307));
    steps.push(failing_write("client", DEFAULT_MTU + 1, EMSGSIZE));
    scenario(
        "l2cap-seqpacket",
        "messages both ways over an L2CAP SOCK_SEQPACKET channel, one write too long",
        steps,
    )
}

/// Enhanced retransmission mode, a byte stream; the peers acknowledge within 200 ms, which is
/// awaited.
pub(super) fn stream_and_ertm() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::EnhancedRetransmission));
    steps.push(transfer("client", "server", 31, 211));
    steps.push(transfer("server", "client", 37, 103));
    steps.push(Step::Quiet { milliseconds: 500 });
    scenario(
        "l2cap-stream-and-ertm",
        "a byte stream both ways over L2CAP enhanced retransmission mode",
        steps,
    )
}

/// Messages that are cut into many ACL packets.
pub(super) fn fragmented() -> Scenario {
    let service = Service::L2cap {
        psm: PSM,
        mode: L2capMode::Basic,
        mtu: Some(5003),
    };
    let mut steps = connected(service);
    steps.push(transfer("client", "server", 17, 4999));
    steps.push(transfer("server", "client", 13, 4801));
    Scenario {
        controllers: two_controllers([3, 11], 193),
        ..scenario("l2cap-fragmented", "messages of 25 ACL packets each", steps)
    }
}

/// So many channels at once.
const THREADS: usize = 8;
/// More than 10 000 messages altogether.
const MESSAGES: u32 = 1301;
/// Lengths of the messages, one per channel.
const LENGTHS: [usize; THREADS] = [41, 43, 47, 53, 59, 61, 67, 71];

/// Eight channels, each with a writing and a reading thread: no update may be lost.
pub(super) fn threads() -> Scenario {
    let mut steps = vec![listen(l2cap(L2capMode::Basic))];
    let mut streams = Vec::new();
    for (number, bytes) in LENGTHS.into_iter().enumerate() {
        let (client, server) = (format!("client{number}"), format!("server{number}"));
        steps.push(connect(&client, &server));
        let upwards = number % 2 == 0;
        let (from, to) = if upwards {
            (&client, &server)
        } else {
            (&server, &client)
        };
        streams.push(traffic(from, to, MESSAGES, bytes));
    }
    steps.push(Step::Transfer { traffic: streams });
    scenario(
        "l2cap-threads",
        "10 408 messages over eight channels at once",
        steps,
    )
}

/// Peeks count apart from reads and take nothing; so do reads of the error queue.
pub(super) fn peek_and_errqueue() -> Scenario {
    let server = || "server".to_owned();
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(Step::EmptyErrorQueue {
        socket: server(),
        times: 11,
    });
    steps.push(Step::Write {
        socket: "client".to_owned(),
        bytes: 109,
    });
    steps.push(Step::Peek {
        socket: server(),
        times: 19,
    });
    steps.push(Step::Read {
        socket: server(),
        bytes: 109,
    });
    steps.push(Step::FailingRead {
        socket: server(),
        errno: EAGAIN,
    });
    scenario(
        "peek-and-errqueue",
        "a message that is looked at 19 times and read once, and 11 reads of an empty error queue",
        steps,
    )
}

/// The kernel reports each message twice: when it is handed to the driver, and when the controller is done with it.
pub(super) fn tx_timestamps() -> Scenario {
    let client = || "client".to_owned();
    let mut steps = vec![Step::Require {
        feature: Feature::TxTimestamps,
    }];
    steps.extend(connected(l2cap(L2capMode::Basic)));
    steps.push(Step::Timestamps { socket: client() });
    steps.push(transfer("client", "server", 17, 127));
    steps.push(Step::FlushAcks { controller: 0 });
    steps.push(Step::ReadErrorQueue {
        socket: client(),
        times: 2 * 17,
    });
    steps.push(Step::EmptyErrorQueue {
        socket: client(),
        times: 5,
    });
    scenario(
        "tx-timestamps",
        "17 messages that the kernel reports twice each, through the error queue",
        steps,
    )
}

/// The far end goes while this one still writes. Another channel keeps the link up.
pub(super) fn disconnect() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(connect("client2", "server2"));
    steps.push(transfer("client", "server", 47, 131));
    steps.push(Step::Close {
        socket: "server".to_owned(),
    });
    steps.push(Step::AwaitHangUp {
        socket: "client".to_owned(),
    });
    steps.push(failing_write("client", 101, ECONNRESET));
    steps.push(failing_write("client", 101, ENOTCONN));
    steps.push(transfer("client2", "server2", 7, 89));
    scenario(
        "disconnect-mid-traffic",
        "a peer that closes, and writes that fail from then on",
        steps,
    )
}

/// Messages as long as the MTU allows, one way, as the last step.
pub(super) fn throughput(messages: u32) -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", messages, DEFAULT_MTU));
    scenario("throughput", "a stream of messages", steps)
}
