//! Devices that processes drive, in the kernel's place.

use super::devices::{act, open, scenario};
use controller::{AckPolicy, BufferSize, Profile};
use evidence::ProcessLink::{self, Acl, Cis, Le, Sco};
use evidence::{DeviceAction, HciChannel, Scenario, Step};

/// Buffers of each kind.
const SLOTS: u16 = 5;

/// Two processes drive a device each and send on links of every kind between them. Packets are in the controllers when links are ended, and when
/// one process begins anew.
pub(super) fn user_channel_links() -> Scenario {
    let mut steps = Vec::new();
    for (number, socket) in ["a", "b"].into_iter().enumerate() {
        steps.push(act(number, DeviceAction::Down));
        steps.push(open(socket, number, HciChannel::User));
        steps.push(take_over(socket, number));
    }
    steps.extend([Acl, Sco, Le, Cis].map(join));
    // 2, 4, 3 and 4 of them stay in the controller, and 2 in the other.
    steps.push(send("a", "b", Acl, (17, 101)));
    steps.push(send("a", "b", Sco, (19, 53)));
    steps.push(send("a", "b", Le, (23, 59)));
    steps.push(send("a", "b", Cis, (29, 47)));
    steps.push(send("b", "a", Acl, (7, 103)));
    steps.extend([Sco, Cis].map(part));
    steps.push(take_over("a", 0));
    steps.extend([Acl, Le].map(await_end));
    steps.extend([Le, Acl, Sco].map(join));
    steps.push(send("a", "b", Le, (31, 61)));
    steps.push(send("a", "b", Acl, (13, 107)));
    steps.push(send("a", "b", Sco, (37, 43)));
    steps.extend([Sco, Le, Acl].map(part));
    let about =
        "two processes in the kernel's place, with BR/EDR, LE, voice and streams between them";
    let mut scenario = scenario("user-channel-links", about, steps);
    scenario.controllers.iter_mut().for_each(set_buffers);
    scenario
}

/// A process in the kernel's place asks the driver itself, which knows no such command; some of its packets are cut short, and refused.
///
/// Kernel: v6.16 net/bluetooth/hci_drv.c hci_drv_process_cmd().
pub(super) fn driver_packets() -> Scenario {
    let mut steps = vec![act(1, DeviceAction::Down), open("a", 1, HciChannel::User)];
    steps.push(take_over("a", 1));
    steps.push(Step::DriverPackets {
        socket: "a".to_owned(),
        answered: 13,
        short: 5,
    });
    let about = "packets of a process to the driver itself: 13 are answered, 5 are cut short";
    scenario("driver-packets", about, steps)
}

fn set_buffers(profile: &mut Profile) {
    let size = |mtu| BufferSize {
        mtu,
        packets: SLOTS,
    };
    profile.acl = size(1021);
    profile.sco = size(60);
    profile.le = size(251);
    profile.iso = size(251);
    profile.ack = AckPolicy::Batch(SLOTS);
}

fn take_over(socket: &str, controller: usize) -> Step {
    Step::TakeOver {
        socket: socket.to_owned(),
        controller,
    }
}

fn join(link: ProcessLink) -> Step {
    let (from, to) = ("a".to_owned(), "b".to_owned());
    Step::Join { from, to, link }
}

fn part(link: ProcessLink) -> Step {
    let (from, to) = ("a".to_owned(), "b".to_owned());
    Step::Part { from, to, link }
}

fn await_end(link: ProcessLink) -> Step {
    let socket = "b".to_owned();
    Step::AwaitEnd { socket, link }
}

fn send(from: &str, to: &str, link: ProcessLink, (packets, bytes): (u32, u8)) -> Step {
    Step::SendOn {
        from: from.to_owned(),
        to: to.to_owned(),
        link,
        packets,
        bytes,
    }
}
