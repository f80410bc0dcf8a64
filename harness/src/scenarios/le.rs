//! What goes over LE: channels with credits of their own, and isochronous streams.

use super::build::{self, EMSGSIZE, addresses, connect, failing_write, listen, transfer};
use super::devices::SUPERVISION_TIMEOUT;
use super::stall::{lost_unacknowledged, stalled};
use controller::{AckPolicy, BufferSize, Profile};
use evidence::{Feature, Scenario, Service, Step};

/// A dynamically allocated SPSM. Spec: Core 5.4, Vol 3, Part A, 4.22.
const SPSM: u16 = 0x0085;
/// The longest message that the listening end takes, bytes.
const MTU: u16 = 1511;

/// Two controllers for LE alone, with so many LE and ISO buffers of `mtu` bytes; they give all back at once, as those for BR/EDR do.
fn two_le_controllers(slots: [u16; 2], mtu: u16) -> Vec<Profile> {
    let profile = |(address, packets)| Profile {
        le: BufferSize { mtu, packets },
        iso: BufferSize { mtu, packets },
        ack: AckPolicy::Batch(packets),
        ..Profile::le_only(address)
    };
    addresses().into_iter().zip(slots).map(profile).collect()
}

fn scenario(name: &str, about: &str, slots: [u16; 2], steps: Vec<Step>) -> Scenario {
    Scenario {
        controllers: two_le_controllers(slots, 251),
        ..build::scenario(name, about, steps)
    }
}

/// `client` of the first controller connects to `server` of the second, which advertises.
fn connected(service: Service) -> [Step; 3] {
    let advertise = Step::Advertise { controller: 1 };
    [advertise, listen(service), connect("client", "server")]
}

/// Messages of several PDUs each, which need credits of the peer besides free slots of the controller.
pub(super) fn l2cap_le_coc() -> Scenario {
    let about = "messages both ways over an LE credit-based channel, one write too long";
    coc("l2cap-le-coc", about, [59, 61])
}

/// So many messages each way over a channel with credits of its own, and one write that is too long.
pub(super) fn coc(name: &str, about: &str, messages: [u32; 2]) -> Scenario {
    let mtu = Some(MTU);
    let mut steps = Vec::from(connected(Service::L2capLe { spsm: SPSM, mtu }));
    steps.push(transfer("client", "server", messages[0], 1499));
    steps.push(transfer("server", "client", messages[1], 631));
    steps.push(failing_write("client", usize::from(MTU) + 1, EMSGSIZE));
    scenario(name, about, [7, 5], steps)
}

/// A peer that gives no credits, since its controller takes nothing more: the channel is suspended, and writes that do not wait are turned
/// away although the buffer has room. Each message is one PDU.
///
/// Kernel: l2cap_core.c l2cap_chan_send() suspends the channel with its last credit; bluetooth/af_bluetooth.c bt_sock_wait_ready().
pub(super) fn l2cap_le_coc_suspended() -> Scenario {
    const PEERS_SLOTS: u16 = 5;
    let (client, server) = (|| "client".to_owned(), || "server".to_owned());
    let acks = |policy| Step::Acks {
        controller: 1,
        policy,
    };
    let flush = || Step::FlushAcks { controller: 1 };
    let mtu = Some(MTU);
    let mut steps = Vec::from(connected(Service::L2capLe { spsm: SPSM, mtu }));
    steps.push(Step::Quiet { milliseconds: 100 });
    steps.extend([acks(AckPolicy::OnCommand), flush()]);
    // Takes every slot of the peer's, so that its credits wait behind them.
    steps.push(transfer("server", "client", u32::from(PEERS_SLOTS), 83));
    steps.push(Step::FillUntilFull {
        socket: client(),
        bytes: 97,
        further: 18,
    });
    steps.extend([acks(AckPolicy::Batch(PEERS_SLOTS)), flush()]);
    steps.push(Step::Drain {
        from: client(),
        to: server(),
    });
    steps.push(transfer("client", "server", 17, 1301));
    let about = "an LE channel whose peer gives no credits: 19 writes are turned away";
    scenario("l2cap-le-coc-suspended", about, [7, PEERS_SLOTS], steps)
}

/// An LE link that is lost with messages in the controller.
pub(super) fn link_loss() -> Scenario {
    let mtu = Some(MTU);
    let mut steps = Vec::from(connected(Service::L2capLe { spsm: SPSM, mtu }));
    steps.push(transfer("client", "server", 29, 401));
    steps.extend(lost_unacknowledged(3, 89));
    let about = "an LE link that is lost with messages in the controller";
    soon(scenario("le-link-loss", about, [7, 5], steps))
}

/// A stream that the first controller does not take any more; then its link is lost with data in the controller.
pub(super) fn iso_stalled() -> Scenario {
    const SLOTS: u16 = 7;
    let feature = Feature::IsoSockets;
    let mut steps = vec![Step::Require { feature }];
    steps.extend(connected(Service::Iso));
    steps.extend(stalled(SLOTS, 31, 11));
    steps.extend(lost_unacknowledged(5, 29));
    let about = "a stream that a controller withholds, and that is lost with its link";
    soon(scenario("iso-stalled", about, [SLOTS, 3], steps))
}

/// Peers notice soon that a link is lost.
fn soon(mut scenario: Scenario) -> Scenario {
    for profile in &mut scenario.controllers {
        profile.supervision_timeout = SUPERVISION_TIMEOUT;
    }
    scenario
}

/// Service data units both ways over a connected isochronous stream.
pub(super) fn iso_cis() -> Scenario {
    let mut steps = vec![Step::Require {
        feature: Feature::IsoSockets,
    }];
    steps.extend(connected(Service::Iso));
    steps.push(transfer("client", "server", 73, 40));
    steps.push(transfer("server", "client", 79, 37));
    let about = "service data units both ways over a connected isochronous stream";
    scenario("iso-cis", about, [11, 3], steps)
}
