//! `kernels.lock`: the exact packages that stand for the kernels of `kernels.toml`. A program writes it.

use std::fmt::{self, Display, Formatter};
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::id::KernelId;
use crate::nearest::{DidYouMean, nearest};
use crate::sha256::Sha256;

const FORMAT: u32 = 1;
const HEADER: &str = "\
# The exact packages that stand for the kernels of kernels.toml. `cargo xtask update-kernels` writes this file; do not edit it.
#
# For each kernel: `release` is what `uname -r` says under it, `version` is Debian's. For each package: `archive` is the archive that
# holds it, `path` its place below that archive's root, `size` is in bytes, `sha256` is what a download must hash to. A package with
# `proof = \"module-signatures\"` was in the pool and not in the index (see `pool` in kernels.toml). A kernel with `unchecked` was resolved
# in an index whose signature could not be checked, for the reason that follows.

";

/// The kernels of `kernels.lock`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    kernels: Vec<LockedKernel>,
}

/// One kernel, pinned to packages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedKernel {
    /// Its name in `kernels.toml`.
    pub id: KernelId,
    /// What `uname -r` says, such as `6.1.0-56-amd64`.
    pub release: String,
    /// Debian's version, such as `6.1.192-2`.
    pub version: String,
    /// The suite that it was resolved in.
    pub suite: String,
    /// Why the signature of the suite's index could not be checked; none if it was good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unchecked: Option<String>,
    /// The packages that its files are in.
    #[serde(rename = "package")]
    pub packages: Vec<LockedPackage>,
}

/// One package, pinned to its bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockedPackage {
    /// Its name, such as `linux-image-6.1.0-56-amd64`.
    pub name: String,
    /// The archive that holds it.
    pub archive: Archive,
    /// Its place below the archive's root, such as `pool/main/l/linux/….deb`.
    pub path: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its hash.
    pub sha256: Sha256,
    /// What the hash was taken from.
    #[serde(default, skip_serializing_if = "Proof::is_index")]
    pub proof: Proof,
}

/// Why the hash of a package is the right one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// The suite's index says so.
    #[default]
    #[serde(rename = "index")]
    Index,
    /// Every module in the package was signed by the build of a kernel image whose hash the index had, and the package holds no kernel
    /// image itself. The texts in it, the configuration and the list of built-in modules, are as they were found.
    #[serde(rename = "module-signatures")]
    ModuleSignatures,
}

impl Proof {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
    fn is_index(&self) -> bool {
        *self == Self::Index
    }
}

/// One of Debian's two archives that carry kernels. A mirror may hold one without the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Archive {
    /// Releases, backports, unstable.
    #[serde(rename = "debian")]
    Debian,
    /// Security updates of releases.
    #[serde(rename = "debian-security")]
    DebianSecurity,
}

impl Archive {
    /// The archive that carries `suite`.
    #[must_use]
    pub fn of_suite(suite: &str) -> Self {
        if suite.ends_with("-security") {
            Self::DebianSecurity
        } else {
            Self::Debian
        }
    }

    /// Its name, which is also its folder on a mirror.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::DebianSecurity => "debian-security",
        }
    }
}

impl Display for Archive {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why `kernels.lock` could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The file could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not a lock.
    #[error("{} is damaged; `cargo xtask update-kernels` makes a new one", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// The file was written by another version of the program.
    #[error("{} has format {found}, this program reads {FORMAT}; `cargo xtask update-kernels` makes a new one", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it says it has.
        found: u32,
    },
    /// A path or a name that leads out of where it belongs.
    #[error("{}: {id} has an unusable {what} {text:?}", path.display())]
    Unsafe {
        /// The file.
        path: PathBuf,
        /// The kernel.
        id: KernelId,
        /// Which field.
        what: &'static str,
        /// Its text.
        text: String,
    },
}

/// A kernel that `kernels.lock` does not pin.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("kernel {id} is not in kernels.lock{}; `cargo xtask update-kernels` pins what kernels.toml lists", DidYouMean(.nearest))]
pub struct NotLocked {
    /// The kernel.
    pub id: KernelId,
    /// Pinned kernels that resemble it, best first.
    pub nearest: Vec<String>,
}

/// The file as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    #[serde(default, rename = "kernel")]
    kernels: Vec<LockedKernel>,
}

