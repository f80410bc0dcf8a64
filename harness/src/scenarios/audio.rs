//! What headsets use: synchronous links for voice, RFCOMM for their commands.

use super::build::{connected, scenario, transfer};
use controller::BufferSize;
use evidence::{Scenario, Service};

/// A frame of 16-bit CVSD as audio servers write it, bytes.
const CVSD_FRAME: usize = 48;

/// Frames both ways over a synchronous link whose voice the controllers code.
pub(super) fn sco_cvsd() -> Scenario {
    let mut steps = connected(Service::Sco);
    steps.push(transfer("client", "server", 149, CVSD_FRAME));
    steps.push(transfer("server", "client", 151, CVSD_FRAME));
    let about = "frames of 48 bytes both ways over eSCO, CVSD";
    let mut scenario = scenario("sco-cvsd", about, steps);
    for profile in &mut scenario.controllers {
        // As many as its acknowledgements come in, for kernels that count synchronous packets.
        profile.sco = BufferSize {
            mtu: 60,
            packets: profile.acl.packets,
        };
    }
    scenario
}

/// A byte stream whose frames the kernel itself writes to an L2CAP socket.
pub(super) fn rfcomm() -> Scenario {
    let mut steps = connected(Service::Rfcomm { channel: 3 });
    steps.push(transfer("client", "server", 41, 97));
    steps.push(transfer("server", "client", 43, 113));
    scenario("rfcomm", "a byte stream both ways over RFCOMM", steps)
}
