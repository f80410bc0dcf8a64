//! From a kernel's files to what it offers.

use super::image::{Image, ImageError};
use super::kconfig::Kconfig;
use super::module::{Module, decompress};
use super::vmlinux::{kernel_symbols, trace_events};
use super::{Surface, kallsyms};
use crate::btf::{Btf, BtfError};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a kernel could not be read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SurfaceError {
    /// A file could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The image is not a kernel.
    #[error("{} is not a kernel image", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: ImageError,
    },
    /// The kernel's BTF is damaged.
    #[error("BTF of {} is damaged", path.display())]
    Btf {
        /// The image.
        path: PathBuf,
        /// How.
        source: BtfError,
    },
}

/// Which modules are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// All there are.
    All,
    /// None.
    Nothing,
    /// These and what they depend on.
    These(BTreeSet<String>),
}

/// Where the files of a kernel are.
#[derive(Clone, Debug, Default)]
pub struct KernelFiles {
    /// `vmlinuz` or `vmlinux`.
    pub image: PathBuf,
    /// Build configuration.
    pub config: Option<PathBuf>,
    /// Module files, by name with `_` for `-`.
    pub modules: BTreeMap<String, PathBuf>,
    /// Modules that are part of the kernel.
    pub builtin: BTreeSet<String>,
}

impl KernelFiles {
    /// The files of a tree that `kernels` has unpacked.
    #[must_use]
    pub fn of_tree(tree: &kernels::KernelTree) -> Self {
        Self {
            image: tree.vmlinux(),
            config: tree.config(),
            modules: tree.modules().clone(),
            builtin: tree.builtin().clone(),
        }
    }

    /// Looks for a kernel below a directory: an unpacked package, a build tree, `/`.
    /// `release` picks one of several.
    #[must_use]
    pub fn find(root: &Path, release: Option<&str>) -> Option<Self> {
        let mut found: Vec<(String, Self)> = Vec::new();
        for boot in [root.join("boot"), root.to_owned()] {
            for (name, path) in list(&boot) {
                if let Some(release) = name.strip_prefix("vmlinuz-") {
                    let modules = module_dir(root, release);
                    let config = Some(boot.join(format!("config-{release}")));
                    found.push((release.to_owned(), Self::with(path, config, modules)));
                }
            }
        }
        for folder in ["lib/modules", "usr/lib/modules"] {
            for (release, dir) in list(&root.join(folder)) {
                let image = dir.join("vmlinuz");
                if image.is_file() {
                    let config = Some(dir.join("config"));
                    found.push((release, Self::with(image, config, Some(dir))));
                }
            }
        }
        for name in [
            "vmlinux",
            "arch/x86/boot/bzImage",
            "arch/arm64/boot/Image.gz",
        ] {
            let image = root.join(name);
            if image.is_file() {
                let config = Some(root.join(".config")).filter(|c| c.is_file());
                let config = config.or_else(|| Some(root.join("config")));
                let modules = Some(root.join("modules")).filter(|m| m.is_dir());
                let modules = modules.or_else(|| Some(root.to_owned()));
                found.push((String::new(), Self::with(image, config, modules)));
                break;
            }
        }
        found
            .into_iter()
            .find(|(r, _)| release.is_none_or(|wanted| wanted == r))
            .map(|(_, files)| files)
    }

    /// The module files below a folder, by name.
    #[must_use]
    pub fn modules_below(dir: &Path) -> BTreeMap<String, PathBuf> {
        let mut modules = BTreeMap::new();
        collect_modules(dir, &mut modules, 0);
        modules
    }

    fn with(image: PathBuf, config: Option<PathBuf>, modules: Option<PathBuf>) -> Self {
        let mut files = Self {
            image,
            config: config.filter(|c| c.is_file()),
            ..Self::default()
        };
        if let Some(dir) = modules {
            collect_modules(&dir, &mut files.modules, 0);
            files.builtin = builtin(&dir.join("modules.builtin"));
        }
        files
    }

    /// Reads the kernel and the wanted modules.
    ///
    /// # Errors
    /// When the image cannot be read; everything else that is missing or
    /// damaged becomes a warning in the result.
    pub fn surface(&self, wanted: &Wanted) -> Result<Surface, SurfaceError> {
        let path = &self.image;
        let image = Image::unpack(&read(path)?).map_err(|source| SurfaceError::Image {
            path: path.clone(),
            source,
        })?;
        let mut surface = surface_of_image(&image).map_err(|source| SurfaceError::Btf {
            path: path.clone(),
            source,
        })?;
        drop(image);
        if let Some(config) = &self.config {
            let text = read(config)?;
            surface.kconfig = Some(Kconfig::parse(&String::from_utf8_lossy(&text)));
        }
        surface.module_names = self.modules.keys().cloned().collect();
        surface.builtin.clone_from(&self.builtin);
        self.add_modules(&mut surface, wanted);
        Ok(surface)
    }