impl Lock {
    /// Reads a `kernels.lock`. A file that is not there is an empty lock.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a lock.
    pub fn load(path: &Path) -> Result<Self, LockError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(LockError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Parses the text of a `kernels.lock`; `path` is for messages.
    ///
    /// # Errors
    ///
    /// The text is not a lock, or names something outside an archive.
    pub fn parse(text: &str, path: &Path) -> Result<Self, LockError> {
        let File { format, kernels } = toml::from_str(text).map_err(|source| LockError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        if format != FORMAT {
            return Err(LockError::Format {
                path: path.to_owned(),
                found: format,
            });
        }
        let mut lock = Self::default();
        for kernel in kernels {
            check_names(&kernel, path)?;
            lock.insert(kernel);
        }
        Ok(lock)
    }

    /// Writes the lock so that the file is the old one or the new one at every moment.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), LockError> {
        let failed = |source| LockError::Write {
            path: path.to_owned(),
            source,
        };
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        let mut file = tempfile::Builder::new()
            .prefix(".kernels.lock.")
            .tempfile_in(folder)
            .map_err(failed)?;
        file.write_all(self.to_text().as_bytes()).map_err(failed)?;
        let permissions = std::fs::metadata(path).map(|existing| existing.permissions());
        let permissions =
            permissions.unwrap_or_else(|_| std::os::unix::fs::PermissionsExt::from_mode(0o644));
        file.as_file()
            .set_permissions(permissions)
            .map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    /// The lock as it stands in the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let file = File {
            format: FORMAT,
            kernels: self.kernels.clone(),
        };
        let body = toml::to_string(&file).expect("strings, numbers and lists of tables are TOML");
        format!("{HEADER}{body}")
    }

    /// All pinned kernels, oldest series first.
    pub fn iter(&self) -> impl Iterator<Item = &LockedKernel> {
        self.kernels.iter()
    }

    /// Finds a kernel.
    ///
    /// # Errors
    ///
    /// It is not pinned; the error carries the names that come nearest.
    pub fn get(&self, id: &KernelId) -> Result<&LockedKernel, NotLocked> {
        self.kernels
            .iter()
            .find(|kernel| kernel.id == *id)
            .ok_or_else(|| {
                let known: Vec<String> = self
                    .kernels
                    .iter()
                    .map(|kernel| kernel.id.to_string())
                    .collect();
                NotLocked {
                    id: id.clone(),
                    nearest: nearest(&id.to_string(), known.iter().map(String::as_str)),
                }
            })
    }

    /// Pins a kernel, in place of an earlier pin of the same id, which is returned.
    pub fn insert(&mut self, kernel: LockedKernel) -> Option<LockedKernel> {
        match self
            .kernels
            .binary_search_by(|existing| existing.id.cmp(&kernel.id))
        {
            Ok(at) => Some(std::mem::replace(&mut self.kernels[at], kernel)),
            Err(at) => {
                self.kernels.insert(at, kernel);
                None
            }
        }
    }

    /// Unpins a kernel.
    pub fn remove(&mut self, id: &KernelId) -> Option<LockedKernel> {
        let at = self.kernels.iter().position(|kernel| kernel.id == *id)?;
        Some(self.kernels.remove(at))
    }
}

fn check_names(kernel: &LockedKernel, path: &Path) -> Result<(), LockError> {
    let wrong = |what, text: &str| LockError::Unsafe {
        path: path.to_owned(),
        id: kernel.id.clone(),
        what,
        text: text.to_owned(),
    };
    if !is_plain_path(&kernel.release) || kernel.release.contains('/') {
        return Err(wrong("release", &kernel.release));
    }
    for package in &kernel.packages {
        if !is_plain_path(&package.path) {
            return Err(wrong("path", &package.path));
        }
        if !is_plain_path(&package.name) || package.name.contains('/') {
            return Err(wrong("package name", &package.name));
        }
    }
    Ok(())
}

