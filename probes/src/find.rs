//! Where a hook's symbol is, or why it is nowhere.
//!
//! The kernel's BTF answers for functions, and a look-up for data ([`crate::lookup`]). The
//! list of all symbols takes the kernel long to write, a third of a second under emulation: it is asked
//! for only where these cannot tell. A function that BTF describes and that is not a symbol (since the
//! compiler left nothing but a copy of another name) the kernel refuses; then the list is asked for, too.

use thiserror::Error;

use crate::hooks::Hook;
use crate::surface::{Surface, Symbol, Symbols, VMLINUX};

/// A symbol of the running kernel.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    /// Name as kprobes take it: `module:symbol`, or `symbol` in the kernel itself.
    pub(crate) spec: String,
    /// Address; 0 if the kernel hides it.
    pub(crate) address: u64,
}

impl Target {
    /// Where a kprobe goes, as tracefs takes it: the address, which the kernel need not look up, or the name.
    pub(crate) fn place(&self) -> String {
        match self.address {
            0 => self.spec.clone(),
            address => format!("{address:#x}"),
        }
    }

    /// The module that the symbol is in; `None`: the kernel itself.
    pub(crate) fn module(&self) -> Option<&str> {
        self.spec.split_once(':').map(|(module, _)| module)
    }
}

