//! Going wrong on purpose, so that tests can see how the harness takes it.

use crate::port::Port;
use crate::sys;
use anyhow::{Context as _, bail};
use evidence::Misbehavior;
use std::fs;
use std::time::Duration;

/// The words of a failed `WARN_ON` (Kernel: kernel/panic.c `__warn()`), at level *warning*.
const WARNING: &str = "<4>WARNING: CPU: 0 PID: 1 at net/bluetooth/hci_core.c:1 planted+0x0/0x1\n";

const DAY: Duration = Duration::from_secs(86_400);

/// Does it.
///
/// # Errors
/// It could not be done, or the guest survived what it should not.
pub(crate) fn misbehave(how: Misbehavior, port: &Port) -> anyhow::Result<()> {
    match how {
        Misbehavior::KernelWarning => {
            fs::write("/dev/kmsg", WARNING).context("failed to write to the kernel's log")
        }
        Misbehavior::ClockJump => sys::set_clock_ahead(DAY).context("failed to set the clock"),
        Misbehavior::CorruptRecord => port
            .send_damaged(|bytes| {
                if let Some(last) = bytes.last_mut() {
                    *last ^= 0x20;
                }
            })
            .context("failed to send a corrupt record"),
        Misbehavior::TruncatedRecord => {
            port.send_damaged(|bytes| bytes.truncate(bytes.len() / 2))
                .context("failed to send half a record")?;
            fs::write("/proc/sysrq-trigger", "b").context("failed to write to sysrq")?;
            bail!("the machine survived sysrq b")
        }
    }
}
