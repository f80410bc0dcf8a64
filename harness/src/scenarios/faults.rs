//! Controllers that misbehave: the kernel survives, and the metrics say what happened.

use super::build::{self, connect, connected, l2cap, transfer};
use super::devices::{act, await_hang_up, commands, open};
use controller::{ControllerId, Direction, Fault, FaultAction, Opcode, PacketKind, Status};
use evidence::{DeviceAction, HciChannel, L2capMode, Scenario, Step};
use std::time::Duration;

const TO_CONTROLLER: (usize, Direction) = (0, Direction::HostToController);
const TO_HOST: (usize, Direction) = (0, Direction::ControllerToHost);

/// Peers of a link that is lost notice soon.
const SUPERVISION_TIMEOUT: Duration = Duration::from_millis(200);

fn fault(
    (controller, direction): (usize, Direction),
    kind: PacketKind,
    after: u64,
    action: FaultAction,
) -> Step {
    let controller = ControllerId::from_index(controller);
    Step::Inject {
        fault: Fault {
            controller,
            direction,
            kind,
            after,
            action,
        },
    }
}

fn write(bytes: usize) -> Step {
    Step::Write {
        socket: "client".to_owned(),
        bytes,
    }
}

fn read(bytes: usize) -> Step {
    Step::Read {
        socket: "server".to_owned(),
        bytes,
    }
}

fn quiet() -> Step {
    Step::Quiet { milliseconds: 100 }
}

/// The controller acknowledges packets that nobody sent. The kernel never counts more than the controller has said that it holds.
pub(super) fn completes_too_many() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(quiet());
    steps.push(Step::FlushAcks { controller: 0 });
    steps.push(quiet());
    steps.push(Step::AckExtra {
        controller: 0,
        packets: 13,
    });
    steps.push(quiet());
    steps.push(transfer("client", "server", 43, 199));
    let about = "a controller that reports 13 packets as completed that were never sent";
    build::scenario("completes-too-many", about, steps)
}

/// One acknowledgement too many, which kernels that count each link's packets without looking take for 2^32 - 1 packets under way: they
/// never choose the link again, until one more comes. Others go on at once. What is written arrives in either case, and the times tell which.
///
/// Kernel: net/bluetooth/hci_event.c hci_num_comp_pkts_evt(), hci_core.c hci_chan_sent().
pub(super) fn completes_one_too_many() -> Scenario {
    let surplus = Step::AckExtra {
        controller: 0,
        packets: 1,
    };
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(quiet());
    steps.push(Step::FlushAcks { controller: 0 });
    steps.push(quiet());
    steps.push(surplus.clone());
    steps.push(quiet());
    steps.extend((0..5).map(|_| write(193)));
    steps.push(Step::Quiet { milliseconds: 223 });
    steps.push(Step::FlushAcks { controller: 0 });
    steps.push(quiet());
    steps.push(surplus);
    steps.extend((0..5).map(|_| read(193)));
    let about = "a controller that reports one packet as completed that was never sent";
    build::scenario("completes-one-too-many", about, steps)
}

/// Packets that are lost, doubled and overtaken on their way to the peer.
pub(super) fn unreliable_air() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(quiet());
    let late = Duration::from_millis(60);
    for (bytes, action, arrives) in [
        (101, FaultAction::Drop, 0),
        (103, FaultAction::Duplicate, 2),
        (107, FaultAction::Delay(late), 1),
    ] {
        steps.push(fault(TO_CONTROLLER, PacketKind::Acl, 0, action));
        steps.push(write(bytes));
        steps.extend((0..arrives).map(|_| read(bytes)));
        steps.push(quiet());
    }
    steps.push(transfer("client", "server", 47, 211));
    let about = "a packet that is lost, one that arrives twice, and one that arrives late";
    build::scenario("unreliable-air", about, steps)
}

/// Read Local Version Information.
const READ_VERSION: Opcode = Opcode(0x1001);

/// Commands that are answered late, twice, and with an error: with a process that asks, and the kernel none the wiser.
pub(super) fn command_faults() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(quiet());
    steps.push(Step::OpenHci {
        socket: "raw".to_owned(),
        controller: 0,
        channel: HciChannel::Raw,
    });
    let late = Duration::from_millis(500);
    for (times, action) in [
        (3, FaultAction::Delay(late)),
        (5, FaultAction::Error(Status::UNSUPPORTED)),
        (7, FaultAction::Duplicate),
    ] {
        steps.push(fault(TO_CONTROLLER, PacketKind::Command, 1, action));
        steps.push(Step::HciCommands {
            socket: "raw".to_owned(),
            opcode: READ_VERSION,
            times,
        });
        steps.push(quiet());
    }
    steps.push(transfer("client", "server", 53, 223));
    let about = "commands that are answered late, with an error, and twice";
    build::scenario("command-faults", about, steps)
}

/// A command that is never answered: the kernel gives up after 2 s and goes on.
pub(super) fn command_never_answered() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 59, 227));
    steps.push(quiet());
    steps.push(Step::OpenHci {
        socket: "raw".to_owned(),
        controller: 0,
        channel: HciChannel::Raw,
    });
    let action = FaultAction::Drop;
    steps.push(fault(TO_CONTROLLER, PacketKind::Command, 0, action));
    steps.push(Step::HciSend {
        socket: "raw".to_owned(),
        opcode: READ_VERSION,
    });
    steps.push(Step::HciCommands {
        socket: "raw".to_owned(),
        opcode: READ_VERSION,
        times: 11,
    });
    steps.push(transfer("client", "server", 61, 229));
    let about = "a command that is never answered";
    build::scenario("command-never-answered", about, steps)
}

