//! Packages that are in the archive's pool and no longer in an index.
//!
//! An index lists the newest version of each package; those of a superseded kernel leave it one by one and stay in the pool for longer. The
//! image of a signed kernel happens to stay listed while the packages with its modules do not, so nothing signed has their hashes. They are
//! taken all the same, since they can be proved to belong to the image:
//!
//! 1. Debian's key signs the index; the index has the hash of the package with the kernel image.
//! 2. The image holds the certificate of a key that was made for this one build, and destroyed with it.
//! 3. Every module in the packages carries a signature that fits that certificate, under its own name; and no other file in them is
//!    ever executed. A package from the pool that holds a kernel image is refused.
//!
//! What no signature covers are two texts: the build configuration and the list of built-in modules. A wrong one can make a tool say
//! something wrong of this kernel; it cannot make a guest execute anything. From then on the hash in the lock covers everything.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use kernels::{
    CertificateError, Item, Keep, LockedKernel, LockedPackage, Modinfo, ModinfoError, PackageError,
    Proof, Sha256, SignatureError, SignedModule, UnpackError, build_certificate, for_each_item,
    unpack,
};

use crate::cache::{self, CacheError, Kind, Unsound};
use crate::child::command;
use crate::download::{Content, DownloadError, Wanted, download, sha256_of};
use crate::fetch::{Context, FetchError, create, fetch_package, package_name};
use crate::mirror::Mirror;
use crate::progress::{Event, Progress};
use crate::resolve::{Partial, PoolPlace};

/// Debian's largest package of modules has 170 MB.
const MOST_PACKAGE_BYTES: u64 = 1 << 30;
/// More would only wait for the one that decompresses.
const MOST_WORKERS: usize = 4;

/// Why packages of the pool could not be taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// openssl, which verifies the signatures, is not there.
    #[error("openssl is needed to verify the signatures of modules ({reason}); install openssl")]
    NoOpenssl {
        /// What happened when it was started.
        reason: String,
    },
    /// The package with the kernel image could not be had.
    #[error(transparent)]
    Image(#[from] FetchError),
    /// A package could not be had.
    #[error("package {package} could not be taken from the pool")]
    Download {
        /// The package.
        package: String,
        /// Why.
        source: DownloadError,
    },
    /// The kernel image names no key that its modules are signed with.
    #[error("the modules of {release} cannot be verified")]
    Certificate {
        /// The kernel.
        release: String,
        /// Why.
        source: CertificateError,
    },
    /// A package of the pool holds a kernel image, which would take the place of the one that the index vouches for.
    #[error("package {package} holds a kernel image, which nothing vouches for")]
    UnexpectedImage {
        /// The package.
        package: String,
    },
    /// A package of the pool holds a file of another kernel.
    #[error("package {package} holds files of {found} instead of {expected}")]
    OtherRelease {
        /// The package.
        package: String,
        /// The kernel that it is needed for.
        expected: String,
        /// The kernel that the file is of.
        found: String,
    },
    /// A module is not signed.
    #[error("module {module} in package {package} is not vouched for")]
    Unsigned {
        /// The package.
        package: String,
        /// The module.
        module: String,
        /// What is wrong.
        source: SignatureError,
    },
    /// A module was signed with another key, or changed after it was signed.
    #[error(
        "module {module} in package {package} was not signed by the build of this kernel: {said}"
    )]
    BadSignature {
        /// The package.
        package: String,
        /// The module.
        module: String,
        /// What openssl said.
        said: String,
    },
    /// A file named like a module is not one.
    #[error("module {module} in package {package} is not a module")]
    NotAModule {
        /// The package.
        package: String,
        /// The module.
        module: String,
        /// Why.
        source: ModinfoError,
    },
    /// A signed module under the name of another one.
    #[error("module {module} in package {package} calls itself {found:?}")]
    Misnamed {
        /// The package.
        package: String,
        /// The module, as its file is named.
        module: String,
        /// The module, as it says.
        found: String,
    },
    /// A package is damaged.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A package, or the kernel image, could not be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Adds to a kernel the packages that the pool still has, downloaded, proved to belong to it, and kept in the cache.
