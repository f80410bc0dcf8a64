//! The first root file system of a guest: stage 0 and the modules, uncompressed, since unpacking costs more than reading.
//!
//! ```text
//! init                     stage 0
//! dev/console              what stage 0 says before it has mounted anything
//! proc/ sys/ dev/ tmp/     where it mounts
//! modules/000-virtio.ko …  numbered in the order in which they can be inserted
//! modules/list.<set>       the paths of the modules of a set, a line each, in that order
//! ```
//!
//! The list of a larger set begins with the lines of a smaller one: a guest that has inserted the smaller one skips these.

use std::io;
use std::path::{Path, PathBuf};

use kernels::modules::{ModuleSet, Need};
use kernels::{KernelTree, LoadOrder, LoadOrderError, Sha256, load_order};

use crate::cache::{Cache, CacheError, Kind, Unsound, Wanted};
use crate::cpio::Archive;
use crate::progress::Quiet;

/// Why an initramfs could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InitramfsError {
    /// The order of the modules could not be worked out.
    #[error("failed to order the modules of {release}")]
    Order {
        /// The kernel.
        release: String,
        /// Why.
        source: LoadOrderError,
    },
    /// The kernel lacks modules that guests cannot do without.
    #[error("{release} has no module {}", modules.join(", "))]
    Missing {
        /// The kernel.
        release: String,
        /// What is missing, with what wants it.
        modules: Vec<String>,
    },
    /// A module could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The module.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The cache could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Makes the initramfs for `tree` with `stage0` as its first program and the modules of `sets`. Equal contents are the same file.
///
/// # Errors
///
/// The kernel lacks a module that it needs, or a file cannot be read or written.
pub fn initramfs(
    cache: &Cache,
    tree: &KernelTree,
    stage0: &[u8],
    sets: &[ModuleSet],
) -> Result<PathBuf, InitramfsError> {
    let bytes = build(tree, stage0, sets)?;
    let wanted = Wanted {
        kind: Kind::Image,
        name: &format!("{}.cpio", Sha256::of(&bytes)),
        what: &format!("initramfs of {}", tree.release()),
    };
    let open = |path: &Path| match std::fs::read(path)? {
        found if found == bytes => Ok(path.to_owned()),
        _ => Err(Unsound::from("its bytes have changed")),
    };
    cache.provide(&wanted, &Quiet, open, |made| {
        std::fs::write(made, &bytes).map_err(|source| CacheError::new("write", made, source).into())
    })
}

fn build(tree: &KernelTree, stage0: &[u8], sets: &[ModuleSet]) -> Result<Vec<u8>, InitramfsError> {
    let mut archive = Archive::default();
    for directory in ["dev", "proc", "sys", "tmp", "modules"] {
        archive.directory(directory);
    }
    archive.character_device("dev/console", 5, 1);
    archive.program("init", stage0);
    let mut sets = sets.to_vec();
    sets.sort_unstable();
    let mut added = 0;
    for set in sets {
        let modules = order(tree, set)?.modules;
        let name = |(number, name): (usize, &str)| format!("modules/{number:03}-{name}.ko");
        let names: Vec<String> = modules
            .iter()
            .map(|module| module.name.as_str())
            .enumerate()
            .map(name)
            .collect();
        for (module, name) in modules.iter().zip(&names).skip(added) {
            let bytes = std::fs::read(&module.path).map_err(|source| InitramfsError::Read {
                path: module.path.clone(),
                source,
            })?;
            archive.file(name, &bytes);
        }
        added = added.max(modules.len());
        let list: String = names.iter().map(|name| format!("/{name}\n")).collect();
        archive.file(&format!("modules/list.{}", set.as_str()), list.as_bytes());
    }
    Ok(archive.finish())
}

