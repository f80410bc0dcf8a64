//! Kernels that do not come from an archive: files and directories of this machine, the running kernel, packages to download.
//!
//! They are unpacked into the cache like others, under a name that follows from what the files are: a build that was made anew is
//! another entry. Files that change while they are read are noticed.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use kernels::{
    Folder, FolderError, Keep, KernelId, KernelTree, Sha256, Source, UnpackError, UrlName, unpack,
};

use crate::cache::{CacheError, Kind, Unsound, Wanted};
use crate::download::{self, Content, DownloadError, download, sha256_of};
use crate::fetch::{Context, create, open_tree, tree_name};
use crate::mirror::{MirrorError, local_path};
use crate::progress::Event;

/// What `uname -r` prints.
const RUNNING: &str = "/proc/sys/kernel/osrelease";
/// Fedora's largest kernel package has 100 MB, Debian's 170 MB.
const MOST_PACKAGE_BYTES: u64 = 1 << 30;

/// Why a kernel could not be had from where its name says.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// A path begins with `~`, and there is no home directory.
    #[error("{id} is below the home directory, and HOME is not set")]
    NoHome {
        /// The kernel.
        id: KernelId,
    },
    /// A file could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A directory holds no kernel, or several.
    #[error("no kernel {id}")]
    Folder {
        /// The kernel.
        id: KernelId,
        /// Why.
        source: FolderError,
    },
    /// A package could not be downloaded.
    #[error("package {uri} is needed")]
    Download {
        /// The address.
        uri: String,
        /// Why.
        source: Box<DownloadError>,
    },
    /// A package is not in the cache, and the network is not to be used.
    #[error("package {uri} is needed")]
    Offline {
        /// The address.
        uri: String,
        /// Why it could not be downloaded.
        source: MirrorError,
    },
    /// The files could not be unpacked.
    #[error("failed to unpack {id}")]
    Unpack {
        /// The kernel.
        id: KernelId,
        /// Why.
        source: Box<UnpackError>,
    },
    /// The files changed while they were read, by a build for example.
    #[error("the files of {id} changed while they were read; try again when nothing changes them")]
    Changed {
        /// The kernel.
        id: KernelId,
    },
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The kernel `id`, unpacked.
pub(crate) fn local_tree(
    context: &Context<'_>,
    id: &KernelId,
    keep: Keep<'_>,
) -> Result<KernelTree, LocalError> {
    match id.source() {
        Source::Path => {
            let mut paths = resolved(id)?;
            let root = paths.pop().unwrap_or_default();
            if KernelTree::is_at(&root) {
                return KernelTree::open(&root).map_err(|error| unpack_failed(id, error.into()));
            }
            folder_tree(context, id, keep, || Folder::open(&root))
        }
        Source::Host => {
            let release = std::fs::read_to_string(RUNNING).map_err(|source| LocalError::Read {
                path: PathBuf::from(RUNNING),
                source,
            })?;
            folder_tree(context, id, keep, || {
                Folder::installed(Path::new("/"), release.trim())
            })
        }
        Source::Url => {
            let mut packages = Vec::new();
            for url in id.urls() {
                packages.push(fetch_url(context, &url)?);
            }
            let urls = id.urls().into_iter();
            let hashes: Vec<Sha256> = urls.map(|url| url.sha256).collect();
            packages_tree(context, id, keep, &packages, &hashes, || Ok(()))
        }
        // Kernels of the archive do not come here; they would have no files.
        Source::Deb | Source::Rpm | Source::Debian => {
            let packages = resolved(id)?;
            let before = identities(&packages)?;
            packages_tree(context, id, keep, &packages, &before, || {
                unchanged(id, before == identities(&packages)?)
            })
        }
    }
}

/// The absolute paths of the files or the directory that `id` names.
fn resolved(id: &KernelId) -> Result<Vec<PathBuf>, LocalError> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty());
    let mut paths = Vec::new();
    for path in id.paths() {
        let path = match path.strip_prefix("~") {
            Ok(rest) => {
                let home = home
                    .as_ref()
                    .ok_or_else(|| LocalError::NoHome { id: id.clone() })?;
                Path::new(home).join(rest)
            }
            Err(_) => path.to_owned(),
        };
        let path = path
            .canonicalize()
            .map_err(|source| LocalError::Read { path, source })?;
        paths.push(path);
    }
    Ok(paths)
}

