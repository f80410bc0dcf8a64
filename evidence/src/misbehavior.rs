//! Ways to go wrong on purpose: how the harness is tested.

use serde::{Deserialize, Serialize};

/// What a guest does wrong, so that a test can see it reported as itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misbehavior {
    /// A warning stands in the kernel's log, in the words of a failed `WARN_ON`.
    KernelWarning,
    /// The wall clock jumps a day ahead. This is no mistake; nothing should come of it.
    ClockJump,
    /// A record's bytes change on the way.
    CorruptRecord,
    /// The machine restarts in the middle of a record.
    TruncatedRecord,
}
