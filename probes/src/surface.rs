//! What the running kernel offers to attach to.
//!
//! Only the names that hooks ask for are kept. Parsing is apart from reading, so that choices can be
//! tested without a kernel.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use crate::btf::{Btf, BtfNames};
use crate::find::find_without_symbols;
use crate::hooks::{Hook, SCO_FLOWCTL, STRUCTS, UNREGISTER, USER_CHANNEL};
use crate::lookup::symbol_address;
use crate::preempt::{kernel_is_preemptible, kernel_is_real_time};
use crate::reduce::reduce;
use crate::sys::{KernelBtfs, btf_bytes};
use crate::tracefs::Tracefs;
use metrics::AttachKind;

/// The wanted names that a kernel has, by source. A source that could not be read says why.
#[derive(Clone, Debug)]
pub(crate) struct Surface {
    /// Symbols; `None`: not read, since nobody asked ([`Surface::ask_symbols`]).
    pub(crate) symbols: Option<Result<Symbols, String>>,
    /// Data that were looked up one by one.
    pub(crate) data: HashMap<String, Symbol>,
    /// Names of the modules that are loaded.
    pub(crate) modules: HashSet<String>,
    /// BTF, by module; the kernel itself is `vmlinux`.
    pub(crate) btf: HashMap<String, Result<BtfNames, String>>,
    /// BTF that the user gave, for structures that the kernel's own BTF does not describe.
    pub(crate) external: Option<Result<BtfNames, String>>,
    /// The structures that programs read, from the kernel's own BTF; `None` if it cannot be read.
    pub(crate) types: Option<Vec<u8>>,
    /// Functions that ftrace, and so fentry and fexit, can attach to; `None` if it does not say, or
    /// was not asked ([`Surface::ask_ftrace`]).
    pub(crate) traceable: Option<HashSet<String>>,
    /// Can the kernel preempt its own code, so that fentry and fexit lose events?
    pub(crate) preemptible: bool,
    /// Can it preempt even what runs in softirq context?
    pub(crate) real_time: bool,
}

/// The wanted symbols.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Symbols {
    /// Symbols of exactly a wanted name.
    pub(crate) exact: HashMap<String, Vec<Symbol>>,
    /// Symbols that the compiler made of a wanted name, such as `name.isra.0`.
    pub(crate) suffixed: HashMap<String, Vec<String>>,
}

/// One line of the symbol table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Symbol {
    /// Module that it is in; `None`: the kernel itself.
    pub(crate) module: Option<String>,
    /// Address; 0 if the kernel hides it.
    pub(crate) address: u64,
}

/// Name of the kernel's own BTF.
pub(crate) const VMLINUX: &str = "vmlinux";

impl Surface {
    /// Looks at the running kernel for what these hooks need; `btfs` are handles of its BTFs.
    pub(crate) fn of_running_kernel(
        hooks: &[&Hook],
        external: Option<&Path>,
        btfs: &KernelBtfs,
    ) -> Self {
        let mut wanted = wanted_symbols(hooks);
        wanted.extend(STRUCTS);
        wanted.extend([SCO_FLOWCTL, UNREGISTER, USER_CHANNEL]);
        let modules = fs::read_to_string("/proc/modules")
            .map_or_else(|_| HashSet::new(), |text| modules(&text));
        let homes: BTreeSet<&str> = hooks.iter().map(|hook| hook.module).collect();
        let external = external.map(read_external);
        let (btf, types) = read_btfs(&homes, &wanted, external.as_ref(), btfs);
        let mut surface = Self {
            symbols: None,
            data: look_up_data(hooks, &modules),
            modules,
            btf,
            external: external.map(|read| read.map(|btf| btf.names(&wanted))),
            types,
            traceable: None,
            preemptible: kernel_is_preemptible(),
            real_time: kernel_is_real_time(),
        };
        let is_unclear = |hook: &&Hook| find_without_symbols(hook, &surface).is_none();
        if hooks.iter().any(is_unclear) {
            surface.ask_symbols(hooks);
        }
        surface
    }

    /// Reads all symbols, unless that was done. It takes the kernel long to say them.
    pub(crate) fn ask_symbols(&mut self, hooks: &[&Hook]) {
        if self.symbols.is_none() {
            let wanted = wanted_symbols(hooks);
            let read = File::open("/proc/kallsyms")
                .and_then(|file| kallsyms(BufReader::with_capacity(BUFFER_BYTES, file), &wanted));
            let failed = |error| format!("failed to read /proc/kallsyms: {error}");
            self.symbols = Some(read.map_err(failed));
        }
    }

