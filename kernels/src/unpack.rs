//! From packages to a [`KernelTree`].

use std::io;
use std::path::{Path, PathBuf};

use crate::compress::DecompressError;
use crate::elf;
use crate::load_order::{Found, walk};
use crate::modinfo::{Modinfo, ModinfoError, normalise};
use crate::package::{PackageError, for_each_file};
use crate::part::Part;
use crate::spool::{Spool, decompressed};
use crate::tree::{KernelTree, TreeError, parse_builtin, place};
use crate::vmlinuz::{VmlinuzError, extract_vmlinux};

/// Which modules to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep<'a> {
    /// Every module of the packages.
    All,
    /// These, and all that they depend on.
    Closure(&'a [&'a str]),
}

/// Why packages could not be unpacked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnpackError {
    /// A package could not be read.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// A file of a kernel's folder could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the tree could not be written.
    #[error("failed to write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No package holds a kernel.
    #[error("no kernel image in {packages:?}: neither boot/vmlinuz-* nor lib/modules/*/vmlinuz")]
    NoKernel {
        /// The packages.
        packages: Vec<PathBuf>,
    },
    /// The packages hold files of more than one kernel.
    #[error("packages hold files of two kernels, {first} and {second}")]
    TwoKernels {
        /// The release that was met first.
        first: String,
        /// Another one.
        second: String,
    },
    /// The kernel image could not be unpacked.
    #[error("kernel image of {release} could not be unpacked")]
    Vmlinuz {
        /// The kernel.
        release: String,
        /// Why.
        source: VmlinuzError,
    },
    /// A module could not be unpacked.
    #[error("module {name} could not be unpacked")]
    Decompress {
        /// The module.
        name: String,
        /// Why.
        source: DecompressError,
    },
    /// A file named like a module is not one.
    #[error("{name}.ko is not a module")]
    NotAModule {
        /// Its name.
        name: String,
        /// Why.
        source: ModinfoError,
    },
    /// The tree that came out cannot be read.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// Unpacks the kernel in `packages` to `dest`, a directory that exists and is empty.
///
/// Modules that were asked for and are not there are no error here: [`load_order`](crate::load_order()) tells them.
///
/// # Errors
///
/// A package is damaged, holds no kernel or two, or `dest` cannot be written. What was written until then stays in `dest`.
pub fn unpack(
    packages: &[PathBuf],
    keep: Keep<'_>,
    dest: &Path,
) -> Result<KernelTree, UnpackError> {
    let mut found = Unpacked::new(dest)?;
    for package in packages {
        for_each_file(
            package,
            |name| Part::of(name).is_some(),
            |name, bytes| found.add(name, &bytes),
        )?;
    }
    let Unpacked {
        release,
        vmlinuz,
        mut spool,
        builtin,
        ..
    } = found;
    let (Some(release), Some(vmlinuz)) = (release, vmlinuz) else {
        return Err(UnpackError::NoKernel {
            packages: packages.to_owned(),
        });
    };
    let every = spool.names();
    let parts = Parts {
        release: &release,
        vmlinuz,
        builtin: &builtin,
        every: &every,
    };
    parts.finish(keep, dest, |name| spool.take(name))
}

/// What every kernel has, however it is stored. The modules are asked for one by one.
pub(crate) struct Parts<'a> {
    pub(crate) release: &'a str,
    pub(crate) vmlinuz: Vec<u8>,
    /// The list of built-in modules.
    pub(crate) builtin: &'a str,
    /// The names of all modules.
    pub(crate) every: &'a [String],
}

impl Parts<'_> {
    /// Writes the image, the kernel in it and the modules that are kept, and last the description that makes `dest` a tree.
    pub(crate) fn finish(
        self,
        keep: Keep<'_>,
        dest: &Path,
        mut module: impl FnMut(&str) -> Result<Option<Vec<u8>>, UnpackError>,
    ) -> Result<KernelTree, UnpackError> {
        let Self {
            release,
            vmlinuz,
            builtin,
            every,
        } = self;
        write_image(dest, release, vmlinuz)?;
        let builtin = parse_builtin(builtin);
        let roots: Vec<&str> = match keep {
            Keep::Closure(roots) => roots.to_vec(),
            Keep::All => every.iter().map(String::as_str).collect(),
        };
        walk(roots, |name| match module(name)? {
            None if builtin.contains(name) => Ok(Found::Builtin),
            None => Ok(Found::Nowhere),
            Some(bytes) => keep_module(dest, name, &bytes).map(Found::Module),
        })?;
        KernelTree::describe(dest, release)?;
        Ok(KernelTree::open(dest)?)
    }
}

