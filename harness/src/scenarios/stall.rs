//! Traffic that comes to a standstill: no free buffer in the controller, none in the socket.

use super::build::{acks, connected, l2cap, release, scenario, transfer};
use super::devices::await_hang_up;
use controller::AckPolicy;
use evidence::{L2capMode, Scenario, Step};

/// Buffers of the writing controller.
const SLOTS: u16 = 7;

/// The controller stops giving buffers back: the free slots go to 0, the socket's buffer fills, and
/// writes that do not wait get EAGAIN. Released, everything drains and the slots are back.
pub(super) fn stalled_controller() -> Scenario {
    let client = || "client".to_owned();
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.extend(acks(AckPolicy::OnCommand));
    steps.push(Step::SendBuffer {
        socket: client(),
        bytes: 8192,
    });
    // Takes every slot; from here on nothing leaves the host until the controller is released.
    steps.push(transfer("client", "server", u32::from(SLOTS), 107));
    steps.push(Step::FillUntilFull {
        socket: client(),
        bytes: 113,
        further: 13,
    });
    steps.extend(release(SLOTS));
    steps.push(Step::Drain {
        from: client(),
        to: "server".to_owned(),
    });
    scenario(
        "stalled-controller",
        "a controller that withholds completed packets, then releases",
        steps,
    )
}

/// The first controller gives nothing back from here on, but what it holds.
fn withhold() -> impl Iterator<Item = Step> {
    let quiet = Step::Quiet { milliseconds: 100 };
    acks(AckPolicy::OnCommand).into_iter().chain([quiet])
}

/// All slots are taken; then `client`'s buffer fills until so many writes are turned away; then everything drains.
pub(super) fn stalled(slots: u16, bytes: usize, further: u32) -> Vec<Step> {
    let (client, server) = (|| "client".to_owned(), || "server".to_owned());
    let mut steps = Vec::from_iter(withhold());
    steps.push(transfer("client", "server", u32::from(slots), bytes));
    steps.push(Step::SendBuffer {
        socket: client(),
        bytes: 8192,
    });
    steps.push(Step::FillUntilFull {
        socket: client(),
        bytes,
        further,
    });
    // At least so long the buffer stays full: longer than the writes that are turned away take, so that half of it is too short.
    steps.push(Step::Quiet { milliseconds: 431 });
    steps.extend(release(slots));
    steps.push(Step::Drain {
        from: client(),
        to: server(),
    });
    steps
}

/// So many messages arrive, and stay in the controller when all its links are lost.
pub(super) fn lost_unacknowledged(messages: u32, bytes: usize) -> Vec<Step> {
    let mut steps = Vec::from_iter(withhold());
    for _ in 0..messages {
        let (client, server) = ("client".to_owned(), "server".to_owned());
        steps.push(Step::Write {
            socket: client,
            bytes,
        });
        steps.push(Step::Read {
            socket: server,
            bytes,
        });
    }
    steps.push(Step::LoseLinks { controller: 0 });
    steps.extend(["client", "server"].map(await_hang_up));
    steps
}

/// Reads and writes that wait and are interrupted: what the kernel returns for these depends on whether they would give up some time, and
/// user space cannot tell.
///
/// Kernel: include/net/sock.h sock_intr_errno().
pub(super) fn interrupted_calls() -> Scenario {
    let interrupt = |socket: &str, writes, limited, times| Step::Interrupt {
        socket: socket.to_owned(),
        writes,
        limited,
        times,
    };
    let mut steps = stalled_controller().steps;
    let filled = |step: &Step| matches!(step, Step::FillUntilFull { .. });
    let at = steps.iter().position(filled).map_or(0, |at| at + 1);
    let waiting = [
        interrupt("client", Some(113), false, 5),
        interrupt("client", Some(113), true, 3),
        interrupt("client", None, false, 7),
        interrupt("client", None, true, 11),
    ];
    steps.splice(at..at, waiting);
    steps.push(transfer("client", "server", 17, 109));
    scenario(
        "interrupted-calls",
        "reads and writes that wait and are interrupted by signals",
        steps,
    )
}

/// A send buffer as small as audio servers set it: writers wait for it all the time.
pub(super) fn small_sndbuf() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(Step::SendBuffer {
        socket: "client".to_owned(),
        bytes: 1344,
    });
    steps.push(transfer("client", "server", 211, 607));
    scenario(
        "small-sndbuf",
        "211 messages through a send buffer of four",
        steps,
    )
}
