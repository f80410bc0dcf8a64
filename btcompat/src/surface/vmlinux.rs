//! What a kernel image says about its own functions: which ftrace can patch,
//! which kprobes refuse, which tracepoints there are.

use super::image::{Arch, Image};
use super::kallsyms::RawSymbol;
use super::symbols::{MAX_CALL_SITE, Marks, Symbol, SymbolTable};
use crate::btf::{Btf, Kind};
use crate::bytes::{Endian, c_str};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;

/// Most entries that are read of a table in the image.
const MAX_ENTRIES: usize = 1 << 20;

/// Sets of addresses found, and what could not be found.
#[derive(Debug)]
pub(super) struct KernelSymbols {
    pub(super) table: SymbolTable,
    /// The ftrace call sites are known.
    pub(super) ftrace_known: bool,
    /// The kprobe blacklist is known.
    pub(super) blacklist_known: bool,
}

/// Symbols by name, for the bounds of tables.
struct Bounds<'a> {
    image: &'a Image,
    addresses: HashMap<&'a str, u64>,
}

impl<'a> Bounds<'a> {
    fn new(image: &'a Image, symbols: &'a [RawSymbol]) -> Self {
        let addresses: HashMap<&str, u64> = symbols
            .iter()
            .map(|s| (s.name.as_str(), s.address))
            .collect();
        Self { image, addresses }
    }

    fn range(&self, start: &str, end: &str) -> Option<Range<u64>> {
        let range = *self.addresses.get(start)?..*self.addresses.get(end)?;
        (range.start <= range.end).then_some(range)
    }

    /// The words of a table of addresses.
    fn words(&self, start: &str, end: &str) -> Option<Vec<u64>> {
        let range = self.range(start, end)?;
        let len = usize::try_from(range.end - range.start).ok()?;
        let data = self.image.at(range.start)?.get(..len)?;
        let words = data.chunks_exact(8).take(MAX_ENTRIES);
        Some(words.filter_map(|w| Endian::Little.u64(w, 0)).collect())
    }

    fn word(&self, address: u64) -> Option<u64> {
        Endian::Little.u64(self.image.at(address)?, 0)
    }

    fn text_at(&self, address: u64) -> Option<&'a str> {
        let rest = self.image.at(address)?;
        c_str(rest.get(..256).unwrap_or(rest), 0)
    }
}

/// Gives each symbol its flags.
pub(super) fn kernel_symbols(image: &Image, symbols: &[RawSymbol]) -> KernelSymbols {
    let bounds = Bounds::new(image, symbols);
    let ftrace = bounds.words("__start_mcount_loc", "__stop_mcount_loc");
    let ftrace = ftrace.or_else(|| call_site_table(image, symbols));
    let blacklist = bounds.words("__start_kprobe_blacklist", "__stop_kprobe_blacklist");
    // A table that the boot code has yet to fill in holds zeros.
    let filled =
        |table: &Option<Vec<u64>>| table.as_ref().is_some_and(|t| t.iter().any(|&a| a != 0));
    let (ftrace_known, blacklist_known) = (filled(&ftrace), filled(&blacklist));
    let sections = [
        ("__noinstr_text_start", "__noinstr_text_end"),
        ("__kprobes_text_start", "__kprobes_text_end"),
        ("__entry_text_start", "__entry_text_end"),
        ("__cpuidle_text_start", "__cpuidle_text_end"),
    ];
    let marks = Marks {
        ftrace: call_sites(ftrace.unwrap_or_default(), symbols, image.arch),
        blacklist: sorted(blacklist.unwrap_or_default()),
        no_kprobes: sections
            .iter()
            .filter_map(|(start, end)| bounds.range(start, end))
            .collect(),
        init: bounds.range("_sinittext", "_einittext").unwrap_or(0..0),
    };
    KernelSymbols {
        table: flagged(symbols, &marks),
        ftrace_known,
        blacklist_known,
    }
}

