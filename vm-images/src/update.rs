//! `kernels.lock` brought up to date with `kernels.toml` and the archive.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use kernels::{Entry, KernelId, Lock, LockedKernel, LockedPackage, Manifest, Proof};

use crate::fetch::Context;
use crate::index::{Index, IndexError, Signature};
use crate::mirror::{Mirror, MirrorError};
use crate::pool::{PoolError, complete};
use crate::resolve::{ResolveError, resolve, resolve_partly};

/// What an update of the lock has found.
#[derive(Debug)]
pub struct Update {
    /// The new lock. Kernels that could not be resolved keep the pin that they had.
    pub lock: Lock,
    /// What is different from the old one, oldest series first.
    pub changes: Vec<Change>,
    /// The kernels that could not be resolved, and why.
    pub failures: Vec<(KernelId, PinError)>,
    /// For each suite that was read, whether it was signed by Debian.
    pub signatures: BTreeMap<String, Signature>,
}

/// Why a kernel could not be pinned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The index of its suite could not be used.
    #[error("the index of its suite could not be used")]
    Index(#[source] std::sync::Arc<IndexError>),
    /// The index does not have it.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The index has a part of it, and the pool does not have the rest, or not as it was built.
    #[error("the index does not list all of it, and the rest could not be taken from the pool")]
    Pool(#[source] Box<PoolError>),
}

/// Resolves one kernel of `kernels.toml`; `old` is how it is pinned now.
pub(crate) fn pin(
    context: &Context<'_>,
    mirror: &Mirror,
    index: &Index,
    (id, entry): (&KernelId, &Entry),
    old: Option<&LockedKernel>,
) -> Result<LockedKernel, PinError> {
    let incomplete = match resolve(id, index) {
        Err(error @ ResolveError::Incomplete { .. }) if entry.pool => error,
        result => return Ok(result?),
    };
    let partial = resolve_partly(id, index).ok_or(incomplete)?;
    complete(context, mirror, partial, old).map_err(|error| PinError::Pool(Box::new(error)))
}

/// A difference between two locks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A kernel that was not pinned is.
    Added(LockedKernel),
    /// A kernel is pinned to other packages.
    Replaced {
        /// Its packages so far.
        old: LockedKernel,
        /// Its packages now.
        new: LockedKernel,
    },
    /// A kernel that `kernels.toml` does not list any more is not pinned any more.
    Removed(LockedKernel),
}

impl Change {
    /// What the kernel is pinned to now; none if it is not.
    #[must_use]
    pub fn new_pin(&self) -> Option<&LockedKernel> {
        match self {
            Self::Added(new) | Self::Replaced { new, .. } => Some(new),
            Self::Removed(_) => None,
        }
    }
}

impl Display for Change {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added(new) => write!(f, "{}: {} added", new.id, new.version)?,
            Self::Removed(old) => return write!(f, "{}: {} removed", old.id, old.version),
            Self::Replaced { old, new } if old.packages == new.packages => {
                write!(
                    f,
                    "{}: {} has the packages that it had",
                    new.id, new.version
                )?;
                if new.unchecked.is_none() {
                    write!(f, ", checked now")?;
                }
            }
            Self::Replaced { old, new } if old.version == new.version => {
                write!(f, "{}: {} has other packages now", new.id, new.version)?;
            }
            Self::Replaced { old, new } => {
                write!(f, "{}: {} -> {}", new.id, old.version, new.version)?;
            }
        }
        let Some(new) = self.new_pin() else {
            return Ok(());
        };
        write!(f, ", from {}", new.suite)?;
        let from_pool = |package: &&LockedPackage| package.proof == Proof::ModuleSignatures;
        let from_pool = new.packages.iter().filter(from_pool).count();
        if from_pool > 0 {
            write!(
                f,
                "; {from_pool} packages from the pool, with modules signed by its build"
            )?;
        }
        match &new.unchecked {
            Some(why) => write!(f, "; THE SIGNATURE OF THE INDEX WAS NOT CHECKED: {why}"),
            None => Ok(()),
        }
    }
}

/// Resolves every kernel of `manifest` anew. Nothing is written.
///
/// # Errors
///
/// There is no mirror. What fails for one kernel or one suite is told in the result.
pub fn update_lock(
    context: &Context<'_>,
    manifest: &Manifest,
    old: &Lock,
) -> Result<Update, MirrorError> {
    let mirror = context.mirrors.get()?;
    let mut indices = BTreeMap::new();
    let mut pinned = Vec::new();
    for (id, entry) in manifest.iter() {
        // Kernels of other sources are not pinned.
        let Some(suite) = &entry.suite else { continue };
        let index = indices
            .entry(suite.clone())
            .or_insert_with(|| Index::fetch(context, mirror, suite).map_err(std::sync::Arc::new));
        let kernel = match index {
            Ok(index) => pin(context, mirror, index, (id, entry), old.get(id).ok()),
            Err(error) => Err(PinError::Index(error.clone())),
        };
        pinned.push((id.clone(), kernel));
    }
    let signed = |(suite, index): (String, Result<Index, _>)| Some((suite, index.ok()?.signature));
    let signatures = indices.into_iter().filter_map(signed).collect();
    let (lock, changes, failures) = merge(old, pinned);
    Ok(Update {
        lock,
        changes,
        failures,
        signatures,
    })
}