///
/// Packages that `old` pins for the same kernel image were proved before and are not looked at again.
pub(crate) fn complete(
    context: &Context<'_>,
    mirror: &Mirror,
    partial: Partial,
    old: Option<&LockedKernel>,
) -> Result<LockedKernel, PoolError> {
    let Partial {
        mut kernel,
        missing,
    } = partial;
    if let Some(old) = old.filter(|old| covers(old, &kernel, &missing)) {
        kernel.packages = old.packages.clone();
        return Ok(kernel);
    }
    check_openssl()?;
    let scratch = context.cache.scratch()?;
    let certificate = certificate(context, &kernel, scratch.path())?;
    for PoolPlace { name, path } in missing {
        let archive = kernel.packages[0].archive;
        let uri = mirror.uri(archive, &path);
        let made = scratch.path().join("package.deb");
        let wanted = Wanted {
            name: &name,
            uri: &uri,
            content: Content::AtMost(MOST_PACKAGE_BYTES),
            retries: context.mirrors.retries(),
        };
        download(&wanted, &made, context.progress).map_err(|source| PoolError::Download {
            package: name.clone(),
            source,
        })?;
        let check = Check {
            package: &name,
            release: &kernel.release,
            certificate: &certificate,
            scratch: scratch.path(),
            progress: context.progress,
        };
        check.package(&made)?;
        let size = std::fs::metadata(&made)
            .map_err(|source| CacheError::new("read", &made, source))?
            .len();
        let sha256 = sha256_of(&made)?;
        keep(context, &name, &sha256, &made)?;
        kernel.packages.push(LockedPackage {
            name,
            archive,
            path,
            size,
            sha256,
            proof: Proof::ModuleSignatures,
        });
    }
    Ok(kernel)
}

/// Moves a package into the cache.
fn keep(context: &Context<'_>, name: &str, sha256: &Sha256, made: &Path) -> Result<(), CacheError> {
    let wanted = cache::Wanted {
        kind: Kind::Package,
        name: &package_name(sha256),
        what: name,
    };
    let open = |path: &Path| match sha256_of(path)? {
        found if found == *sha256 => Ok(()),
        _ => Err(Unsound::from("its bytes have changed")),
    };
    context
        .cache
        .provide(&wanted, context.progress, open, |entry| {
            std::fs::rename(made, entry).map_err(|source| CacheError::new("create", entry, source))
        })
}

/// Whether `old` has all packages of `kernel`, with the same bytes, and those in the places `missing` too.
fn covers(old: &LockedKernel, kernel: &LockedKernel, missing: &[PoolPlace]) -> bool {
    let proved = |place: &PoolPlace| {
        old.packages
            .iter()
            .any(|package| package.path == place.path && package.proof == Proof::ModuleSignatures)
    };
    old.packages.len() == kernel.packages.len() + missing.len()
        && kernel
            .packages
            .iter()
            .all(|package| old.packages.contains(package))
        && missing.iter().all(proved)
}

fn check_openssl() -> Result<(), PoolError> {
    let output = command("openssl")
        .arg("version")
        .stdin(Stdio::null())
        .output();
    let reason = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => error.to_string(),
    };
    Err(PoolError::NoOpenssl { reason })
}

/// Writes the certificate of the build to a file.
fn certificate(
    context: &Context<'_>,
    kernel: &LockedKernel,
    scratch: &Path,
) -> Result<PathBuf, PoolError> {
    let mut packages = Vec::new();
    for package in &kernel.packages {
        packages.push(fetch_package(context, package)?);
    }
    let dest = scratch.join("image");
    create(&dest)?;
    let vmlinux = unpack(&packages, Keep::Closure(&[]), &dest)?.vmlinux();
    let bytes =
        std::fs::read(&vmlinux).map_err(|source| CacheError::new("read", &vmlinux, source))?;
    let certificate = build_certificate(&bytes).map_err(|source| PoolError::Certificate {
        release: kernel.release.clone(),
        source,
    })?;
    let path = scratch.join("certificate.der");
    std::fs::write(&path, certificate).map_err(|source| CacheError::new("write", &path, source))?;
    Ok(path)
}

/// What a package of the pool is held against.
struct Check<'a> {
    package: &'a str,
    release: &'a str,
    certificate: &'a Path,
    scratch: &'a Path,
    progress: &'a dyn Progress,
}

/// A module: its name and its bytes.
type Module = (String, Vec<u8>);

