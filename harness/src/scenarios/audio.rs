//! What headsets use: synchronous links for voice, RFCOMM for their commands.

use super::build::{connected, scenario, transfer};
use controller::BufferSize;
use evidence::{Scenario, Service, Voice};

/// A frame of 16-bit CVSD as audio servers write it, bytes.
const CVSD_FRAME: usize = 48;

/// A frame of mSBC with its header and padding, as audio servers write it, bytes.
const MSBC_FRAME: usize = 60;

/// Frames both ways over a synchronous link whose voice the controllers code.
pub(super) fn sco_cvsd() -> Scenario {
    let about = "frames of 48 bytes both ways over eSCO, CVSD";
    sco("sco-cvsd", about, Voice::Cvsd, [149, 151], CVSD_FRAME)
}

/// Frames both ways over a synchronous link that carries what the hosts have coded. The accepting end says so before the link is made.
pub(super) fn sco_msbc() -> Scenario {
    let about =
        "frames of 60 bytes both ways over eSCO, transparent, accepted after a deferred set-up";
    sco(
        "sco-msbc",
        about,
        Voice::Transparent,
        [157, 163],
        MSBC_FRAME,
    )
}

fn sco(name: &str, about: &str, voice: Voice, frames: [u32; 2], bytes: usize) -> Scenario {
    let mut steps = connected(Service::Sco { voice });
    steps.push(transfer("client", "server", frames[0], bytes));
    steps.push(transfer("server", "client", frames[1], bytes));
    let mut scenario = scenario(name, about, steps);
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
