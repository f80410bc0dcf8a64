//! Reading a `.bpf.o`: functions, relocations, externs, maps, line numbers.

use super::insn::Insn;
use super::maps::{MapDef, declared_maps};
use super::model::{
    CallTarget, Extern, ExternKind, Function, MAX_FUNCTIONS, Object, ObjectError, Program,
    RefTarget, Relocation,
};
use super::section_name::SectionSpec;
use crate::btf::{Btf, BtfExt, Kind};
use crate::bytes::Endian;
use crate::relocate::{CoreRelo, CoreReloKind};
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, RelocationTarget, SymbolKind};
use std::collections::BTreeMap;

impl Object {
    /// Parses an object.
    ///
    /// # Errors
    /// When the file is not an eBPF object or is damaged.
    pub fn parse(data: &[u8]) -> Result<Self, ObjectError> {
        let elf = ElfFile64::<object::Endianness>::parse(data).map_err(ObjectError::Elf)?;
        if elf.architecture() != object::Architecture::Bpf {
            return Err(ObjectError::Machine {
                machine: elf.architecture(),
            });
        }
        let endian = if elf.is_little_endian() {
            Endian::Little
        } else {
            Endian::Big
        };
        let section = |name: &str| {
            let section = elf.sections().find(|s| s.name() == Ok(name))?;
            section.data().ok().filter(|d| !d.is_empty())
        };
        let btf = section(".BTF")
            .map(|d| Btf::parse(d.to_vec()))
            .transpose()
            .map_err(ObjectError::Btf)?;
        if let Some(btf) = &btf {
            btf.set_pointer_size(8);
        }
        let ext = section(".BTF.ext")
            .map(BtfExt::parse)
            .transpose()
            .map_err(ObjectError::BtfExt)?
            .unwrap_or_default();
        let license = section("license").unwrap_or_default();
        let mut reader = Reader::new(&elf, endian, btf.as_ref())?;
        reader.link()?;
        reader.add_ext(&ext);
        let Reader {
            functions,
            externs,
            orphans,
            ..
        } = reader;
        let programs = programs(&functions);
        let mut maps = btf.as_ref().map(declared_maps).unwrap_or_default();
        maps.extend(data_maps(&elf));
        Ok(Self {
            endian,
            license: String::from_utf8_lossy(license)
                .trim_end_matches('\0')
                .to_owned(),
            functions,
            programs,
            maps,
            externs,
            orphan_relocations: orphans,
            btf,
        })
    }
}

type Elf<'d> = ElfFile64<'d, object::Endianness>;

struct Reader<'a, 'd> {
    elf: &'a Elf<'d>,
    btf: Option<&'a Btf>,
    functions: Vec<Function>,
    /// ELF section index of each function.
    sections: Vec<usize>,
    externs: Vec<Extern>,
    orphans: usize,
}

impl<'a, 'd> Reader<'a, 'd> {
    fn new(elf: &'a Elf<'d>, endian: Endian, btf: Option<&'a Btf>) -> Result<Self, ObjectError> {
        let mut found = Vec::new();
        for symbol in elf.symbols() {
            let Some(index) = symbol.section_index() else {
                continue;
            };
            if symbol.kind() != SymbolKind::Text {
                continue;
            }
            let section = elf.section_by_index(index).map_err(ObjectError::Elf)?;
            if section.kind() != object::SectionKind::Text {
                continue;
            }
            let (start, size) = (symbol.address(), symbol.size());
            let data = section.data_range(start, size).ok().flatten();
            let Some(data) = data.filter(|d| !d.is_empty()) else {
                continue;
            };
            if found.len() == MAX_FUNCTIONS {
                let count = elf.symbols().count();
                return Err(ObjectError::TooMany { count });
            }
            let function = Function {
                name: symbol.name().unwrap_or_default().to_owned(),
                section: section.name().unwrap_or_default().to_owned(),
                start: usize::try_from(start).unwrap_or(usize::MAX) / Insn::SIZE,
                insns: Insn::decode_all(data, endian),
                relocations: Vec::new(),
                calls: BTreeMap::new(),
                refs: BTreeMap::new(),
                lines: BTreeMap::new(),
                type_id: 0,
                global: symbol.is_global(),
            };
            found.push((index.0, function));
        }
        found.sort_by(|(s, f), (t, g)| (s, f.start, &f.name).cmp(&(t, g.start, &g.name)));
        let (sections, functions) = found.into_iter().unzip();
        Ok(Self {
            elf,
            btf,
            functions,
            sections,
            externs: Vec::new(),
            orphans: 0,
        })
    }

    /// Index of the function that holds an instruction of a section.
    fn function_at(&self, section: usize, insn: usize) -> Option<usize> {
        let after = self
            .functions
            .partition_point_by(|i, f| (self.sections[i], f.start) <= (section, insn));
        let index = after.checked_sub(1)?;
        let function = &self.functions[index];
        let inside =
            self.sections[index] == section && insn - function.start < function.insns.len();
        inside.then_some(index)
    }

