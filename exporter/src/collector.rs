//! The probes behind a lock, kept attached while modules come and go.

use std::sync::{Mutex, MutexGuard, PoisonError};

use metrics::{Lost, ProbeReport, Snapshot};
use probes::Probes;

use crate::server::Source;

/// Loaded probes that several threads read.
#[derive(Debug)]
pub struct Collector(Mutex<Probes>);

impl Collector {
    /// Takes loaded probes over.
    #[must_use]
    pub fn new(probes: Probes) -> Self {
        Self(Mutex::new(probes))
    }

    /// Looks whether modules came or went, and attaches anew what that changes. True: something
    /// changed.
    pub fn refresh(&self) -> bool {
        self.lock().refresh()
    }

    /// What became of each program, and what is missing because of it.
    #[must_use]
    pub fn state(&self) -> (Vec<ProbeReport>, Vec<Lost>) {
        let probes = self.lock();
        (probes.reports().to_vec(), probes.lost().to_vec())
    }

    /// Reads all values.
    ///
    /// # Errors
    ///
    /// A map cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, probes::SnapshotError> {
        self.lock().snapshot()
    }

    fn lock(&self) -> MutexGuard<'_, Probes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Collector {
    fn scrape(&self) -> Result<Snapshot, String> {
        self.refresh();
        self.snapshot().map_err(|error| {
            tracing::error!(%error, "failed to read the values");
            error.to_string()
        })
    }
}
