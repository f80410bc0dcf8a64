//! An unpacked kernel: a directory with the parts of its packages that are kept.
//!
//! ```text
//! tree.toml                 format, release, size and hash of each file; written last, so that a directory with it is whole
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
use crate::lock::is_plain_path;
use crate::modinfo::normalise;
use crate::sha256::Sha256;

const FORMAT: u32 = 2;

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
    /// A file of it is not what it was when it was unpacked.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The part of a `tree.toml` that tells versions of the program apart.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Description {
    format: u32,
    release: String,
    files: BTreeMap<String, Content>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    size: u64,
    sha256: Sha256,
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
    /// Whether `dir` says that it is such a tree.
    #[must_use]
    pub fn is_at(dir: &Path) -> bool {
        dir.join(place::DESCRIPTION).exists()
    }

    /// Opens a directory that [`unpack`](crate::unpack()) has filled. Every file has to have its size; what it holds is not looked at.
    ///
    /// # Errors
    ///
    /// It is not such a directory, or cannot be read, or lacks a file or a part of one.
    pub fn open(dir: &Path) -> Result<Self, TreeError> {
        let Description { release, files, .. } = Description::read(dir)?;
        for (name, content) in &files {
            let path = file_in(dir, name)?;
            let found = std::fs::metadata(&path).map_err(|source| TreeError::Read {
                path: path.clone(),
                source,
            })?;
            if found.len() != content.size {
                return Err(TreeError::Damaged {
                    path,
                    why: "it does not have its size",
                });
            }
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

    /// Checks that every file holds what it held when it was unpacked.
    ///
    /// # Errors
    ///
    /// One does not, or cannot be read.
    pub fn verify(&self) -> Result<(), TreeError> {
        for (name, content) in Description::read(&self.dir)?.files {
            let path = file_in(&self.dir, &name)?;
            if content_of(&path)?.sha256 != content.sha256 {
                return Err(TreeError::Damaged {
                    path,
                    why: "its bytes have changed",
                });
            }
        }
        Ok(())
    }

    /// Writes the description that makes `dir` a tree.
    pub(crate) fn describe(dir: &Path, release: &str) -> Result<(), TreeError> {
        let path = dir.join(place::DESCRIPTION);
        let texts = [
            place::VMLINUZ,
            place::VMLINUX,
            place::CONFIG,
            place::BUILTIN,
        ]
        .into_iter();
        let texts = texts
            .filter(|name| dir.join(name).exists())
            .map(str::to_owned);
        let modules = list_modules(&dir.join(place::MODULES))?.into_keys();
        let modules = modules.map(|name| format!("{}/{name}.ko", place::MODULES));
        let mut files = BTreeMap::new();
        for name in texts.chain(modules) {
            let content = content_of(&dir.join(&name))?;
            files.insert(name, content);
        }
        let description = Description {
            format: FORMAT,
            release: release.to_owned(),
            files,
        };
        let text = toml::to_string(&description).expect("numbers, strings and tables are TOML");
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

impl Description {
    fn read(dir: &Path) -> Result<Self, TreeError> {
        let path = dir.join(place::DESCRIPTION);
        let text = read(&path)?;
        let parse = |source| TreeError::Parse {
            path: path.clone(),
            source: Box::new(source),
        };
        let Format { format } = toml::from_str(&text).map_err(parse)?;
        if format != FORMAT {
            return Err(TreeError::Format {
                path,
                found: format,
            });
        }
        toml::from_str(&text).map_err(parse)
    }
}

/// The file that a description calls `name`.
fn file_in(dir: &Path, name: &str) -> Result<PathBuf, TreeError> {
    if is_plain_path(name) {
        return Ok(dir.join(name));
    }
    Err(TreeError::Damaged {
        path: dir.join(place::DESCRIPTION),
        why: "it names a file outside the tree",
    })
}

fn content_of(path: &Path) -> Result<Content, TreeError> {
    let failed = |source| TreeError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    Ok(Content {
        size: file.metadata().map_err(failed)?.len(),
        sha256: Sha256::of_reader(file).map_err(failed)?,
    })
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

    fn described(file: &str) -> String {
        let sha256 = Sha256::of(b"");
        format!(
            "format = 2\nrelease = '1'\n[files]\n'{file}' = {{ size = 0, sha256 = '{sha256}' }}\n"
        )
    }

    /// Check that a file that was cut is noticed at once, and one with other bytes when that is looked for.
    #[test]
    fn tree_with_changed_file_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(place::MODULES)).unwrap();
        for name in [place::VMLINUZ, place::VMLINUX, "modules/rfkill.ko"] {
            std::fs::write(dir.path().join(name), "content").unwrap();
        }
        KernelTree::describe(dir.path(), "6.1").unwrap();
        let tree = KernelTree::open(dir.path()).unwrap();
        assert!(KernelTree::is_at(dir.path()));
        tree.verify().unwrap();

        let module = dir.path().join("modules/rfkill.ko");
        std::fs::write(&module, "contenT").unwrap();
        assert_eq!(KernelTree::open(dir.path()).unwrap(), tree);
        assert!(matches!(tree.verify(), Err(TreeError::Damaged { path, .. }) if path == module));
        std::fs::write(&module, "conten").unwrap();
        assert!(matches!(
            KernelTree::open(dir.path()),
            Err(TreeError::Damaged { path, .. }) if path == module
        ));
    }

    /// Check that a directory without a sound description is refused.
    #[rstest]
    #[case::empty("", "does not describe")]
    #[case::older_format("format = 1\nrelease = '1'", "has format 1, this program reads 2")]
    #[case::other_format("format = 99\nkernel = '1'", "has format 99")]
    #[case::outside(&described("../x"), "names a file outside")]
    #[case::file_gone(&described("vmlinux"), "failed to read")]
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