    /// Reads modules into a surface; damaged ones become warnings.
    pub fn add_modules(&self, surface: &mut Surface, wanted: &Wanted) {
        let mut pending: Vec<String> = match wanted {
            Wanted::All => self.modules.keys().cloned().collect(),
            Wanted::Nothing => Vec::new(),
            Wanted::These(names) => names.iter().cloned().collect(),
        };
        while let Some(name) = pending.pop() {
            let Some(path) = self.modules.get(&name) else {
                continue;
            };
            if surface.modules.contains_key(&name) {
                continue;
            }
            let module = read(path)
                .map_err(|e| e.to_string())
                .and_then(|file| decompress(file).map_err(|e| e.to_string()))
                .and_then(|data| {
                    Module::read(&name, &data, surface.btf.as_ref()).map_err(|e| e.to_string())
                });
            match module {
                Ok(module) => {
                    if let super::ModuleBtf::Broken(why) = &module.btf {
                        let warning = format!("BTF of module {name} is not usable: {why}");
                        surface.warnings.push(warning);
                    }
                    pending.extend(module.depends.iter().cloned());
                    surface.modules.insert(name, module);
                }
                Err(e) => surface.warnings.push(format!("module {name}: {e}")),
            }
        }
    }
}

/// What an image alone says.
fn surface_of_image(image: &Image) -> Result<Surface, BtfError> {
    let mut warnings = Vec::new();
    let btf = image
        .btf()
        .map(|data| Btf::parse(data.to_vec()).map(Arc::new))
        .transpose()?;
    if btf.is_none() {
        warnings.push("the kernel has no BTF".to_owned());
    }
    let raw = kallsyms::read(image)
        .inspect_err(|e| warnings.push(e.to_string()))
        .ok();
    let symbols = raw.as_ref().map(|raw| kernel_symbols(image, raw));
    let events = raw
        .as_ref()
        .zip(btf.as_ref())
        .and_then(|(raw, btf)| trace_events(image, raw, btf));
    let banner = image.banner().unwrap_or_default();
    let release = banner.split(' ').nth(2).unwrap_or_default();
    Ok(Surface {
        release: release.to_owned(),
        banner,
        arch: image.arch,
        btf,
        ftrace_known: symbols.as_ref().is_some_and(|s| s.ftrace_known),
        blacklist_known: symbols.as_ref().is_some_and(|s| s.blacklist_known),
        symbols: symbols.map(|s| s.table),
        trace_events: events,
        kconfig: None,
        modules: BTreeMap::new(),
        module_names: BTreeSet::new(),
        builtin: BTreeSet::new(),
        loaded: None,
        inlining: None,
        warnings,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, SurfaceError> {
    std::fs::read(path).map_err(|source| SurfaceError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Entries of a directory, by name; nothing if it cannot be read.
fn list(dir: &Path) -> Vec<(String, PathBuf)> {
    let mut entries: Vec<(String, PathBuf)> = std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| (e.file_name().to_string_lossy().into_owned(), e.path()))
        .collect();
    entries.sort();
    entries
}

fn module_dir(root: &Path, release: &str) -> Option<PathBuf> {
    ["lib/modules", "usr/lib/modules"]
        .iter()
        .map(|folder| root.join(folder).join(release))
        .find(|dir| dir.is_dir())
}

fn collect_modules(dir: &Path, modules: &mut BTreeMap<String, PathBuf>, depth: u32) {
    if depth > 12 {
        return;
    }
    for (name, path) in list(dir) {
        // Links such as `build` and `source` lead out of the tree.
        let Ok(kind) = path.symlink_metadata() else {
            continue;
        };
        if kind.is_dir() {
            collect_modules(&path, modules, depth + 1);
        } else if let Some((stem, rest)) = name.split_once(".ko")
            && matches!(rest, "" | ".xz" | ".zst" | ".gz")
        {
            modules.insert(stem.replace('-', "_"), path);
        }
    }
}

fn builtin(path: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.rsplit('/').next()?.strip_suffix(".ko"))
        .map(|name| name.replace('-', "_"))
        .collect()
}