/// No command may be sent until the controller says so. Three times it does soon, and then not: kernels that watch for it take the device down
/// and up after 4 s, others wait until somebody else does.
///
/// Kernel: v5.15 net/bluetooth/hci_core.c hci_ncmd_timeout(), hci_event.c handle_cmd_cnt_and_timer().
pub(super) fn command_credits_withheld() -> Scenario {
    let ask = |times| commands("raw", READ_VERSION, times);
    let withhold = || {
        let action = FaultAction::CommandCredits(0);
        fault(TO_CONTROLLER, PacketKind::Command, 0, action)
    };
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 89, 263));
    steps.push(quiet());
    steps.push(open("raw", 0, HciChannel::Raw));
    for _ in 0..3 {
        steps.extend([withhold(), ask(1)]);
        // Command Status of no command: one may be sent.
        steps.push(Step::SendToHost {
            controller: 0,
            packet: vec![4, 0x0f, 4, 0, 1, 0, 0],
        });
        steps.push(ask(2));
    }
    steps.extend([withhold(), ask(1)]);
    // It waits in the host for good.
    steps.push(Step::HciSend {
        socket: "raw".to_owned(),
        opcode: READ_VERSION,
    });
    let milliseconds = 4700;
    steps.push(Step::Quiet { milliseconds });
    steps.extend([act(0, DeviceAction::Down), act(0, DeviceAction::Up)]);
    steps.extend([await_hang_up("client"), await_hang_up("server")]);
    steps.push(connect("client2", "server2"));
    steps.push(transfer("client2", "server2", 97, 269));
    let about = "a controller that takes no commands for a while, three times, and then for good";
    let mut scenario = build::scenario("command-credits-withheld", about, steps);
    for profile in &mut scenario.controllers {
        profile.supervision_timeout = SUPERVISION_TIMEOUT;
    }
    scenario
}

/// Completed packets of a link that there is not: the kernel gives nobody a slot for them.
pub(super) fn completes_unknown_link() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 101, 271));
    steps.push(quiet());
    for packets in [3, 5, 11] {
        steps.push(Step::SendToHost {
            controller: 0,
            packet: vec![4, 0x13, 5, 1, 0x77, 0x07, packets, 0],
        });
    }
    steps.push(quiet());
    steps.push(transfer("client", "server", 103, 277));
    let about = "a controller that reports 19 packets as completed of a link that there is not";
    build::scenario("completes-unknown-link", about, steps)
}

/// Events that no controller sends: truncated, over-long, unknown, empty; and data for links that are not there.
pub(super) fn garbage_events() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 67, 233));
    steps.push(quiet());
    let packets: &[&[u8]] = &[
        // Unknown event codes, with and without parameters.
        &[4, 0x60, 3, 1, 2, 3],
        &[4, 0x00, 0],
        // Disconnection Complete and Connection Complete, cut short.
        &[4, 0x05, 4, 0],
        &[4, 0x03, 11, 0, 1],
        // Command Complete of no command, and one that is too short for its opcode.
        &[4, 0x0e, 3, 1, 0xff, 0xff],
        &[4, 0x0e, 1, 1],
        // An LE event without a subevent, and one that is not known.
        &[4, 0x3e, 0],
        &[4, 0x3e, 2, 0x7f, 0],
        // Disconnection Complete of a link that is not there; its header announces less than comes.
        &[4, 0x05, 4, 0, 0x77, 0x07, 0x13, 9, 9, 9],
        // Inquiry results of which none comes.
        &[4, 0x02, 1, 9],
        &[4, 0x22, 1, 7],
    ];
    for packet in packets {
        steps.push(Step::SendToHost {
            controller: 0,
            packet: packet.to_vec(),
        });
    }
    steps.push(quiet());
    steps.push(transfer("server", "client", 71, 239));
    let about = "events that no controller sends: cut short, too long, unknown, of nothing";
    build::scenario("garbage-events", about, steps)
}

/// Real events that are spoiled on their way to the host.
pub(super) fn spoiled_events() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(quiet());
    steps.push(Step::OpenHci {
        socket: "raw".to_owned(),
        controller: 0,
        channel: HciChannel::Raw,
    });
    // Command Complete of Read Local Version Information has 14 bytes: the code, the length, 12 more.
    for (times, action) in [(3, FaultAction::Extend(5)), (5, FaultAction::Truncate(9))] {
        steps.push(fault(TO_HOST, PacketKind::Event, 1, action));
        steps.push(Step::HciCommands {
            socket: "raw".to_owned(),
            opcode: READ_VERSION,
            times,
        });
    }
    steps.push(transfer("client", "server", 73, 241));
    let about = "events that are followed by bytes of nothing, or cut off";
    build::scenario("spoiled-events", about, steps)
}

/// A link that is lost: both ends notice when the supervision timeout has passed; then there is a new one.
pub(super) fn link_loss() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 79, 251));
    steps.push(Step::LoseLinks { controller: 0 });
    for socket in ["client", "server"] {
        let socket = socket.to_owned();
        steps.push(Step::AwaitHangUp { socket });
    }
    steps.push(build::failing_write("client", 101, build::ETIMEDOUT));
    steps.push(build::failing_write("client", 101, build::ENOTCONN));
    steps.push(connect("client2", "server2"));
    steps.push(transfer("client2", "server2", 83, 257));
    let about = "a link that is lost under traffic, and a new one";
    let mut scenario = build::scenario("link-loss", about, steps);
    for profile in &mut scenario.controllers {
        profile.supervision_timeout = SUPERVISION_TIMEOUT;
    }
    scenario
}
