//! Symbols of a kernel or a module, by name.

use super::kallsyms::RawSymbol;
use std::ops::Range;

/// What is known about a symbol besides its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flags(u8);

impl Flags {
    /// Code that ftrace can patch: fentry, fexit and kprobe.multi can attach.
    pub const FTRACE: Self = Self(1);
    /// Code that kprobes refuse.
    pub const BLACKLIST: Self = Self(2);
    /// Code that is freed after boot.
    pub const INIT: Self = Self(4);
    /// Code, not data.
    pub const TEXT: Self = Self(8);

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is set.
    #[must_use]
    pub fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The bits, as they stand in a snapshot.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// From bits of a snapshot; unknown ones are dropped.
    #[must_use]
    pub fn from_bits(bits: u8) -> Self {
        Self(bits & 15)
    }
}

/// One symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Symbol<'a> {
    /// Name.
    pub name: &'a str,
    /// Address as linked; 0 where it is not known.
    pub address: u64,
    /// What is known about it.
    pub flags: Flags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    offset: u32,
    len: u16,
    flags: Flags,
    address: u64,
}

/// Symbols sorted by name; a name may be there more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SymbolTable {
    text: String,
    entries: Vec<Entry>,
}

impl SymbolTable {
    /// Builds a table; names that only tools use are left out.
    pub fn new<'a>(symbols: impl IntoIterator<Item = Symbol<'a>>) -> Self {
        let mut list: Vec<Symbol> = symbols
            .into_iter()
            .filter(|s| !s.name.is_empty() && s.name.len() < 512 && !is_noise(s))
            .collect();
        list.sort_unstable();
        let mut table = Self::default();
        for symbol in list {
            table.push(symbol);
        }
        table
    }

    /// Appends a symbol; whoever appends keeps the order. Says whether it was kept.
    pub(super) fn push(&mut self, symbol: Symbol) -> bool {
        let in_order = self
            .entries
            .last()
            .is_none_or(|last| self.symbol(last).name <= symbol.name);
        // More than 4 GiB of names, or a name of more than 64 KiB, is no kernel's.
        let (Ok(offset), Ok(len)) = (
            u32::try_from(self.text.len()),
            u16::try_from(symbol.name.len()),
        ) else {
            return false;
        };
        self.text.push_str(symbol.name);
        self.entries.push(Entry {
            offset,
            len,
            flags: symbol.flags,
            address: symbol.address,
        });
        in_order
    }

    fn symbol(&self, entry: &Entry) -> Symbol<'_> {
        let start = usize::try_from(entry.offset).unwrap_or(usize::MAX);
        let range = start..start + usize::from(entry.len);
        Symbol {
            name: self.text.get(range).unwrap_or(""),
            address: entry.address,
            flags: entry.flags,
        }
    }

    /// Number of symbols.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All symbols, by name.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        self.entries.iter().map(|e| self.symbol(e))
    }

    fn range(&self, in_front: impl Fn(&str) -> bool) -> usize {
        self.entries
            .partition_point(|e| in_front(self.symbol(e).name))
    }

    /// Symbols of exactly this name.
    pub fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Symbol<'a>> {
        let start = self.range(|n| n < name);
        let rest = self.entries[start..].iter().map(|e| self.symbol(e));
        rest.take_while(move |s| s.name == name)
    }

    /// Symbols of exactly this name, in a list of their own.
    #[must_use]
    pub fn all_named(&self, name: &str) -> Vec<Symbol<'_>> {
        let start = self.range(|n| n < name);
        let rest = self.entries[start..].iter().map(|e| self.symbol(e));
        rest.take_while(|s| s.name == name).collect()
    }

    /// Symbols whose names start so, in order.
    pub fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = Symbol<'a>> {
        let start = self.range(|n| n < prefix);
        let rest = self.entries[start..].iter().map(|e| self.symbol(e));
        rest.take_while(move |s| s.name.starts_with(prefix))
    }

    /// Symbols that the compiler derived from a function: `name.isra.0`, `name.cold`.
    pub fn derived<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Symbol<'a>> {
        self.with_prefix(name)
            .filter(move |s| s.name.as_bytes().get(name.len()) == Some(&b'.'))
    }
}

/// Labels that no program attaches to or reads: padding in front of functions,
/// and variables that only the kernel's own tables use.
fn is_noise(symbol: &Symbol) -> bool {
    const CODE: &[&str] = &["__pfx_", "__cfi_"];
    const DATA: &[&str] = &[
        "__UNIQUE_ID_",
        "__initcall_",
        "__ksymtab_",
        "__kstrtab",
        "__crc_",
        "__kcrctab",
        "__already_done.",
        "__func__.",
        "__key.",
        "_entry.",
        "_entry_ptr.",
        "__syscall_meta__",
        "__p_syscall_meta__",
        "types__sys",
        "args__sys",
        "event_enter__",
        "event_exit__",
        "__event_",
        "event_class_",
        "print_fmt_",
        "trace_event_type_funcs_",
        "trace_event_fields_",
        "__bpf_trace_tp_map_",
        "__export_symbol_",
        "__flags_",
        "__modver_",
        "__param_",
        "__setup_str_",
        "__tpstrtab_",
        "__SCK__",
        "__pci_fixup_",
        "TRACE_SYSTEM_",
    ];
    let starts = |list: &[&str]| list.iter().any(|p| symbol.name.starts_with(p));
    // A variable within a function has a dot in its name, which no C program can say.
    let data = !symbol.flags.has(Flags::TEXT);
    starts(CODE) || (data && (symbol.name.contains('.') || starts(DATA)))
}

/// Sections of a kernel by address, for flags.
#[derive(Clone, Debug, Default)]
pub(super) struct Marks {
    /// Addresses of ftrace call sites, sorted.
    pub(super) ftrace: Vec<u64>,
    /// Addresses of the kprobe blacklist, sorted.
    pub(super) blacklist: Vec<u64>,
    /// Address ranges that kprobes refuse.
    pub(super) no_kprobes: Vec<Range<u64>>,
    /// Address range of code that is freed.
    pub(super) init: Range<u64>,
}

/// How far behind the start of a function its call site may lie: an `endbr64`,
/// or a landing pad and the saved link register.
pub(super) const MAX_CALL_SITE: u64 = 16;
impl Marks {
    /// Flags of a symbol. `next` is the address of the next symbol with a higher one.
    pub(super) fn flags(&self, symbol: &RawSymbol, next: Option<u64>) -> Flags {
        let mut flags = Flags::default();
        if !matches!(symbol.kind, b't' | b'T' | b'w' | b'W') {
            return flags;
        }
        flags = flags.with(Flags::TEXT);
        let address = symbol.address;
        if self.init.contains(&address) {
            return flags.with(Flags::INIT);
        }
        let end = next
            .unwrap_or(u64::MAX)
            .min(address.saturating_add(MAX_CALL_SITE + 1));
        let first = self.ftrace.partition_point(|&site| site < address);
        let site = self.ftrace.get(first).is_some_and(|&site| site < end);
        if site {
            flags = flags.with(Flags::FTRACE);
        }
        let listed = self.blacklist.binary_search(&address).is_ok();
        if listed || self.no_kprobes.iter().any(|r| r.contains(&address)) {
            flags = flags.with(Flags::BLACKLIST);
        }
        flags
    }
}