/// The table of ftrace's call sites by its looks, for kernels whose symbols are functions alone: by far the longest list of addresses that all lie
/// at the beginnings of functions.
fn call_site_table(image: &Image, symbols: &[RawSymbol]) -> Option<Vec<u64>> {
    /// Other lists of functions (system calls, initcalls, the kprobe blacklist) have a few hundred.
    const FEWEST: usize = 4096;
    let is_code = |s: &&RawSymbol| matches!(s.kind, b't' | b'T' | b'w' | b'W');
    let mut starts: Vec<u64> = symbols.iter().filter(is_code).map(|s| s.address).collect();
    starts.sort_unstable();
    // Two words in front of a function, or behind a landing pad and the saved link register.
    let near = |site: &u64| {
        let next = starts.partition_point(|&start| start <= site.saturating_add(8));
        let start = next.checked_sub(1).and_then(|i| starts.get(i));
        start.is_some_and(|&start| *site <= start.saturating_add(MAX_CALL_SITE))
    };
    // Functions that are thrown away lie behind the others, and are not all among the symbols.
    let code = *starts.first()?..starts.last()?.saturating_add(1 << 20);
    let lists = image.parts().filter_map(|(_, data)| {
        let words = data.chunks_exact(8);
        let words: Vec<u64> = words.filter_map(|w| Endian::Little.u64(w, 0)).collect();
        let lists = words.chunk_by(|a, b| code.contains(a) == code.contains(b));
        let list = lists.filter(|list| code.contains(&list[0]));
        list.max_by_key(|list| list.len()).map(<[u64]>::to_vec)
    });
    let mut longest = lists.max_by_key(Vec::len)?;
    let all = longest.len();
    longest.retain(near);
    (longest.len() >= FEWEST && longest.len() > all / 10 * 9).then_some(longest)
}

fn sorted(mut list: Vec<u64>) -> Vec<u64> {
    list.sort_unstable();
    list
}

/// On arm64 a call site may be two words in front of its function.
fn call_sites(mut sites: Vec<u64>, symbols: &[RawSymbol], arch: Arch) -> Vec<u64> {
    if arch == Arch::Aarch64 {
        let starts: HashSet<u64> = symbols.iter().map(|s| s.address).collect();
        for site in &mut sites {
            let behind = site.saturating_add(8);
            if starts.contains(&behind) && !starts.contains(site) {
                *site = behind;
            }
        }
    }
    sorted(sites)
}

