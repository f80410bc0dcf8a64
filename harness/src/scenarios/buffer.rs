//! Send buffers that fill up, message by message.

use super::build::{acks, connected, l2cap, release, scenario};
use controller::AckPolicy;
use evidence::{L2capMode, Scenario, Step};

/// Buffers of the writing controller.
const SLOTS: u16 = 7;
/// Bytes of every message: those that are written alone tell what one occupies.
const MESSAGE: usize = 113;

/// Every message is written while it is known what else is in the buffer: alone, or while nothing can
/// leave. So what the buffer holds after each is known to the byte.
pub(super) fn full_buffer() -> Scenario {
    let client = || "client".to_owned();
    let mut steps = connected(l2cap(L2capMode::Basic));
    steps.extend(acks(AckPolicy::OnCommand));
    steps.push(Step::SendBuffer {
        socket: client(),
        bytes: 8192,
    });
    // Takes every slot.
    for _ in 0..SLOTS {
        steps.push(Step::Write {
            socket: client(),
            bytes: MESSAGE,
        });
        steps.push(Step::Read {
            socket: "server".to_owned(),
            bytes: MESSAGE,
        });
    }
    steps.push(Step::FillUntilFull {
        socket: client(),
        bytes: MESSAGE,
        further: 17,
    });
    // At least so long the buffer stays full: longer than the writes that are turned away take, so that half of it is too short.
    steps.push(Step::Quiet { milliseconds: 307 });
    steps.extend(release(SLOTS));
    steps.push(Step::Drain {
        from: client(),
        to: "server".to_owned(),
    });
    let about = "a send buffer that is filled while nothing leaves, then drains";
    scenario("full-buffer", about, steps)
}
