//! From a pinned kernel to an unpacked one, through the cache.

use std::path::{Path, PathBuf};
use std::time::Instant;

use kernels::{
    Keep, KernelId, KernelTree, Lock, LockError, LockedKernel, LockedPackage, Manifest, NotLocked,
    Sha256, UnknownKernel, UnpackError, unpack,
};

use crate::cache::{Cache, CacheError};
use crate::download::{Content, DownloadError, Wanted, download, sha256_of};
use crate::index::{Index, IndexError};
use crate::mirror::{MirrorError, Mirrors};
use crate::progress::{Event, Progress};
use crate::update::{PinError, pin};

/// Changes when what [`unpack`] leaves in a tree changes.
const TREE_FORMAT: &str = "1";

/// What fetching needs.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Where things are kept.
    pub cache: &'a Cache,
    /// Where they come from.
    pub mirrors: &'a Mirrors,
    /// Who hears what happens.
    pub progress: &'a dyn Progress,
}

impl Context<'_> {
    /// Puts a package that was downloaded to a scratch directory into the cache.
    pub(crate) fn keep_package(&self, made: &Path, sha256: &Sha256) -> Result<(), CacheError> {
        let _making = self
            .cache
            .lock(&format!("package-{sha256}"), self.progress)?;
        let entry = self.cache.entry("packages", &format!("{sha256}.deb"));
        self.cache.publish(made, &entry)
    }
}

impl std::fmt::Debug for Context<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            cache,
            mirrors,
            progress: _,
        } = self;
        f.debug_struct("Context")
            .field("cache", cache)
            .field("mirrors", mirrors)
            .finish_non_exhaustive()
    }
}

/// Why a pinned kernel could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// A package has left the archive.
    #[error(
        "package {package} of {id} has left the archive; `cargo xtask update-kernels` pins the newest of its series"
    )]
    PackageGone {
        /// The kernel.
        id: KernelId,
        /// The package.
        package: String,
    },
    /// A package is not in the cache, and there is no mirror.
    #[error("package {package} is needed")]
    Mirror {
        /// The package.
        package: String,
        /// Why there is none.
        source: MirrorError,
    },
    /// A package could not be downloaded.
    #[error("package {package} is needed")]
    Download {
        /// The package.
        package: String,
        /// Why.
        source: DownloadError,
    },
    /// The packages could not be unpacked.
    #[error("failed to unpack {id}")]
    Unpack {
        /// The kernel.
        id: KernelId,
        /// Why.
        source: Box<UnpackError>,
    },
    /// The packages are of another kernel than the lock says.
    #[error("the packages of {id} hold the kernel {found} instead of {expected}")]
    OtherRelease {
        /// The kernel.
        id: KernelId,
        /// The release as pinned.
        expected: String,
        /// The release as found.
        found: String,
    },
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Downloads a package, unless the cache has it.
///
/// # Errors
///
/// It cannot be had, or is not what was pinned; the cache is then as it was.
pub fn fetch_package(
    context: &Context<'_>,
    package: &LockedPackage,
) -> Result<PathBuf, FetchError> {
    obtain(context, package).map(|(path, _)| path)
}

/// When the hash of a package was last checked.
#[derive(PartialEq, Eq)]
enum Checked {
    Now,
    Earlier,
}

fn obtain(
    context: &Context<'_>,
    package: &LockedPackage,
) -> Result<(PathBuf, Checked), FetchError> {
    let LockedPackage {
        name,
        archive,
        path,
        size,
        sha256,
        proof: _,
    } = package;
    let entry = context.cache.entry("packages", &format!("{sha256}.deb"));
    if has_size(&entry, *size) {
        return Ok((entry, Checked::Earlier));
    }
    let _making = context
        .cache
        .lock(&format!("package-{sha256}"), context.progress)?;
    if has_size(&entry, *size) {
        return Ok((entry, Checked::Earlier));
    }
    let mirror = context.mirrors.get().map_err(|source| FetchError::Mirror {
        package: name.clone(),
        source,
    })?;
    let uri = mirror.uri(*archive, path);
    let scratch = context.cache.scratch()?;
    let made = scratch.path().join("package.deb");
    let wanted = Wanted {
        name,
        uri: &uri,
        content: Content::Exactly {
            size: *size,
            sha256: *sha256,
        },
    };
    download(&wanted, &made, context.progress).map_err(|source| FetchError::Download {
        package: name.clone(),
        source,
    })?;
    context.cache.publish(&made, &entry)?;
    Ok((entry, Checked::Now))
}

