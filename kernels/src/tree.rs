//! An unpacked kernel: a directory with the parts of its packages that are kept.
//!
//! ```text
//! tree.toml                 format and release; written last, so that a directory with it is whole
//! vmlinuz  vmlinux          as packaged; the ELF file inside it
//! config                    the build configuration, where the packages carry it
//! modules.builtin           modules that are part of vmlinux, where the packages carry the list
//! modules/<name>.ko         uncompressed, with `_` for `-` in the name
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::elf;
use crate::modinfo::normalise;

const FORMAT: u32 = 1;

/// An unpacked kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelTree {
    dir: PathBuf,
    release: String,
    modules: BTreeMap<String, PathBuf>,
    builtin: BTreeSet<String>,
}

/// Why a directory could not be used as a [`KernelTree`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TreeError {
    /// A file of it could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of it could not be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its `tree.toml` is not one.
    #[error("{} does not describe an unpacked kernel", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// It was unpacked by another version of the program.
    #[error("{} has format {found}, this program reads {FORMAT}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it says it has.
        found: u32,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u32,
    release: String,
}

/// Places of the files below the tree's directory.
pub(crate) mod place {
    pub(crate) const DESCRIPTION: &str = "tree.toml";
    pub(crate) const VMLINUZ: &str = "vmlinuz";
    pub(crate) const VMLINUX: &str = "vmlinux";
    pub(crate) const CONFIG: &str = "config";
    pub(crate) const BUILTIN: &str = "modules.builtin";
    pub(crate) const MODULES: &str = "modules";
}

impl KernelTree {
    /// Opens a directory that [`unpack`](crate::unpack()) has filled.
    ///
    /// # Errors
    ///
    /// It is not such a directory, or cannot be read.
    pub fn open(dir: &Path) -> Result<Self, TreeError> {
        let path = dir.join(place::DESCRIPTION);
        let Description { format, release } =
            toml::from_str(&read(&path)?).map_err(|source| TreeError::Parse {
                path: path.clone(),
                source: Box::new(source),
            })?;
        if format != FORMAT {
            return Err(TreeError::Format {
                path,
                found: format,
            });
        }
        let builtin = dir.join(place::BUILTIN);
        let builtin = if builtin.exists() {
            parse_builtin(&read(&builtin)?)
        } else {
            BTreeSet::new()
        };
        Ok(Self {
            dir: dir.to_owned(),
            release,
            modules: list_modules(&dir.join(place::MODULES))?,
            builtin,
        })
    }

    /// Writes the description that makes `dir` a tree.
    pub(crate) fn describe(dir: &Path, release: &str) -> Result<(), TreeError> {
        let path = dir.join(place::DESCRIPTION);
        let description = Description {
            format: FORMAT,
            release: release.to_owned(),
        };
        let text = toml::to_string(&description).expect("a number and a string are TOML");
        std::fs::write(&path, text).map_err(|source| TreeError::Write { path, source })
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What `uname -r` says under this kernel.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// The kernel as an uncompressed ELF file.
    #[must_use]
    pub fn vmlinux(&self) -> PathBuf {
        self.dir.join(place::VMLINUX)
    }

    /// The kernel as it was packaged.
    #[must_use]
    pub fn vmlinuz(&self) -> PathBuf {
        self.dir.join(place::VMLINUZ)
    }

    /// The build configuration, if the packages carried it.
    #[must_use]
    pub fn config(&self) -> Option<PathBuf> {
        Some(self.dir.join(place::CONFIG)).filter(|path| path.exists())
    }

    /// The kept modules: name, with `_` for `-`, and uncompressed file.
    #[must_use]
    pub fn modules(&self) -> &BTreeMap<String, PathBuf> {
        &self.modules
    }

    /// The names, with `_` for `-`, of modules that are part of vmlinux. Empty if the packages carried no list.
    #[must_use]
    pub fn builtin(&self) -> &BTreeSet<String> {
        &self.builtin
    }

    /// Whether vmlinux says where it can be entered over PVH, so that QEMU can boot it uncompressed.
    ///
    /// # Errors
    ///
    /// The file cannot be read or is not a 64-bit ELF file.
    pub fn has_pvh_entry(&self) -> Result<bool, TreeError> {
        let path = self.vmlinux();
        elf::has_pvh_entry(&path).map_err(|source| TreeError::Read { path, source })
    }
}

fn read(path: &Path) -> Result<String, TreeError> {
    std::fs::read_to_string(path).map_err(|source| TreeError::Read {
        path: path.to_owned(),
        source,
    })
}

fn list_modules(dir: &Path) -> Result<BTreeMap<String, PathBuf>, TreeError> {
    let failed = |source| TreeError::Read {
        path: dir.to_owned(),
        source,
    };
    let mut modules = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if let (Some(stem), Some("ko")) = (
            stem,
            path.extension().and_then(|extension| extension.to_str()),
        ) {
            modules.insert(normalise(stem), path.clone());
        }
    }
    Ok(modules)
}

/// Names in a `modules.builtin`: a line each, such as `kernel/crypto/cmac.ko`.
pub(crate) fn parse_builtin(text: &str) -> BTreeSet<String> {
    let stem = |line: &str| {
        Some(normalise(
            line.trim().rsplit('/').next()?.strip_suffix(".ko")?,
        ))
    };
    text.lines().filter_map(stem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Check that the names of built-in modules are taken from the paths.
    #[test]
    fn builtin_list_is_read_by_name() {
        let names =
            parse_builtin("kernel/crypto/cmac.ko\nkernel/drivers/virtio/virtio-ring.ko\nnoise\n");
        assert_eq!(
            names,
            BTreeSet::from(["cmac".to_owned(), "virtio_ring".to_owned()])
        );
    }

    /// Check that a directory without a sound description is refused.
    #[rstest]
    #[case::empty("", "does not describe")]
    #[case::other_format("format = 99\nrelease = '1'", "has format 99")]
    fn tree_with_unsound_description_is_refused(#[case] text: &str, #[case] reason: &str) {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(
            KernelTree::open(dir.path()),
            Err(TreeError::Read { .. })
        ));
        std::fs::write(dir.path().join(place::DESCRIPTION), text).unwrap();
        let message = KernelTree::open(dir.path()).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }
}
