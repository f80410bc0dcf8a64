//! What a kernel module offers: types, functions, tracepoints.

use super::symbols::{Flags, Symbol, SymbolTable};
use crate::btf::{Btf, BtfError};
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Arc;

/// Most bytes that a compressed module may unpack to.
const MAX_BYTES: u64 = 256 << 20;

/// Why a module could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// The compressed file is damaged.
    #[error("damaged compressed module")]
    Decompress(#[source] std::io::Error),
    /// Larger than any module.
    #[error("module unpacks to more than 256 MiB")]
    TooLarge,
    /// Not an ELF file.
    #[error("not a module")]
    Elf(#[source] object::Error),
}

/// A module's types.
#[derive(Clone, Debug)]
pub enum ModuleBtf {
    /// There are.
    Present(Arc<Btf>),
    /// The kernel was built without types for modules.
    Absent,
    /// There is something, but it does not fit the kernel or is damaged.
    Broken(String),
}

impl ModuleBtf {
    /// The types, if they are usable.
    #[must_use]
    pub fn get(&self) -> Option<&Arc<Btf>> {
        match self {
            Self::Present(btf) => Some(btf),
            _ => None,
        }
    }

    /// Parses a module's BTF on top of the kernel's.
    #[must_use]
    pub fn parse(data: &[u8], base: Option<&Arc<Btf>>) -> Self {
        let Some(base) = base else {
            return Self::Broken("the kernel itself has no BTF".to_owned());
        };
        match Btf::parse_split(data.to_vec(), Arc::clone(base)) {
            Ok(btf) => match first_dangling(&btf) {
                None => Self::Present(Arc::new(btf)),
                Some(id) => Self::Broken(format!("type {id} does not fit this kernel")),
            },
            Err(BtfError::Empty) => Self::Broken(format!("{} bytes without types", data.len())),
            Err(e) => Self::Broken(e.to_string()),
        }
    }
}

/// An own type that refers to one that does not exist: built for another kernel.
fn first_dangling(btf: &Btf) -> Option<u32> {
    let exists = |id: u32| id < btf.type_count();
    btf.own_types()
        .find(|t| {
            let members_fit = t.members().all(|m| exists(m.type_id));
            let params_fit = t.params().all(|p| exists(p.type_id));
            !members_fit || !params_fit
        })
        .map(|t| t.id)
}

/// A module, by its file.
#[derive(Clone, Debug)]
pub struct Module {
    /// Name, with `_` for `-`.
    pub name: String,
    /// Modules that have to be loaded first.
    pub depends: Vec<String>,
    /// Types.
    pub btf: ModuleBtf,
    /// Functions and variables.
    pub symbols: SymbolTable,
    /// Whether the symbols' `FTRACE` flags mean something.
    pub ftrace_known: bool,
    /// Tracepoints, by name.
    pub tracepoints: BTreeSet<String>,
    /// Category of its trace events, if it has one.
    pub category: Option<String>,
}

/// Unpacks a module file if it is compressed.
///
/// # Errors
/// When it is damaged or too large.
pub fn decompress(file: Vec<u8>) -> Result<Vec<u8>, ModuleError> {
    if file.starts_with(b"\x7fELF") {
        return Ok(file);
    }
    let mut data = Vec::new();
    let input = &file[..];
    let mut stream: Box<dyn Read> = if file.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        Box::new(liblzma::read::XzDecoder::new(input))
    } else if file.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = zstd::stream::read::Decoder::with_buffer(input);
        Box::new(decoder.map_err(ModuleError::Decompress)?)
    } else if file.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::GzDecoder::new(input))
    } else {
        return Ok(file);
    };
    let limited = stream.by_ref().take(MAX_BYTES + 1);
    std::io::BufReader::new(limited)
        .read_to_end(&mut data)
        .map_err(ModuleError::Decompress)?;
    if data.len() as u64 > MAX_BYTES {
        return Err(ModuleError::TooLarge);
    }
    Ok(data)
}

impl Module {
    /// Reads an uncompressed module. `base` is the kernel's BTF.
    ///
    /// # Errors
    /// When it is not a module at all; damaged parts only go missing.
    pub fn read(name: &str, data: &[u8], base: Option<&Arc<Btf>>) -> Result<Self, ModuleError> {
        let elf = ElfFile64::<object::Endianness>::parse(data).map_err(ModuleError::Elf)?;
        let section = |wanted: &str| {
            let section = elf.sections().find(|s| s.name() == Ok(wanted))?;
            section.data().ok().filter(|d| !d.is_empty())
        };
        let btf = section(".BTF").map_or(ModuleBtf::Absent, |d| ModuleBtf::parse(d, base));
        let depends = section(".modinfo").map(depends).unwrap_or_default();
        let places = Places::of(&elf);
        let mut tracepoints = BTreeSet::new();
        let mut category = None;
        for symbol in elf.symbols() {
            let name = symbol.name().unwrap_or("");
            if symbol.is_undefined() {
                continue;
            }
            if let Some(tracepoint) = name.strip_prefix("__traceiter_") {
                tracepoints.insert(tracepoint.to_owned());
            }
            if let Some(rest) = name.strip_prefix("str__") {
                category = rest.strip_suffix("__trace_system_name").map(str::to_owned);
            }
        }
        Ok(Self {
            name: name.replace('-', "_"),
            depends,
            btf,
            symbols: symbols(&elf, &places),
            ftrace_known: true,
            tracepoints,
            category,
        })
    }
}

