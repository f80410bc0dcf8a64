//! What happens to whole devices: processes beside and in place of the kernel, resets, plugs pulled.

use super::build::{self, connect, connected, l2cap, listen, transfer};
use controller::{AckPolicy, BdAddr, BufferSize, Opcode, Profile};
use evidence::{DeviceAction, HciChannel, L2capMode, Scenario, Step};
use std::time::Duration;

/// Read Local Version Information and Read BD_ADDR: harmless at any time, and never sent by the kernel in between.
pub(super) const READ_VERSION: Opcode = Opcode(0x1001);
const READ_ADDRESS: Opcode = Opcode(0x1009);

/// Peers of a controller that is gone notice soon.
pub(super) const SUPERVISION_TIMEOUT: Duration = Duration::from_millis(200);

pub(super) fn scenario(name: &str, about: &str, steps: Vec<Step>) -> Scenario {
    let mut scenario = build::scenario(name, about, steps);
    for profile in &mut scenario.controllers {
        profile.supervision_timeout = SUPERVISION_TIMEOUT;
    }
    scenario
}

pub(super) fn commands(socket: &str, opcode: Opcode, times: u32) -> Step {
    Step::HciCommands {
        socket: socket.to_owned(),
        opcode,
        times,
    }
}

pub(super) fn open(socket: &str, controller: usize, channel: HciChannel) -> Step {
    Step::OpenHci {
        socket: socket.to_owned(),
        controller,
        channel,
    }
}

pub(super) fn act(controller: usize, action: DeviceAction) -> Step {
    Step::Device { controller, action }
}

pub(super) fn await_hang_up(socket: &str) -> Step {
    Step::AwaitHangUp {
        socket: socket.to_owned(),
    }
}

pub(super) fn close(socket: &str) -> Step {
    Step::Close {
        socket: socket.to_owned(),
    }
}

/// A process sends commands beside the kernel, which goes on with its traffic; another has a device to itself.
pub(super) fn hci_raw_and_user_channel() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(open("raw", 0, HciChannel::Raw));
    steps.push(commands("raw", READ_VERSION, 11));
    steps.push(transfer("client", "server", 13, 149));
    steps.push(commands("raw", READ_ADDRESS, 3));
    // All slots are free, and are taken past the kernel, so that they are given back at once.
    steps.push(Step::Quiet { milliseconds: 100 });
    steps.push(Step::FlushAcks { controller: 0 });
    steps.push(Step::Quiet { milliseconds: 100 });
    steps.push(Step::EchoBeside {
        socket: "raw".to_owned(),
        echoes: 7,
    });
    steps.push(close("raw"));
    steps.push(act(2, DeviceAction::Down));
    steps.push(open("user", 2, HciChannel::User));
    steps.push(commands("user", READ_VERSION, 17));
    steps.push(close("user"));
    steps.push(act(2, DeviceAction::Up));
    // Again, and to stay: now the process connects. Its last packets are in the controller when it disconnects.
    steps.push(act(2, DeviceAction::Down));
    steps.push(open("user", 2, HciChannel::User));
    steps.push(Step::DriveDevice {
        socket: "user".to_owned(),
        peer: 1,
        echoes: 19,
    });
    let about = "packets of processes: beside the kernel, and in its place";
    let mut scenario = scenario("hci-raw-and-user-channel", about, steps);
    let third = BdAddr::from_wire([0x03, 0x53, 0x00, 0x5e, 0x00, 0x00]);
    scenario.controllers.push(Profile {
        acl: BufferSize {
            mtu: 1021,
            packets: 3,
        },
        ack: AckPolicy::Batch(3),
        ..Profile::dual_mode(third)
    });
    scenario
}

/// The kernel resets a controller under traffic. It forgets its links and its free slots with them, and has them again when the device
/// was down and up.
pub(super) fn controller_reset() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 19, 167));
    steps.push(act(0, DeviceAction::Reset));
    steps.push(await_hang_up("client"));
    steps.push(act(0, DeviceAction::Down));
    steps.push(act(0, DeviceAction::Up));
    // The far end has not noticed yet: it does when the supervision timeout has passed.
    steps.push(await_hang_up("server"));
    steps.push(connect("client2", "server2"));
    steps.push(transfer("client2", "server2", 23, 173));
    let about = "a device that is reset under traffic, taken down and brought up again";
    scenario("controller-reset", about, steps)
}

/// The controller says that it is broken: the kernel closes its device and opens it again.
pub(super) fn hardware_error() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 29, 179));
    steps.push(Step::HardwareError {
        controller: 0,
        code: 0x42,
    });
    steps.push(await_hang_up("client"));
    steps.push(act(0, DeviceAction::Up));
    steps.push(await_hang_up("server"));
    steps.push(connect("client2", "server2"));
    steps.push(transfer("client2", "server2", 31, 181));
    let about = "a controller that reports a hardware error, and is started anew by the kernel";
    scenario("hardware-error", about, steps)
}

/// How often the controller is pulled out.
const REPLUGS: usize = 20;

/// A controller comes and goes, each time with traffic; its device has the same name each time, and starts from nothing.
pub(super) fn unplug_replug() -> Scenario {
    let mut steps = vec![listen(l2cap(L2capMode::Basic))];
    for _ in 0..REPLUGS {
        steps.push(connect("client", "server"));
        steps.push(transfer("client", "server", 5, 191));
        steps.push(Step::Unplug { controller: 0 });
        for socket in ["client", "server"] {
            steps.push(await_hang_up(socket));
            steps.push(close(socket));
        }
        steps.push(Step::Plug { controller: 0 });
    }
    steps.push(connect("client", "server"));
    steps.push(transfer("client", "server", 37, 193));
    let about = "a controller that is pulled out 20 times under traffic and put in again";
    scenario("unplug-replug", about, steps)
}

/// A device that has gone leaves no series.
pub(super) fn unplug() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 41, 197));
    steps.push(Step::Unplug { controller: 0 });
    steps.push(await_hang_up("client"));
    scenario("unplug", "a device that is gone at the end", steps)
}
