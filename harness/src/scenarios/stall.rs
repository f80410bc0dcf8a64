//! Traffic that comes to a standstill: no free buffer in the controller, none in the socket.

use super::build::{connected, l2cap, scenario, transfer};
use controller::AckPolicy;
use evidence::{L2capMode, Scenario, Step};

/// Buffers of the writing controller.
const SLOTS: u16 = 7;

/// The controller stops giving buffers back: the free slots go to 0, the socket's buffer fills, and
/// writes that do not wait get EAGAIN. Released, everything drains and the slots are back.
pub(super) fn stalled_controller() -> Scenario {
    let client = || "client".to_owned();
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(Step::Quiet { milliseconds: 100 });
    steps.push(Step::Acks {
        controller: 0,
        policy: AckPolicy::OnCommand,
    });
    steps.push(Step::FlushAcks { controller: 0 });
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
    steps.push(Step::Acks {
        controller: 0,
        policy: AckPolicy::Batch(SLOTS),
    });
    steps.push(Step::FlushAcks { controller: 0 });
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
