//! The cache on disk, shared by all processes of a user.
//!
//! ```text
//! packages/<sha256>.…     as downloaded
//! trees/<key>/            unpacked kernels
//! images/<sha256>.cpio    initramfs images
//! saves/<key>             saved machines
//! uses/<folder>-<name>    one for each entry: its text says what the entry is, its time when it was last used; locked by all who use it
//! locks/<folder>-<name>   locked while the entry of that name is made
//! scratch/<random>/       an entry in the making; its maker holds .lock
//! ```
//!
//! An entry is made in a scratch directory and renamed into place, so that a reader sees all of it or nothing. Scratch directories whose
//! maker is gone are removed by whoever opens the cache next. Who wants an entry locks its file in `uses` first, with others, and keeps it
//! locked for as long as this [`Cache`] lives; who removes one locks it alone. So nothing is removed that anybody uses or makes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use tempfile::TempDir;

use crate::lockfile::{self, Mode};
use crate::progress::{Event, Progress, Quiet};

const APPLICATION: &str = "bluetooth-metrics";
/// Held while scratch directories are created or swept: a directory without its lock looks abandoned.
const SCRATCH_LOCK: &str = "scratch";
const OWNER: &str = ".lock";

/// The cache on disk.
#[derive(Debug, Clone)]
pub struct Cache {
    root: PathBuf,
    /// The locked files of the entries that this process uses.
    used: Arc<Mutex<BTreeMap<PathBuf, File>>>,
}

/// What an entry of the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A package, as downloaded.
    Package,
    /// An unpacked kernel.
    Tree,
    /// An initramfs.
    Image,
    /// A saved machine.
    Save,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Package, Self::Tree, Self::Image, Self::Save];

    /// The folder of the cache that entries of this kind are in.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::Package => "packages",
            Self::Tree => "trees",
            Self::Image => "images",
            Self::Save => "saves",
        }
    }
}

/// An entry that is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// What it is.
    pub kind: Kind,
    /// The name of its file or directory. It has to follow from all that the entry depends on.
    pub name: &'a str,
    /// What people call it.
    pub what: &'a str,
}

