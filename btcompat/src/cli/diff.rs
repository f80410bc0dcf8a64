//! What changed between two kernels.

use super::inputs::{self, Kernel};
use anyhow::Result;
use btcompat::btf::{Btf, Kind};
use btcompat::object::requirements;
use btcompat::surface::{Flags, Loaded, Surface};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Functions of a kernel with their prototypes, and structures with their fields.
struct View {
    functions: BTreeMap<String, String>,
    fields: BTreeMap<String, String>,
}

/// What changed.
#[derive(Debug, Serialize)]
pub(crate) struct Diff {
    /// Version of the layout of `--json`.
    format: u32,
    old: String,
    new: String,
    changes: Vec<Change>,
}

/// One thing that changed.
#[derive(Clone, Debug, Serialize)]
struct Change {
    /// Function, field or option.
    what: &'static str,
    name: String,
    /// Prototype, type or value; absent where the thing was not there.
    before: Option<String>,
    after: Option<String>,
}

impl Diff {
    /// One line for each change.
    pub(crate) fn text(&self) -> String {
        let mut out = format!("--- {}\n+++ {}\n", self.old, self.new);
        for Change {
            what,
            name,
            before,
            after,
        } in &self.changes
        {
            // Writing to a String cannot fail.
            let _ = match (before, after) {
                (Some(a), Some(b)) => writeln!(out, "~ {what} {name}: {a} → {b}"),
                (Some(_), None) => writeln!(out, "- {what} {name}"),
                (None, after) => {
                    let after = after.as_deref().unwrap_or_default();
                    writeln!(out, "+ {what} {name} {after}")
                }
            };
        }
        out
    }
}

/// Compares functions and structures: those that objects use, or Bluetooth's.
pub(crate) fn diff(old: &Kernel, new: &Kernel, objects: &[PathBuf]) -> Result<Diff> {
    let wanted = wanted(objects)?;
    let before = view(&old.surface, wanted.as_ref());
    let after = view(&new.surface, wanted.as_ref());
    let functions = changes("function", &before.functions, &after.functions);
    let fields = changes("field", &before.fields, &after.fields);
    let options = [&old.surface, &new.surface].map(|s| {
        let options = s.kconfig.iter().flat_map(|c| c.iter());
        options
            .filter(|(name, _)| is_relevant(name))
            .map(|(name, value)| (format!("CONFIG_{name}"), value.to_owned()))
            .collect::<BTreeMap<_, _>>()
    });
    let options = changes("option", &options[0], &options[1]);
    Ok(Diff {
        format: 1,
        old: old.label.clone(),
        new: new.label.clone(),
        changes: [functions, fields, options].concat(),
    })
}

fn is_relevant(option: &str) -> bool {
    const PREFIXES: [&str; 8] = [
        "BPF",
        "BT",
        "KPROBE",
        "FPROBE",
        "FTRACE",
        "DYNAMIC_FTRACE",
        "DEBUG_INFO_BTF",
        "FUNCTION_",
    ];
    PREFIXES.iter().any(|p| option.starts_with(p))
}

/// Functions and root types that objects use; `None` for all of Bluetooth.
fn wanted(objects: &[PathBuf]) -> Result<Option<BTreeSet<String>>> {
    if objects.is_empty() {
        return Ok(None);
    }
    let mut names = BTreeSet::new();
    for (_, object) in inputs::objects(objects)? {
        for program in requirements(&object).programs {
            names.extend(program.attach.and_then(|a| a.target));
            for relocation in program.relocations {
                let root = relocation.path.split(['.', ':', '[']).next().unwrap_or("");
                names.insert(btcompat::btf::essential_name(root).to_owned());
            }
        }
    }
    Ok(Some(names))
}

fn view(surface: &Surface, wanted: Option<&BTreeSet<String>>) -> View {
    let mut view = View {
        functions: BTreeMap::new(),
        fields: BTreeMap::new(),
    };
    let modules = surface.loaded_modules(&Loaded::All);
    let bluetooth = ["bluetooth", "btusb", "rfcomm", "bnep", "hidp"];
    for module in &modules {
        let chosen = wanted.is_some() || bluetooth.contains(&module.name.as_str());
        for symbol in module.symbols.iter().filter(|_| chosen) {
            if symbol.flags.has(Flags::TEXT) && wanted.is_none_or(|w| w.contains(symbol.name)) {
                view.functions.insert(symbol.name.to_owned(), String::new());
            }
        }
        if let Some(btf) = module.btf.get().filter(|_| chosen) {
            add_types(btf, wanted, &mut view);
        }
    }
    if let (Some(btf), Some(wanted)) = (&surface.btf, wanted) {
        for symbol in surface.symbols.iter().flat_map(|t| t.iter()) {
            if symbol.flags.has(Flags::TEXT) && wanted.contains(symbol.name) {
                view.functions.insert(symbol.name.to_owned(), String::new());
            }
        }
        add_types(btf, Some(wanted), &mut view);
    }
    view
}

fn add_types(btf: &Btf, wanted: Option<&BTreeSet<String>>, view: &mut View) {
    for ty in btf.own_types() {
        let is_bluetooth = ["hci_", "l2cap_", "sco_", "rfcomm_", "iso_", "bt_", "btusb_"]
            .iter()
            .any(|p| ty.name().starts_with(p));
        let chosen = wanted.map_or(is_bluetooth, |w| w.contains(ty.name()));
        if !chosen {
            continue;
        }
        match ty.kind() {
            Kind::Func => {
                if let Some(prototype) = btf.prototype(ty.name(), ty.target()) {
                    // A function that only BTF knows was inlined.
                    if let Some(entry) = view.functions.get_mut(ty.name()) {
                        *entry = prototype;
                    }
                }
            }
            Kind::Struct | Kind::Union => {
                for member in ty.members().filter(|m| !m.name.is_empty()) {
                    let key = format!("{}.{}", ty.name(), member.name);
                    view.fields.insert(key, btf.spelling(member.type_id));
                }
            }
            _ => {}
        }
    }
}

fn changes(
    what: &'static str,
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<Change> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let changed = names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name));
    let change = |name: &String| Change {
        what,
        name: name.clone(),
        before: before.get(name).cloned(),
        after: after.get(name).cloned(),
    };
    changed.map(change).collect()
}