fn depends(modinfo: &[u8]) -> Vec<String> {
    let list = modinfo
        .split(|&b| b == 0)
        .find_map(|entry| entry.strip_prefix(b"depends="))
        .unwrap_or_default();
    String::from_utf8_lossy(list)
        .split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
}

type Elf<'d> = ElfFile64<'d, object::Endianness>;

/// Places in a module's sections, as (section, offset).
#[derive(Default)]
struct Places {
    ftrace: BTreeSet<(usize, u64)>,
    blacklist: BTreeSet<(usize, u64)>,
    init: BTreeSet<usize>,
    no_kprobes: BTreeSet<usize>,
}

impl Places {
    fn of(elf: &Elf) -> Self {
        let mut places = Self::default();
        let aarch64 = elf.architecture() == object::Architecture::Aarch64;
        let starts: BTreeSet<(usize, u64)> = elf
            .symbols()
            .filter(|s| s.kind() == SymbolKind::Text)
            .filter_map(|s| Some((s.section_index()?.0, s.address())))
            .collect();
        for section in elf.sections() {
            let index = section.index().0;
            match section.name().unwrap_or("") {
                "__mcount_loc" => places.ftrace.extend(targets(elf, &section)),
                "__patchable_function_entries" if aarch64 => {
                    // A call site may be two words in front of its function.
                    let sites = targets(elf, &section).map(|(s, at)| {
                        let behind = (s, at.wrapping_add(8));
                        if starts.contains(&behind) && !starts.contains(&(s, at)) {
                            behind
                        } else {
                            (s, at)
                        }
                    });
                    places.ftrace.extend(sites);
                }
                "_kprobe_blacklist" => places.blacklist.extend(targets(elf, &section)),
                ".init.text" => {
                    places.init.insert(index);
                }
                ".noinstr.text" | ".kprobes.text" => {
                    places.no_kprobes.insert(index);
                }
                _ => {}
            }
        }
        places
    }

    fn flags(&self, section: usize, start: u64, next: u64) -> Flags {
        if self.init.contains(&section) {
            return Flags::TEXT.with(Flags::INIT);
        }
        let mut flags = Flags::TEXT;
        let end = next.min(start.saturating_add(17)).max(start);
        if self
            .ftrace
            .range((section, start)..(section, end))
            .next()
            .is_some()
        {
            flags = flags.with(Flags::FTRACE);
        }
        if self.blacklist.contains(&(section, start)) || self.no_kprobes.contains(&section) {
            flags = flags.with(Flags::BLACKLIST);
        }
        flags
    }
}

/// Places that the relocations of a section point to.
fn targets<'a>(
    elf: &'a Elf,
    section: &object::read::elf::ElfSection64<'a, '_, object::Endianness>,
) -> impl Iterator<Item = (usize, u64)> + use<'a> {
    let relocations: Vec<_> = section.relocations().collect();
    relocations.into_iter().filter_map(move |(_, relocation)| {
        let RelocationTarget::Symbol(index) = relocation.target() else {
            return None;
        };
        let symbol = elf.symbol_by_index(index).ok()?;
        let offset = symbol.address().wrapping_add_signed(relocation.addend());
        Some((symbol.section_index()?.0, offset))
    })
}

fn symbols(elf: &Elf, places: &Places) -> SymbolTable {
    let mut by_section: BTreeMap<usize, BTreeSet<u64>> = BTreeMap::new();
    for symbol in elf.symbols().filter(|s| s.kind() == SymbolKind::Text) {
        if let Some(section) = symbol.section_index() {
            by_section
                .entry(section.0)
                .or_default()
                .insert(symbol.address());
        }
    }
    SymbolTable::new(elf.symbols().filter_map(|symbol| {
        let section = symbol.section_index()?.0;
        let name = symbol.name().ok()?;
        let start = symbol.address();
        let flags = match symbol.kind() {
            SymbolKind::Text => {
                let mut later = by_section.get(&section)?.range(start.saturating_add(1)..);
                places.flags(section, start, later.next().copied().unwrap_or(u64::MAX))
            }
            SymbolKind::Data => Flags::default(),
            _ => return None,
        };
        // Addresses of modules are chosen when they are loaded; the section
        // still tells functions of one name apart.
        Some(Symbol {
            name,
            address: (section as u64) << 40 | start,
            flags,
        })
    }))
}