    /// Resolves calls and 64-bit loads.
    fn link(&mut self) -> Result<(), ObjectError> {
        self.collect_externs();
        for index in 0..self.functions.len() {
            self.link_direct_calls(index);
        }
        let text: Vec<usize> = {
            let mut all = self.sections.clone();
            all.dedup();
            all
        };
        for section_index in text {
            let section = self
                .elf
                .section_by_index(object::SectionIndex(section_index))
                .map_err(ObjectError::Elf)?;
            for (offset, relocation) in section.relocations() {
                let insn = usize::try_from(offset).unwrap_or(usize::MAX) / Insn::SIZE;
                let RelocationTarget::Symbol(symbol) = relocation.target() else {
                    continue;
                };
                if let Some(function) = self.function_at(section_index, insn) {
                    self.link_symbol(function, insn, symbol);
                }
            }
        }
        Ok(())
    }

    /// Calls that need no relocation: helpers, and functions of the same section.
    fn link_direct_calls(&mut self, index: usize) {
        let section = self.sections[index];
        let function = &self.functions[index];
        let mut calls = BTreeMap::new();
        for (at, insn) in function
            .insns
            .iter()
            .enumerate()
            .filter(|(_, i)| i.is_call())
        {
            let target = match insn.src {
                0 => Some(CallTarget::Helper(insn.imm.cast_unsigned())),
                1 => relative(function.start + at, insn.imm)
                    .and_then(|to| self.function_at(section, to))
                    .map(CallTarget::Local),
                _ => None,
            };
            calls.extend(target.map(|t| (at, t)));
        }
        self.functions[index].calls = calls;
    }

    fn link_symbol(&mut self, function: usize, insn: usize, symbol: object::SymbolIndex) {
        let Ok(symbol) = self.elf.symbol_by_index(symbol) else {
            return;
        };
        let at = insn - self.functions[function].start;
        let code = self.functions[function].insns[at];
        let name = symbol.name().unwrap_or_default().to_owned();
        let Some(section_index) = symbol.section_index() else {
            if code.is_call() {
                self.functions[function]
                    .calls
                    .insert(at, CallTarget::Kfunc(name));
            } else {
                self.functions[function]
                    .refs
                    .insert(at, RefTarget::Extern(name));
            }
            return;
        };
        let section = self.elf.section_by_index(section_index).ok();
        let section_name = section.as_ref().and_then(|s| s.name().ok()).unwrap_or("");
        let is_text = section
            .as_ref()
            .is_some_and(|s| s.kind() == object::SectionKind::Text);
        if is_text {
            let base = usize::try_from(symbol.address()).unwrap_or(usize::MAX) / Insn::SIZE;
            // A call counts from the symbol in instructions, a reference in bytes.
            let to = if code.is_call() {
                let addend = if symbol.kind() == SymbolKind::Section {
                    code.imm
                } else {
                    -1
                };
                relative(base, addend)
            } else {
                let bytes = usize::try_from(code.imm).unwrap_or(usize::MAX);
                base.checked_add(bytes / Insn::SIZE)
            };
            let Some(target) = to.and_then(|to| self.function_at(section_index.0, to)) else {
                return;
            };
            let function = &mut self.functions[function];
            if code.is_call() {
                function.calls.insert(at, CallTarget::Local(target));
            } else {
                function.refs.insert(at, RefTarget::Function(target));
            }
            return;
        }
        let target = if section_name == ".maps" || section_name == "maps" {
            RefTarget::Map(name)
        } else {
            RefTarget::Data(section_name.to_owned())
        };
        self.functions[function].refs.insert(at, target);
    }

    fn collect_externs(&mut self) {
        let Some(btf) = self.btf else {
            return;
        };
        let kind_of: BTreeMap<&str, (ExternKind, u32)> = [".kconfig", ".ksyms"]
            .into_iter()
            .filter_map(|name| btf.find(name, Kind::Datasec))
            .flat_map(|section| {
                let kconfig = section.name() == ".kconfig";
                section.variables().filter_map(move |(id, _, _)| {
                    let ty = btf.ty(id)?;
                    let void = btf
                        .strip(ty.target())
                        .is_none_or(|t| t.kind() == Kind::Void);
                    let kind = match (kconfig, ty.kind()) {
                        (true, _) => ExternKind::Kconfig,
                        (false, Kind::Func) => ExternKind::Kfunc,
                        (false, _) if void => ExternKind::TypelessKsym,
                        (false, _) => ExternKind::TypedKsym,
                    };
                    Some((ty.name(), (kind, id)))
                })
            })
            .collect();
        let mut externs: Vec<Extern> = self
            .elf
            .symbols()
            .filter(|s| s.is_undefined())
            .filter_map(|s| {
                let name = s.name().ok()?;
                let &(kind, type_id) = kind_of.get(name)?;
                Some(Extern {
                    name: name.to_owned(),
                    kind,
                    weak: s.is_weak(),
                    type_id,
                })
            })
            .collect();
        externs.sort_by(|a, b| a.name.cmp(&b.name));
        externs.dedup_by(|a, b| a.name == b.name);
        self.externs = externs;
    }

