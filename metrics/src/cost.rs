//! What probes cost, as the kernel counts it.

use serde::{Deserialize, Serialize};

/// What one program cost.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProgramCost {
    /// Its family or object.
    pub family: String,
    /// Its name.
    pub prog: String,
    /// How often it ran while runs were counted.
    pub runs: u64,
    /// Nanoseconds that these runs took.
    pub ns: u64,
    /// Instructions that it has: no run executes more, but for its loops.
    pub instructions: u32,
    /// Instructions that the verifier looked at; 0 on kernels before 5.16, which do not tell.
    pub verified_instructions: u32,
    /// Bytes of machine code.
    pub jited_bytes: u32,
}

/// What one map costs.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct MapCost {
    /// Its family or object.
    pub family: String,
    /// Its name.
    pub map: String,
    /// Memory that the kernel accounts for it, bytes.
    pub bytes: u64,
}
