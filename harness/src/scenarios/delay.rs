//! Controllers that take their time: the times that are measured are known from below.

use super::build::{acks, connect, connected, l2cap, listen, release, scenario, transfer};
use controller::{AckPolicy, ControllerId, Direction, Fault, FaultAction, PacketKind};
use evidence::{L2capMode, Scenario, Step};
use std::time::Duration;

/// How long the first controller keeps packets.
const KEPT_MS: u64 = 97;
/// How long packets wait in the host.
const WAIT_MS: u64 = 211;
/// How late one command is answered; the host waits for 2 s.
const LATE: Duration = Duration::from_millis(307);
/// Buffers of the first controller.
const SLOTS: u16 = 7;

/// So often are all buffers taken.
const ROUNDS: usize = 5;

/// All buffers are taken, and given back after 97 ms. The host cannot send before it has learned of it,
/// so that the free slots after each packet do not depend on timing. Kernels that can stamp the packets
/// too: a third witness, which limits the times from above.
pub(super) fn delayed_acks() -> Scenario {
    let client = || "client".to_owned();
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.extend(acks(AckPolicy::OnCommand));
    steps.push(Step::StampWrites { socket: client() });
    for _ in 0..ROUNDS {
        steps.push(transfer("client", "server", u32::from(SLOTS), 73));
        steps.push(Step::Quiet {
            milliseconds: KEPT_MS,
        });
        steps.push(Step::FlushAcks { controller: 0 });
    }
    // Until the host has learned of the last ones.
    steps.push(Step::Quiet { milliseconds: 100 });
    steps.push(Step::ReadStamps {
        socket: client(),
        controller: 0,
        packets: ROUNDS * usize::from(SLOTS),
    });
    let about = "a controller that acknowledges packets after 97 ms and more";
    scenario("delayed-acks", about, steps)
}

/// All buffers are taken; what is written then waits for 211 ms.
pub(super) fn waiting_packets() -> Scenario {
    let client = || "client".to_owned();
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.extend(acks(AckPolicy::OnCommand));
    steps.push(Step::SendBuffer {
        socket: client(),
        bytes: 16384,
    });
    steps.push(transfer("client", "server", u32::from(SLOTS), 127));
    steps.push(Step::FillUntilFull {
        socket: client(),
        bytes: 137,
        further: 3,
    });
    steps.push(Step::Quiet {
        milliseconds: WAIT_MS,
    });
    steps.extend(release(SLOTS));
    steps.push(Step::Drain {
        from: client(),
        to: "server".to_owned(),
    });
    let about = "packets that wait in the host for 211 ms";
    scenario("waiting-packets", about, steps)
}

/// The command that makes the connection is carried out and answered 307 ms late.
pub(super) fn slow_command() -> Scenario {
    let fault = Fault {
        controller: ControllerId::from_index(0),
        direction: Direction::HostToController,
        kind: PacketKind::Command,
        after: 0,
        action: FaultAction::Delay(LATE),
    };
    let steps = vec![
        listen(l2cap(L2capMode::Basic)),
        Step::Quiet { milliseconds: 100 },
        Step::Inject { fault },
        connect("client", "server"),
        transfer("client", "server", 19, 83),
    ];
    scenario(
        "slow-command",
        "a command that is answered after 307 ms",
        steps,
    )
}
