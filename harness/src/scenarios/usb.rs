//! Controllers as USB dongles: packets go through the kernel's own drivers for host controller and dongle.

use super::build::{connect, connected, l2cap, listen, on_usb, scenario, traffic, transfer};
use super::devices::open;
use super::le;
use controller::transport::usbredir::{UsbEndpoint, UsbFault, UsbFaultAction};
use controller::{AckPolicy, ControllerId};
use evidence::{HciChannel, L2capMode, Scenario, Service, Step, Voice};
use std::time::Duration;

/// Voice that the controllers code.
const CVSD: Service = Service::Sco { voice: Voice::Cvsd };

/// Voice that the hosts code.
const MSBC: Service = Service::Sco {
    voice: Voice::Transparent,
};

/// Frames as audio servers write them, bytes: of 16-bit CVSD, and of mSBC with its header and padding.
const CVSD_FRAME: usize = 48;
const MSBC_FRAME: usize = 60;

fn usb(name: &str, about: &str, steps: Vec<Step>) -> Scenario {
    on_usb(scenario(name, about, steps))
}

/// Traffic both ways over bulk endpoints.
pub(super) fn l2cap_over_bulk() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 59, 127));
    steps.push(transfer("server", "client", 61, 331));
    usb(
        "usb-l2cap",
        "messages both ways over L2CAP between two USB dongles",
        steps,
    )
}

/// Messages of several PDUs each over LE, which shares the bulk endpoints with BR/EDR.
pub(super) fn le_coc() -> Scenario {
    let about = "messages both ways over an LE credit-based channel between two USB dongles";
    on_usb(le::coc("usb-le-coc", about, [67, 71]))
}

/// Traffic through both dongles in both directions at once.
pub(super) fn two_dongles() -> Scenario {
    let mut steps = vec![listen(l2cap(L2capMode::Basic))];
    steps.push(connect("client", "server"));
    steps.push(connect("client2", "server2"));
    steps.push(Step::Transfer {
        traffic: vec![
            traffic("client", "server", 173, 97),
            traffic("server2", "client2", 179, 89),
        ],
    });
    usb(
        "usb-two-dongles",
        "two streams through two USB dongles at once, one each way",
        steps,
    )
}

/// Voice over isochronous endpoints, both ways. The link is closed at the end, so that the streams stand still when they are counted.
fn sco_over_isochronous(
    name: &str,
    about: &str,
    service: Service,
    frames: [u32; 2],
    bytes: usize,
) -> Scenario {
    let mut steps = voice(service);
    steps.push(transfer("client", "server", frames[0], bytes));
    steps.push(transfer("server", "client", frames[1], bytes));
    steps.extend(hang_up("client", "server"));
    usb(name, about, steps)
}

/// mSBC: alternate setting 6, one packet a frame. The far end accepts after a deferred set-up.
pub(super) fn sco_msbc() -> Scenario {
    let about = "frames of 60 bytes both ways over eSCO between two USB dongles, transparent";
    sco_over_isochronous("usb-sco-msbc", about, MSBC, [127, 131], MSBC_FRAME)
}

/// CVSD: alternate setting 2, three packets a frame.
pub(super) fn sco_cvsd() -> Scenario {
    let about = "frames of 48 bytes both ways over eSCO between two USB dongles, CVSD";
    sco_over_isochronous("usb-sco-cvsd", about, CVSD, [137, 139], CVSD_FRAME)
}

/// Voice whose packets go wrong now and then: an error costs a packet of its own here, a short one nothing.
pub(super) fn sco_faults() -> Scenario {
    let mut steps = voice(CVSD);
    steps.push(bus_fault(
        1,
        UsbEndpoint::ScoIn,
        5,
        7,
        UsbFaultAction::IoError,
    ));
    steps.push(transfer("client", "server", 29, CVSD_FRAME));
    steps.push(bus_fault(
        0,
        UsbEndpoint::ScoIn,
        3,
        11,
        UsbFaultAction::Short(7),
    ));
    steps.push(bus_fault(
        0,
        UsbEndpoint::ScoIn,
        17,
        3,
        UsbFaultAction::Babble,
    ));
    steps.push(transfer("server", "client", 31, CVSD_FRAME));
    steps.extend(hang_up("client", "server"));
    usb(
        "usb-sco-faults",
        "voice with seven bad isochronous packets, three that babble, and eleven frames in short ones",
        steps,
    )
}

/// A device that has no room for the voice of a second link: the driver goes on submitting frames to the endpoint of alternate setting 0, whose
/// packets have no bytes, and every one is refused. The third link has voice again.
///
/// Kernel: drivers/usb/core/urb.c `usb_submit_urb()` says EMSGSIZE, before the monitor sees the URB.
pub(super) fn sco_refused() -> Scenario {
    const REFUSED: usize = 41;
    let mut steps = voice(CVSD);
    steps.push(transfer("client", "server", 43, CVSD_FRAME));
    steps.extend(hang_up("client", "server"));
    steps.push(bus_fault(
        0,
        UsbEndpoint::ScoOut,
        0,
        1,
        UsbFaultAction::NoRoom,
    ));
    steps.push(connect("client2", "server2"));
    steps.push(Step::AwaitVoice { controller: 1 });
    let frame = Step::Write {
        socket: "client2".to_owned(),
        bytes: CVSD_FRAME,
    };
    steps.extend(std::iter::repeat_n(frame, REFUSED));
    steps.push(Step::AwaitSent {
        socket: "client2".to_owned(),
    });
    steps.extend(hang_up("client2", "server2"));
    steps.push(connect("client3", "server3"));
    steps.extend(await_voice());
    steps.push(transfer("client3", "server3", 47, CVSD_FRAME));
    steps.push(transfer("server3", "client3", 53, CVSD_FRAME));
    steps.extend(hang_up("client3", "server3"));
    usb(
        "usb-sco-refused",
        "voice for which a dongle has no room: 41 frames whose submission is refused, between links that have it",
        steps,
    )
}

