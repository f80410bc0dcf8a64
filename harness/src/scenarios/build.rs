//! Pieces that scenarios are built from.

use controller::{AckPolicy, BdAddr, BufferSize, Profile};
use evidence::{L2capMode, Scenario, Service, Step, Traffic, Transport};

/// A dynamically allocated PSM. Spec: Core 5.4, Vol 3, Part A, 4.2: odd, and the low bit of the
/// upper octet clear.
pub(super) const PSM: u16 = 0x1001;
/// Error numbers, as Linux has them on x86-64 and arm64.
pub(super) const EAGAIN: i32 = 11;
pub(super) const EMSGSIZE: i32 = 90;
pub(super) const ECONNABORTED: i32 = 103;
pub(super) const ECONNRESET: i32 = 104;
pub(super) const ENOTCONN: i32 = 107;
pub(super) const ETIMEDOUT: i32 = 110;
/// The MTU that an L2CAP channel has without negotiation, bytes.
pub(super) const DEFAULT_MTU: usize = 672;

/// Two controllers on one air, with so many ACL buffers of `mtu` bytes.
///
/// Each gives its buffers back only when all are taken, and then all at once: so the number of
/// free slots after each packet follows from the packet's number alone, whatever the timing.
pub(super) fn two_controllers(slots: [u16; 2], mtu: u16) -> Vec<Profile> {
    let profile = |(address, packets)| Profile {
        acl: BufferSize { mtu, packets },
        ack: AckPolicy::Batch(packets),
        ..Profile::dual_mode(address)
    };
    addresses().into_iter().zip(slots).map(profile).collect()
}

/// Addresses for two controllers.
pub(super) fn addresses() -> [BdAddr; 2] {
    [0x01, 0x02].map(|last| BdAddr::from_wire([last, 0x53, 0x00, 0x5e, 0x00, 0x00]))
}

/// A scenario of two controllers with 7 and 5 buffers of 1021 bytes.
pub(super) fn scenario(name: &str, about: &str, steps: Vec<Step>) -> Scenario {
    Scenario {
        name: name.to_owned(),
        about: about.to_owned(),
        controllers: two_controllers([7, 5], 1021),
        transports: Vec::new(),
        steps,
    }
}

/// L2CAP with the kernel's default MTU.
pub(super) const fn l2cap(mode: L2capMode) -> Service {
    Service::L2cap {
        psm: PSM,
        mode,
        mtu: None,
    }
}

/// `listener` on the second controller.
pub(super) fn listen(service: Service) -> Step {
    Step::Listen {
        socket: "listener".to_owned(),
        controller: 1,
        service,
    }
}

/// `client` of the first controller connects to `listener`, which accepts it as `server`.
pub(super) fn connect(client: &str, server: &str) -> Step {
    Step::Connect {
        socket: client.to_owned(),
        from: 0,
        to: "listener".to_owned(),
        accepted: server.to_owned(),
    }
}

/// Listen and connect: sockets `client` and `server`.
pub(super) fn connected(service: Service) -> Vec<Step> {
    vec![listen(service), connect("client", "server")]
}

/// Messages one way.
pub(super) fn traffic(from: &str, to: &str, messages: u32, bytes: usize) -> Traffic {
    Traffic {
        from: from.to_owned(),
        to: to.to_owned(),
        messages,
        bytes,
    }
}

/// One stream of messages.
pub(super) fn transfer(from: &str, to: &str, messages: u32, bytes: usize) -> Step {
    Step::Transfer {
        traffic: vec![traffic(from, to, messages, bytes)],
    }
}

/// Gives back what is outstanding, and changes when the first controller gives buffers back from then on.
pub(super) fn acks(policy: AckPolicy) -> [Step; 3] {
    let quiet = Step::Quiet { milliseconds: 100 };
    let controller = 0;
    [
        quiet,
        Step::Acks { controller, policy },
        Step::FlushAcks { controller },
    ]
}

/// The first controller gives back all that is outstanding, and so many at a time from then on.
pub(super) fn release(slots: u16) -> [Step; 2] {
    let controller = 0;
    let policy = AckPolicy::Batch(slots);
    [
        Step::Acks { controller, policy },
        Step::FlushAcks { controller },
    ]
}

/// A write that must fail.
pub(super) fn failing_write(socket: &str, bytes: usize, errno: i32) -> Step {
    Step::FailingWrite {
        socket: socket.to_owned(),
        bytes,
        errno,
    }
}

/// The same with both controllers as USB dongles.
pub(super) fn on_usb(scenario: Scenario) -> Scenario {
    let transports = vec![Transport::Usb; scenario.controllers.len()];
    Scenario {
        transports,
        ..scenario
    }
}