    /// Reads what ftrace can reach, unless that is known. It takes the kernel long to say, and
    /// matters only once it has refused a program: to tell a function that nothing can attach to
    /// from a fault.
    pub(crate) fn ask_ftrace(&mut self, hooks: &[&Hook]) {
        if self.traceable.is_none() {
            let symbols = wanted_symbols(hooks);
            self.traceable = Tracefs::find()
                .and_then(|tracefs| File::open(tracefs.path("available_filter_functions")).ok())
                .and_then(|file| filter_functions(BufReader::new(file), &symbols).ok());
        }
    }

    /// Does ftrace say that it cannot reach this function?
    pub(crate) fn is_untraceable(&self, symbol: &str) -> bool {
        let names = self.traceable.as_ref();
        names.is_some_and(|names| !names.contains(symbol))
    }

    /// Is it certain that this kernel's structure has no such member? Told from the types that
    /// programs are relocated against.
    pub(crate) fn lacks_member(&self, structure: &str, member: &str) -> bool {
        let types = self.types.as_ref();
        let btf = types.and_then(|types| Btf::parse(types.clone(), None).ok());
        btf.is_some_and(|btf| btf.has_member(structure, member) == Some(false))
    }

    /// The mask of a flag of devices, an enumerator; 0 if no BTF has it.
    pub(crate) fn flag(&self, name: &str) -> u64 {
        let known = self.btf.values().chain(&self.external);
        let bit = known
            .flatten()
            .find_map(|names| names.enumerators.get(name));
        bit.and_then(|bit| 1_u64.checked_shl(u32::try_from(*bit).ok()?))
            .unwrap_or(0)
    }

    /// The number of a function in the BTF of its home.
    pub(crate) fn function(&self, home: &str, symbol: &str) -> Option<u32> {
        let names = self.btf.get(home)?.as_ref().ok()?;
        names.functions.get(symbol).copied()
    }
}

/// More than the kernel gives at a time.
const BUFFER_BYTES: usize = 1 << 16;

/// Looks up where the data are that hooks read, and that BTF does not describe. What cannot be looked up
/// is not there: kernels before 5.16 have no such look-up.
fn look_up_data(hooks: &[&Hook], modules: &HashSet<String>) -> HashMap<String, Symbol> {
    let is_datum = |hook: &&&Hook| hook.variants.iter().flat_map(|kinds| *kinds).all(is_run);
    let look_up = |hook: &&Hook| {
        let module = modules
            .contains(hook.module)
            .then(|| hook.module.to_owned());
        let name = match &module {
            Some(module) => format!("{module}:{}", hook.symbol),
            None => hook.symbol.to_owned(),
        };
        let address = symbol_address(&name)?;
        Some((hook.symbol.to_owned(), Symbol { module, address }))
    };
    hooks.iter().filter(is_datum).filter_map(look_up).collect()
}

const fn is_run(kind: &AttachKind) -> bool {
    matches!(kind, AttachKind::Run)
}

fn wanted_symbols<'a>(hooks: &[&'a Hook]) -> HashSet<&'a str> {
    hooks.iter().map(|hook| hook.symbol).collect()
}

/// Reads `/proc/kallsyms`: `address type name[\t[module]]`.
fn kallsyms(lines: impl BufRead, wanted: &HashSet<&str>) -> io::Result<Symbols> {
    let mut symbols = Symbols::default();
    let mut first_bytes = [false; 256];
    for first in wanted.iter().filter_map(|name| name.bytes().next()) {
        first_bytes[usize::from(first)] = true;
    }
    for_each_line(lines, |line| {
        // Most of some 200 000 lines end here. The address has a fixed width on a 64-bit kernel.
        if line.len() > 19
            && line[16] == b' '
            && line[18] == b' '
            && !first_bytes[usize::from(line[19])]
        {
            return;
        }
        if let Ok(line) = str::from_utf8(line) {
            file_symbol(line, wanted, &mut symbols);
        }
    })?;
    Ok(symbols)
}

fn file_symbol(line: &str, wanted: &HashSet<&str>, symbols: &mut Symbols) {
    let mut words = line.split_ascii_whitespace();
    let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next()) else {
        return;
    };
    let base = name.split('.').next().unwrap_or(name);
    if !wanted.contains(base) {
        return;
    }
    if base.len() < name.len() {
        // A cold part is never the function's entry.
        if !name.contains(".cold") {
            let suffixed = symbols.suffixed.entry(base.to_owned()).or_default();
            suffixed.push(name.to_owned());
        }
        return;
    }
    let exact = symbols.exact.entry(name.to_owned()).or_default();
    exact.push(Symbol {
        module: words
            .next()
            .map(|module| module.trim_matches(['[', ']']).to_owned()),
        address: u64::from_str_radix(address, 16).unwrap_or(0),
    });
}

