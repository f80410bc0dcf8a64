//! What is in the cache: how large it is, when it was last used, whether it is sound; and what may go.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kernels::{KernelTree, Sha256, TreeError};

use crate::cache::{Cache, CacheError, Kind};
use crate::lockfile::{self, Mode};

/// What `st_blocks` counts in.
const BLOCK_BYTES: u64 = 512;

/// An entry of the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What kind of thing it is.
    pub kind: Kind,
    /// The name of its file or directory.
    pub name: String,
    /// What people call it.
    pub what: String,
    /// Where it is.
    pub path: PathBuf,
    /// The room that it takes on the disk.
    pub size_bytes: u64,
    /// When it was last used, or else made.
    pub last_used: SystemTime,
    /// Whether a process uses it, this one included.
    pub in_use: bool,
}

/// What [`Cache::evict`] has done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Evicted {
    /// What was removed, the longest unused first.
    pub removed: Vec<Entry>,
    /// The room that the removed entries took.
    pub freed_bytes: u64,
    /// The room that the cache takes now. It is above the limit only if what is in use is.
    pub left_bytes: u64,
}

/// An entry that is not what it was when it was made.
#[derive(Debug)]
pub struct Damaged {
    /// The entry.
    pub entry: Entry,
    /// What is wrong with it.
    pub why: String,
}

impl Cache {
    /// All entries, by kind and name.
    ///
    /// # Errors
    ///
    /// The cache cannot be read.
    pub fn entries(&self) -> Result<Vec<Entry>, CacheError> {
        let mut entries = Vec::new();
        for kind in Kind::ALL {
            let folder = self.root().join(kind.folder());
            let failed = |source| CacheError::new("list", &folder, source);
            for found in std::fs::read_dir(&folder).map_err(failed)? {
                let found = found.map_err(failed)?;
                let Some(name) = found.file_name().to_str().map(str::to_owned) else {
                    continue;
                };
                entries.extend(self.look_at(kind, name, found.path())?);
            }
        }
        entries.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(entries)
    }

    /// Describes an entry, unless it is gone meanwhile.
    fn look_at(
        &self,
        kind: Kind,
        name: String,
        path: PathBuf,
    ) -> Result<Option<Entry>, CacheError> {
        let failed = |source| CacheError::new("look at", &path, source);
        let looked = size_on_disk(&path).and_then(|size| {
            let made = std::fs::metadata(&path)?.modified()?;
            Ok((size, made))
        });
        let (size_bytes, made) = match looked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            looked => looked.map_err(failed)?,
        };
        let use_file = self.use_file(kind, &name);
        let (what, last_used, in_use) = match std::fs::metadata(&use_file) {
            Ok(metadata) => (
                std::fs::read_to_string(&use_file).unwrap_or_default(),
                metadata.modified().map_err(failed)?,
                lockfile::try_lock(&use_file, Mode::Alone)
                    .map_err(failed)?
                    .is_none(),
            ),
            Err(_) => (String::new(), made, false),
        };
        let what = if what.is_empty() { name.clone() } else { what };
        Ok(Some(Entry {
            kind,
            name,
            what,
            path,
            size_bytes,
            last_used,
            in_use,
        }))
    }

    /// The room that all entries take on the disk, in bytes.
    ///
    /// # Errors
    ///
    /// The cache cannot be read.
    pub fn usage(&self) -> Result<u64, CacheError> {
        Ok(self.entries()?.iter().map(|entry| entry.size_bytes).sum())
    }

    /// Removes entries that nobody uses, the longest unused first, until the rest takes no more than `limit_bytes`.
    ///
    /// # Errors
    ///
    /// The cache cannot be read, or an entry cannot be removed.
    pub fn evict(&self, limit_bytes: u64) -> Result<Evicted, CacheError> {
        self.evict_of(limit_bytes, |_| true)
    }

    /// As [`Cache::evict`], of the entries that are `wanted`, as if there were no others.
    ///
    /// # Errors
    ///
    /// The cache cannot be read, or an entry cannot be removed.
    pub fn evict_of(
        &self,
        limit_bytes: u64,
        wanted: impl Fn(&Entry) -> bool,
    ) -> Result<Evicted, CacheError> {
        let mut entries = self.entries()?;
        entries.retain(wanted);
        let mut evicted = Evicted {
            left_bytes: entries.iter().map(|entry| entry.size_bytes).sum(),
            ..Evicted::default()
        };
        entries.sort_by(|a, b| (a.last_used, &a.path).cmp(&(b.last_used, &b.path)));
        for entry in entries {
            if evicted.left_bytes <= limit_bytes {
                break;
            }
            if self.remove(&entry)? {
                evicted.left_bytes -= entry.size_bytes;
                evicted.freed_bytes += entry.size_bytes;
                evicted.removed.push(entry);
            }
        }
        Ok(evicted)
    }

    /// Removes an entry, unless somebody uses it; returns whether it is gone.
    ///
    /// # Errors
    ///
    /// It cannot be removed.
    pub fn remove(&self, entry: &Entry) -> Result<bool, CacheError> {
        let Entry {
            kind, name, path, ..
        } = entry;
        let use_file = self.use_file(*kind, name);
        let locked = lockfile::try_lock(&use_file, Mode::Alone)
            .map_err(|source| CacheError::new("lock", &use_file, source))?;
        let Some(_alone) = locked else {
            return Ok(false);
        };
        self.move_away(path)?;
        for file in [self.lock_file(*kind, name), use_file] {
            crate::cache::remove(&file)?;
        }
        Ok(true)
    }

    /// Reads every entry and returns those that are not what they were when they were made. Saved machines are not looked at: they are
    /// checked by who restores them. A damaged entry that is [removed](Cache::remove) is made again when it is next wanted.
    ///
    /// # Errors
    ///
    /// The cache cannot be read.
    pub fn verify(&self) -> Result<Vec<Damaged>, CacheError> {
        let mut damaged = Vec::new();
        for entry in self.entries()? {
            let why = match entry.kind {
                Kind::Package | Kind::Image => hash_differs(&entry),
                Kind::Tree => tree_differs(&entry.path),
                Kind::Save => None,
            };
            damaged.extend(why.map(|why| Damaged { entry, why }));
        }
        Ok(damaged)
    }
}