/// Why a set of programs cannot work on a kernel.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub(crate) enum Unavailable {
    #[error("{0}")]
    Unknown(String),
    #[error("module {module} is not loaded")]
    ModuleNotLoaded { module: &'static str },
    #[error("{symbol} is not in this kernel, or was inlined")]
    NoSymbol { symbol: &'static str },
    #[error("{symbol} was optimized by the compiler and exists as {found} alone")]
    Suffixed { symbol: &'static str, found: String },
    #[error("{symbol} names {count} functions")]
    Ambiguous { symbol: &'static str, count: usize },
    #[error("ftrace cannot reach {symbol}")]
    NotTraceable { symbol: &'static str },
    #[error("this kernel has no BTF of {home}")]
    NoBtf { home: String },
    #[error("the BTF of {home} does not describe {symbol}")]
    NoFunction { home: String, symbol: &'static str },
    #[error("struct {name} is in no BTF of this kernel, and no external BTF was given")]
    NoStruct { name: &'static str },
    #[error("struct {name} is neither in this kernel's BTF nor in the external one")]
    NoExternalStruct { name: &'static str },
    #[error("the kernel hides the address of {symbol}")]
    AddressHidden { symbol: &'static str },
    #[error("{symbol} returns nothing in this kernel")]
    Void { symbol: &'static str },
    #[error("no BTF of this kernel says whether {symbol} returns anything")]
    PerhapsVoid { symbol: &'static str },
    #[error("kprobes were asked for")]
    NotPreferred,
    #[error("would miss what comes in an interrupt in the middle of another program")]
    InterruptsOthers,
}

/// Finds the hook's symbol: where it lives, and how kprobes name it.
pub(crate) fn find(hook: &Hook, surface: &Surface) -> Result<(String, Target), Unavailable> {
    match &surface.symbols {
        Some(Ok(symbols)) => find_in_symbols(hook, symbols, surface),
        Some(Err(error)) => Err(Unavailable::Unknown(error.clone())),
        None => find_without_symbols(hook, surface).unwrap_or_else(|| {
            let why = "the symbols of the kernel were not read";
            Err(Unavailable::Unknown(why.to_owned()))
        }),
    }
}

/// The same by what is known without the list of all symbols; `None` if that does not say.
pub(crate) fn find_without_symbols(
    hook: &Hook,
    surface: &Surface,
) -> Option<Result<(String, Target), Unavailable>> {
    let Hook { symbol, module, .. } = *hook;
    if let Some(datum) = surface.data.get(symbol) {
        return Some(Ok(place(symbol, datum)));
    }
    let all = || surface.btf.iter();
    if all().any(|(_, names)| names.is_err()) {
        return None;
    }
    let described = all().filter_map(|(home, names)| {
        let names = names.as_ref().ok()?;
        let id = names.functions.get(symbol)?;
        Some((home, id, names.repeated.contains(symbol)))
    });
    match described.collect::<Vec<_>>()[..] {
        [(home, _, false)] if [module, VMLINUX].contains(&home.as_str()) => {
            let home = (home != VMLINUX).then(|| home.clone());
            let function = Symbol {
                module: home,
                address: 0,
            };
            Some(Ok(place(symbol, &function)))
        }
        [] if surface.btf.contains_key(VMLINUX)
            && module != VMLINUX
            && !surface.modules.contains(module) =>
        {
            Some(Err(Unavailable::ModuleNotLoaded { module }))
        }
        _ => None,
    }
}

fn place(symbol: &str, found: &Symbol) -> (String, Target) {
    let spec = |module: &String| format!("{module}:{symbol}");
    let target = Target {
        spec: found
            .module
            .as_ref()
            .map_or_else(|| symbol.to_owned(), spec),
        address: found.address,
    };
    let home = found.module.clone().unwrap_or_else(|| VMLINUX.to_owned());
    (home, target)
}

/// The same by the list of all symbols.
fn find_in_symbols(
    hook: &Hook,
    symbols: &Symbols,
    surface: &Surface,
) -> Result<(String, Target), Unavailable> {
    let Hook { symbol, module, .. } = *hook;
    let found: Vec<_> = symbols
        .exact
        .get(symbol)
        .into_iter()
        .flatten()
        .filter(|found| found.module.as_deref().is_none_or(|home| home == module))
        .collect();
    match found[..] {
        [one] => Ok(place(symbol, one)),
        [] => Err(if let Some(suffixed) = symbols.suffixed.get(symbol) {
            Unavailable::Suffixed {
                symbol,
                found: suffixed.join(", "),
            }
        } else if module != VMLINUX && !surface.modules.contains(module) {
            Unavailable::ModuleNotLoaded { module }
        } else {
            Unavailable::NoSymbol { symbol }
        }),
        _ => Err(Unavailable::Ambiguous {
            symbol,
            count: found.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rstest::rstest;

    use super::*;
    use crate::btf::BtfNames;

    const HOOK: Hook = Hook {
        event: "f",
        module: "bluetooth",
        symbol: "f",
        variants: &[],
        structs: &[],
        feeds: &[],
    };

    fn names(functions: &[&str]) -> Result<BtfNames, String> {
        let functions = functions.iter().map(|name| ((*name).to_owned(), 1));
        Ok(BtfNames {
            functions: functions.collect(),
            ..BtfNames::default()
        })
    }

    /// A kernel of whose symbols nothing was read, with these functions in its BTF.
    fn kernel(vmlinux: &[&str], bluetooth: &[&str]) -> Surface {
        let btf = [
            (VMLINUX.to_owned(), names(vmlinux)),
            ("bluetooth".to_owned(), names(bluetooth)),
        ];
        Surface {
            symbols: None,
            data: HashMap::new(),
            modules: ["bluetooth".to_owned()].into(),
            btf: btf.into(),
            external: None,
            types: None,
            traceable: None,
            preemptible: false,
            real_time: false,
        }
    }

    fn answer(surface: &Surface) -> String {
        match find_without_symbols(&HOOK, surface) {
            None => "not known".to_owned(),
            Some(Ok((home, target))) => format!("{home} {} {:#x}", target.spec, target.address),
            Some(Err(why)) => why.to_string(),
        }
    }

    /// Check that a kprobe goes to an address where one is known, and else to a name.
    #[rstest]
    #[case::known(0xffff_ffff_c009_1c70, "0xffffffffc0091c70")]
    #[case::hidden(0, "bluetooth:f")]
    fn place_is_the_address_if_that_is_known(#[case] address: u64, #[case] place: &str) {
        let spec = "bluetooth:f".to_owned();
        assert_eq!(Target { spec, address }.place(), place);
    }

    /// Check that BTF answers where it describes a function once, and leaves all else to the symbols.
    #[rstest]
    #[case::in_module(kernel(&[], &["f"]), "bluetooth bluetooth:f 0x0")]
    #[case::built_in(kernel(&["f"], &[]), "vmlinux f 0x0")]
    #[case::in_both(kernel(&["f"], &["f"]), "not known")]
    #[case::inlined_perhaps(kernel(&[], &["g"]), "not known")]
    fn find_by_btf_answers_for_what_is_described_once(
        #[case] surface: Surface,
        #[case] expected: &str,
    ) {
        assert_eq!(answer(&surface), expected);
    }

    /// Check that a function that is described twice, or in a BTF that cannot be read, is left to the symbols.
    #[test]
    fn find_by_btf_that_is_unclear_is_left_to_the_symbols() {
        let mut twice = kernel(&[], &["f"]);
        let btf = twice.btf.get_mut("bluetooth").unwrap().as_mut().unwrap();
        btf.repeated.insert("f".to_owned());
        assert_eq!(answer(&twice), "not known");
        let mut broken = kernel(&[], &["f"]);
        broken
            .btf
            .insert("rfcomm".to_owned(), Err("cut".to_owned()));
        assert_eq!(answer(&broken), "not known");
        let mut none = kernel(&[], &["f"]);
        none.btf.clear();
        assert_eq!(answer(&none), "not known");
    }

    /// Check that a module that is not loaded is said to be so, and that a datum that was looked up is found.
    #[test]
    fn find_without_symbols_knows_modules_and_data() {
        let mut surface = kernel(&[], &[]);
        surface.modules.clear();
        assert_eq!(answer(&surface), "module bluetooth is not loaded");
        let datum = Symbol {
            module: Some("bluetooth".to_owned()),
            address: 0x1000,
        };
        surface.data.insert("f".to_owned(), datum);
        assert_eq!(answer(&surface), "bluetooth bluetooth:f 0x1000");
    }
}