fn flagged(symbols: &[RawSymbol], marks: &Marks) -> SymbolTable {
    let mut addresses: Vec<u64> = symbols.iter().map(|s| s.address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    SymbolTable::new(symbols.iter().map(|symbol| {
        let after = addresses.partition_point(|&a| a <= symbol.address);
        Symbol {
            name: &symbol.name,
            address: symbol.address,
            flags: marks.flags(symbol, addresses.get(after).copied()),
        }
    }))
}

/// Tracepoints with their categories, as `category/name`, from the table of trace events.
/// `None` when the table or the types that describe it are missing.
///
/// Source: kernel `include/linux/trace_events.h`, `struct trace_event_call`.
pub(super) fn trace_events(
    image: &Image,
    symbols: &[RawSymbol],
    btf: &Btf,
) -> Option<BTreeSet<String>> {
    let bounds = Bounds::new(image, symbols);
    let layout = EventLayout::of(btf)?;
    let calls = bounds.words("__start_ftrace_events", "__stop_ftrace_events")?;
    let events: BTreeSet<String> = calls
        .into_iter()
        .filter_map(|call| layout.name(&bounds, call))
        // Events of ftrace itself cannot be enabled.
        .filter(|name| !name.starts_with("ftrace/"))
        .collect();
    (!events.is_empty()).then_some(events)
}

/// Offsets in bytes of the fields that lead to an event's name.
struct EventLayout {
    class: u64,
    name: u64,
    flags: u64,
    system: u64,
    tracepoint_name: u64,
    tracepoint_flag: u64,
}

impl EventLayout {
    fn of(btf: &Btf) -> Option<Self> {
        Some(Self {
            class: field(btf, "trace_event_call", "class")?,
            name: field(btf, "trace_event_call", "name")?,
            flags: field(btf, "trace_event_call", "flags")?,
            system: field(btf, "trace_event_class", "system")?,
            tracepoint_name: field(btf, "tracepoint", "name")?,
            tracepoint_flag: btf
                .own_types()
                .filter(|t| t.kind() == Kind::Enum)
                .flat_map(|t| t.enumerators())
                .find(|(name, _)| *name == "TRACE_EVENT_FL_TRACEPOINT")?
                .1,
        })
    }

    fn name(&self, bounds: &Bounds, call: u64) -> Option<String> {
        let class = bounds.word(call.checked_add(self.class)?)?;
        let system = bounds.text_at(bounds.word(class.checked_add(self.system)?)?)?;
        let mut name = bounds.word(call.checked_add(self.name)?)?;
        let flags = bounds.word(call.checked_add(self.flags)?)? & 0xffff_ffff;
        if flags & self.tracepoint_flag != 0 {
            name = bounds.word(name.checked_add(self.tracepoint_name)?)?;
        }
        Some(format!("{system}/{}", bounds.text_at(name)?))
    }
}

/// Offset in bytes of a field, also inside anonymous members.
fn field(btf: &Btf, owner: &str, name: &str) -> Option<u64> {
    let ty = btf.find(owner, Kind::Struct)?;
    let bits = field_in(btf, ty.id, name, 0)?;
    Some(u64::from(bits / 8))
}

fn field_in(btf: &Btf, id: u32, name: &str, depth: u32) -> Option<u32> {
    let ty = btf.strip(id).filter(|_| depth < 8)?;
    ty.members().find_map(|m| {
        if m.name == name {
            return Some(m.bit_offset);
        }
        if m.name.is_empty() {
            let inner = field_in(btf, m.type_id, name, depth + 1)?;
            return m.bit_offset.checked_add(inner);
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::{Image, RawSymbol, kernel_symbols};
    use crate::surface::Flags;

    /// Where an arm64 kernel is linked that does not tell.
    const BASE: u64 = 0xffff_8000_8000_0000;
    const FUNCTIONS: u64 = 9000;

    fn function(number: u64) -> u64 {
        BASE + 0x1_0000 + number * 64
    }

    /// An arm64 image whose symbols are functions alone: every third cannot be traced, every fifth has its call site two words in front.
    fn image() -> (Image, Vec<RawSymbol>) {
        let traced = (0..FUNCTIONS).filter(|n| n % 3 != 0);
        let sites = traced.map(|n| function(n) + 4 - if n % 5 == 0 { 12 } else { 0 });
        let mut data = vec![0; 0x1_0000 + usize::try_from(FUNCTIONS).unwrap() * 64];
        data[0x38..0x3c].copy_from_slice(b"ARM\x64");
        // System calls, or what else refers to functions.
        let others = (0..500).map(function);
        for list in [others.collect::<Vec<_>>(), sites.collect()] {
            data.extend([0; 8]);
            data.extend(list.iter().flat_map(|address| address.to_le_bytes()));
        }
        let symbols = (0..FUNCTIONS).map(|n| RawSymbol {
            address: function(n),
            kind: b't',
            name: format!("f{n}"),
        });
        (Image::unpack(&data).unwrap(), symbols.collect())
    }

    /// Check that the call sites are found by their looks, and are those of the functions that have one.
    #[test]
    fn call_sites_are_found_without_their_symbols() {
        let (image, symbols) = image();
        let known = kernel_symbols(&image, &symbols);
        assert!(known.ftrace_known && !known.blacklist_known);
        let has = |n: u64| {
            let name = format!("f{n}");
            let mut named = known.table.named(&name);
            named.any(|symbol| symbol.flags.has(Flags::FTRACE))
        };
        let wrong = (0..FUNCTIONS).filter(|&n| has(n) == (n % 3 == 0));
        assert_eq!(wrong.collect::<Vec<_>>(), Vec::<u64>::new());
    }

    /// Check that a list of which most are not at functions is not taken for call sites.
    #[test]
    fn lists_of_other_addresses_are_no_call_sites() {
        let (image, symbols) = image();
        let few = &symbols[..1000];
        assert!(!kernel_symbols(&image, few).ftrace_known);
    }
}
