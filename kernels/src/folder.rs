//! A kernel in a directory: one that was built there, one that was unpacked or installed there.
//!
//! ```text
//! built      arch/x86/boot/bzImage or vmlinux, .config, modules.builtin, the modules where the build put them
//! installed  boot/vmlinuz-<release> or lib/modules/<release>/vmlinuz, boot/config-<release>, lib/modules/<release>/
//! ```

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::compress::Compression;
use crate::lock::is_plain_path;
use crate::modinfo::normalise;
use crate::part::Part;
use crate::sha256::Sha256;
use crate::signature::SignedModule;
use crate::spool::decompressed;
use crate::strip::without_debug;
use crate::tree::{KernelTree, place};
use crate::unpack::{Keep, Parts, UnpackError, create_modules, write};
use crate::vmlinuz::release_of_bzimage;

/// Where a build puts its image, the one that is made last first.
const IMAGES: [&str; 2] = ["arch/x86/boot/bzImage", "vmlinux"];
/// Where a build writes its release.
const RELEASE: &str = "include/config/kernel.release";
/// More entries than any build of a kernel leaves.
const MOST_ENTRIES: usize = 2_000_000;
/// The most that an image or a module may hold: a vmlinux with debugging information has up to 1 GB.
const MOST_FILE_BYTES: u64 = 2 << 30;

/// A directory with the files of one kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    root: PathBuf,
    release: String,
    image: PathBuf,
    config: Option<PathBuf>,
    builtin: Option<PathBuf>,
    modules: BTreeMap<String, ModuleFile>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ModuleFile {
    path: PathBuf,
    compression: Option<Compression>,
}

/// Why a directory gives no kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FolderError {
    /// It, or something in it, could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// What could not be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It holds no kernel.
    #[error("no kernel in {}: none of {}", root.display(), tried.join(", "))]
    NoKernel {
        /// The directory.
        root: PathBuf,
        /// What would have been one.
        tried: Vec<String>,
    },
    /// It holds several kernels, and nothing says which is meant.
    #[error("{} holds several kernels: {}", root.display(), releases.join(", "))]
    SeveralKernels {
        /// The directory.
        root: PathBuf,
        /// Their releases.
        releases: Vec<String>,
    },
    /// A built kernel does not say its release.
    #[error("the build in {} has no {RELEASE}, and its image names no release; finish the build with make", root.display())]
    NoRelease {
        /// The directory.
        root: PathBuf,
    },
    /// There are more files than a kernel has.
    #[error("{} holds more than {MOST_ENTRIES} files", root.display())]
    TooManyFiles {
        /// The directory.
        root: PathBuf,
    },
}

impl Folder {
    /// Looks for the one kernel in `root`: a directory where one was built, or with `boot` and `lib/modules` of one in it.
    ///
    /// # Errors
    ///
    /// There is none, or there are several, or something cannot be read.
    pub fn open(root: &Path) -> Result<Self, FolderError> {
        if let Err(source) = std::fs::read_dir(root) {
            return Err(FolderError::Read {
                path: root.to_owned(),
                source,
            });
        }
        if let Some(image) = built_image(root) {
            return Self::built(root, image);
        }
        let releases = installed_releases(root)?;
        match releases.as_slice() {
            [release] => Self::installed(root, release),
            [] => Err(FolderError::NoKernel {
                root: root.to_owned(),
                tried: [
                    IMAGES.as_slice(),
                    &["boot/vmlinuz-*", "lib/modules/*/vmlinuz"],
                ]
                .concat()
                .iter()
                .map(|name| (*name).to_owned())
                .collect(),
            }),
            _ => Err(FolderError::SeveralKernels {
                root: root.to_owned(),
                releases,
            }),
        }
    }

    /// The kernel of `release` that is installed below `root`.
    ///
    /// # Errors
    ///
    /// It has no image there, or something cannot be read.
    pub fn installed(root: &Path, release: &str) -> Result<Self, FolderError> {
        let images = installed_images(root, release);
        let Some(image) = images.iter().find(|path| path.exists()) else {
            return Err(FolderError::NoKernel {
                root: root.to_owned(),
                tried: images
                    .iter()
                    .map(|path| path.display().to_string())
                    .collect(),
            });
        };
        let mut folder = Self {
            root: root.to_owned(),
            release: release.to_owned(),
            image: image.clone(),
            config: existing(root.join(format!("boot/config-{release}"))),
            builtin: None,
            modules: BTreeMap::new(),
        };
        for modules in module_folders(root).map(|folder| folder.join(release)) {
            folder.config = folder.config.or_else(|| existing(modules.join("config")));
            folder.builtin = folder
                .builtin
                .or_else(|| existing(modules.join("modules.builtin")));
            for path in files_below(&modules)? {
                folder.add_module(path);
            }
        }
        Ok(folder)
    }

