//! Controllers of other makes than most: BR/EDR alone with pairing, LE as it was before version 5, three at once, acknowledgements as they may come.

use super::build::{self, addresses, connect, connected, l2cap, listen, traffic, transfer};
use controller::{AckPolicy, BdAddr, BufferSize, LeFeatures, Profile};
use evidence::{L2capMode, Scenario, Service, Step};
use std::time::Duration;

/// A dynamically allocated SPSM. Spec: Core 5.4, Vol 3, Part A, 4.22.
const SPSM: u16 = 0x0087;

/// Two controllers without LE; the second host takes only encrypted links, so both pair first.
pub(super) fn bredr_pairing() -> Scenario {
    let mut steps: Vec<Step> = [0, 1]
        .map(|controller| Step::Pairable { controller })
        .into();
    steps.push(listen(l2cap(L2capMode::Basic)));
    steps.push(Step::DemandEncryption {
        socket: "listener".to_owned(),
    });
    steps.push(connect("client", "server"));
    steps.push(transfer("client", "server", 67, 113));
    steps.push(transfer("server", "client", 71, 127));
    let about = "messages over an encrypted link between BR/EDR-only controllers that pair first";
    let slots = [7, 5].map(|packets| BufferSize { mtu: 1021, packets });
    let profile = |(address, acl): (BdAddr, BufferSize)| Profile {
        acl,
        ack: AckPolicy::Batch(acl.packets),
        ..Profile::bredr(address)
    };
    Scenario {
        controllers: addresses().into_iter().zip(slots).map(profile).collect(),
        ..build::scenario("bredr-pairing", about, steps)
    }
}

/// Two controllers with few and short buffers, that advertise and connect as before version 5.
pub(super) fn le_legacy() -> Scenario {
    let advertise = Step::Advertise { controller: 1 };
    let service = Service::L2capLe {
        spsm: SPSM,
        mtu: Some(307),
    };
    let mut steps = vec![advertise, listen(service), connect("client", "server")];
    steps.push(transfer("client", "server", 17, 293));
    steps.push(transfer("server", "client", 19, 151));
    let about = "messages over LE through two buffers of 27 bytes, legacy advertising";
    let profile = |address| Profile {
        le_features: LeFeatures(LeFeatures::ENCRYPTION | LeFeatures::DATA_LENGTH),
        iso: BufferSize::NONE,
        ack: AckPolicy::Batch(2),
        ..Profile::small_buffers(address)
    };
    Scenario {
        controllers: addresses().into_iter().map(profile).collect(),
        ..build::scenario("le-legacy", about, steps)
    }
}

/// Two controllers that talk to a third at once.
pub(super) fn three_controllers() -> Scenario {
    let steps = vec![
        listen(l2cap(L2capMode::Basic)),
        connect("client", "server"),
        Step::Connect {
            socket: "client3".to_owned(),
            from: 2,
            to: "listener".to_owned(),
            accepted: "server3".to_owned(),
        },
        Step::Transfer {
            traffic: vec![
                traffic("client", "server", 101, 139),
                traffic("client3", "server3", 103, 149),
            ],
        },
    ];
    let about = "two controllers that send to a third at the same time";
    let mut scenario = build::scenario("three-controllers", about, steps);
    let third = BdAddr::from_wire([0x03, 0x53, 0x00, 0x5e, 0x00, 0x00]);
    let acl = BufferSize {
        mtu: 1021,
        packets: 3,
    };
    scenario.controllers.push(Profile {
        acl,
        ack: AckPolicy::Batch(acl.packets),
        ..Profile::dual_mode(third)
    });
    scenario
}

/// How long the controller keeps each packet.
const KEPT: Duration = Duration::from_millis(31);

/// Packets that are acknowledged one by one after 31 ms, then some that never are.
pub(super) fn ack_policies() -> Scenario {
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.push(quiet());
    steps.push(Step::FlushAcks { controller: 0 });
    steps.push(quiet());
    steps.push(acks(AckPolicy::After(KEPT)));
    for _ in 0..11 {
        steps.push(transfer("client", "server", 1, 137));
        steps.push(quiet());
    }
    steps.push(acks(AckPolicy::Never));
    steps.push(transfer("client", "server", 3, 139));
    let about = "packets that are acknowledged after 31 ms each, and three that never are";
    build::scenario("ack-policies", about, steps)
}

fn acks(policy: AckPolicy) -> Step {
    let controller = 0;
    Step::Acks { controller, policy }
}

fn quiet() -> Step {
    Step::Quiet { milliseconds: 100 }
}
