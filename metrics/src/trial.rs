//! What a kernel really did with one program of an object.

use serde::{Deserialize, Serialize};

/// A program that was loaded alone, and attached where its section says.
///
/// What a static verdict is compared with: the kernel's own answer, made by plain libbpf.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Trial {
    /// Name of the object.
    pub object: String,
    /// Name of the program.
    pub prog: String,
    /// Whether the object could be opened and the program loaded.
    pub load: Try,
    /// Whether it could be attached; absent if it was not loaded.
    pub attach: Option<Try>,
}

/// One thing that was tried.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "try", rename_all = "snake_case")]
pub enum Try {
    /// It went well.
    Accepted,
    /// The kernel, or libbpf in its name, said no.
    Refused {
        /// The error in words.
        reason: String,
        /// Last lines that libbpf and the verifier said.
        log: Option<String>,
    },
}

impl Try {
    /// Did it go well?
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        matches!(self, Self::Accepted)
    }

    /// One line on why not; empty if it went well.
    #[must_use]
    pub fn why(&self) -> &str {
        match self {
            Self::Accepted => "",
            Self::Refused { reason, .. } => reason,
        }
    }
}
