//! What headsets use: synchronous links for voice, RFCOMM for their commands.

use super::build::{connected, scenario, transfer};
use super::devices::SUPERVISION_TIMEOUT;
use super::stall::{lost_unacknowledged, stalled};
use controller::BufferSize;
use evidence::{Feature, Scenario, Service, Step, Voice};

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

/// Voice that the first controller does not take any more, on kernels that count it; then its link is lost with frames in the controller.
pub(super) fn sco_stalled() -> Scenario {
    const SLOTS: u16 = 7;
    let feature = Feature::VoiceFlowControl;
    let mut steps = vec![Step::Require { feature }];
    steps.extend(connected(Service::Sco { voice: Voice::Cvsd }));
    steps.extend(stalled(SLOTS, CVSD_FRAME, 19));
    steps.extend(lost_unacknowledged(3, CVSD_FRAME));
    let about = "voice that a controller withholds, and that is lost with its link";
    let mut scenario = scenario("sco-stalled", about, steps);
    for profile in &mut scenario.controllers {
        profile.supervision_timeout = SUPERVISION_TIMEOUT;
        profile.sco = BufferSize {
            mtu: 60,
            packets: profile.acl.packets,
        };
    }
    scenario
}

/// A byte stream whose writer is turned away: its frames wait in the kernel's own socket, which waits for the controller.
pub(super) fn rfcomm_stalled() -> Scenario {
    let mut steps = connected(Service::Rfcomm { channel: 5 });
    steps.extend(stalled(7, 101, 23));
    let about = "a byte stream whose send buffer is full while a controller withholds";
    scenario("rfcomm-stalled", about, steps)
}

/// A byte stream whose frames the kernel itself writes to an L2CAP socket.
pub(super) fn rfcomm() -> Scenario {
    let mut steps = connected(Service::Rfcomm { channel: 3 });
    steps.push(transfer("client", "server", 41, 97));
    steps.push(transfer("server", "client", 43, 113));
    scenario("rfcomm", "a byte stream both ways over RFCOMM", steps)
}
