//! What a kernel offers, in a few lines.

use super::inputs::Kernel;
use btcompat::surface::{Flags, Module, ModuleBtf, Preemption, SymbolTable};
use serde::Serialize;
use std::fmt::Write as _;

/// Counts of what a kernel has; absent where it could not be read.
#[derive(Debug, Serialize)]
pub(crate) struct Offer {
    /// Version of the layout of `--json`.
    format: u32,
    /// What the user called the kernel.
    kernel: String,
    release: String,
    banner: String,
    arch: &'static str,
    types: Option<usize>,
    symbols: Option<usize>,
    /// Functions that ftrace can patch.
    traceable: Option<usize>,
    /// Functions that kprobes refuse.
    kprobe_blacklist: Option<usize>,
    trace_events: Option<usize>,
    options: Option<usize>,
    /// Whether it preempts its own code: `never`, `tasks`, `real_time`, `unknown`.
    preemption: &'static str,
    /// Modules that exist.
    modules_known: usize,
    /// Modules that were read.
    modules: Vec<ModuleOffer>,
    warnings: Vec<String>,
}

/// What a module has.
#[derive(Debug, Serialize)]
struct ModuleOffer {
    name: String,
    /// Absent if the module has no usable types.
    types: Option<usize>,
    /// Why its types are not usable.
    broken: Option<String>,
    symbols: usize,
    traceable: usize,
}

fn flagged(table: &SymbolTable, flag: Flags) -> usize {
    table.iter().filter(|s| s.flags.has(flag)).count()
}

impl ModuleOffer {
    fn of(module: &Module) -> Self {
        let types = module.btf.get();
        Self {
            name: module.name.clone(),
            types: types.map(|btf| (btf.type_count() - btf.first_id()) as usize),
            broken: match &module.btf {
                ModuleBtf::Broken(why) => Some(why.clone()),
                _ => None,
            },
            symbols: module.symbols.len(),
            traceable: flagged(&module.symbols, Flags::FTRACE),
        }
    }
}

impl Offer {
    /// Counts.
    pub(crate) fn of(kernel: &Kernel) -> Self {
        let surface = &kernel.surface;
        let symbols = surface.symbols.as_ref();
        let host = kernel.host.as_ref();
        let mode = host.and_then(|(host, _)| host.preempt.as_deref());
        Self {
            format: 1,
            kernel: kernel.label.clone(),
            release: surface.release.clone(),
            banner: surface.banner.clone(),
            arch: surface.arch.name(),
            types: surface.btf.as_ref().map(|b| (b.type_count() - 1) as usize),
            symbols: symbols.map(SymbolTable::len),
            traceable: symbols
                .filter(|_| surface.ftrace_known)
                .map(|t| flagged(t, Flags::FTRACE)),
            kprobe_blacklist: symbols
                .filter(|_| surface.blacklist_known)
                .map(|t| flagged(t, Flags::BLACKLIST)),
            trace_events: surface
                .trace_events
                .as_ref()
                .map(std::collections::BTreeSet::len),
            options: surface.kconfig.as_ref().map(|c| c.iter().count()),
            preemption: match surface.preemption(mode) {
                Preemption::Never => "never",
                Preemption::Tasks => "tasks",
                Preemption::RealTime => "real_time",
                Preemption::Unknown => "unknown",
            },
            modules_known: surface.module_names.len(),
            modules: surface.modules.values().map(ModuleOffer::of).collect(),
            warnings: surface.warnings.clone(),
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("release     {}\nmachine     {}\n", self.release, self.arch);
        let counts = [
            ("types", self.types),
            ("symbols", self.symbols),
            ("traceable", self.traceable),
            ("no kprobes", self.kprobe_blacklist),
            ("events", self.trace_events),
            ("options", self.options),
        ];
        // Writing to a String cannot fail.
        for (name, number) in counts {
            let _ = writeln!(out, "{name:11} {}", count(number));
        }
        let _ = writeln!(out, "preemption  {}", self.preemption.replace('_', " "));
        let read = self.modules.len();
        let _ = writeln!(out, "modules     {read} of {} read", self.modules_known);
        for module in &self.modules {
            let _ = writeln!(
                out,
                "  {:20} types {:>6}, symbols {:>6}, traceable {:>6}",
                module.name,
                count(module.types),
                module.symbols,
                module.traceable
            );
        }
        for warning in &self.warnings {
            let _ = writeln!(out, "warning: {warning}");
        }
        out
    }
}

fn count(number: Option<usize>) -> String {
    number.map_or_else(|| "unknown".to_owned(), |n| n.to_string())
}