/// Reads `available_filter_functions`: `name [module]`.
fn filter_functions(lines: impl BufRead, wanted: &HashSet<&str>) -> io::Result<HashSet<String>> {
    let mut found = HashSet::new();
    for_each_line(lines, |line| {
        let first = str::from_utf8(line)
            .ok()
            .and_then(|line| line.split_ascii_whitespace().next());
        if let Some(name) = first.filter(|name| wanted.contains(name)) {
            found.insert(name.to_owned());
        }
    })?;
    Ok(found)
}

fn for_each_line(mut lines: impl BufRead, mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut line = Vec::new();
    while lines.read_until(b'\n', &mut line)? > 0 {
        each(&line);
        line.clear();
    }
    Ok(())
}

/// Reads `/proc/modules`: `name size …`.
fn modules(text: &str) -> HashSet<String> {
    let names = text
        .lines()
        .filter_map(|line| line.split_ascii_whitespace().next());
    names.map(str::to_owned).collect()
}

/// Wanted names in a BTF, by its home.
type Btfs = HashMap<String, Result<BtfNames, String>>;

/// Reads the BTF of vmlinux and of these modules: wanted names of each, and the structures that
/// programs read, from the external BTF if the kernel describes one nowhere. What the kernel shows
/// no BTF of is not there.
fn read_btfs(
    homes: &BTreeSet<&str>,
    wanted: &HashSet<&str>,
    external: Option<&Result<Btf, String>>,
    btfs: &KernelBtfs,
) -> (Btfs, Option<Vec<u8>>) {
    let mut names = Btfs::new();
    let mut read = Vec::new();
    let base = read_btf(VMLINUX, None, btfs);
    if let Some(Ok(base)) = &base {
        read.push((VMLINUX, Arc::clone(base)));
    }
    if let Some(Err(error)) = &base {
        names.insert(VMLINUX.to_owned(), Err(error.clone()));
    }
    let base = base.and_then(Result::ok);
    for home in homes.iter().copied().filter(|home| *home != VMLINUX) {
        match read_btf(home, base.clone(), btfs) {
            Some(Ok(btf)) => read.push((home, btf)),
            Some(Err(error)) => _ = names.insert(home.to_owned(), Err(error)),
            None => {}
        }
    }
    let mut structs = Structs::new();
    for (home, btf) in &read {
        let own = btf.names(wanted);
        claim(&mut structs, btf, &own);
        names.insert((*home).to_owned(), Ok(own));
    }
    let external = external.and_then(|read| read.as_ref().ok());
    if let Some(btf) = external {
        claim(&mut structs, btf, &btf.names(wanted));
    }
    let wanted: Vec<_> = structs.into_values().flatten().collect();
    let readable = base.is_some() || external.is_some();
    (names, readable.then(|| reduce(&wanted)))
}

/// The structures that programs read, by name: each is a BTF and a number in it.
type Structs<'a> = BTreeMap<&'static str, Vec<(&'a Btf, u32)>>;

/// Adds the structures that a BTF describes and none before it did. Modules repeat each other's
/// structures; the first that has one is its owner, as libbpf prefers vmlinux.
fn claim<'a>(structs: &mut Structs<'a>, btf: &'a Btf, names: &BtfNames) {
    for name in STRUCTS {
        if let (Some(ids), false) = (names.structs.get(*name), structs.contains_key(name)) {
            structs.insert(name, ids.iter().map(|id| (btf, *id)).collect());
        }
    }
}

/// The BTF of a module or of `vmlinux`; `None` if the kernel shows no such BTF.
fn read_btf(
    home: &str,
    base: Option<Arc<Btf>>,
    btfs: &KernelBtfs,
) -> Option<Result<Arc<Btf>, String>> {
    let path = Path::new("/sys/kernel/btf").join(home);
    let failed = |error: &dyn Display| format!("failed to read {}: {error}", path.display());
    // In one piece, where sysfs gives a page at a time.
    let whole = btfs.get(home).and_then(|btf| btf_bytes(btf).ok());
    let read = match whole {
        Some(bytes) => Ok(bytes),
        None if !path.exists() => return None,
        None => fs::read(&path).map_err(|error| failed(&error)),
    };
    let parse = |bytes| Btf::parse(bytes, base).map_err(|error| failed(&error));
    Some(read.and_then(parse).map(Arc::new))
}