/// The order of the modules of `set`, all of those that it needs among them or built in.
fn order(tree: &KernelTree, set: ModuleSet) -> Result<LoadOrder, InitramfsError> {
    let release = tree.release().to_owned();
    let order = load_order(tree, set.names()).map_err(|source| InitramfsError::Order {
        release: release.clone(),
        source,
    })?;
    let optional = |name: &str| {
        set.roots()
            .any(|root| root.name == name && root.need == Need::WhereItExists)
    };
    let needed = order
        .missing
        .iter()
        .filter(|missing| missing.wanted_by.is_some() || !optional(&missing.name));
    let modules: Vec<String> = needed
        .map(|missing| match &missing.wanted_by {
            Some(by) => format!("{} (wanted by {by})", missing.name),
            None => missing.name.clone(),
        })
        .collect();
    if modules.is_empty() {
        Ok(order)
    } else {
        Err(InitramfsError::Missing { release, modules })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpio::tests::{Read, read};
    use kernels::{Keep, unpack};
    use object::write::Object;
    use object::{Architecture, BinaryFormat, Endianness, SectionKind};

    fn module(depends: &str) -> Vec<u8> {
        let mut elf = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let section = elf.add_section(Vec::new(), b".modinfo".to_vec(), SectionKind::ReadOnlyData);
        elf.append_section_data(section, format!("depends={depends}\0").as_bytes(), 1);
        elf.write().unwrap()
    }

    /// A kernel with every module that guests need, but those in `without`. `virtio_pci` is built in, `bluetooth` depends on `rfkill`.
    fn tree(dir: &Path, without: &[&str]) -> KernelTree {
        let mut tar = tar::Builder::new(Vec::new());
        let mut add = |name: &str, bytes: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes).unwrap();
        };
        add("boot/vmlinuz-1", b"\x7fELF");
        add(
            "lib/modules/1/modules.builtin",
            b"kernel/drivers/virtio/virtio_pci.ko\n",
        );
        let needed = ModuleSet::Usb
            .roots()
            .filter(|root| root.need == Need::Always && root.name != "virtio_pci");
        for name in needed
            .map(|root| root.name)
            .chain(["rfkill"])
            .filter(|name| !without.contains(name))
        {
            let depends = if name == "bluetooth" { "rfkill" } else { "" };
            add(&format!("lib/modules/1/{name}.ko"), &module(depends));
        }
        let tar = tar.into_inner().unwrap();
        let mut archive = ar::Builder::new(Vec::new());
        archive
            .append(
                &ar::Header::new(b"data.tar".to_vec(), tar.len() as u64),
                tar.as_slice(),
            )
            .unwrap();
        let package = dir.join("package.deb");
        std::fs::write(&package, archive.into_inner().unwrap()).unwrap();
        let dest = dir.join("tree");
        std::fs::create_dir(&dest).unwrap();
        unpack(&[package], Keep::All, &dest).unwrap()
    }

    fn text(entries: &[Read], path: &str) -> String {
        let entry = entries.iter().find(|entry| entry.path == path).unwrap();
        String::from_utf8(entry.content.clone()).unwrap()
    }

    /// Check that stage 0, the console and the modules are where they belong, and that each list names modules that are there.
    #[test]
    fn initramfs_of_all_sets_holds_each_module_once() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
        let tree = tree(dir.path(), &[]);
        let path = initramfs(&cache, &tree, b"stage 0", &ModuleSet::ALL).unwrap();
        let entries = read(&std::fs::read(&path).unwrap());
        assert_eq!(text(&entries, "init"), "stage 0");
        assert_eq!(
            entries
                .iter()
                .find(|entry| entry.path == "dev/console")
                .unwrap()
                .device,
            (5, 1)
        );

        let lists =
            ModuleSet::ALL.map(|set| text(&entries, &format!("modules/list.{}", set.as_str())));
        assert_eq!(lists[0], "/modules/000-virtio_console.ko\n");
        assert!(
            lists[1].starts_with(&format!(
                "{}/modules/001-rfkill.ko\n/modules/002-bluetooth.ko\n",
                lists[0]
            )),
            "{}",
            lists[1]
        );
        assert!(
            lists[2].starts_with(&lists[1]) && lists[2].ends_with("-btusb.ko\n"),
            "{}",
            lists[2]
        );
        let listed: Vec<&str> = lists[2].lines().map(|line| &line[1..]).collect();
        let stored: Vec<&str> = entries
            .iter()
            .map(|entry| entry.path.as_str())
            .filter(|path| path.ends_with(".ko"))
            .collect();
        assert_eq!(stored, listed);
    }

    /// Check that equal contents are one file, and other contents another.
    #[test]
    fn initramfs_of_equal_content_is_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
        let tree = tree(dir.path(), &[]);
        let make =
            |stage0: &[u8], sets: &[ModuleSet]| initramfs(&cache, &tree, stage0, sets).unwrap();
        let first = make(b"a", &[ModuleSet::Bare]);
        assert_eq!(make(b"a", &[ModuleSet::Bare]), first);
        assert_ne!(make(b"b", &[ModuleSet::Bare]), first);
        assert_ne!(make(b"a", &ModuleSet::ALL), first);
        assert_eq!(
            std::fs::read_dir(cache.root().join("scratch"))
                .unwrap()
                .count(),
            0
        );
    }

    /// Check that a module that cannot be done without is missed, by the sets that need it only, with what wants it.
    #[test]
    fn initramfs_without_needed_module_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(Some(&dir.path().join("cache"))).unwrap();
        let tree = tree(dir.path(), &["rfkill", "btusb"]);
        initramfs(&cache, &tree, b"", &[ModuleSet::Bare]).unwrap();
        let error = initramfs(&cache, &tree, b"", &ModuleSet::ALL)
            .unwrap_err()
            .to_string();
        assert_eq!(error, "1 has no module rfkill (wanted by bluetooth)");
        let error = initramfs(&cache, &tree, b"", &[ModuleSet::Usb])
            .unwrap_err()
            .to_string();
        assert_eq!(error, "1 has no module rfkill (wanted by bluetooth), btusb");
    }
}
