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

    /// Why a name that was not found may still be there: modules that were not read.
    /// `None` when everything was searched that could have it.
    pub(super) fn blind_spot(&self, name: &str) -> Option<String> {
        let home = home(name);
        if home.is_some_and(|m| {
            self.surface.modules.contains_key(m) || self.surface.builtin.contains(m)
        }) {
            return None;
        }
        match (self.surface.unread_modules(), home) {
            (None, Some(home)) => Some(format!("module {home} was not given")),
            (None, None) => Some("modules were not given".to_owned()),
            (Some(0), _) => None,
            (Some(_), Some(home)) if !self.surface.module_names.contains(home) => None,
            (Some(_), Some(home)) => Some(format!("module {home} was not read")),
            (Some(unread), None) => Some(format!("{unread} modules were not read")),
        }
    }

    /// What settles what is in a blind spot.
    pub(super) fn remedy(&self) -> &'static str {
        if self.surface.unread_modules().is_none() {
            "--module-dir FOLDER, or give the kernel's packages"
        } else {
            "--read-modules all"
        }
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
    pub(super) fn find_type(&self, name: &str, kind: Kind) -> Option<(Option<&'a str>, Type<'a>)> {
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

    /// Whether a structure begins with another one, as `tcp_sock` does with `sock`.
    pub(super) fn starts_with(&self, outer: &str, inner: &str) -> bool {
        let Some((btf, ty)) = self.btfs().into_iter().find_map(|(_, btf)| {
            let ty = btf.first_named(outer, Kind::Struct)?;
            Some((btf, ty))
        }) else {
            return false;
        };
        let mut at = ty;
        for _ in 0..16 {
            let Some(first) = at.member(0).filter(|m| m.bit_offset == 0) else {
                return false;
            };
            match btf.strip(first.type_id) {
                Some(next) if next.name() == inner => return true,
                Some(next) => at = next,
                None => return false,
            }
        }
        false
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

/// The module that a function lives in, where the catalogue of metrics says so.
fn home(function: &str) -> Option<&'static str> {
    metrics::CATALOGUE
        .iter()
        .flat_map(|m| m.functions)
        .filter_map(|f| f.split_once(':'))
        .find(|(_, name)| *name == function)
        .map(|(module, _)| module)
}