/// What is wrong with a file that is named after its hash.
fn hash_differs(entry: &Entry) -> Option<String> {
    let stem = entry.name.split('.').next().unwrap_or_default();
    let Ok(expected) = stem.parse::<Sha256>() else {
        return Some("its name is no hash".to_owned());
    };
    match std::fs::File::open(&entry.path).and_then(Sha256::of_reader) {
        Ok(found) if found == expected => None,
        Ok(_) => Some("its bytes have changed".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

fn tree_differs(dir: &Path) -> Option<String> {
    match KernelTree::open(dir).and_then(|tree| tree.verify()) {
        // Another version of this program may still use it.
        Ok(()) | Err(TreeError::Format { .. }) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// The room that a file, or all below a directory, takes on the disk. A file with several names counts once for each.
fn size_on_disk(path: &Path) -> io::Result<u64> {
    let metadata = std::fs::symlink_metadata(path)?;
    let mut bytes = metadata.blocks() * BLOCK_BYTES;
    if metadata.is_dir() {
        for entry in std::fs::read_dir(path)? {
            bytes += size_on_disk(&entry?.path())?;
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::Wanted;
    use crate::progress::Quiet;
    use std::time::{Duration, UNIX_EPOCH};
    use tempfile::TempDir;

    const ENTRY_BYTES: usize = 100_000;

    fn cache() -> (TempDir, Cache) {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(dir.path())).unwrap();
        (dir, cache)
    }

    /// Another process, as far as the cache can tell.
    fn other(cache: &Cache) -> Cache {
        Cache::open(Some(cache.root())).unwrap()
    }

    /// Makes an entry, or uses it.
    fn want(cache: &Cache, kind: Kind, name: &str) {
        let wanted = Wanted {
            kind,
            name,
            what: &format!("the {name}"),
        };
        cache
            .provide(
                &wanted,
                &Quiet,
                |path| Ok(std::fs::read(path)?),
                |path| {
                    std::fs::write(path, vec![7; ENTRY_BYTES])
                        .map_err(|source| CacheError::new("write", path, source))
                },
            )
            .map(drop)
            .unwrap();
    }

    /// Makes an entry that was last used `seconds` after the epoch by somebody who is gone.
    fn used_at(cache: &Cache, kind: Kind, name: &str, seconds: u64) {
        want(&other(cache), kind, name);
        let time = UNIX_EPOCH + Duration::from_secs(seconds);
        let file = std::fs::File::open(cache.use_file(kind, name)).unwrap();
        file.set_modified(time).unwrap();
    }

    fn names(entries: &[Entry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.name.as_str()).collect()
    }

    /// Check that an entry is listed with what it is, how large it is, when it was used, and whether it is.
    #[test]
    fn entries_are_listed_with_size_and_use() {
        let (_dir, cache) = cache();
        used_at(&cache, Kind::Save, "s", 1000);
        want(&cache, Kind::Image, "i");
        let entries = cache.entries().unwrap();
        assert_eq!(names(&entries), ["i", "s"]);
        let [image, save] = entries.as_slice() else {
            panic!("{entries:?}")
        };
        assert_eq!((image.kind, save.kind), (Kind::Image, Kind::Save));
        assert_eq!(save.what, "the s");
        assert_eq!(save.last_used, UNIX_EPOCH + Duration::from_secs(1000));
        assert!(image.last_used > save.last_used);
        assert!(image.in_use && !save.in_use);
        for entry in &entries {
            assert!(entry.size_bytes >= ENTRY_BYTES as u64, "{entry:?}");
            assert!(entry.size_bytes < 2 * ENTRY_BYTES as u64, "{entry:?}");
        }
        assert_eq!(cache.usage().unwrap(), image.size_bytes + save.size_bytes);
    }

    /// Check that the longest unused entries go first, whatever their kind, and no more of them than needed.
    #[test]
    fn evict_removes_the_longest_unused_first() {
        let (_dir, cache) = cache();
        used_at(&cache, Kind::Package, "c", 3000);
        used_at(&cache, Kind::Tree, "a", 1000);
        used_at(&cache, Kind::Save, "b", 2000);
        used_at(&cache, Kind::Image, "d", 4000);
        let all = cache.usage().unwrap();
        assert_eq!(cache.evict(all).unwrap().removed, []);

        let each = all / 4;
        let evicted = cache.evict(all - each - 1).unwrap();
        assert_eq!(names(&evicted.removed), ["a", "b"]);
        assert_eq!(evicted.left_bytes, cache.usage().unwrap());
        assert_eq!(evicted.freed_bytes + evicted.left_bytes, all);
        assert_eq!(names(&cache.entries().unwrap()), ["c", "d"]);
        for folder in ["uses", "locks"] {
            let left = std::fs::read_dir(cache.root().join(folder)).unwrap();
            let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
            let of_entries = left.iter().filter(|name| *name != "scratch").count();
            assert_eq!(of_entries, 2, "{left:?}");
        }
    }

    /// Check that what was not asked for neither counts nor goes.
    #[test]
    fn evict_of_a_kind_leaves_the_others() {
        let (_dir, cache) = cache();
        used_at(&cache, Kind::Package, "a", 1000);
        used_at(&cache, Kind::Save, "b", 2000);
        used_at(&cache, Kind::Save, "c", 3000);
        let each = cache.usage().unwrap() / 3;
        let evicted = cache.evict_of(each, |entry| entry.kind == Kind::Save);
        let evicted = evicted.unwrap();
        assert_eq!(names(&evicted.removed), ["b"]);
        assert_eq!(evicted.left_bytes, each);
        assert_eq!(names(&cache.entries().unwrap()), ["a", "c"]);
    }

    /// Check that using an entry makes it the last to go.
    #[test]
    fn evict_after_use_spares_what_was_used() {
        let (_dir, cache) = cache();
        used_at(&cache, Kind::Image, "a", 1000);
        used_at(&cache, Kind::Image, "b", 2000);
        want(&other(&cache), Kind::Image, "a");
        let evicted = cache.evict(cache.usage().unwrap() - 1).unwrap();
        assert_eq!(names(&evicted.removed), ["b"]);
    }

    /// Check that what is in use stays whatever the limit is, until its last user is gone.
    #[test]
    fn evict_spares_what_is_in_use() {
        let (_dir, cache) = cache();
        let user = other(&cache);
        want(&user, Kind::Tree, "used");
        let clone = user.clone();
        drop(user);
        used_at(&cache, Kind::Tree, "unused", 1000);
        let evicted = cache.evict(0).unwrap();
        assert_eq!(names(&evicted.removed), ["unused"]);
        assert_eq!(evicted.left_bytes, cache.usage().unwrap());
        assert!(evicted.left_bytes > 0);
        drop(clone);
        assert_eq!(cache.evict(0).unwrap().left_bytes, 0);
    }

    /// Check that an entry can be made again after it was evicted, and that this process does not take its own entry away.
    #[test]
    fn entry_evicted_is_made_again() {
        let (_dir, cache) = cache();
        used_at(&cache, Kind::Save, "s", 1000);
        cache.evict(0).unwrap();
        assert!(cache.entries().unwrap().is_empty());
        want(&cache, Kind::Save, "s");
        assert_eq!(cache.evict(0).unwrap().removed, []);
        assert_eq!(names(&cache.entries().unwrap()), ["s"]);
    }

    /// Check that changed files are found by their hash, and what cannot be checked is left alone.
    #[test]
    fn verify_finds_changed_files() {
        let (_dir, cache) = cache();
        let content = vec![7; ENTRY_BYTES];
        let sound = format!("{}.cpio", Sha256::of(&content));
        let changed = format!("{}.deb", Sha256::of(b"other"));
        want(&other(&cache), Kind::Image, &sound);
        want(&other(&cache), Kind::Package, &changed);
        want(&other(&cache), Kind::Tree, "no-tree");
        want(&other(&cache), Kind::Save, "save");
        let damaged = cache.verify().unwrap();
        let found: Vec<(&str, &str)> = damaged
            .iter()
            .map(|damaged| (damaged.entry.name.as_str(), damaged.why.as_str()))
            .collect();
        let [(package, why), (tree, _)] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!(
            (*package, *why, *tree),
            (changed.as_str(), "its bytes have changed", "no-tree")
        );
        for damaged in &damaged {
            assert!(cache.remove(&damaged.entry).unwrap());
        }
        assert_eq!(cache.verify().unwrap().len(), 0);
        assert_eq!(cache.entries().unwrap().len(), 2);
    }
}