    fn built(root: &Path, image: PathBuf) -> Result<Self, FolderError> {
        let mut folder = Self {
            root: root.to_owned(),
            release: built_release(root, &image)?,
            image,
            config: existing(root.join(".config")),
            builtin: existing(root.join("modules.builtin")),
            modules: BTreeMap::new(),
        };
        let paths = match std::fs::read_to_string(root.join("modules.order")) {
            Ok(order) => ordered_modules(root, &order),
            Err(_) => files_below(root)?,
        };
        for path in paths {
            folder.add_module(path);
        }
        Ok(folder)
    }

    /// Takes up the file at `path` if it is named like a module; the first of a name counts.
    fn add_module(&mut self, path: PathBuf) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            return;
        };
        if let Some((name, compression)) = Part::module(name) {
            let name = normalise(name);
            self.modules
                .entry(name)
                .or_insert(ModuleFile { path, compression });
        }
    }

    /// What `uname -r` says under the kernel.
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// A hash over the names, sizes, identities and times of change of all files: equal as long as nobody has changed any.
    ///
    /// # Errors
    ///
    /// A file cannot be looked at.
    pub fn fingerprint(&self) -> Result<Sha256, FolderError> {
        let Self {
            root: _,
            release,
            image,
            config,
            builtin,
            modules,
        } = self;
        let mut text = format!("{release}\n");
        let modules = modules.values().map(|module| &module.path);
        for path in [Some(image), config.as_ref(), builtin.as_ref()]
            .into_iter()
            .flatten()
            .chain(modules)
        {
            text += &file_identity(path).map_err(|source| FolderError::Read {
                path: path.clone(),
                source,
            })?;
        }
        Ok(Sha256::of(text.as_bytes()))
    }

    /// Copies the kernel to `dest`, a directory that exists and is empty; modules that are not signed without their debugging information.
    ///
    /// # Errors
    ///
    /// A file cannot be read or is not what its name says, or `dest` cannot be written. What was written until then stays in `dest`.
    pub fn unpack(&self, keep: Keep<'_>, dest: &Path) -> Result<KernelTree, UnpackError> {
        create_modules(dest)?;
        if let Some(config) = &self.config {
            write(&dest.join(place::CONFIG), &read(config)?)?;
        }
        let builtin = match &self.builtin {
            Some(builtin) => read(builtin)?,
            None => Vec::new(),
        };
        write(&dest.join(place::BUILTIN), &builtin)?;
        let every: Vec<String> = self.modules.keys().cloned().collect();
        let parts = Parts {
            release: &self.release,
            vmlinuz: read(&self.image)?,
            builtin: &String::from_utf8_lossy(&builtin),
            every: &every,
        };
        parts.finish(keep, dest, |name| {
            let Some(ModuleFile { path, compression }) = self.modules.get(name) else {
                return Ok(None);
            };
            let module = decompressed(name, *compression, read(path)?)?;
            // A signature would not outlive the change, and a kernel may insist on it. What a build leaves in place is not signed yet.
            let signed = SignedModule::split(&module).is_ok();
            let stripped = (!signed).then(|| without_debug(&module)).flatten();
            Ok(Some(stripped.unwrap_or(module)))
        })
    }
}

/// A line that is another one as soon as the file is.
pub(crate) fn file_identity(path: &Path) -> io::Result<String> {
    let metadata = std::fs::metadata(path)?;
    Ok(format!(
        "{} {} {} {}.{:09}\n",
        path.display(),
        metadata.ino(),
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    ))
}

