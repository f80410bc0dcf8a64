//! The cache on disk, shared by all processes of a user.
//!
//! ```text
//! packages/<sha256>.deb   as downloaded
//! trees/<key>/            unpacked kernels
//! images/<sha256>.cpio    initramfs images
//! locks/<key>             held while the entry of that name is made
//! scratch/<random>/       an entry in the making; its maker holds .lock
//! ```
//!
//! An entry is made in a scratch directory and renamed into place, so that a reader sees all of it or nothing. Scratch directories whose
//! maker is gone are removed by whoever opens the cache next.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::progress::{Event, Progress};

const APPLICATION: &str = "bluetooth-metrics";
/// Held while scratch directories are created or swept: a directory without its lock looks abandoned.
const SCRATCH_LOCK: &str = "scratch";
const OWNER: &str = ".lock";

/// The cache on disk.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
}

/// Why the cache could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// No variable of the environment says where it is.
    #[error(
        "no place for the cache: set BT_CACHE to a directory (neither XDG_CACHE_HOME nor HOME is set)"
    )]
    NoPlace,
    /// The disk is full.
    #[error("the disk of {} is full; free some space there, or set BT_CACHE to a directory on another disk", path.display())]
    DiskFull {
        /// What was being written.
        path: PathBuf,
    },
    /// The system refused something else.
    #[error("failed to {action} {}", path.display())]
    Io {
        /// What was tried, such as `create`.
        action: &'static str,
        /// What it was tried on.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl CacheError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull {
                path: path.to_owned(),
            },
            _ => Self::Io {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }
}

/// A directory for an entry in the making. It is removed when dropped, and by others when this process is gone.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: TempDir,
    _owner: File,
}

impl Scratch {
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

impl Cache {
    /// Opens the cache at `root`, or else where `BT_CACHE`, `XDG_CACHE_HOME` or `HOME` say, and creates it if need be.
    ///
    /// # Errors
    ///
    /// There is no such place, or it cannot be written.
    pub fn open(root: Option<&Path>) -> Result<Self, CacheError> {
        let root = root
            .map(Path::to_owned)
            .or_else(|| default_root(|name| std::env::var_os(name).map(PathBuf::from)));
        let cache = Self {
            root: root.ok_or(CacheError::NoPlace)?,
        };
        for folder in ["packages", "trees", "images", "saves", "locks", "scratch"] {
            let path = cache.root.join(folder);
            std::fs::create_dir_all(&path)
                .map_err(|source| CacheError::new("create", &path, source))?;
        }
        cache.sweep()?;
        Ok(cache)
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The place of the entry `name` of `folder`, whether it is there or not.
    pub(crate) fn entry(&self, folder: &str, name: &str) -> PathBuf {
        self.root.join(folder).join(name)
    }

    /// Waits until this process alone may make the entry `key`. Dropping the file lets others.
    pub(crate) fn lock(&self, key: &str, progress: &dyn Progress) -> Result<File, CacheError> {
        let path = self.entry("locks", key);
        let failed = |source| CacheError::new("lock", &path, source);
        let file = File::create(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                progress.report(Event::Waiting { name: key });
                file.lock().map_err(failed)?;
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(file)
    }

    /// Makes a directory for an entry in the making.
    pub(crate) fn scratch(&self) -> Result<Scratch, CacheError> {
        let parent = self.root.join("scratch");
        let _creating = self.lock(SCRATCH_LOCK, &crate::progress::Quiet)?;
        let dir = TempDir::new_in(&parent)
            .map_err(|source| CacheError::new("create a directory in", &parent, source))?;
        let path = dir.path().join(OWNER);
        let failed = |source| CacheError::new("lock", &path, source);
        let owner = File::create(&path).map_err(failed)?;
        owner.lock().map_err(failed)?;
        Ok(Scratch { dir, _owner: owner })
    }

    /// Moves `made`, a file or directory in a scratch directory, to `entry`. What was there is replaced.
    pub(crate) fn publish(&self, made: &Path, entry: &Path) -> Result<(), CacheError> {
        sync(made).map_err(|source| CacheError::new("write", made, source))?;
        remove(entry)?;
        std::fs::rename(made, entry).map_err(|source| CacheError::new("create", entry, source))
    }

    /// Removes scratch directories whose makers are gone.
    fn sweep(&self) -> Result<(), CacheError> {
        let parent = self.root.join("scratch");
        let failed = |source| CacheError::new("list", &parent, source);
        let _creating = self.lock(SCRATCH_LOCK, &crate::progress::Quiet)?;
        for entry in std::fs::read_dir(&parent).map_err(failed)? {
            let dir = entry.map_err(failed)?.path();
            let abandoned = match File::open(dir.join(OWNER)) {
                Ok(owner) => owner.try_lock().is_ok(),
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            if abandoned {
                remove(&dir)?;
            }
        }
        Ok(())
    }
}

fn default_root(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|path| !path.as_os_str().is_empty());
    set("BT_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|base| base.join(APPLICATION)))
        .or_else(|| set("HOME").map(|home| home.join(".cache").join(APPLICATION)))
}

/// Removes a file or a directory, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), CacheError> {
    let removed = if path.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CacheError::new("remove", path, error))
        }
        _ => Ok(()),
    }
}