/// Why an entry that is there cannot be used.
pub type Unsound = Box<dyn std::error::Error + Send + Sync>;

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
    /// An entry cannot be used though it has just been made.
    #[error("{} cannot be used though it has just been made", path.display())]
    Unusable {
        /// The entry.
        path: PathBuf,
        /// Why.
        source: Unsound,
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
            used: Arc::default(),
        };
        let folders = Kind::ALL.map(Kind::folder);
        for folder in folders.into_iter().chain(["uses", "locks", "scratch"]) {
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

    /// The entry that is wanted: opened by `open` if it is there, else made by `make` at the path that it is given, and then opened.
    ///
    /// An entry that `open` refuses is told in one line and made again. From here on nobody removes the entry, until this cache and all its
    /// clones are dropped. Of several who want the same entry at once, in whatever process, one makes it and the others wait.
    ///
    /// # Errors
    ///
    /// The entry could not be made, and is then not there; or what was made cannot be opened.
    pub fn provide<T, E: From<CacheError>>(
        &self,
        wanted: &Wanted<'_>,
        progress: &dyn Progress,
        open: impl Fn(&Path) -> Result<T, Unsound>,
        make: impl FnOnce(&Path) -> Result<(), E>,
    ) -> Result<T, E> {
        let Wanted { kind, name, what } = *wanted;
        self.use_entry(wanted)?;
        let path = self.entry(kind, name);
        if let Ok(entry) = open(&path) {
            return Ok(entry);
        }
        let _making = self.lock(&format!("{}-{name}", kind.folder()), progress)?;
        match open(&path) {
            Ok(entry) => return Ok(entry),
            Err(error) if path.exists() => {
                tracing::warn!(what, %error, "damaged in the cache, made again");
            }
            Err(_) => {}
        }
        let scratch = self.scratch()?;
        let made = scratch.path().join("entry");
        make(&made)?;
        self.publish(&made, &path)?;
        open(&path).map_err(|source| CacheError::Unusable { path, source }.into())
    }

    /// Drops an entry that turned out to be of no use, even if others use it.
    pub(crate) fn discard(
        &self,
        kind: Kind,
        name: &str,
        progress: &dyn Progress,
    ) -> Result<(), CacheError> {
        let _making = self.lock(&format!("{}-{name}", kind.folder()), progress)?;
        self.move_away(&self.entry(kind, name))
    }

    /// Removes an entry as a whole: half of one is never to be seen in its place.
    pub(crate) fn move_away(&self, entry: &Path) -> Result<(), CacheError> {
        let scratch = self.scratch()?;
        match std::fs::rename(entry, scratch.path().join("entry")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(CacheError::new("remove", entry, error))
            }
            _ => Ok(()),
        }
    }

    /// The place of the entry `name`, whether it is there or not.
    pub(crate) fn entry(&self, kind: Kind, name: &str) -> PathBuf {
        self.root.join(kind.folder()).join(name)
    }

    /// The file that is locked by those who use the entry `name`.
    pub(crate) fn use_file(&self, kind: Kind, name: &str) -> PathBuf {
        self.root
            .join("uses")
            .join(format!("{}-{name}", kind.folder()))
    }

    /// The file that is locked by who makes the entry `name`.
    pub(crate) fn lock_file(&self, kind: Kind, name: &str) -> PathBuf {
        self.root
            .join("locks")
            .join(format!("{}-{name}", kind.folder()))
    }

    /// Notes that an entry is used now, and keeps others from removing it.
    fn use_entry(&self, wanted: &Wanted<'_>) -> Result<(), CacheError> {
        let Wanted { kind, name, what } = *wanted;
        let path = self.use_file(kind, name);
        let failed = |source| CacheError::new("lock", &path, source);
        let mut used = self.used.lock().expect("no holder of this lock can panic");
        if !used.contains_key(&path) {
            let mut file = lockfile::lock(&path, Mode::Shared, || {}).map_err(failed)?;
            if std::fs::read(&path).map_err(failed)? != what.as_bytes() {
                file.set_len(0).map_err(failed)?;
                file.write_all(what.as_bytes()).map_err(failed)?;
            }
            used.insert(path.clone(), file);
        }
        used[&path].set_modified(SystemTime::now()).map_err(failed)
    }

    /// Waits until this process alone has the lock `key`. Dropping the file lets others.
    pub(crate) fn lock(&self, key: &str, progress: &dyn Progress) -> Result<File, CacheError> {
        let path = self.root.join("locks").join(key);
        let waiting = || progress.report(Event::Waiting { name: key });
        lockfile::lock(&path, Mode::Alone, waiting)
            .map_err(|source| CacheError::new("lock", &path, source))
    }

    /// Makes a directory for an entry in the making.
    pub(crate) fn scratch(&self) -> Result<Scratch, CacheError> {
        let parent = self.root.join("scratch");
        let _creating = self.lock(SCRATCH_LOCK, &Quiet)?;
        let dir = TempDir::new_in(&parent)
            .map_err(|source| CacheError::new("create a directory in", &parent, source))?;
        let path = dir.path().join(OWNER);
        let failed = |source| CacheError::new("lock", &path, source);
        let owner = File::create(&path).map_err(failed)?;
        owner.lock().map_err(failed)?;
        Ok(Scratch { dir, _owner: owner })
    }

    /// Moves `made`, a file or directory in a scratch directory, to `entry`. What was there is replaced.
    fn publish(&self, made: &Path, entry: &Path) -> Result<(), CacheError> {
        sync(made).map_err(|source| CacheError::new("write", made, source))?;
        remove(entry)?;
        std::fs::rename(made, entry).map_err(|source| CacheError::new("create", entry, source))
    }

    /// Removes scratch directories whose makers are gone.
    fn sweep(&self) -> Result<(), CacheError> {
        let parent = self.root.join("scratch");
        let failed = |source| CacheError::new("list", &parent, source);
        let _creating = self.lock(SCRATCH_LOCK, &Quiet)?;
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
        let entry = cache.entry(Kind::Tree, "x");
        for text in ["old", "new"] {
            let scratch = cache.scratch().unwrap();
            let made = scratch.path().join("tree");
            std::fs::create_dir(&made).unwrap();
            std::fs::write(made.join(text), text).unwrap();
            cache.publish(&made, &entry).unwrap();
        }
        assert!(entry.join("new").exists() && !entry.join("old").exists());
    }

    const WANTED: Wanted<'_> = Wanted {
        kind: Kind::Image,
        name: "x.cpio",
        what: "an image",
    };

    fn provide(
        cache: &Cache,
        make: impl FnOnce(&Path) -> Result<(), CacheError>,
    ) -> Result<String, CacheError> {
        let open = |path: &Path| match std::fs::read_to_string(path)? {
            text if text.starts_with("sound") => Ok(text),
            text => Err(text.into()),
        };
        cache.provide(&WANTED, &Quiet, open, make)
    }

    fn write(text: &str) -> impl FnOnce(&Path) -> Result<(), CacheError> {
        move |path| {
            std::fs::write(path, text).map_err(|source| CacheError::new("write", path, source))
        }
    }

    /// Check that an entry is made once, and again when it is damaged.
    #[test]
    fn entry_is_made_once_and_again_when_damaged() {
        let (_dir, cache) = cache();
        assert_eq!(provide(&cache, write("sound 1")).unwrap(), "sound 1");
        assert_eq!(provide(&cache, write("sound 2")).unwrap(), "sound 1");
        std::fs::write(cache.entry(Kind::Image, "x.cpio"), "damaged").unwrap();
        assert_eq!(provide(&cache, write("sound 3")).unwrap(), "sound 3");
        assert_eq!(scratches(&cache), 0);
    }

    /// Check that an entry whose making failed is not there, and one that is made wrong is told.
    #[test]
    fn entry_made_wrong_is_an_error() {
        let (_dir, cache) = cache();
        let half = |path: &Path| {
            write("sou")(path)?;
            Err(CacheError::NoPlace)
        };
        assert!(matches!(provide(&cache, half), Err(CacheError::NoPlace)));
        assert!(!cache.entry(Kind::Image, "x.cpio").exists());
        let error = provide(&cache, write("unsound")).unwrap_err();
        assert!(matches!(error, CacheError::Unusable { .. }), "{error:?}");
        assert_eq!(scratches(&cache), 0);
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
        let first = cache.lock("entry", &Quiet).unwrap();
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
