//! Kernels: what they offer to eBPF programs, read from their files.

mod arm64;
mod columns;
mod image;
mod kallsyms;
mod kconfig;
mod module;
mod preemption;
mod read;
mod snapshot;
mod symbols;
mod vmlinux;

pub use image::{Arch, Image, ImageError};
pub use kallsyms::{KallsymsError, RawSymbol, read as read_kallsyms};
pub use kconfig::Kconfig;
pub use module::{Module, ModuleBtf, ModuleError, decompress};
pub use preemption::Preemption;
pub use read::{KernelFiles, SurfaceError, Wanted};
pub use snapshot::{SnapshotError, read_snapshot, write_snapshot};
pub use symbols::{Flags, Symbol, SymbolTable};

use crate::btf::{Btf, Kind};
use crate::dwarf::Inlining;
use crate::relocate::Targets;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What a kernel offers.
#[derive(Clone, Debug)]
pub struct Surface {
    /// What `uname -r` says.
    pub release: String,
    /// What `/proc/version` says.
    pub banner: String,
    /// Machine.
    pub arch: Arch,
    /// The kernel's types.
    pub btf: Option<Arc<Btf>>,
    /// The kernel's functions and variables; `None` when they could not be read.
    pub symbols: Option<SymbolTable>,
    /// Whether the symbols' `FTRACE` flags mean something.
    pub ftrace_known: bool,
    /// Whether the symbols' `BLACKLIST` flags mean something.
    pub blacklist_known: bool,
    /// Tracepoints as `category/name`; `None` when they could not be read.
    pub trace_events: Option<BTreeSet<String>>,
    /// Build configuration.
    pub kconfig: Option<Kconfig>,
    /// Modules that were read, by name.
    pub modules: BTreeMap<String, Module>,
    /// Names of all modules that exist for this kernel, as far as known.
    pub module_names: BTreeSet<String>,
    /// Modules that are part of the kernel.
    pub builtin: BTreeSet<String>,
    /// Modules that are loaded right now, in that order; `None` for a kernel that is not running.
    pub loaded: Option<Vec<String>>,
    /// Which functions were inlined where, if debugging information was given.
    pub inlining: Option<Inlining>,
    /// What went wrong while reading, without being fatal.
    pub warnings: Vec<String>,
}

/// Which modules are taken for loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// What is loaded on a running kernel; else everything that was read.
    Actual,
    /// Everything that was read.
    All,
    /// None.
    Nothing,
    /// These, and what they depend on.
    These(BTreeSet<String>),
}

impl Surface {
    /// The modules that are loaded under an assumption, in an order that their dependencies allow.
    #[must_use]
    pub fn loaded_modules(&self, loaded: &Loaded) -> Vec<&Module> {
        let wanted: Vec<&str> = match (loaded, &self.loaded) {
            (Loaded::Nothing, _) => Vec::new(),
            (Loaded::Actual, Some(list)) => list.iter().map(String::as_str).collect(),
            (Loaded::Actual, None) | (Loaded::All, _) => {
                self.modules.keys().map(String::as_str).collect()
            }
            (Loaded::These(names), _) => names.iter().map(String::as_str).collect(),
        };
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in wanted {
            self.visit(name, &mut seen, &mut order, 0);
        }
        order
    }

    fn visit<'a>(
        &'a self,
        name: &str,
        seen: &mut BTreeSet<&'a str>,
        order: &mut Vec<&'a Module>,
        depth: u32,
    ) {
        let Some(module) = self.modules.get(name).filter(|_| depth < 64) else {
            return;
        };
        if !seen.insert(&module.name) {
            return;
        }
        for dependency in &module.depends {
            self.visit(dependency, seen, order, depth + 1);
        }
        order.push(module);
    }

    /// The BTFs that a loader would search under an assumption; `None` without the kernel's own.
    #[must_use]
    pub fn targets(&self, loaded: &Loaded, may_read_modules: bool) -> Option<Targets> {
        let modules = self
            .loaded_modules(loaded)
            .into_iter()
            .filter_map(|m| Some((m.name.clone(), Arc::clone(m.btf.get()?))))
            .collect();
        Some(Targets {
            vmlinux: Arc::clone(self.btf.as_ref()?),
            modules,
            may_read_modules,
        })
    }

    /// Modules that exist for this kernel and were not read. `None` when it is
    /// not known which modules there are.
    #[must_use]
    pub fn unread_modules(&self) -> Option<usize> {
        let has_modules = self.kconfig.as_ref().is_none_or(|c| c.is_yes("MODULES"));
        if has_modules && self.module_names.is_empty() {
            return None;
        }
        let unread = self.module_names.iter();
        Some(unread.filter(|n| !self.modules.contains_key(*n)).count())
    }

    /// Why this kernel has no Bluetooth; `None` if it has, or if that cannot be told.
    #[must_use]
    pub fn without_bluetooth(&self) -> Option<String> {
        const MODULE: &str = "bluetooth";
        const FUNCTION: &str = "bt_sock_register";
        let mut symbols = self.symbols.iter();
        let built_in = symbols.any(|t| t.named(FUNCTION).next().is_some());
        let has_module = self.modules.contains_key(MODULE)
            || self.module_names.contains(MODULE)
            || self.builtin.contains(MODULE);
        if built_in || has_module {
            return None;
        }
        let listed = self.loaded.is_some() || !self.module_names.is_empty();
        match self.kconfig.as_ref().map(|c| c.get("BT")) {
            Some(None) => Some("CONFIG_BT is not set".to_owned()),
            Some(Some("m")) if listed => {
                Some(format!("module {MODULE} (CONFIG_BT=m) is not installed"))
            }
            None if listed && self.symbols.is_some() => Some(format!(
                "neither the kernel nor its modules have {FUNCTION}()"
            )),
            _ => None,
        }
    }

    /// Upstream version as (major, minor, patch): Debian keeps it in the banner
    /// and not in the release. Source: libbpf `get_kernel_version()`.
    #[must_use]
    pub fn version(&self) -> Option<(u32, u32, u32)> {
        let debian = self.banner.split_once(" Debian ").map(|(_, v)| v);
        let text = debian.unwrap_or(&self.release);
        let mut parts = text.split(|c: char| !c.is_ascii_digit());
        let mut number = || parts.next()?.parse().ok();
        Some((number()?, number()?, number().unwrap_or(0)))
    }

    /// Value of an enumerator of one of the kernel's own enums.
    #[must_use]
    pub fn enumerator(&self, owner: &str, name: &str) -> Option<u64> {
        let ty = self.btf.as_ref()?.find(owner, Kind::Enum)?;
        let (_, value) = ty.enumerators().find(|(n, _)| *n == name)?;
        Some(value)
    }
}
