//! From a pinned kernel to an unpacked one, through the cache.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kernels::{
    Entry, Keep, KernelId, KernelTree, Lock, LockError, LockedKernel, LockedPackage, Manifest,
    NotLocked, Sha256, Source, UnknownKernel, UnpackError, unpack,
};

use crate::cache::{self, Cache, CacheError, Kind, Unsound};
use crate::download::{Content, DownloadError, Wanted, download, sha256_of};
use crate::index::{Index, IndexError};
use crate::local::{LocalError, local_tree};
use crate::mirror::{MirrorError, Mirrors};
use crate::progress::{Event, Progress};
use crate::update::{PinError, pin};

/// Changes when what [`unpack`] leaves in a tree changes.
const TREE_FORMAT: &str = "2";

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
    obtain(context, package, Depth::Size)
}

/// How closely a package in the cache is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Size,
    /// The disk may have changed what was right when it was downloaded.
    Hash,
}

/// The name of a package in the cache.
pub(crate) fn package_name(sha256: &Sha256) -> String {
    format!("{sha256}.deb")
}

fn obtain(
    context: &Context<'_>,
    package: &LockedPackage,
    depth: Depth,
) -> Result<PathBuf, FetchError> {
    let LockedPackage {
        name,
        archive,
        path,
        size,
        sha256,
        proof: _,
    } = package;
    let wanted = cache::Wanted {
        kind: Kind::Package,
        name: &package_name(sha256),
        what: name,
    };
    // A download is hashed as it is.
    let fresh = Cell::new(false);
    let open = |path: &Path| {
        if std::fs::metadata(path)?.len() != *size {
            return Err(Unsound::from("it does not have its size"));
        }
        if depth == Depth::Hash && !fresh.get() && sha256_of(path)? != *sha256 {
            return Err(Unsound::from("its bytes have changed"));
        }
        Ok(path.to_owned())
    };
    context
        .cache
        .provide(&wanted, context.progress, open, |made| {
            let mirror = context.mirrors.get().map_err(|source| FetchError::Mirror {
                package: name.clone(),
                source,
            })?;
            let wanted = Wanted {
                name,
                uri: &mirror.uri(*archive, path),
                content: Content::Exactly {
                    size: *size,
                    sha256: *sha256,
                },
                retries: context.mirrors.retries(),
            };
            download(&wanted, made, context.progress).map_err(|source| FetchError::Download {
                package: name.clone(),
                source,
            })?;
            fresh.set(true);
            Ok(())
        })
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
    let hashes = kernel.packages.iter().map(|package| package.sha256);
    let wanted = cache::Wanted {
        kind: Kind::Tree,
        name: &tree_name(&kernel.release, hashes, keep),
        what: &format!("kernel {} ({})", kernel.release, kernel.id),
    };
    let make = |made: &Path| {
        let mut packages = Vec::new();
        for package in &kernel.packages {
            let path = obtain(context, package, Depth::Hash);
            packages.push(path.map_err(|error| gone(&kernel.id, error))?);
        }
        create(made)?;
        unpack_into(context, kernel, &packages, keep, made)
    };
    context
        .cache
        .provide(&wanted, context.progress, open_tree, make)
}

/// Opens a tree in the cache.
pub(crate) fn open_tree(dir: &Path) -> Result<KernelTree, Unsound> {
    Ok(KernelTree::open(dir)?)
}

/// Creates the directory of an entry in the making.
pub(crate) fn create(dir: &Path) -> Result<(), CacheError> {
    std::fs::create_dir(dir).map_err(|source| CacheError::new("create", dir, source))
}

/// A name for a tree that is another one for other contents, other modules, and other versions of the format.
pub(crate) fn tree_name(
    start: &str,
    contents: impl IntoIterator<Item = Sha256>,
    keep: Keep<'_>,
) -> String {
    let mut parts = vec![TREE_FORMAT.to_owned()];
    parts.extend(contents.into_iter().map(|hash| hash.to_string()));
    match keep {
        Keep::All => parts.push("all".to_owned()),
        Keep::Closure(roots) => {
            let mut roots = roots.to_vec();
            roots.sort_unstable();
            parts.push("closure".to_owned());
            parts.extend(roots.into_iter().map(str::to_owned));
        }
    }
    let key = Sha256::of(parts.join("\n").as_bytes());
    format!("{start}-{}", key.short())
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
    /// What it is pinned to, now; none if it does not come from an archive.
    pub pinned: Option<LockedKernel>,
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
    /// It does not come from an archive, and could not be had from where its name says.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// `kernels.toml` names no suite to look in.
    #[error("{id} has no suite in kernels.toml")]
    NoSuite {
        /// The kernel.
        id: KernelId,
    },
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

/// Makes a kernel ready: one of Debian's archive as `manifest` lists it and `lock_path` pins it, any other from where its name says.
///
/// A kernel that is not pinned, or whose packages have left the archive, is pinned to the newest of its series, and the file is updated;
/// with `locked` that is an error. Relative paths in names of other kernels are taken from the working directory.
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
    if id.source() != Source::Debian {
        return Ok(Ready {
            pinned: None,
            tree: local_tree(context, id, keep)?,
            replaced: None,
        });
    }
    let (_, entry) = manifest.find(&id.to_string())?;
    let pinned = Lock::load(lock_path)?.get(id).cloned();
    if let Ok(LockedKernel {
        unchecked: Some(why),
        ..
    }) = &pinned
    {
        tracing::warn!(
            kernel = %id,
            why,
            "pinned from an index whose SIGNATURE NOBODY CHECKED; run `cargo xtask update-kernels` where gpgv and debian-archive-keyring are installed"
        );
    }
    let old = match pinned {
        Ok(kernel) => match kernel_tree(context, &kernel, keep) {
            Err(FetchError::PackageGone { .. }) if !locked => Some(kernel),
            result => {
                return Ok(Ready {
                    tree: result?,
                    pinned: Some(kernel),
                    replaced: None,
                });
            }
        },
        Err(error) if locked => return Err(error.into()),
        Err(_) => None,
    };
    let new = pin_anew(context, id, entry, old.as_ref())?;
    let tree = kernel_tree(context, &new, keep)?;
    write_pin(context, lock_path, &new)?;
    let replaced = old.map(|old| Replaced {
        old,
        new: new.clone(),
    });
    Ok(Ready {
        pinned: Some(new),
        tree,
        replaced,
    })
}

/// Looks a kernel up in the index of its suite.
fn pin_anew(
    context: &Context<'_>,
    id: &KernelId,
    entry: &Entry,
    old: Option<&LockedKernel>,
) -> Result<LockedKernel, EnsureError> {
    let id = || id.clone();
    let suite = entry
        .suite
        .as_ref()
        .ok_or_else(|| EnsureError::NoSuite { id: id() })?;
    let mirror = context
        .mirrors
        .get()
        .map_err(|source| EnsureError::Mirror { id: id(), source })?;
    let index = Index::fetch(context, mirror, suite)
        .map_err(|source| EnsureError::Index { id: id(), source })?;
    let new = pin(context, mirror, &index, (&id(), entry), old);
    new.map_err(|source| EnsureError::Pin {
        id: id(),
        source: Box::new(source),
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