fn write_image(dest: &Path, release: &str, vmlinuz: Vec<u8>) -> Result<(), UnpackError> {
    let (packed, unpacked) = (dest.join(place::VMLINUZ), dest.join(place::VMLINUX));
    write(&packed, &vmlinuz)?;
    if vmlinuz.starts_with(elf::MAGIC) {
        // The image is the kernel itself, with its debugging information as large as that may be.
        return std::fs::hard_link(&packed, &unpacked).map_err(|source| UnpackError::Write {
            path: unpacked,
            source,
        });
    }
    let vmlinux = extract_vmlinux(&vmlinuz).map_err(|source| UnpackError::Vmlinuz {
        release: release.to_owned(),
        source,
    })?;
    write(&unpacked, &vmlinux)
}

/// A file of a package that [`unpack()`] would take up.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Item {
    /// A kernel image.
    Image,
    /// The build configuration or the list of built-in modules: texts that tools read and no guest executes.
    Text,
    /// A module.
    Module {
        /// The name of its file, with `_` for `-`.
        name: String,
        /// Its bytes, uncompressed.
        bytes: Vec<u8>,
    },
}

/// Hands to `visit` every file of `package` that [`unpack()`] would take up, in the order in which they are stored, with its release.
///
/// # Errors
///
/// The package is damaged, or `visit` failed.
pub fn for_each_item<E: From<PackageError> + From<UnpackError>>(
    package: &Path,
    mut visit: impl FnMut(&str, Item) -> Result<(), E>,
) -> Result<(), E> {
    for_each_file(
        package,
        |name| Part::of(name).is_some(),
        |name, bytes| {
            let Some((release, part)) = Part::of(name) else {
                return Ok(());
            };
            let item = match part {
                Part::Vmlinuz => Item::Image,
                Part::Config | Part::Builtin => Item::Text,
                Part::Module { name, compression } => Item::Module {
                    name: normalise(name),
                    bytes: decompressed(name, compression, bytes)?,
                },
            };
            visit(release, item)
        },
    )
}

fn keep_module(dest: &Path, name: &str, module: &[u8]) -> Result<Modinfo, UnpackError> {
    let info = Modinfo::of_module(module).map_err(|source| UnpackError::NotAModule {
        name: name.to_owned(),
        source,
    })?;
    write(
        &dest.join(place::MODULES).join(format!("{name}.ko")),
        module,
    )?;
    Ok(info)
}

pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), UnpackError> {
    std::fs::write(path, bytes).map_err(|source| UnpackError::Write {
        path: path.to_owned(),
        source,
    })
}

/// Creates the directory that the modules are kept in.
pub(crate) fn create_modules(dest: &Path) -> Result<(), UnpackError> {
    let modules = dest.join(place::MODULES);
    std::fs::create_dir(&modules).map_err(|source| UnpackError::Write {
        path: modules,
        source,
    })
}

/// What has come out of the packages so far.
struct Unpacked<'a> {
    dest: &'a Path,
    release: Option<String>,
    vmlinuz: Option<Vec<u8>>,
    builtin: String,
    spool: Spool,
}

impl<'a> Unpacked<'a> {
    fn new(dest: &'a Path) -> Result<Self, UnpackError> {
        create_modules(dest)?;
        Ok(Self {
            dest,
            release: None,
            vmlinuz: None,
            builtin: String::new(),
            spool: Spool::new(dest)?,
        })
    }