/// Brings a file, or all files below a directory, to the disk: a rename may outlive a power cut that the bytes do not.
fn sync(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        for entry in std::fs::read_dir(path)? {
            sync(&entry?.path())?;
        }
        return Ok(());
    }
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::time::Instant;

    fn cache() -> (TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
        (dir, cache)
    }

    fn scratches(cache: &Cache) -> usize {
        std::fs::read_dir(cache.root().join("scratch"))
            .unwrap()
            .count()
    }

    /// Check which variable of the environment wins.
    #[rstest]
    #[case::own(&["BT_CACHE", "XDG_CACHE_HOME", "HOME"], Some("/BT_CACHE"))]
    #[case::xdg(&["XDG_CACHE_HOME", "HOME"], Some("/XDG_CACHE_HOME/bluetooth-metrics"))]
    #[case::home(&["HOME"], Some("/HOME/.cache/bluetooth-metrics"))]
    #[case::none(&[], None)]
    fn cache_root_follows_the_environment(#[case] set: &[&str], #[case] expected: Option<&str>) {
        let root = default_root(|name| set.contains(&name).then(|| Path::new("/").join(name)));
        assert_eq!(root, expected.map(PathBuf::from));
        assert_eq!(default_root(|_| Some(PathBuf::new())), None);
    }

    /// Check that opening the cache removes what dead makers left, and not what live ones are making.
    #[test]
    fn cache_opened_sweeps_abandoned_scratch_only() {
        let (_dir, cache) = cache();
        let alive = cache.scratch().unwrap();
        std::fs::write(alive.path().join("half"), "half").unwrap();
        let dead = cache.root().join("scratch/dead");
        std::fs::create_dir(&dead).unwrap();
        std::fs::write(dead.join(OWNER), "").unwrap();
        std::fs::create_dir(cache.root().join("scratch/without-lock")).unwrap();

        Cache::open(Some(cache.root())).unwrap();
        assert!(alive.path().join("half").exists());
        assert_eq!(scratches(&cache), 1);
        drop(alive);
        assert_eq!(scratches(&cache), 0);
    }

    /// Check that publishing replaces files and directories whole.
    #[test]
    fn publish_replaces_the_entry() {
        let (_dir, cache) = cache();
        let entry = cache.entry("trees", "x");
        for text in ["old", "new"] {
            let scratch = cache.scratch().unwrap();
            let made = scratch.path().join("tree");
            std::fs::create_dir(&made).unwrap();
            std::fs::write(made.join(text), text).unwrap();
            cache.publish(&made, &entry).unwrap();
        }
        assert!(entry.join("new").exists() && !entry.join("old").exists());
    }

    /// Check that the second of two who make the same entry waits until the first is done, and tells so.
    #[test]
    fn lock_held_by_another_is_waited_for() {
        struct Send(std::sync::mpsc::Sender<Instant>);
        impl Progress for Send {
            fn report(&self, _event: Event<'_>) {
                self.0.send(Instant::now()).unwrap();
            }
        }
        let (_dir, cache) = cache();
        let (sender, waiting) = std::sync::mpsc::channel();
        let first = cache.lock("entry", &crate::progress::Quiet).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| {
                let _held = cache.lock("entry", &Send(sender)).unwrap();
                Instant::now()
            });
            waiting.recv().unwrap();
            let released = Instant::now();
            drop(first);
            assert!(second.join().unwrap() >= released);
        });
    }

    /// Check that a full disk is told as such, with the way out.
    #[test]
    fn full_disk_is_told_with_the_way_out() {
        let full = std::fs::write("/dev/full", "x").unwrap_err();
        let error = CacheError::new("write", Path::new("/cache/x"), full);
        assert!(matches!(error, CacheError::DiskFull { .. }));
        assert!(error.to_string().contains("BT_CACHE"), "{error}");
    }
}
