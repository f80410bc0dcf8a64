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
use std::path::PathBuf;

use kernels::modules::{ModuleSet, Need};
use kernels::{KernelTree, LoadOrder, LoadOrderError, Sha256, load_order};

use crate::cache::{Cache, CacheError};
use crate::cpio::Archive;

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
    let sha256 = Sha256::of(&bytes);
    let entry = cache.entry("images", &format!("{sha256}.cpio"));
    if std::fs::metadata(&entry).is_ok_and(|metadata| metadata.len() == bytes.len() as u64) {
        return Ok(entry);
    }
    let scratch = cache.scratch()?;
    let made = scratch.path().join("initramfs");
    std::fs::write(&made, &bytes).map_err(|source| CacheError::new("write", &made, source))?;
    cache.publish(&made, &entry)?;
    Ok(entry)
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