fn read(path: &Path) -> Result<Vec<u8>, UnpackError> {
    let failed = |source| UnpackError::Read {
        path: path.to_owned(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut io::Read::take(file, MOST_FILE_BYTES + 1), &mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > MOST_FILE_BYTES {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(bytes)
}

fn existing(path: PathBuf) -> Option<PathBuf> {
    Some(path).filter(|path| path.exists())
}

/// The image of a build: the younger one, since `make vmlinux` leaves an old bzImage alone.
fn built_image(root: &Path) -> Option<PathBuf> {
    let made = |path: &PathBuf| std::fs::metadata(path)?.modified();
    let images = IMAGES.map(|name| root.join(name)).into_iter();
    let images = images.filter_map(|path| Some((made(&path).ok()?, path)));
    // Of two of the same age the later one would win, and bzImage is made from vmlinux.
    images
        .rev()
        .max_by_key(|(time, _)| *time)
        .map(|(_, path)| path)
}

fn built_release(root: &Path, image: &Path) -> Result<String, FolderError> {
    let written = std::fs::read_to_string(root.join(RELEASE)).ok();
    let from_image = || {
        let bytes = read(image).ok()?;
        Some(release_of_bzimage(&bytes)?.to_owned())
    };
    let release = written.or_else(from_image).unwrap_or_default();
    let release = release.trim();
    if !is_release(release) {
        return Err(FolderError::NoRelease {
            root: root.to_owned(),
        });
    }
    Ok(release.to_owned())
}

fn is_release(text: &str) -> bool {
    is_plain_path(text) && !text.contains('/')
}

/// The modules of a build, from its list of them: paths of `.ko` files below `kernel/` up to 6.1, of `.o` files from then on.
fn ordered_modules(root: &Path, order: &str) -> Vec<PathBuf> {
    let path = |line: &str| {
        let line = line.strip_prefix("kernel/").unwrap_or(line);
        let stem = line.strip_suffix(".ko").or(line.strip_suffix(".o"))?;
        existing(root.join(format!("{stem}.ko")))
    };
    order.lines().filter_map(path).collect()
}

fn module_folders(root: &Path) -> impl Iterator<Item = PathBuf> {
    // On most systems the first is a link to the second, which is then the same.
    let folders = ["lib/modules", "usr/lib/modules"].map(|name| root.join(name));
    folders.into_iter().filter(|folder| folder.is_dir())
}

fn installed_images(root: &Path, release: &str) -> Vec<PathBuf> {
    let names = [
        format!("boot/vmlinuz-{release}"),
        format!("lib/modules/{release}/vmlinuz"),
        format!("usr/lib/modules/{release}/vmlinuz"),
    ];
    names.iter().map(|name| root.join(name)).collect()
}

/// The releases that have an image below `root`.
fn installed_releases(root: &Path) -> Result<Vec<String>, FolderError> {
    let mut releases = Vec::new();
    for folder in module_folders(root).chain(existing(root.join("boot"))) {
        let failed = |source| FolderError::Read {
            path: folder.clone(),
            source,
        };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let Some(name) = name.to_str() else { continue };
            let release = name.strip_prefix("vmlinuz-").unwrap_or(name);
            let image = installed_images(root, release)
                .iter()
                .any(|path| path.exists());
            if image && is_release(release) {
                releases.push(release.to_owned());
            }
        }
    }
    releases.sort();
    releases.dedup();
    Ok(releases)
}

/// All files below `root`, in order of their paths. Links and hidden directories are passed over.
fn files_below(root: &Path) -> Result<Vec<PathBuf>, FolderError> {
    let mut files = Vec::new();
    let mut folders = vec![root.to_owned()];
    let mut entries = 0;
    while let Some(folder) = folders.pop() {
        let failed = |source| FolderError::Read {
            path: folder.clone(),
            source,
        };
        let listed = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            listed => listed.map_err(failed)?,
        };
        for entry in listed {
            let entry = entry.map_err(failed)?;
            entries += 1;
            if entries > MOST_ENTRIES {
                return Err(FolderError::TooManyFiles {
                    root: root.to_owned(),
                });
            }
            let kind = entry.file_type().map_err(failed)?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if kind.is_file() {
                files.push(entry.path());
            } else if kind.is_dir() && !hidden {
                folders.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compress::tests::compress;
    use crate::elf::tests::elf_with_note;
    use crate::modinfo::tests::module;
    use crate::vmlinuz::tests::bzimage_of_release;
    use rstest::rstest;

    /// Makes files below a directory.
    fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
        folder
    }

    fn image(release: &str) -> Vec<u8> {
        let elf = elf_with_note(b"Xen", 18);
        bzimage_of_release(&compress(Compression::Xz, &elf), release)
    }

    fn unpack(folder: &Folder) -> (tempfile::TempDir, KernelTree) {
        let dest = tempfile::tempdir().unwrap();
        let tree = folder
            .unpack(Keep::Closure(&["bluetooth"]), dest.path())
            .unwrap();
        (dest, tree)
    }

    fn modules(tree: &KernelTree) -> Vec<&str> {
        tree.modules().keys().map(String::as_str).collect()
    }

    /// Check that a build gives its kernel and the modules of its list, however old the list's format, and none that an earlier build left.
    #[rstest]
    #[case::since_6_2("net/bluetooth/bluetooth.o\nnet/rfkill/rfkill.o\n")]
    #[case::before("kernel/net/bluetooth/bluetooth.ko\nkernel/net/rfkill/rfkill.ko\n")]
    fn build_with_list_of_modules_gives_these(#[case] order: &str) {
        let folder = folder(&[
            ("arch/x86/boot/bzImage", &image("6.99.0+")),
            (RELEASE, b"6.99.0-dirty\n"),
            (".config", b"CONFIG_BT=m\n"),
            ("modules.builtin", b"kernel/lib/crc16.ko\n"),
            ("modules.order", order.as_bytes()),
            (
                "net/bluetooth/bluetooth.ko",
                &module("bluetooth", "rfkill,crc16,ecdh"),
            ),
            ("net/rfkill/rfkill.ko", &module("rfkill", "")),
            ("old/ecdh.ko", &module("ecdh", "")),
        ]);
        let opened = Folder::open(folder.path()).unwrap();
        assert_eq!(opened.release(), "6.99.0-dirty");
        let (_dest, tree) = unpack(&opened);
        assert_eq!(tree.release(), "6.99.0-dirty");
        assert_eq!(modules(&tree), ["bluetooth", "rfkill"]);
        assert!(tree.builtin().contains("crc16") && tree.config().is_some());
        assert_eq!(
            std::fs::read(tree.vmlinux()).unwrap(),
            elf_with_note(b"Xen", 18)
        );
    }

    /// Check that a build without a list gives the modules where they lie, and its image's release.
    #[test]
    fn build_without_list_gives_modules_where_they_lie() {
        let folder = folder(&[
            ("arch/x86/boot/bzImage", &image("6.99.0+")),
            ("deep/down/bluetooth.ko", &module("bluetooth", "")),
            (".hidden/bluetooth.ko", b"not this one"),
        ]);
        let opened = Folder::open(folder.path()).unwrap();
        assert_eq!(opened.release(), "6.99.0+");
        assert_eq!(modules(&unpack(&opened).1), ["bluetooth"]);
    }

    /// Check that debugging information is left out of modules, but not out of signed ones.
    #[test]
    fn module_with_debug_information_is_stripped_unless_signed() {
        let module = crate::strip::tests::module(true);
        let mark = b"~Module signature appended~\n";
        let header = [0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 3];
        let signed = [module.as_slice(), b"sig", &header, mark].concat();
        for (bytes, same) in [(&module, false), (&signed, true)] {
            let folder = folder(&[
                ("boot/vmlinuz-6.1", &image("6.1")),
                ("lib/modules/6.1/bluetooth.ko", bytes),
            ]);
            let (_dest, tree) = unpack(&Folder::open(folder.path()).unwrap());
            let kept = std::fs::read(&tree.modules()["bluetooth"]).unwrap();
            assert_eq!(kept == *bytes, same);
        }
    }

    /// Check that of two images of a build the younger one is taken, and that a vmlinux alone will do.
    #[test]
    fn build_with_younger_vmlinux_gives_that() {
        let elf = elf_with_note(b"GNU", 3);
        let folder = folder(&[
            ("vmlinux", &elf),
            ("arch/x86/boot/bzImage", &image("6.99.0")),
            (RELEASE, b"6.99.0\n"),
        ]);
        let set = |name: &str, seconds| {
            let file = std::fs::File::options()
                .append(true)
                .open(folder.path().join(name))
                .unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            file.set_modified(time).unwrap();
        };
        let kernel = || {
            let (_dest, tree) = unpack(&Folder::open(folder.path()).unwrap());
            std::fs::read(tree.vmlinux()).unwrap()
        };
        set("vmlinux", 1000);
        set("arch/x86/boot/bzImage", 1000);
        assert_eq!(kernel(), elf_with_note(b"Xen", 18));
        set("vmlinux", 1001);
        assert_eq!(kernel(), elf);
        std::fs::remove_file(folder.path().join("arch/x86/boot/bzImage")).unwrap();
        assert_eq!(kernel(), elf);
    }

    /// Check that an unpacked kernel is found in each of the layouts of distributions.
    #[rstest]
    #[case::boot(
        "boot/vmlinuz-6.1",
        "boot/config-6.1",
        "lib/modules/6.1/kernel/bluetooth.ko"
    )]
    #[case::below_modules(
        "lib/modules/6.1/vmlinuz",
        "lib/modules/6.1/config",
        "lib/modules/6.1/updates/bluetooth.ko"
    )]
    #[case::merged(
        "usr/lib/modules/6.1/vmlinuz",
        "usr/lib/modules/6.1/config",
        "usr/lib/modules/6.1/bluetooth.ko"
    )]
    fn unpacked_kernel_of_each_layout_is_found(
        #[case] kernel: &str,
        #[case] config: &str,
        #[case] bluetooth: &str,
    ) {
        let folder = folder(&[
            (kernel, &image("6.1")),
            (config, b"CONFIG_BT=m\n"),
            (bluetooth, &module("bluetooth", "")),
            ("lib/modules/6.0-without-image/modules.builtin", b""),
        ]);
        let opened = Folder::open(folder.path()).unwrap();
        assert_eq!(opened.release(), "6.1");
        let (_dest, tree) = unpack(&opened);
        assert_eq!(modules(&tree), ["bluetooth"]);
        assert!(tree.config().is_some());
    }

    /// Check that of several installed kernels the one that is asked for is taken, and without asking none.
    #[test]
    fn installed_kernel_is_taken_by_release() {
        let folder = folder(&[
            ("boot/vmlinuz-6.1", &image("6.1")),
            ("boot/vmlinuz-6.12", &image("6.12")),
            (
                "lib/modules/6.12/bluetooth.ko.xz",
                &compress(Compression::Xz, &module("bluetooth", "")),
            ),
        ]);
        let opened = Folder::installed(folder.path(), "6.12").unwrap();
        assert_eq!(modules(&unpack(&opened).1), ["bluetooth"]);
        let message = Folder::open(folder.path()).unwrap_err().to_string();
        assert!(
            message.ends_with("holds several kernels: 6.1, 6.12"),
            "{message}"
        );
        let message = Folder::installed(folder.path(), "6.2")
            .unwrap_err()
            .to_string();
        assert!(message.contains("boot/vmlinuz-6.2"), "{message}");
    }

    /// Check that a directory without a kernel says what would have been one, and one that is not there that it could not be read.
    #[test]
    fn folder_without_kernel_is_refused() {
        let folder = folder(&[("arch/x86/Makefile", b"")]);
        let message = Folder::open(folder.path()).unwrap_err().to_string();
        assert!(
            message.contains("arch/x86/boot/bzImage, vmlinux, boot/vmlinuz-*"),
            "{message}"
        );
        let absent = folder.path().join("absent");
        assert!(matches!(
            Folder::open(&absent),
            Err(FolderError::Read { .. })
        ));
    }

    /// Check that a build that names no release is refused.
    #[rstest]
    #[case::none("")]
    #[case::path("../../etc")]
    fn build_without_release_is_refused(#[case] release: &str) {
        let folder = folder(&[("vmlinux", b"\x7fELF"), (RELEASE, release.as_bytes())]);
        assert!(matches!(
            Folder::open(folder.path()),
            Err(FolderError::NoRelease { .. })
        ));
    }

    /// Check that a folder is another one as soon as a file of it is.
    #[test]
    fn fingerprint_follows_every_file() {
        let folder = folder(&[
            ("boot/vmlinuz-6.1", &image("6.1")),
            ("lib/modules/6.1/bluetooth.ko", &module("bluetooth", "")),
        ]);
        let fingerprint = || Folder::open(folder.path()).unwrap().fingerprint().unwrap();
        let first = fingerprint();
        assert_eq!(fingerprint(), first);
        std::fs::write(
            folder.path().join("lib/modules/6.1/bluetooth.ko"),
            module("bluetooth", "rfkill"),
        )
        .unwrap();
        let second = fingerprint();
        assert_ne!(second, first);
        std::fs::write(
            folder.path().join("lib/modules/6.1/rfkill.ko"),
            module("rfkill", ""),
        )
        .unwrap();
        assert_ne!(fingerprint(), second);
    }
}