    fn add(&mut self, path: &Path, bytes: &[u8]) -> Result<(), UnpackError> {
        let Some((release, part)) = Part::of(path) else {
            return Ok(());
        };
        let first = self.release.get_or_insert_with(|| release.to_owned());
        if first != release {
            return Err(UnpackError::TwoKernels {
                first: first.clone(),
                second: release.to_owned(),
            });
        }
        match part {
            Part::Vmlinuz => self.vmlinuz = Some(bytes.to_owned()),
            Part::Config => write(&self.dest.join(place::CONFIG), bytes)?,
            Part::Builtin => {
                write(&self.dest.join(place::BUILTIN), bytes)?;
                self.builtin = String::from_utf8_lossy(bytes).into_owned();
            }
            Part::Module { name, compression } => {
                self.spool.put(normalise(name), compression, bytes)?
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::Compression;
    use crate::compress::tests::compress;
    use crate::deb::tests::deb;
    use crate::elf::tests::elf_with_note;
    use crate::modinfo::tests::module;
    use rstest::rstest;

    struct Packages {
        folder: tempfile::TempDir,
        paths: Vec<PathBuf>,
    }

    fn packages(contents: &[&[(&str, &[u8])]]) -> Packages {
        let folder = tempfile::tempdir().unwrap();
        let mut paths = Vec::new();
        for (number, files) in contents.iter().enumerate() {
            let path = folder.path().join(format!("{number}.deb"));
            std::fs::write(&path, deb(Some(Compression::Zstd), files)).unwrap();
            paths.push(path);
        }
        std::fs::create_dir(folder.path().join("tree")).unwrap();
        Packages { folder, paths }
    }

    impl Packages {
        fn unpack(&self, keep: Keep<'_>) -> Result<KernelTree, UnpackError> {
            unpack(&self.paths, keep, &self.folder.path().join("tree"))
        }
    }

    fn image() -> Vec<u8> {
        compress(Compression::Xz, &elf_with_note(b"Xen", 18))
    }

    fn module_names(tree: &KernelTree) -> Vec<&str> {
        tree.modules().keys().map(String::as_str).collect()
    }

    /// Check that one package with everything in its old places unpacks to the files that are kept.
    #[test]
    fn package_with_boot_files_unpacks_to_tree() {
        let builtin = b"kernel/lib/crc16.ko\n";
        let packages = packages(&[&[
            ("boot/vmlinuz-6.1.0-1-amd64", &image()),
            ("boot/config-6.1.0-1-amd64", b"CONFIG_BT=m\n"),
            ("boot/System.map-6.1.0-1-amd64", b"noise"),
            ("lib/modules/6.1.0-1-amd64/modules.builtin", builtin),
            (
                "lib/modules/6.1.0-1-amd64/kernel/net/bluetooth/bluetooth.ko",
                &module("bluetooth", "ecdh-generic,crc16"),
            ),
            (
                "lib/modules/6.1.0-1-amd64/kernel/crypto/ecdh-generic.ko",
                &module("ecdh_generic", ""),
            ),
            (
                "lib/modules/6.1.0-1-amd64/kernel/fs/ext4.ko",
                &module("ext4", ""),
            ),
        ]]);
        let tree = packages
            .unpack(Keep::Closure(&["bluetooth", "absent"]))
            .unwrap();
        assert_eq!(tree.release(), "6.1.0-1-amd64");
        assert_eq!(std::fs::read(tree.vmlinuz()).unwrap(), image());
        assert_eq!(
            std::fs::read(tree.vmlinux()).unwrap(),
            elf_with_note(b"Xen", 18)
        );
        assert_eq!(
            std::fs::read(tree.config().unwrap()).unwrap(),
            b"CONFIG_BT=m\n"
        );
        assert!(tree.has_pvh_entry().unwrap());
        assert!(tree.builtin().contains("crc16"));
        assert_eq!(module_names(&tree), ["bluetooth", "ecdh_generic"]);
        assert_eq!(KernelTree::open(tree.dir()).unwrap(), tree);
    }

    /// Check that packages split by kind, with compressed modules under usr, unpack to the same shape.
    #[rstest]
    #[case::xz(Compression::Xz, "xz")]
    #[case::zstd(Compression::Zstd, "zst")]
    #[case::gzip(Compression::Gzip, "gz")]
    fn split_packages_with_compressed_modules_unpack_to_tree(
        #[case] compression: Compression,
        #[case] extension: &str,
    ) {
        let path =
            |name: &str| format!("usr/lib/modules/7.3.4+deb13-amd64/kernel/{name}.ko.{extension}");
        let bluetooth = compress(compression, &module("bluetooth", "rfkill"));
        let packages = packages(&[
            &[("usr/lib/modules/7.3.4+deb13-amd64/config", b"CONFIG_BT=m\n")],
            &[("usr/lib/modules/7.3.4+deb13-amd64/vmlinuz", &image())],
            &[
                (&path("net/bluetooth/bluetooth"), &bluetooth),
                (
                    &path("net/rfkill/rfkill"),
                    &compress(compression, &module("rfkill", "")),
                ),
                (
                    &path("fs/ext4"),
                    &compress(compression, &module("ext4", "")),
                ),
            ],
        ]);
        let tree = packages.unpack(Keep::Closure(&["bluetooth"])).unwrap();
        assert_eq!(module_names(&tree), ["bluetooth", "rfkill"]);
        assert_eq!(
            std::fs::read(&tree.modules()["bluetooth"]).unwrap(),
            module("bluetooth", "rfkill")
        );
        assert!(tree.config().is_some());
    }

    /// Check that a package is listed with all that unpacking would take up, and nothing else.
    #[test]
    fn package_listed_yields_what_unpacking_takes_up() {
        let packages = packages(&[&[
            ("boot/vmlinuz-1", b"not looked at"),
            ("boot/config-1", b""),
            ("usr/share/doc/x", b""),
            (
                "lib/modules/2/kernel/a-b.ko.zst",
                &compress(Compression::Zstd, b"module"),
            ),
        ]]);
        let mut items = Vec::new();
        for_each_item(&packages.paths[0], |release, item| {
            items.push((release.to_owned(), item));
            Ok::<(), UnpackError>(())
        })
        .unwrap();
        let module = Item::Module {
            name: "a_b".to_owned(),
            bytes: b"module".to_vec(),
        };
        assert_eq!(
            items,
            [
                ("1".to_owned(), Item::Image),
                ("1".to_owned(), Item::Text),
                ("2".to_owned(), module)
            ]
        );
    }

    /// Check that all modules are kept where that is asked for.
    #[test]
    fn package_unpacked_whole_keeps_every_module() {
        let packages = packages(&[&[
            ("boot/vmlinuz-1", &image()),
            ("lib/modules/1/a.ko", &module("a", "b")),
            ("lib/modules/1/b.ko", &module("b", "")),
            ("lib/modules/1/c.ko", &module("c", "")),
        ]]);
        assert_eq!(
            module_names(&packages.unpack(Keep::All).unwrap()),
            ["a", "b", "c"]
        );
    }

    /// Check that packages without a kernel, with two, or with files that are not what their names say are refused, and that no tree that
    /// could be opened is left.
    #[rstest]
    #[case::nothing(&[("usr/share/doc/x", b"".as_slice())], "no kernel image")]
    #[case::two(&[("boot/vmlinuz-1", b"".as_slice()), ("boot/vmlinuz-2", b"")], "two kernels, 1 and 2")]
    #[case::image(&[("boot/vmlinuz-1", b"no kernel".as_slice())], "kernel image of 1 could not be unpacked")]
    #[case::module(&[("boot/vmlinuz-1", b"\x7fELF".as_slice()), ("lib/modules/1/a.ko", b"no module")], "a.ko is not a module")]
    #[case::packed(&[("boot/vmlinuz-1", b"\x7fELF".as_slice()), ("lib/modules/1/a.ko.xz", b"no xz")], "module a could not be unpacked")]
    fn package_with_wrong_content_is_refused(
        #[case] files: &[(&str, &[u8])],
        #[case] reason: &str,
    ) {
        let packages = packages(&[files]);
        let message = packages
            .unpack(Keep::Closure(&["a"]))
            .unwrap_err()
            .to_string();
        assert!(message.contains(reason), "{message}");
        assert!(KernelTree::open(&packages.folder.path().join("tree")).is_err());
    }
}
