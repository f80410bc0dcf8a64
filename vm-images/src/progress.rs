//! What a long operation tells while it runs. How it is shown is up to others.

use std::time::Duration;

/// Hears what happens.
pub trait Progress: Sync {
    /// Called often, from any thread.
    fn report(&self, event: Event<'_>);
}

/// Something that has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A download has got this far.
    Downloading {
        /// The package or index.
        name: &'a str,
        /// Bytes so far.
        done_bytes: u64,
        /// Bytes altogether, where that is known.
        total_bytes: Option<u64>,
    },
    /// A download is complete and its hash is right.
    Downloaded {
        /// The package or index.
        name: &'a str,
        /// Its size.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// The signatures of a package's modules are being verified.
    Verifying {
        /// The package.
        name: &'a str,
        /// How many modules were right so far.
        modules: usize,
    },
    /// A kernel is being unpacked.
    Unpacking {
        /// The kernel's release.
        release: &'a str,
    },
    /// A kernel has been unpacked.
    Unpacked {
        /// The kernel's release.
        release: &'a str,
        /// How long it took.
        took: Duration,
    },
    /// Another process is making the same thing; this one waits for it.
    Waiting {
        /// What is being made.
        name: &'a str,
    },
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Quiet;

impl Progress for Quiet {
    fn report(&self, _event: Event<'_>) {}
}