impl Check<'_> {
    /// Checks every file of a package that would be taken up. One thread decompresses, the others verify.
    fn package(&self, file: &Path) -> Result<(), PoolError> {
        let workers = thread::available_parallelism()
            .map_or(1, usize::from)
            .min(MOST_WORKERS);
        let (sender, receiver) = sync_channel::<Module>(workers);
        let receiver = Mutex::new(receiver);
        let done = AtomicUsize::new(0);
        thread::scope(|scope| {
            let verify = |worker: usize| {
                let (receiver, done) = (&receiver, &done);
                scope.spawn(move || self.verify_all(worker, receiver, done))
            };
            let workers: Vec<_> = (0..workers).map(verify).collect();
            let read = for_each_item(file, |release, item| {
                if let Some(module) = self.module_in(release, item)? {
                    // With every worker gone the reason is in what they return.
                    let _ = sender.send(module);
                }
                Ok::<(), PoolError>(())
            });
            drop(sender);
            for worker in workers {
                worker
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            read
        })
    }

    fn module_in(&self, release: &str, item: Item) -> Result<Option<Module>, PoolError> {
        let package = || self.package.to_owned();
        if release != self.release {
            return Err(PoolError::OtherRelease {
                package: package(),
                expected: self.release.to_owned(),
                found: release.to_owned(),
            });
        }
        match item {
            Item::Module { name, bytes } => Ok(Some((name, bytes))),
            Item::Text => Ok(None),
            _ => Err(PoolError::UnexpectedImage { package: package() }),
        }
    }

    fn verify_all(
        &self,
        worker: usize,
        modules: &Mutex<Receiver<Module>>,
        done: &AtomicUsize,
    ) -> Result<(), PoolError> {
        let place = self.scratch.join(format!("module-{worker}"));
        loop {
            let received = modules
                .lock()
                .expect("no holder of this lock can panic")
                .recv();
            let Ok((name, bytes)) = received else {
                return Ok(());
            };
            let verified = self.verify(&place, &name, &bytes);
            if verified.is_err() {
                // The one that decompresses must not wait for a worker that is not there: what is left is taken and dropped.
                let modules = modules.lock().expect("no holder of this lock can panic");
                modules.iter().for_each(drop);
                return verified;
            }
            let modules = done.fetch_add(1, Ordering::Relaxed) + 1;
            self.progress.report(Event::Verifying {
                name: self.package,
                modules,
            });
        }
    }

    /// Verifies one module, with files at `place` and beside it.
    fn verify(&self, place: &Path, name: &str, module: &[u8]) -> Result<(), PoolError> {
        let (package, module_name) = (|| self.package.to_owned(), || name.to_owned());
        let SignedModule { content, signature } =
            SignedModule::split(module).map_err(|source| PoolError::Unsigned {
                package: package(),
                module: module_name(),
                source,
            })?;
        let info = Modinfo::of_module(content).map_err(|source| PoolError::NotAModule {
            package: package(),
            module: module_name(),
            source,
        })?;
        if info.name != name {
            return Err(PoolError::Misnamed {
                package: package(),
                module: module_name(),
                found: info.name,
            });
        }
        let signature_file = place.with_extension("p7");
        for (path, bytes) in [(place, content), (&signature_file, signature)] {
            std::fs::write(path, bytes).map_err(|source| CacheError::new("write", path, source))?;
        }
        let said = verify_with_openssl(place, &signature_file, self.certificate);
        match said.map_err(|error| PoolError::NoOpenssl {
            reason: error.to_string(),
        })? {
            None => Ok(()),
            Some(said) => Err(PoolError::BadSignature {
                package: package(),
                module: module_name(),
                said,
            }),
        }
    }
}

/// Verifies a detached signature by the one key that may have made it; returns what openssl has against it.
fn verify_with_openssl(
    content: &Path,
    signature: &Path,
    certificate: &Path,
) -> io::Result<Option<String>> {
    let output = command("openssl")
        .args(["cms", "-verify", "-binary", "-inform", "DER", "-in"])
        .arg(signature)
        .arg("-content")
        .arg(content)
        // The signer is this certificate, not one that the message brings along; it is its own issuer, so there is no chain to verify.
        .args([
            "-nointern",
            "-noverify",
            "-no-CAfile",
            "-no-CApath",
            "-certfile",
        ])
        .arg(certificate)
        .args(["-out", "/dev/null"])
        .stdin(Stdio::null())
        .output()?;
    if output.status.success() {
        return Ok(None);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Ok(Some(
        said.lines().next().unwrap_or("no reason given").to_owned(),
    ))
}
