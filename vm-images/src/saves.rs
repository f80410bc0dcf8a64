//! Machines that were booted once and saved, so that a run can begin where they stood.
//!
//! What a save is, and how one is made, is the harness's business; here they are kept, whole or
//! not at all, and made by one process while others wait.

use std::path::{Path, PathBuf};

use crate::cache::{Cache, CacheError, Kind, Unsound, Wanted};
use crate::fetch::create;
use crate::progress::Progress;

/// Why there is no saved machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SaveError<E> {
    /// It could not be made.
    #[error("failed to make a saved machine")]
    Make(E),
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The directory of the saved machine that `key` names and people call `what`; if there is none, `make` is to fill an empty directory.
///
/// `key` has to tell everything that decides what the machine is: a save is never looked at twice.
///
/// # Errors
///
/// It could not be made or kept.
pub fn saved<E>(
    cache: &Cache,
    key: &str,
    what: &str,
    progress: &dyn Progress,
    make: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, SaveError<E>> {
    let wanted = Wanted {
        kind: Kind::Save,
        name: key,
        what: &format!("saved machine {what}"),
    };
    let open = |dir: &Path| match dir.is_dir() {
        true => Ok(dir.to_owned()),
        false => Err(Unsound::from("there is no such directory")),
    };
    cache.provide(&wanted, progress, open, |made| {
        create(made)?;
        make(made).map_err(SaveError::Make)
    })
}

/// Drops the saved machine that `key` names, since it turned out to be of no use, whoever else uses it.
///
/// # Errors
///
/// It could not be removed.
pub fn forget_saved(cache: &Cache, key: &str, progress: &dyn Progress) -> Result<(), CacheError> {
    cache.discard(Kind::Save, key, progress)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Quiet;
    use std::convert::Infallible;

    fn cache() -> (tempfile::TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path())).unwrap();
        (dir, cache)
    }

    /// Check that a save is made once, kept, and made again only after it was dropped.
    #[test]
    fn saved_is_made_once_until_forgotten() {
        let (_dir, cache) = cache();
        let mut made = 0;
        for _ in 0..2 {
            let dir = saved(&cache, "key", "x", &Quiet, |dir| {
                made += 1;
                std::fs::write(dir.join("state"), "state").unwrap();
                Ok::<(), Infallible>(())
            });
            assert!(dir.unwrap().join("state").exists());
        }
        assert_eq!(made, 1);
        forget_saved(&cache, "key", &Quiet).unwrap();
        saved(&cache, "key", "x", &Quiet, |_| {
            made += 1;
            Ok::<(), Infallible>(())
        })
        .unwrap();
        assert_eq!(made, 2);
    }

    /// Check that a save that could not be finished leaves nothing behind.
    #[test]
    fn saved_not_finished_leaves_nothing() {
        let (_dir, cache) = cache();
        let result = saved(&cache, "key", "x", &Quiet, |dir| {
            std::fs::write(dir.join("state"), "half").unwrap();
            Err("QEMU died")
        });
        assert!(matches!(result, Err(SaveError::Make("QEMU died"))));
        assert!(!cache.entry(Kind::Save, "key").exists());
    }
}
