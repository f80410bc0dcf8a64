//! What the running kernel offers to attach to.
//!
//! Only the names that hooks ask for are kept. Parsing is apart from reading, so that choices can be
//! tested without a kernel.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use crate::btf::{self, BtfNames, HEADER_BYTES, Header};
use crate::hooks::{Hook, SCO_FLOWCTL};
use crate::preempt::kernel_is_preemptible;
use crate::tracefs::Tracefs;

/// The wanted names that a kernel has, by source. A source that could not be read says why.
#[derive(Clone, Debug)]
pub(crate) struct Surface {
    /// Symbols.
    pub(crate) symbols: Result<Symbols, String>,
    /// Names of the modules that are loaded.
    pub(crate) modules: HashSet<String>,
    /// BTF, by module; the kernel itself is `vmlinux`.
    pub(crate) btf: HashMap<String, Result<BtfNames, String>>,
    /// BTF that the user gave, for structures that the kernel's own BTF does not describe.
    pub(crate) external: Option<Result<BtfNames, String>>,
    /// Functions that ftrace, and so fentry and fexit, can attach to; `None` if it does not say.
    pub(crate) traceable: Option<HashSet<String>>,
    /// Can the kernel preempt its own code, so that fentry and fexit lose events?
    pub(crate) preemptible: bool,
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
    /// Looks at the running kernel for what these hooks need.
    pub(crate) fn of_running_kernel(hooks: &[&Hook], external: Option<&Path>) -> Self {
        let mut wanted: HashSet<&str> = hooks.iter().map(|hook| hook.symbol).collect();
        let symbols = File::open("/proc/kallsyms")
            .and_then(|file| kallsyms(BufReader::new(file), &wanted))
            .map_err(|error| format!("failed to read /proc/kallsyms: {error}"));
        let traceable = Tracefs::find()
            .and_then(|tracefs| File::open(tracefs.path("available_filter_functions")).ok())
            .and_then(|file| filter_functions(BufReader::new(file), &wanted).ok());
        wanted.extend(hooks.iter().flat_map(|hook| hook.structs));
        wanted.insert(SCO_FLOWCTL);
        let mut homes: HashSet<&str> = hooks.iter().map(|hook| hook.module).collect();
        homes.insert(VMLINUX);
        Self {
            symbols,
            modules: fs::read_to_string("/proc/modules")
                .map_or_else(|_| HashSet::new(), |text| modules(&text)),
            btf: homes
                .into_iter()
                .filter_map(|home| Some((home.to_owned(), read_btf(home, &wanted)?)))
                .collect(),
            external: external.map(|path| read_external(path, &wanted)),
            traceable,
            preemptible: kernel_is_preemptible(),
        }
    }
}

/// Reads `/proc/kallsyms`: `address type name[\t[module]]`.
fn kallsyms(lines: impl BufRead, wanted: &HashSet<&str>) -> io::Result<Symbols> {
    let mut symbols = Symbols::default();
    for_each_line(lines, |line| {
        let mut words = line.split_ascii_whitespace();
        let (Some(address), Some(_), Some(name)) = (words.next(), words.next(), words.next())
        else {
            return;
        };
        let base = name.split('.').next().unwrap_or(name);
        if !wanted.contains(base) {
            return;
        }
        if base.len() < name.len() {
            // A cold part is never the function's entry.
            if !name.contains(".cold") {
                symbols
                    .suffixed
                    .entry(base.to_owned())
                    .or_default()
                    .push(name.to_owned());
            }
            return;
        }
        symbols
            .exact
            .entry(name.to_owned())
            .or_default()
            .push(Symbol {
                module: words
                    .next()
                    .map(|module| module.trim_matches(['[', ']']).to_owned()),
                address: u64::from_str_radix(address, 16).unwrap_or(0),
            });
    })?;
    Ok(symbols)
}

/// Reads `available_filter_functions`: `name [module]`.
fn filter_functions(lines: impl BufRead, wanted: &HashSet<&str>) -> io::Result<HashSet<String>> {
    let mut found = HashSet::new();
    for_each_line(lines, |line| {
        if let Some(name) = line
            .split_ascii_whitespace()
            .next()
            .filter(|name| wanted.contains(name))
        {
            found.insert(name.to_owned());
        }
    })?;
    Ok(found)
}

fn for_each_line(mut lines: impl BufRead, mut each: impl FnMut(&str)) -> io::Result<()> {
    let mut line = String::new();
    while lines.read_line(&mut line)? > 0 {
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

/// Wanted names in the BTF of a module or of `vmlinux`; `None` if the kernel shows no such BTF.
fn read_btf(home: &str, wanted: &HashSet<&str>) -> Option<Result<BtfNames, String>> {
    let path = Path::new("/sys/kernel/btf").join(home);
    if !path.exists() {
        return None;
    }
    let read = || -> Result<BtfNames, Box<dyn std::error::Error>> {
        let bytes = fs::read(&path)?;
        let base = if home == VMLINUX {
            Vec::new()
        } else {
            vmlinux_strings()?
        };
        Ok(btf::names(&bytes, &base, wanted)?)
    };
    Some(read().map_err(|error| format!("failed to read {}: {error}", path.display())))
}

/// The strings of vmlinux's BTF, which those of modules continue.
fn vmlinux_strings() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut file = File::open("/sys/kernel/btf/vmlinux")?;
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header)?;
    let (begin, length) = Header::parse(&header)?.strings;
    file.seek(SeekFrom::Start(begin as u64))?;
    let mut strings = Vec::new();
    file.take(length as u64).read_to_end(&mut strings)?;
    Ok(strings)
}

fn read_external(path: &Path, wanted: &HashSet<&str>) -> Result<BtfNames, String> {
    let bytes =
        fs::read(path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    btf::names(&bytes, &[], wanted).map_err(|error| format!("{}: {error}", path.display()))
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

    proptest! {
        /// Check that arbitrary text never makes a reader panic.
        #[test]
        fn kallsyms_of_arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = kallsyms(text.as_bytes(), &wanted());
            let _ = filter_functions(text.as_bytes(), &wanted());
            let _ = modules(&text);
        }
    }
}
