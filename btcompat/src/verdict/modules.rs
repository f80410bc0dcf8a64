//! Where a kernel's functions and types are: in itself, in a loaded module, in one that is not.

use crate::btf::{Btf, Kind, Type};
use crate::surface::{Flags, Loaded, Module, Surface, Symbol};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A kernel under an assumption about its modules.
pub(super) struct View<'a> {
    pub(super) surface: &'a Surface,
    pub(super) loaded: Vec<&'a Module>,
    pub(super) not_loaded: Vec<&'a Module>,
    /// The loader may look into module BTF.
    pub(super) may_read_modules: bool,
}

/// Where a symbol was found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found<'a> {
    pub(super) symbol: Symbol<'a>,
    /// `None` for the kernel itself.
    pub(super) module: Option<&'a str>,
}

impl<'a> View<'a> {
    pub(super) fn new(surface: &'a Surface, loaded: &Loaded, may_read_modules: bool) -> Self {
        let loaded = surface.loaded_modules(loaded);
        let names: BTreeSet<&str> = loaded.iter().map(|m| m.name.as_str()).collect();
        Self {
            not_loaded: surface
                .modules
                .values()
                .filter(|m| !names.contains(m.name.as_str()))
                .collect(),
            surface,
            loaded,
            may_read_modules,
        }
    }

    /// Functions of this name that exist now. Names for one address count once.
    pub(super) fn functions(&self, name: &str) -> Vec<Found<'a>> {
        let own = self.surface.symbols.iter().map(|table| (None, table));
        let modules = self.loaded.iter();
        let modules = modules.map(|m| (Some(m.name.as_str()), &m.symbols));
        let mut found: Vec<Found> = own
            .chain(modules)
            .flat_map(|(module, table)| {
                let named = table.all_named(name).into_iter();
                named.map(move |symbol| Found { symbol, module })
            })
            .collect();
        found.retain(|f| f.symbol.flags.has(Flags::TEXT) && !f.symbol.flags.has(Flags::INIT));
        found
    }

    /// A module that has the function and is not loaded.
    pub(super) fn waiting(&self, name: &str) -> Option<&'a Module> {
        self.not_loaded.iter().copied().find(|m| {
            let mut named = m.symbols.named(name);
            named.any(|s| s.flags.has(Flags::TEXT) && !s.flags.has(Flags::INIT))
        })
    }

    /// Names that the compiler made from a function: `name.isra.0`.
    pub(super) fn derived(&self, name: &str) -> Vec<String> {
        let tables = self.surface.symbols.iter();
        let modules = self.surface.modules.values().map(|m| &m.symbols);
        let mut names: Vec<String> = tables
            .chain(modules)
            .flat_map(|t| t.derived(name))
            .filter(|s| s.flags.has(Flags::TEXT))
            .map(|s| s.name.to_owned())
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// How many different symbols of this name there are.
    pub(super) fn symbol_count(&self, name: &str) -> usize {
        let own = self.surface.symbols.iter();
        let mut addresses: Vec<(usize, u64)> = own
            .chain(self.loaded.iter().map(|m| &m.symbols))
            .enumerate()
            .flat_map(|(i, t)| t.all_named(name).into_iter().map(move |s| (i, s.address)))
            .collect();
        // Without addresses each entry stands for one.
        if addresses.iter().any(|(_, a)| *a != 0) {
            addresses.sort_unstable();
            addresses.dedup();
        }
        addresses.len()
    }

    /// BTFs that the loader can search, with their modules.
    pub(super) fn btfs(&self) -> Vec<(Option<&'a str>, &'a Arc<Btf>)> {
        let own = self.surface.btf.iter().map(|b| (None, b));
        let modules = self
            .loaded
            .iter()
            .filter(|_| self.may_read_modules)
            .filter_map(|m| Some((Some(m.name.as_str()), m.btf.get()?)));
        own.chain(modules).collect()
    }

    /// The first type of this name and kind, where libbpf would find it.
    pub(super) fn find_type(
        &self,
        name: &str,
        kind: Kind,
    ) -> Option<(Option<&'a str>, Type<'a>)> {
        self.btfs().into_iter().find_map(|(module, btf)| {
            let ty = btf.first_named(name, kind)?;
            Some((module, ty))
        })
    }

    /// A module that has such a type, is not loaded or may not be read.
    pub(super) fn hidden_type(&self, name: &str, kind: Kind) -> Option<&'a str> {
        let unreadable = self.loaded.iter().filter(|_| !self.may_read_modules);
        self.not_loaded
            .iter()
            .chain(unreadable)
            .find(|m| {
                m.btf.get().is_some_and(|btf| {
                    btf.own_by_essential_name(name)
                        .any(|t| t.kind().core_compatible(kind))
                })
            })
            .map(|m| m.name.as_str())
    }

    /// Whether the module is there and loaded.
    pub(super) fn is_loaded(&self, name: &str) -> bool {
        self.loaded.iter().any(|m| m.name == name)
    }

    /// Names close to one that does not exist.
    pub(super) fn similar(&self, name: &str) -> Vec<String> {
        let variants = [
            format!("__{name}"),
            format!("_{name}"),
            format!("{name}_sync"),
            format!("do_{name}"),
            name.trim_start_matches('_').to_owned(),
        ];
        variants
            .iter()
            .filter(|v| v.as_str() != name)
            .filter(|v| {
                let own = self.surface.symbols.iter();
                let mut tables = own.chain(self.surface.modules.values().map(|m| &m.symbols));
                tables.any(|t| t.named(v).any(|s| s.flags.has(Flags::TEXT)))
            })
            .cloned()
            .collect()
    }
}