fn read_external(path: &Path) -> Result<Btf, String> {
    let failed = |error: &dyn Display| format!("failed to read {}: {error}", path.display());
    let bytes = fs::read(path).map_err(|error| failed(&error))?;
    Btf::parse(bytes, None).map_err(|error| failed(&error))
}

/// The modules that these hooks are in and that are loaded, each with where it is.
pub(crate) fn loaded_modules(hooks: &[&Hook]) -> BTreeMap<String, String> {
    let text = fs::read_to_string("/proc/modules").unwrap_or_default();
    module_places(&text, &hooks.iter().map(|hook| hook.module).collect())
}

/// Reads `/proc/modules`: `name size users by state address`. A module that is still being loaded,
/// or unloaded, is not there.
fn module_places(text: &str, wanted: &HashSet<&str>) -> BTreeMap<String, String> {
    let place = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, _, _, _, "Live", address, ..] = words[..] else {
            return None;
        };
        wanted
            .contains(name)
            .then(|| (name.to_owned(), address.to_owned()))
    };
    text.lines().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KALLSYMS: &str = "\
        ffffffff81000000 T l2cap_sock_sendmsg_not\n\
        ffffffffc0001000 t hci_send_frame\t[bluetooth]\n\
        ffffffffc0001010 t __pfx_hci_send_frame\t[bluetooth]\n\
        ffffffffc0002000 t hci_send_frame.cold\t[bluetooth]\n\
        ffffffffc0003000 t hci_event_packet.isra.0\t[bluetooth]\n\
        0000000000000000 D hci_dev_list\t[bluetooth]\n\
        ffffffff82000000 T built_in\n\
        garbage\n";

    fn wanted() -> HashSet<&'static str> {
        [
            "hci_send_frame",
            "hci_event_packet",
            "hci_dev_list",
            "built_in",
        ]
        .into()
    }

    /// Check that exact names, suffixed names, modules and addresses are told apart.
    #[test]
    fn kallsyms_with_variants_of_names_tells_them_apart() {
        let symbols = kallsyms(KALLSYMS.as_bytes(), &wanted()).unwrap();
        let bluetooth = Some("bluetooth".to_owned());
        assert_eq!(
            symbols.exact["hci_send_frame"],
            [Symbol {
                module: bluetooth.clone(),
                address: 0xffff_ffff_c000_1000
            }]
        );
        assert_eq!(
            symbols.exact["hci_dev_list"],
            [Symbol {
                module: bluetooth,
                address: 0
            }]
        );
        assert_eq!(symbols.exact["built_in"][0].module, None);
        assert_eq!(
            symbols.suffixed["hci_event_packet"],
            ["hci_event_packet.isra.0"]
        );
        assert_eq!((symbols.exact.len(), symbols.suffixed.len()), (3, 1));
    }

    /// Check that the names of modules and of traceable functions are the first words.
    #[test]
    fn modules_and_filter_functions_are_the_first_words() {
        let text = "bluetooth 1122304 12 btusb,rfcomm, Live 0x0000000000000000\nbtusb 65536 0 - Live 0x0\n";
        assert_eq!(
            modules(text),
            ["bluetooth", "btusb"].map(str::to_owned).into()
        );
        let functions = "hci_send_frame [bluetooth]\nbuilt_in\nother\n";
        let found = filter_functions(functions.as_bytes(), &wanted()).unwrap();
        assert_eq!(
            found,
            ["hci_send_frame", "built_in"].map(str::to_owned).into()
        );
    }

    /// Check that of the wanted modules those that live are told, with their place.
    #[test]
    fn module_places_are_those_of_wanted_live_modules() {
        let text = "bluetooth 1122304 12 btusb,rfcomm, Live 0xffffffffc0100000 (E)\n\
                    rfcomm 98304 0 - Loading 0xffffffffc0200000\nother 1 0 - Live 0x0\n";
        let places = module_places(text, &["bluetooth", "rfcomm"].into());
        let bluetooth = ("bluetooth".to_owned(), "0xffffffffc0100000".to_owned());
        assert_eq!(places, [bluetooth].into());
    }

    proptest! {
        /// Check that arbitrary text never makes a reader panic.
        #[test]
        fn kallsyms_of_arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = kallsyms(text.as_bytes(), &wanted());
            let _ = filter_functions(text.as_bytes(), &wanted());
            let _ = modules(&text);
            let _ = module_places(&text, &wanted());
        }
    }
}
