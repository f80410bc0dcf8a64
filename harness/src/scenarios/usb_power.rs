//! USB dongles that are suspended, reset with URBs under way, pulled out under traffic; and one beside a controller on vhci.

use super::build::{
    ECONNABORTED, ENOTCONN, connect, connected, failing_write, l2cap, listen, on_usb, scenario,
    transfer,
};
use super::devices::{
    READ_VERSION, SUPERVISION_TIMEOUT, act, await_hang_up, close, commands, open,
};
use controller::transport::usbredir::{UsbEndpoint, UsbFault, UsbFaultAction};
use controller::{AckPolicy, ControllerId};
use evidence::{DeviceAction, HciChannel, L2capMode, Scenario, Step, Transport};

/// ACL buffers of the first controller.
const SLOTS: u16 = 7;

/// Commands that find the device suspended wait for it to resume; the last is that of a connection. (With one, newer kernels do not suspend.)
pub(super) fn autosuspend() -> Scenario {
    let mut steps = vec![listen(l2cap(L2capMode::Basic))];
    steps.push(open("raw", 0, HciChannel::Raw));
    let suspend = Step::Suspend { controller: 0 };
    for _ in 0..6 {
        steps.push(suspend.clone());
        steps.push(commands("raw", READ_VERSION, 1));
    }
    steps.push(suspend);
    steps.push(connect("client", "server"));
    steps.push(Step::Resume { controller: 0 });
    steps.push(transfer("client", "server", 19, 239));
    let about = "six commands and a connection for a dongle that is suspended each time";
    let mut scenario = scenario("usb-autosuspend", about, steps);
    scenario.transports = vec![Transport::UsbSuspendable, Transport::Usb];
    scenario
}

/// From here on the bulk endpoint takes nothing: as many URBs are under way as the controller has room for, and the socket is full.
fn stuck(bytes: usize, further: u32) -> Vec<Step> {
    let never = Step::UsbFault {
        fault: UsbFault {
            controller: ControllerId::from_index(0),
            endpoint: UsbEndpoint::AclOut,
            after: 0,
            times: 1,
            action: UsbFaultAction::Never,
        },
    };
    let socket = || "client".to_owned();
    let mut steps = vec![
        Step::Quiet { milliseconds: 100 },
        Step::Acks {
            controller: 0,
            policy: AckPolicy::OnCommand,
        },
        Step::FlushAcks { controller: 0 },
        Step::Quiet { milliseconds: 100 },
        never,
    ];
    for _ in 0..SLOTS {
        let socket = socket();
        steps.push(Step::Write { socket, bytes });
    }
    steps.push(Step::AwaitSent { socket: socket() });
    steps.push(Step::FillUntilFull {
        socket: socket(),
        bytes,
        further,
    });
    steps
}

/// The controller gives buffers back as those of other scenarios do.
fn acks() -> Step {
    let policy = AckPolicy::Batch(SLOTS);
    Step::Acks {
        controller: 0,
        policy,
    }
}

/// Both ends notice, and the sockets go.
fn hang_up() -> Vec<Step> {
    let ends = ["client", "server"];
    let both = ends.map(|socket| [await_hang_up(socket), close(socket)]);
    both.concat()
}

/// The kernel takes seven URBs back that the dongle never took.
pub(super) fn reset_in_flight() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 11, 241));
    steps.extend(stuck(251, 5));
    steps.push(act(0, DeviceAction::Reset));
    steps.push(await_hang_up("client"));
    steps.push(close("client"));
    steps.push(act(0, DeviceAction::Down));
    steps.push(act(0, DeviceAction::Up));
    steps.extend([await_hang_up("server"), close("server"), acks()]);
    steps.push(connect("client2", "server2"));
    steps.push(transfer("client2", "server2", 13, 257));
    usb(
        "usb-reset-in-flight",
        "a device that is reset while seven URBs are under way that its dongle never takes",
        steps,
    )
}

/// The dongle goes while seven URBs are under way and a write sleeps; it comes back; then the other goes.
pub(super) fn unplug_mid_traffic() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 17, 263));
    steps.extend(stuck(269, 3));
    steps.push(Step::UnplugUnderWrite {
        controller: 0,
        socket: "client".to_owned(),
        bytes: 269,
        errno: ECONNABORTED,
    });
    for _ in 0..2 {
        steps.push(failing_write("client", 271, ENOTCONN));
    }
    steps.extend(hang_up());
    steps.push(Step::Plug { controller: 0 });
    steps.push(acks());
    steps.push(connect("client", "server"));
    steps.push(transfer("client", "server", 23, 277));
    steps.push(Step::Unplug { controller: 1 });
    steps.extend(hang_up());
    usb(
        "usb-unplug-mid-traffic",
        "a dongle that is pulled out while seven URBs are under way and a write sleeps, and put in again; then the other",
        steps,
    )
}

/// The driver is taken out of the kernel under two dongles, and put in again, while the probes are attached: it has the dongles again. What
/// counts is counted after they were pulled out and put in.
pub(super) fn driver_reload() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 29, 281));
    // Sockets keep a device's number taken.
    steps.extend([close("client"), await_hang_up("server"), close("server")]);
    steps.push(Step::ReloadModule {
        module: "btusb".to_owned(),
        unseen: false,
    });
    steps.extend([act(0, DeviceAction::Up), act(1, DeviceAction::Up)]);
    steps.push(connect("client", "server"));
    steps.push(transfer("client", "server", 31, 283));
    steps.push(Step::Quiet { milliseconds: 100 });
    for controller in [0, 1] {
        steps.push(Step::Unplug { controller });
    }
    steps.extend(hang_up());
    for controller in [0, 1] {
        steps.push(Step::Plug { controller });
    }
    steps.push(connect("client", "server"));
    steps.push(transfer("client", "server", 37, 293));
    usb(
        "usb-driver-reload",
        "two dongles whose driver is unloaded and loaded again under them and under the probes",
        steps,
    )
}

/// One controller on USB, the other on vhci: packets of one go through URBs, those of the other do not.
pub(super) fn beside_vhci() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 41, 307));
    steps.push(transfer("server", "client", 43, 311));
    let about = "messages both ways between a USB dongle and a controller on vhci";
    let mut scenario = scenario("usb-and-vhci", about, steps);
    scenario.transports = vec![Transport::Usb, Transport::Vhci];
    scenario
}

fn usb(name: &str, about: &str, steps: Vec<Step>) -> Scenario {
    let mut scenario = on_usb(scenario(name, about, steps));
    for profile in &mut scenario.controllers {
        profile.supervision_timeout = SUPERVISION_TIMEOUT;
    }
    scenario
}
