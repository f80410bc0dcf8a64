//! What an object consists of.

use super::insn::Insn;
use super::maps::MapDef;
use super::section_name::SectionSpec;
use crate::btf::{Btf, BtfError, BtfExtError};
use crate::bytes::Endian;
use crate::relocate::CoreRelo;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most functions of an object; bounds what a hostile file can cost.
pub(super) const MAX_FUNCTIONS: usize = 16_384;

/// Why a file is not an eBPF object that can be judged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ObjectError {
    /// Not ELF, or a broken one.
    #[error("not a readable ELF file")]
    Elf(#[source] object::Error),
    /// ELF of another machine.
    #[error("not an eBPF object but one for {machine:?}")]
    Machine {
        /// The machine it is for.
        machine: object::Architecture,
    },
    /// The object's own types are broken.
    #[error("malformed .BTF section")]
    Btf(#[source] BtfError),
    /// The object's relocation records are broken.
    #[error("malformed .BTF.ext section")]
    BtfExt(#[source] BtfExtError),
    /// More functions than any real object has.
    #[error("{count} functions, more than {MAX_FUNCTIONS}")]
    TooMany {
        /// Functions found.
        count: usize,
    },
}

/// What a call calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallTarget {
    /// A helper by number.
    Helper(u32),
    /// A function of the object, as index into [`Object::functions`].
    Local(usize),
    /// A kernel function, by name.
    Kfunc(String),
}

/// What a 64-bit constant load refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefTarget {
    /// A declared map.
    Map(String),
    /// Global variables in this section, which user space may set before loading.
    Data(String),
    /// An external symbol: kernel variable or kconfig value.
    Extern(String),
    /// A function of the object (a callback).
    Function(usize),
}

/// A CO-RE relocation within a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// Index of the instruction within the function.
    pub insn: usize,
    /// Place in `.BTF.ext`: libbpf resolves in this order.
    pub order: usize,
    /// Number of the kind as recorded, for kinds that are not known.
    pub raw_kind: u32,
    /// The relocation; `None` when its kind is not known.
    pub relo: Option<CoreRelo>,
}

/// A function of the object: a program or a subprogram.
#[derive(Clone, Debug)]
pub struct Function {
    /// Symbol name.
    pub name: String,
    /// ELF section.
    pub section: String,
    /// First instruction within the section.
    pub start: usize,
    /// Instructions.
    pub insns: Vec<Insn>,
    /// CO-RE relocations, in the order of their instructions.
    pub relocations: Vec<Relocation>,
    /// Calls, by instruction.
    pub calls: BTreeMap<usize, CallTarget>,
    /// References of 64-bit loads, by instruction.
    pub refs: BTreeMap<usize, RefTarget>,
    /// Source position by first instruction: file, line.
    pub lines: BTreeMap<usize, (String, u32)>,
    /// BTF id of the function, 0 if it has none.
    pub type_id: u32,
    /// Whether the symbol is global.
    pub global: bool,
}

impl Function {
    /// Source position of an instruction.
    #[must_use]
    pub fn line(&self, insn: usize) -> Option<(&str, u32)> {
        let (_, (file, line)) = self.lines.range(..=insn).next_back()?;
        Some((file, *line))
    }
}

/// A program: a function that is an entry point.
#[derive(Clone, Debug)]
pub struct Program {
    /// Index of its function.
    pub function: usize,
    /// What its section says; `None` when libbpf knows no such section.
    pub spec: Option<SectionSpec>,
    /// Functions that are part of it, itself first, in order of discovery.
    pub reachable: Vec<usize>,
}

/// What kind of thing an external symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExternKind {
    /// A value of the kernel's configuration, or a virtual one of libbpf's.
    Kconfig,
    /// A kernel variable with a type.
    TypedKsym,
    /// A kernel symbol without a type.
    TypelessKsym,
    /// A kernel function.
    Kfunc,
}

/// A symbol that the kernel or its configuration has to supply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extern {
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: ExternKind,
    /// Whether the object works without it.
    pub weak: bool,
    /// Its type in the object's BTF (a kfunc's FUNC).
    pub type_id: u32,
}

/// A parsed object.
#[derive(Debug)]
pub struct Object {
    /// Byte order.
    pub endian: Endian,
    /// Its types; `None` for an object without BTF.
    pub btf: Option<Btf>,
    /// License text, empty if none is declared.
    pub license: String,
    /// All functions, by section and address.
    pub functions: Vec<Function>,
    /// The entry points, in the order of `functions`.
    pub programs: Vec<Program>,
    /// Declared maps and sections of global data.
    pub maps: Vec<MapDef>,
    /// External symbols.
    pub externs: Vec<Extern>,
    /// Relocations that belong to no function.
    pub orphan_relocations: usize,
}

impl Object {
    /// The function of a program.
    #[must_use]
    pub fn entry(&self, program: &Program) -> &Function {
        &self.functions[program.function]
    }

    /// All known CO-RE relocations in libbpf's order, as (function, position in its list).
    #[must_use]
    pub fn relocation_order(&self) -> Vec<(usize, usize)> {
        let mut all: Vec<(usize, usize, usize)> = Vec::new();
        for (f, function) in self.functions.iter().enumerate() {
            for (r, relocation) in function.relocations.iter().enumerate() {
                all.push((relocation.order, f, r));
            }
        }
        all.sort_unstable();
        all.into_iter().map(|(_, f, r)| (f, r)).collect()
    }
}