fn has_size(path: &Path, size: u64) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == size)
}

/// The unpacked kernel, from the cache, or else from its packages, which are downloaded if need be.
///
/// # Errors
///
/// A package cannot be had or is damaged, or the cache cannot be written.
pub fn kernel_tree(
    context: &Context<'_>,
    kernel: &LockedKernel,
    keep: Keep<'_>,
) -> Result<KernelTree, FetchError> {
    let key = tree_key(kernel, keep);
    let entry = context.cache.entry("trees", &key);
    if let Ok(tree) = KernelTree::open(&entry) {
        return Ok(tree);
    }
    let _making = context
        .cache
        .lock(&format!("tree-{key}"), context.progress)?;
    if let Ok(tree) = KernelTree::open(&entry) {
        return Ok(tree);
    }
    let mut packages = Vec::new();
    for package in &kernel.packages {
        packages.push(sound_package(context, package).map_err(|error| gone(&kernel.id, error))?);
    }
    let scratch = context.cache.scratch()?;
    let made = scratch.path().join("tree");
    std::fs::create_dir(&made).map_err(|source| CacheError::new("create", &made, source))?;
    unpack_into(context, kernel, &packages, keep, &made)?;
    context.cache.publish(&made, &entry)?;
    KernelTree::open(&entry).map_err(|source| FetchError::Unpack {
        id: kernel.id.clone(),
        source: Box::new(source.into()),
    })
}

/// A name for the tree that is different for other packages, other modules, and other versions of the format.
fn tree_key(kernel: &LockedKernel, keep: Keep<'_>) -> String {
    let mut parts = vec![TREE_FORMAT.to_owned()];
    parts.extend(
        kernel
            .packages
            .iter()
            .map(|package| package.sha256.to_string()),
    );
    match keep {
        Keep::All => parts.push("all".to_owned()),
        Keep::Closure(roots) => {
            let mut roots = roots.to_vec();
            roots.sort_unstable();
            parts.push("closure".to_owned());
            parts.extend(roots.into_iter().map(str::to_owned));
        }
    }
    format!(
        "{}-{}",
        kernel.release,
        Sha256::of(parts.join("\n").as_bytes()).short()
    )
}

/// A package whose bytes are as pinned even if the disk has changed them since.
fn sound_package(context: &Context<'_>, package: &LockedPackage) -> Result<PathBuf, FetchError> {
    let (path, checked) = obtain(context, package)?;
    if checked == Checked::Now || sha256_of(&path)? == package.sha256 {
        return Ok(path);
    }
    tracing::warn!(
        package = package.name,
        "damaged in the cache, downloading again"
    );
    crate::cache::remove(&path)?;
    fetch_package(context, package)
}

fn gone(id: &KernelId, error: FetchError) -> FetchError {
    match error {
        FetchError::Download {
            package,
            source: DownloadError::NotFound { .. },
        } => FetchError::PackageGone {
            id: id.clone(),
            package,
        },
        other => other,
    }
}

fn unpack_into(
    context: &Context<'_>,
    kernel: &LockedKernel,
    packages: &[PathBuf],
    keep: Keep<'_>,
    dest: &Path,
) -> Result<(), FetchError> {
    let start = Instant::now();
    context.progress.report(Event::Unpacking {
        release: &kernel.release,
    });
    let tree = unpack(packages, keep, dest).map_err(|error| match error {
        UnpackError::Write { path, source } => CacheError::new("write", &path, source).into(),
        source => FetchError::Unpack {
            id: kernel.id.clone(),
            source: Box::new(source),
        },
    })?;
    if tree.release() != kernel.release {
        let (expected, found) = (kernel.release.clone(), tree.release().to_owned());
        return Err(FetchError::OtherRelease {
            id: kernel.id.clone(),
            expected,
            found,
        });
    }
    context.progress.report(Event::Unpacked {
        release: &kernel.release,
        took: start.elapsed(),
    });
    Ok(())
}