type Pinned = (KernelId, Result<LockedKernel, PinError>);

fn merge(old: &Lock, pinned: Vec<Pinned>) -> (Lock, Vec<Change>, Vec<(KernelId, PinError)>) {
    let mut lock = Lock::default();
    let mut changes = Vec::new();
    let mut failures = Vec::new();
    for kernel in old
        .iter()
        .filter(|kernel| pinned.iter().all(|(id, _)| *id != kernel.id))
    {
        changes.push(Change::Removed(kernel.clone()));
    }
    for (id, kernel) in pinned {
        let before = old.get(&id).ok();
        match (kernel, before) {
            (Ok(new), before) => {
                // What was checked once stays so as long as it is the same.
                let new = match before {
                    Some(old) if old.packages == new.packages && old.unchecked.is_none() => {
                        old.clone()
                    }
                    _ => new,
                };
                match before {
                    None => changes.push(Change::Added(new.clone())),
                    Some(old) if *old != new => changes.push(Change::Replaced {
                        old: old.clone(),
                        new: new.clone(),
                    }),
                    Some(_) => {}
                }
                lock.insert(new);
            }
            (Err(error), before) => {
                failures.push((id, error));
                if let Some(old) = before {
                    lock.insert(old.clone());
                }
            }
        }
    }
    (lock, changes, failures)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(id: &str, version: &str) -> LockedKernel {
        LockedKernel {
            id: id.parse().unwrap(),
            release: version.to_owned(),
            version: version.to_owned(),
            suite: "sid".to_owned(),
            unchecked: None,
            packages: vec![LockedPackage {
                name: "linux-image".to_owned(),
                archive: kernels::Archive::Debian,
                path: format!("pool/{version}.deb"),
                size: 7,
                sha256: kernels::Sha256::of(version.as_bytes()),
                proof: Proof::Index,
            }],
        }
    }

    /// Check that a pin that was checked is not marked unchecked by an update without a signature, and the other way round is.
    #[test]
    fn merge_keeps_what_was_checked() {
        let checked = kernel("debian:6.1", "1");
        let mut unchecked = checked.clone();
        unchecked.unchecked = Some("no gpgv".to_owned());
        let merged = |old: &LockedKernel, new: &LockedKernel| {
            let mut lock = Lock::default();
            lock.insert(old.clone());
            let (lock, changes, _) = merge(&lock, vec![found(new.clone())]);
            let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
            (lock.get(&old.id).unwrap().clone(), changes)
        };
        assert_eq!(merged(&checked, &unchecked), (checked.clone(), vec![]));
        let told = "debian:6.1: 1 has the packages that it had, checked now, from sid".to_owned();
        assert_eq!(merged(&unchecked, &checked), (checked, vec![told]));
    }

    fn gone(id: &str) -> Pinned {
        let id: KernelId = id.parse().unwrap();
        (id.clone(), Err(ResolveError::NotInArchive { id }.into()))
    }

    fn found(kernel: LockedKernel) -> Pinned {
        (kernel.id.clone(), Ok(kernel))
    }

    /// Check that a change from an index that nobody checked says so and why.
    #[test]
    fn change_from_unchecked_index_says_so() {
        let mut new = kernel("debian:6.1", "2");
        let told = Change::Added(new.clone()).to_string();
        assert_eq!(told, "debian:6.1: 2 added, from sid");
        new.unchecked = Some("gpgv is not installed".to_owned());
        let told = Change::Added(new).to_string();
        assert!(
            told.ends_with("THE SIGNATURE OF THE INDEX WAS NOT CHECKED: gpgv is not installed"),
            "{told}"
        );
    }

    /// Check that each kind of change is told, and that what could not be resolved keeps its pin.
    #[test]
    fn merge_tells_each_change_and_keeps_what_failed() {
        let mut old = Lock::default();
        for (id, version) in [
            ("debian:5.10", "1"),
            ("debian:6.1", "1"),
            ("debian:6.12", "1"),
            ("debian:6.16", "1"),
        ] {
            old.insert(kernel(id, version));
        }
        let pinned = vec![
            found(kernel("debian:6.1", "2")),
            found(kernel("debian:6.12", "1")),
            gone("debian:6.16"),
            gone("debian:6.17"),
            found(kernel("debian:7.3", "1")),
        ];
        let (lock, changes, failures) = merge(&old, pinned);
        let changes: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            changes,
            [
                "debian:5.10: 1 removed",
                "debian:6.1: 1 -> 2, from sid",
                "debian:7.3: 1 added, from sid"
            ]
        );
        let failed: Vec<String> = failures.iter().map(|(id, _)| id.to_string()).collect();
        assert_eq!(failed, ["debian:6.16", "debian:6.17"]);
        let pins: Vec<String> = lock
            .iter()
            .map(|kernel| format!("{}={}", kernel.id, kernel.version))
            .collect();
        assert_eq!(
            pins,
            [
                "debian:6.1=2",
                "debian:6.12=1",
                "debian:6.16=1",
                "debian:7.3=1"
            ]
        );
    }
}