/// A synchronous link whose isochronous streams run.
fn voice(service: Service) -> Vec<Step> {
    let mut steps = connected(service);
    steps.extend(await_voice());
    steps
}

fn await_voice() -> [Step; 2] {
    [0, 1].map(|controller| Step::AwaitVoice { controller })
}

/// Ends it and waits until the kernel has taken the streams down.
fn hang_up(client: &str, server: &str) -> Vec<Step> {
    vec![
        Step::Close {
            socket: client.to_owned(),
        },
        Step::AwaitHangUp {
            socket: server.to_owned(),
        },
        Step::Close {
            socket: server.to_owned(),
        },
        Step::AwaitNoVoice { controller: 0 },
        Step::AwaitNoVoice { controller: 1 },
        Step::Quiet { milliseconds: 100 },
    ]
}

/// So many transfers of an endpoint go wrong, after others.
fn bus_fault(
    controller: usize,
    endpoint: UsbEndpoint,
    after: u64,
    times: u64,
    action: UsbFaultAction,
) -> Step {
    Step::UsbFault {
        fault: UsbFault {
            controller: ControllerId::from_index(controller),
            endpoint,
            after,
            times,
            action,
        },
    }
}

/// Messages that the endpoint stalls on are lost, each an error of the driver, and each keeps its slot. The controller gives back what did
/// arrive on command only: so how many slots are free follows from the number of messages.
pub(super) fn stall() -> Scenario {
    const LOST: u64 = 5;
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 3, 101));
    steps.push(Step::Quiet { milliseconds: 100 });
    steps.push(Step::Acks {
        controller: 0,
        policy: AckPolicy::OnCommand,
    });
    steps.push(Step::FlushAcks { controller: 0 });
    steps.push(Step::Quiet { milliseconds: 100 });
    steps.push(bus_fault(
        0,
        UsbEndpoint::AclOut,
        0,
        LOST,
        UsbFaultAction::Stall,
    ));
    for bytes in [103, 107, 109, 113, 127] {
        steps.push(Step::Write {
            socket: "client".to_owned(),
            bytes,
        });
    }
    steps.push(transfer("client", "server", 2, 131));
    usb(
        "usb-stall",
        "five messages that the bulk endpoint stalls on",
        steps,
    )
}

/// Errors on the bus that the host controller mends by trying again: no driver hears of them.
pub(super) fn retry() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(bus_fault(
        0,
        UsbEndpoint::AclOut,
        2,
        3,
        UsbFaultAction::IoError,
    ));
    steps.push(transfer("client", "server", 17, 149));
    steps.push(bus_fault(
        0,
        UsbEndpoint::AclOut,
        1,
        4,
        UsbFaultAction::IoError,
    ));
    steps.push(transfer("client", "server", 19, 151));
    usb(
        "usb-retry",
        "three and four errors in a row that the host controller mends",
        steps,
    )
}

/// Voice without a link that carries it: btusb refuses each packet. A process sends them past the kernel's own queues; what the kernel sends
/// meanwhile goes as ever.
///
/// Kernel: drivers/bluetooth/btusb.c btusb_send_frame().
pub(super) fn refused() -> Scenario {
    let refuse = |payload: &[u8], times| {
        let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
        Step::HciRefused {
            socket: "raw".to_owned(),
            packet: [&[3, 0x77, 0x07, length], payload].concat(),
            times,
        }
    };
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(transfer("client", "server", 53, 173));
    steps.push(open("raw", 0, HciChannel::Raw));
    steps.push(refuse(&[7; 17], 11));
    steps.push(transfer("client", "server", 71, 179));
    steps.push(refuse(&[11; 48], 13));
    usb(
        "usb-refused-packets",
        "24 packets of voice of a process that the driver refuses, beside traffic",
        steps,
    )
}

/// Each message waits in the bulk endpoint for 20 ms.
pub(super) fn held() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    let hold = UsbFaultAction::Hold(Duration::from_millis(20));
    steps.push(bus_fault(0, UsbEndpoint::AclOut, 0, 23, hold));
    steps.push(transfer("client", "server", 23, 157));
    usb(
        "usb-held-urb",
        "23 messages, each held by the bulk endpoint for 20 ms",
        steps,
    )
}

/// Errors of endpoints towards the host: what they carry comes later, and nothing is lost.
pub(super) fn errors_in() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(bus_fault(
        1,
        UsbEndpoint::AclIn,
        1,
        1,
        UsbFaultAction::Babble,
    ));
    steps.push(bus_fault(
        0,
        UsbEndpoint::Events,
        1,
        1,
        UsbFaultAction::Stall,
    ));
    steps.push(transfer("client", "server", 43, 163));
    steps.push(bus_fault(
        0,
        UsbEndpoint::Events,
        1,
        1,
        UsbFaultAction::IoError,
    ));
    steps.push(bus_fault(
        1,
        UsbEndpoint::AclIn,
        2,
        1,
        UsbFaultAction::Stall,
    ));
    steps.push(transfer("client", "server", 47, 167));
    usb(
        "usb-errors-in",
        "babble, stalls and bus errors of endpoints towards the host",
        steps,
    )
}