    fn section_index(&self, name_off: u32) -> Option<usize> {
        let name = self.btf?.string(name_off)?;
        let section = self.elf.sections().find(|s| s.name() == Ok(name))?;
        Some(section.index().0)
    }

    fn add_ext(&mut self, ext: &BtfExt) {
        let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX) / Insn::SIZE;
        for section in &ext.funcs {
            let Some(index) = self.section_index(section.name_off) else {
                continue;
            };
            for record in &section.records {
                if let Some(f) = self.function_at(index, at(record.insn_off)) {
                    self.functions[f].type_id = record.type_id;
                }
            }
        }
        for section in &ext.lines {
            let Some(index) = self.section_index(section.name_off) else {
                continue;
            };
            for record in &section.records {
                let insn = at(record.insn_off);
                let file = self.btf.and_then(|b| b.string(record.file_off));
                if let (Some(f), Some(file)) = (self.function_at(index, insn), file) {
                    let function = &mut self.functions[f];
                    let place = (short_path(file).to_owned(), record.line);
                    function.lines.insert(insn - function.start, place);
                }
            }
        }
        self.add_relocations(ext);
    }

    fn add_relocations(&mut self, ext: &BtfExt) {
        let mut order = 0;
        for section in &ext.relos {
            let index = self.section_index(section.name_off);
            for record in &section.records {
                order += 1;
                let insn = usize::try_from(record.insn_off).unwrap_or(usize::MAX) / Insn::SIZE;
                let Some(f) = index.and_then(|s| self.function_at(s, insn)) else {
                    self.orphans += 1;
                    continue;
                };
                let access = self.btf.and_then(|b| b.string(record.access_off));
                let function = &mut self.functions[f];
                function.relocations.push(Relocation {
                    insn: insn - function.start,
                    order,
                    raw_kind: record.kind,
                    relo: CoreReloKind::from_raw(record.kind).map(|kind| CoreRelo {
                        kind,
                        type_id: record.type_id,
                        access: access.unwrap_or_default().to_owned(),
                    }),
                });
            }
        }
        for function in &mut self.functions {
            function.relocations.sort_by_key(|r| (r.insn, r.order));
        }
    }
}

/// Instruction that a relative call reaches.
fn relative(from: usize, offset: i32) -> Option<usize> {
    from.checked_add(1)?
        .checked_add_signed(isize::try_from(offset).ok()?)
}

/// The path from the last folder on: the same wherever the object was built.
fn short_path(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Sections of global variables, which become array maps.
fn data_maps(elf: &Elf) -> Vec<MapDef> {
    elf.sections()
        .filter_map(|section| {
            let name = section.name().ok()?;
            let is_data = [".rodata", ".data", ".bss"]
                .iter()
                .any(|p| name == *p || name.starts_with(&format!("{p}.")));
            if !is_data || section.size() == 0 {
                return None;
            }
            Some(MapDef {
                name: name.to_owned(),
                map_type: 2,
                type_name: "ARRAY".to_owned(),
                key_size: 4,
                value_size: u32::try_from(section.size()).unwrap_or(u32::MAX),
                max_entries: 1,
                flags: if name.starts_with(".rodata") { 0x80 } else { 0 },
                global_data: true,
            })
        })
        .collect()
}

/// Entry points: functions outside `.text`, or all if there is nothing else.
fn programs(functions: &[Function]) -> Vec<Program> {
    (0..functions.len())
        .filter(|&f| functions[f].section != ".text")
        .map(|f| Program {
            function: f,
            spec: SectionSpec::parse(&functions[f].section),
            reachable: reachable(functions, f),
        })
        .collect()
}

fn reachable(functions: &[Function], from: usize) -> Vec<usize> {
    let mut found = vec![from];
    let mut next = 0;
    while let Some(&f) = found.get(next) {
        next += 1;
        let calls = functions[f].calls.values().filter_map(|c| match c {
            CallTarget::Local(to) => Some(*to),
            _ => None,
        });
        let callbacks = functions[f].refs.values().filter_map(|r| match r {
            RefTarget::Function(to) => Some(*to),
            _ => None,
        });
        for to in calls.chain(callbacks) {
            if !found.contains(&to) {
                found.push(to);
            }
        }
    }
    found
}

/// `partition_point` with the index at hand.
trait PartitionPointBy<T> {
    fn partition_point_by(&self, before: impl Fn(usize, &T) -> bool) -> usize;
}

impl<T> PartitionPointBy<T> for Vec<T> {
    fn partition_point_by(&self, before: impl Fn(usize, &T) -> bool) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if before(middle, &self[middle]) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }
}
