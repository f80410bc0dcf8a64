//! What goes over LE: channels with credits of their own, and isochronous streams.

use super::build::{self, EMSGSIZE, addresses, connect, failing_write, listen, transfer};
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
