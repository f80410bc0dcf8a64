//! The scenarios, as data. Every count is a prime of its own, so that swapped, doubled or added
//! counters cannot pass.

use controller::{AckPolicy, BdAddr, BufferSize, Profile};
use evidence::{Scenario, Step, Traffic};

/// Every scenario, in the order of the report.
#[must_use]
pub fn all() -> Vec<Scenario> {
    vec![l2cap_seqpacket()]
}

/// A dynamically allocated PSM. Spec: Core 5.4, Vol 3, Part A, 4.2: odd, and the low bit of the
/// upper octet clear.
const PSM: u16 = 0x1001;
/// Errno of a message that is longer than the outgoing MTU. Kernel: l2cap_core.c l2cap_chan_send().
const EMSGSIZE: i32 = 90;
/// The MTU that an L2CAP channel has without negotiation, bytes.
const DEFAULT_MTU: usize = 672;

/// Two controllers on one air.
///
/// Each gives its buffers back only when all are taken, and then all at once: so the number of
/// free slots after each packet follows from the packet's number alone, whatever the timing.
fn two_controllers(slots: [u16; 2]) -> Vec<Profile> {
    let addresses = [
        [0x01, 0x53, 0x00, 0x5e, 0x00, 0x00],
        [0x02, 0x53, 0x00, 0x5e, 0x00, 0x00],
    ];
    let profile = |(address, packets): ([u8; 6], u16)| Profile {
        acl: BufferSize { mtu: 1021, packets },
        ack: AckPolicy::Batch(packets),
        ..Profile::dual_mode(BdAddr::from_wire(address))
    };
    addresses.into_iter().zip(slots).map(profile).collect()
}

fn connect() -> [Step; 2] {
    [
        Step::Listen {
            socket: "listener".to_owned(),
            controller: 1,
            psm: PSM,
        },
        Step::Connect {
            socket: "client".to_owned(),
            from: 0,
            to: "listener".to_owned(),
            accepted: "server".to_owned(),
        },
    ]
}

fn transfer(from: &str, to: &str, messages: u32, bytes: usize) -> Step {
    Step::Transfer(Traffic {
        from: from.to_owned(),
        to: to.to_owned(),
        messages,
        bytes,
    })
}

/// Traffic both ways over one L2CAP channel, and a write that is too long.
fn l2cap_seqpacket() -> Scenario {
    let mut steps = Vec::from(connect());
    steps.push(transfer("client", "server", 23, 101));
    steps.push(transfer("server", "client", 29, 307));
    steps.push(Step::FailingWrite {
        socket: "client".to_owned(),
        bytes: DEFAULT_MTU + 1,
        errno: EMSGSIZE,
    });
    Scenario {
        name: "l2cap-seqpacket".to_owned(),
        about: "messages both ways over an L2CAP SOCK_SEQPACKET channel, one write too long"
            .to_owned(),
        controllers: two_controllers([7, 5]),
        steps,
    }
}