/// For each file a hash that is another one as soon as the file is: of its path, number, size and time of change.
fn identities(files: &[PathBuf]) -> Result<Vec<Sha256>, LocalError> {
    let identity = |path: &PathBuf| {
        let metadata = std::fs::metadata(path).map_err(|source| LocalError::Read {
            path: path.clone(),
            source,
        })?;
        let text = format!(
            "{} {} {} {}.{}",
            path.display(),
            metadata.ino(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        Ok(Sha256::of(text.as_bytes()))
    };
    files.iter().map(identity).collect()
}

fn unchanged(id: &KernelId, same: bool) -> Result<(), LocalError> {
    if same {
        Ok(())
    } else {
        Err(LocalError::Changed { id: id.clone() })
    }
}

fn unpack_failed(id: &KernelId, error: UnpackError) -> LocalError {
    match error {
        UnpackError::Write { path, source } => CacheError::new("write", &path, source).into(),
        source => LocalError::Unpack {
            id: id.clone(),
            source: Box::new(source),
        },
    }
}

fn folder_tree(
    context: &Context<'_>,
    id: &KernelId,
    keep: Keep<'_>,
    look: impl Fn() -> Result<Folder, FolderError>,
) -> Result<KernelTree, LocalError> {
    let no_kernel = |source| LocalError::Folder {
        id: id.clone(),
        source,
    };
    let folder = look().map_err(no_kernel)?;
    let before = folder.fingerprint().map_err(no_kernel)?;
    let release = folder.release();
    tree(context, id, keep, &[before], |made| {
        context.progress.report(Event::Unpacking { release });
        let start = Instant::now();
        folder
            .unpack(keep, made)
            .map_err(|error| unpack_failed(id, error))?;
        let after = look().and_then(|folder| folder.fingerprint());
        unchanged(id, before == after.map_err(no_kernel)?)?;
        let took = start.elapsed();
        context.progress.report(Event::Unpacked { release, took });
        Ok(())
    })
}

fn packages_tree(
    context: &Context<'_>,
    id: &KernelId,
    keep: Keep<'_>,
    packages: &[PathBuf],
    contents: &[Sha256],
    check: impl FnOnce() -> Result<(), LocalError>,
) -> Result<KernelTree, LocalError> {
    tree(context, id, keep, contents, |made| {
        let name = id.to_string();
        context.progress.report(Event::Unpacking { release: &name });
        let start = Instant::now();
        let tree = unpack(packages, keep, made).map_err(|error| unpack_failed(id, error))?;
        context.progress.report(Event::Unpacked {
            release: tree.release(),
            took: start.elapsed(),
        });
        check()
    })
}

fn tree(
    context: &Context<'_>,
    id: &KernelId,
    keep: Keep<'_>,
    contents: &[Sha256],
    unpack: impl FnOnce(&Path) -> Result<(), LocalError>,
) -> Result<KernelTree, LocalError> {
    let wanted = Wanted {
        kind: Kind::Tree,
        name: &tree_name(id.source().as_str(), contents.iter().copied(), keep),
        what: &format!("kernel {id}"),
    };
    context
        .cache
        .provide(&wanted, context.progress, open_tree, |made| {
            create(made)?;
            unpack(made)
        })
}

fn fetch_url(context: &Context<'_>, url: &UrlName<'_>) -> Result<PathBuf, LocalError> {
    let UrlName { uri, sha256 } = *url;
    let wanted = Wanted {
        kind: Kind::Package,
        name: &format!("{sha256}.package"),
        what: uri,
    };
    let open = |path: &Path| match sha256_of(path)? {
        found if found == sha256 => Ok(path.to_owned()),
        _ => Err(Unsound::from("its bytes have changed")),
    };
    context
        .cache
        .provide(&wanted, context.progress, open, |made| {
            let allowed = match local_path(uri) {
                Some(_) => Ok(()),
                None => context.mirrors.allow_network(),
            };
            allowed.map_err(|source| LocalError::Offline {
                uri: uri.to_owned(),
                source,
            })?;
            let wanted = download::Wanted {
                name: uri,
                uri,
                content: Content::Hashed {
                    most_bytes: MOST_PACKAGE_BYTES,
                    sha256,
                },
                retries: context.mirrors.retries(),
            };
            download(&wanted, made, context.progress).map_err(|source| LocalError::Download {
                uri: uri.to_owned(),
                source: Box::new(source),
            })
        })
}