/// Whether `path` stays below where it starts and is spelled in the characters of Debian's pool.
pub(crate) fn is_plain_path(path: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._+-~:".contains(&b);
    let inside = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    !path.is_empty() && path.bytes().all(plain) && inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    fn kernel(id: &str) -> LockedKernel {
        LockedKernel {
            id: id.parse().unwrap(),
            release: "6.1.0-56-amd64".to_owned(),
            version: "6.1.192-2".to_owned(),
            suite: "bookworm-security".to_owned(),
            unchecked: None,
            packages: vec![LockedPackage {
                name: "linux-image-6.1.0-56-amd64".to_owned(),
                archive: Archive::DebianSecurity,
                path: "pool/main/l/linux_6.1.192-2_amd64.deb".to_owned(),
                size: 70_550_672,
                sha256: Sha256::of(b"package"),
                proof: Proof::Index,
            }],
        }
    }

    fn parse(text: &str) -> Result<Lock, LockError> {
        Lock::parse(text, Path::new("kernels.lock"))
    }

    /// Check that a lock survives being written and read, in order of version whatever the order of insertion.
    #[test]
    fn lock_written_and_read_is_the_same() {
        let mut lock = Lock::default();
        for id in ["debian:6.12", "debian:5.10", "debian:6.1"] {
            assert_eq!(lock.insert(kernel(id)), None);
        }
        assert_eq!(parse(&lock.to_text()).unwrap(), lock);
        let ids: Vec<String> = lock.iter().map(|kernel| kernel.id.to_string()).collect();
        assert_eq!(ids, ["debian:5.10", "debian:6.1", "debian:6.12"]);
    }

    /// Check that what is out of the ordinary about a pin is written and read, and that nothing is written of what is not.
    #[test]
    fn lock_of_unusual_pin_says_what_is_unusual() {
        let mut unusual = kernel("debian:7.0");
        unusual.unchecked = Some("gpgv is not installed".to_owned());
        unusual.packages[0].proof = Proof::ModuleSignatures;
        let mut lock = Lock::default();
        lock.insert(kernel("debian:6.1"));
        lock.insert(unusual.clone());
        let text = lock.to_text();
        let said = |what: &str| text.lines().filter(|line| *line == what).count();
        assert_eq!(said("proof = \"module-signatures\""), 1, "{text}");
        assert_eq!(said("unchecked = \"gpgv is not installed\""), 1, "{text}");
        assert_eq!(parse(&text).unwrap().get(&unusual.id), Ok(&unusual));
    }

    /// Check that saving replaces the file and leaves nothing beside it.
    #[test]
    fn lock_saved_replaces_the_file_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kernels.lock");
        std::fs::write(&path, "old").unwrap();
        let mut lock = Lock::default();
        lock.insert(kernel("debian:6.1"));
        lock.save(&path).unwrap();
        assert_eq!(Lock::load(&path).unwrap(), lock);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    /// Check that a missing file is an empty lock, and that what it lacks is told with the way out.
    #[test]
    fn lock_without_file_is_empty() {
        let lock = Lock::load(Path::new("/nonexistent/kernels.lock")).unwrap();
        let message = lock
            .get(&"debian:6.1".parse().unwrap())
            .unwrap_err()
            .to_string();
        assert!(message.contains("cargo xtask update-kernels"), "{message}");
    }

    /// Check that pinning again replaces and returns the earlier pin.
    #[test]
    fn insert_of_pinned_kernel_returns_the_old_pin() {
        let mut lock = Lock::default();
        lock.insert(kernel("debian:6.1"));
        let newer = LockedKernel {
            version: "6.1.193-1".to_owned(),
            ..kernel("debian:6.1")
        };
        assert_eq!(lock.insert(newer.clone()), Some(kernel("debian:6.1")));
        assert_eq!(lock.get(&newer.id).unwrap(), &newer);
    }

    /// Check that files of another format, damaged files and paths that lead elsewhere are refused.
    #[rstest]
    #[case::format("format = 1", "format = 99", "has format 99")]
    #[case::hash("sha256 = \"", "sha256 = \"z", "is damaged")]
    #[case::path("pool/main", "../../etc", "unusable path")]
    #[case::absolute("pool/main", "/etc", "unusable path")]
    #[case::query("pool/main", "pool?/main", "unusable path")]
    #[case::release("6.1.0-56-amd64\"\nversion", "..\"\nversion", "unusable release")]
    fn lock_with_wrong_field_is_refused(
        #[case] from: &str,
        #[case] to: &str,
        #[case] reason: &str,
    ) {
        let mut lock = Lock::default();
        lock.insert(kernel("debian:6.1"));
        let text = lock.to_text();
        assert!(text.contains(from), "{text}");
        let message = parse(&text.replace(from, to)).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }

    proptest! {
        /// Check that no text makes the parser panic.
        #[test]
        fn lock_from_any_text_does_not_panic(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