/// A kernel that is ready to be used.
#[derive(Debug)]
pub struct Ready {
    /// What it is pinned to, now.
    pub kernel: LockedKernel,
    /// Its files.
    pub tree: KernelTree,
    /// What it had been pinned to, if that had left the archive. Worth a loud word.
    pub replaced: Option<Replaced>,
}

/// A pin that was replaced since its packages had left the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// Its packages so far.
    pub old: LockedKernel,
    /// Its packages now.
    pub new: LockedKernel,
}

/// Why a kernel of `kernels.toml` could not be made ready.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnsureError {
    /// `kernels.toml` does not list it.
    #[error(transparent)]
    Unknown(#[from] UnknownKernel),
    /// `kernels.lock` does not pin it, and must not change.
    #[error(transparent)]
    NotLocked(#[from] NotLocked),
    /// `kernels.lock` could not be read or written.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// It could not be had as pinned.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is not pinned, or not any more in the archive as pinned, and there is no mirror to look for it.
    #[error("{id} has to be looked up")]
    Mirror {
        /// The kernel.
        id: KernelId,
        /// Why there is none.
        source: MirrorError,
    },
    /// The index of its suite could not be used.
    #[error("{id} has to be looked up")]
    Index {
        /// The kernel.
        id: KernelId,
        /// Why.
        source: IndexError,
    },
    /// The archive does not have it.
    #[error("failed to pin {id}")]
    Pin {
        /// The kernel.
        id: KernelId,
        /// Why.
        source: Box<PinError>,
    },
}

/// Makes a kernel of `manifest` ready as `lock_path` pins it.
///
/// A kernel that is not pinned, or whose packages have left the archive, is pinned to the newest of its series, and the file is updated;
/// with `locked` that is an error.
///
/// # Errors
///
/// The kernel is unknown or cannot be had.
pub fn ensure_kernel(
    context: &Context<'_>,
    manifest: &Manifest,
    lock_path: &Path,
    id: &KernelId,
    locked: bool,
    keep: Keep<'_>,
) -> Result<Ready, EnsureError> {
    let (_, entry) = manifest.find(&id.to_string())?;
    let pinned = Lock::load(lock_path)?.get(id).cloned();
    let old = match pinned {
        Ok(kernel) => match kernel_tree(context, &kernel, keep) {
            Err(FetchError::PackageGone { .. }) if !locked => Some(kernel),
            result => {
                return Ok(Ready {
                    tree: result?,
                    kernel,
                    replaced: None,
                });
            }
        },
        Err(error) if locked => return Err(error.into()),
        Err(_) => None,
    };
    let mirror = context
        .mirrors
        .get()
        .map_err(|source| EnsureError::Mirror {
            id: id.clone(),
            source,
        })?;
    let index =
        Index::fetch(context, mirror, &entry.suite).map_err(|source| EnsureError::Index {
            id: id.clone(),
            source,
        })?;
    let new = pin(context, mirror, &index, (id, entry), old.as_ref()).map_err(|source| {
        EnsureError::Pin {
            id: id.clone(),
            source: Box::new(source),
        }
    })?;
    let tree = kernel_tree(context, &new, keep)?;
    write_pin(context, lock_path, &new)?;
    let replaced = old.map(|old| Replaced {
        old,
        new: new.clone(),
    });
    Ok(Ready {
        kernel: new,
        tree,
        replaced,
    })
}

/// Changes one pin in the file, whatever other processes change there.
fn write_pin(
    context: &Context<'_>,
    lock_path: &Path,
    kernel: &LockedKernel,
) -> Result<(), EnsureError> {
    let _changing = context
        .cache
        .lock("kernels.lock", context.progress)
        .map_err(FetchError::from)?;
    let mut lock = Lock::load(lock_path)?;
    lock.insert(kernel.clone());
    Ok(lock.save(lock_path)?)
}
