//! What an object asks of a kernel, as a document: the same bytes wherever it is made.

use super::flow::{Flow, Oracle, Reach, analyze};
use super::helpers::helper_name;
use super::maps::MapDef;
use super::model::{CallTarget, ExternKind, Function, Object, Program, RefTarget};
use super::section_name::{AttachKind, SectionSpec};
use crate::btf::Btf;
use crate::relocate::{CoreReloKind, parse_spec};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Version of the document's layout.
const FORMAT: u32 = 1;

/// What an object asks of a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirements {
    /// Version of this layout.
    pub format: u32,
    /// License of the object; some helpers ask for a GPL-compatible one.
    pub license: String,
    /// Whether the object has types at all.
    pub has_btf: bool,
    /// Programs, in the order of the file.
    pub programs: Vec<ProgramRequirements>,
    /// Maps.
    pub maps: Vec<MapDef>,
    /// Kernel symbols and configuration values.
    pub externs: Vec<ExternRequirement>,
}

/// What one program asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRequirements {
    /// Name of the function.
    pub name: String,
    /// ELF section.
    pub section: String,
    /// What the section says; absent when libbpf does not know it.
    pub attach: Option<SectionSpec>,
    /// Group of attach rules.
    pub kind: Option<AttachKind>,
    /// What the loading program has to set before the program can work.
    pub set_by_user_space: Vec<String>,
    /// Instructions, subprograms included.
    pub instructions: usize,
    /// Arguments of the hooked function that are read, from 0.
    pub arguments: Vec<u32>,
    /// Whether the returned value is read.
    pub reads_return_value: bool,
    /// Other parts of the context: (offset, width) in bytes.
    pub context: Vec<(i32, u32)>,
    /// CO-RE relocations.
    pub relocations: Vec<RelocationRequirement>,
    /// Reads of memory at an offset that no relocation corrects.
    pub fixed_offset_reads: usize,
    /// Helpers.
    pub helpers: Vec<Helper>,
    /// Kernel functions.
    pub kfuncs: Vec<String>,
    /// Kernel variables, symbols, configuration values.
    pub externs: Vec<String>,
    /// Maps.
    pub maps: Vec<String>,
    /// Instruction features beyond the first instruction set.
    pub features: Vec<String>,
}

/// One CO-RE relocation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelocationRequirement {
    /// Kind; its number if it is not known.
    pub kind: String,
    /// What it reaches: `hci_dev.acl_cnt`.
    pub path: String,
    /// Type at the end, as C would spell it; empty where there is none.
    pub r#type: String,
    /// Function that holds the instruction.
    pub function: String,
    /// Source file and line.
    pub line: Option<(String, u32)>,
    /// How many instructions ask the same on the same line.
    pub count: u32,
}

/// A helper function.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Helper {
    /// Number.
    pub id: u32,
    /// Name with `bpf_`.
    pub name: String,
}

/// A symbol that the kernel supplies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternRequirement {
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: ExternKind,
    /// Works without it.
    pub weak: bool,
    /// Type or prototype.
    pub r#type: String,
}

/// Collects what an object asks of a kernel.
#[must_use]
pub fn requirements(object: &Object) -> Requirements {
    let programs = object
        .programs
        .iter()
        .map(|p| program_requirements(object, p))
        .collect();
    let type_of = |id: u32| {
        let btf = object.btf.as_ref()?;
        let ty = btf.ty(id)?;
        Some(match btf.prototype(ty.name(), ty.target()) {
            Some(prototype) => prototype,
            None => btf.spelling(ty.target()),
        })
    };
    let externs = object
        .externs
        .iter()
        .map(|e| ExternRequirement {
            name: e.name.clone(),
            kind: e.kind,
            weak: e.weak,
            r#type: type_of(e.type_id).unwrap_or_default(),
        })
        .collect();
    Requirements {
        format: FORMAT,
        license: object.license.clone(),
        has_btf: object.btf.is_some(),
        programs,
        maps: object.maps.clone(),
        externs,
    }
}

fn program_requirements(object: &Object, program: &Program) -> ProgramRequirements {
    let flow = analyze(object, program, Oracle::Compiled);
    let entry = object.entry(program);
    let functions: Vec<&Function> = program
        .reachable
        .iter()
        .map(|&f| &object.functions[f])
        .collect();
    let context = ContextUse::of(object, program, &flow);
    let calls = functions.iter().flat_map(|f| f.calls.values());
    let helpers: BTreeSet<u32> = calls
        .clone()
        .filter_map(|c| match c {
            CallTarget::Helper(id) => Some(*id),
            _ => None,
        })
        .collect();
    let kfuncs: BTreeSet<&String> = calls
        .filter_map(|c| match c {
            CallTarget::Kfunc(name) => Some(name),
            _ => None,
        })
        .collect();
    let mut externs = BTreeSet::new();
    let mut maps = BTreeSet::new();
    for target in functions.iter().flat_map(|f| f.refs.values()) {
        match target {
            RefTarget::Map(name) | RefTarget::Data(name) => maps.insert(name.clone()),
            RefTarget::Extern(name) => externs.insert(name.clone()),
            RefTarget::Function(_) => false,
        };
    }
    ProgramRequirements {
        name: entry.name.clone(),
        section: entry.section.clone(),
        kind: program.spec.as_ref().map(SectionSpec::kind),
        set_by_user_space: set_by_user_space(object, program, &maps),
        attach: program.spec.clone(),
        instructions: functions.iter().map(|f| f.insns.len()).sum(),
        arguments: (&context.arguments | &context.conditional)
            .into_iter()
            .collect(),
        reads_return_value: context.return_value,
        context: context.other.into_iter().collect(),
        relocations: relocations(object, &functions),
        fixed_offset_reads: flow.probe_reads.iter().filter(|r| r.fixed_offset).count(),
        helpers: helpers.into_iter().map(helper).collect(),
        kfuncs: kfuncs.into_iter().cloned().collect(),
        externs: externs.into_iter().collect(),
        maps: maps.into_iter().collect(),
        features: features(object, program, &functions),
    }
}

fn helper(id: u32) -> Helper {
    Helper {
        id,
        name: helper_name(id).map_or_else(|| format!("helper {id}"), |n| format!("bpf_{n}")),
    }
}

fn set_by_user_space(object: &Object, program: &Program, maps: &BTreeSet<String>) -> Vec<String> {
    let mut list = Vec::new();
    match &program.spec {
        None => list.push("program type".to_owned()),
        Some(spec) => {
            if !spec.autoload {
                list.push("autoload".to_owned());
            }
            let needs_target = !matches!(spec.kind(), AttachKind::Other);
            if needs_target && spec.target.is_none() {
                list.push("attach target".to_owned());
            }
        }
    }
    let unsized_maps = object
        .maps
        .iter()
        .filter(|m| m.is_unsized() && maps.contains(&m.name));
    list.extend(unsized_maps.map(|m| format!("max_entries of {}", m.name)));
    list
}

/// Which parts of its context a program reads, in the terms of its hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ContextUse {
    /// Arguments of the hooked function.
    pub(crate) arguments: BTreeSet<u32>,
    /// Arguments that are read for some settings of user space only.
    pub(crate) conditional: BTreeSet<u32>,
    /// The returned value.
    pub(crate) return_value: bool,
    /// Anything else, as (offset, width) in bytes.
    pub(crate) other: BTreeSet<(i32, u32)>,
}

impl ContextUse {
    pub(crate) fn of(object: &Object, program: &Program, flow: &Flow) -> Self {
        let mut found = Self::default();
        let Some(spec) = &program.spec else {
            return found;
        };
        for read in &flow.context_reads {
            match context_slot(object, spec.kind(), read.offset, read.place) {
                Some(Register::Argument(n)) if flow.reach(read.place) == Reach::Conditional => {
                    found.conditional.insert(n);
                }
                Some(Register::Argument(n)) => {
                    found.arguments.insert(n);
                }
                Some(Register::Return) => found.return_value = true,
                None => {
                    found.other.insert((read.offset, read.width));
                }
            }
        }
        found.conditional = &found.conditional - &found.arguments;
        found
    }
}

/// What a slot of the context holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Register {
    /// An argument of the hooked function, from 0.
    Argument(u32),
    /// What it returns.
    Return,
}

/// What the context of a program holds at an offset. `place` is the reading instruction.
pub(crate) fn context_slot(
    object: &Object,
    kind: AttachKind,
    offset: i32,
    place: (usize, usize),
) -> Option<Register> {
    match kind {
        AttachKind::Fentry
        | AttachKind::Fexit
        | AttachKind::FmodRet
        | AttachKind::TpBtf
        | AttachKind::RawTp
        | AttachKind::Lsm => Some(Register::Argument(u32::try_from(offset / 8).ok()?)),
        AttachKind::Kprobe | AttachKind::Kretprobe | AttachKind::KprobeMulti => {
            registers(object, place.0, place.1).or_else(|| x86_register(offset))
        }
        _ => None,
    }
}

/// The register behind a relocated read of `struct pt_regs`.
fn registers(object: &Object, function: usize, insn: usize) -> Option<Register> {
    let relocation = object.functions[function]
        .relocations
        .iter()
        .find(|r| r.insn == insn)?;
    let btf = object.btf.as_ref()?;
    let path = parse_spec(relocation.relo.as_ref()?, btf).ok()?.path(btf);
    let field = path
        .strip_prefix("user_pt_regs")
        .or_else(|| path.strip_prefix("pt_regs"))?;
    let field = field.rsplit('.').next()?;
    Some(match field {
        "di" | "rdi" | "regs[0]" => Register::Argument(0),
        "si" | "rsi" | "regs[1]" => Register::Argument(1),
        "dx" | "rdx" | "regs[2]" => Register::Argument(2),
        "cx" | "rcx" | "regs[3]" => Register::Argument(3),
        "r8" | "regs[4]" => Register::Argument(4),
        "r9" | "regs[5]" => Register::Argument(5),
        "ax" | "rax" => Register::Return,
        _ => return None,
    })
}

/// The register at an offset of x86-64's `struct pt_regs`.
/// Source: kernel `arch/x86/include/asm/ptrace.h`.
fn x86_register(offset: i32) -> Option<Register> {
    Some(match offset {
        112 => Register::Argument(0),
        104 => Register::Argument(1),
        96 => Register::Argument(2),
        88 => Register::Argument(3),
        72 => Register::Argument(4),
        64 => Register::Argument(5),
        80 => Register::Return,
        _ => return None,
    })
}

/// Path, kind, function, source line, type.
type RelocationKey = (String, String, String, Option<(String, u32)>, String);

fn relocations(object: &Object, functions: &[&Function]) -> Vec<RelocationRequirement> {
    let Some(btf) = &object.btf else {
        return Vec::new();
    };
    let mut counted: BTreeMap<RelocationKey, u32> = BTreeMap::new();
    for function in functions {
        for relocation in &function.relocations {
            let (kind, path, ty) = describe(btf, relocation.raw_kind, relocation.relo.as_ref());
            let line = function
                .line(relocation.insn)
                .map(|(file, line)| (file.to_owned(), line));
            let key = (path, kind, function.name.clone(), line, ty);
            *counted.entry(key).or_insert(0) += 1;
        }
    }
    counted
        .into_iter()
        .map(
            |((path, kind, function, line, ty), count)| RelocationRequirement {
                kind,
                path,
                r#type: ty,
                function,
                line,
                count,
            },
        )
        .collect()
}

fn describe(
    btf: &Btf,
    raw_kind: u32,
    relo: Option<&crate::relocate::CoreRelo>,
) -> (String, String, String) {
    let Some(relo) = relo else {
        return (raw_kind.to_string(), String::new(), String::new());
    };
    let kind = relo.kind.name().to_owned();
    match parse_spec(relo, btf) {
        Ok(spec) => {
            let ty = if relo.kind == CoreReloKind::LocalTypeId || relo.kind.is_type() {
                btf.spelling(relo.type_id)
            } else {
                spec.field_type(btf)
                    .map_or_else(String::new, |id| btf.spelling(id))
            };
            (kind, spec.path(btf), ty)
        }
        Err(_) => (
            kind,
            format!("{} ({})", relo.type_id, relo.access),
            String::new(),
        ),
    }
}

/// Instruction features that older kernels lack, by what the code uses.
fn features(object: &Object, program: &Program, functions: &[&Function]) -> Vec<String> {
    let mut list: BTreeSet<&str> = BTreeSet::new();
    if functions.iter().skip(1).any(|f| f.global) {
        list.insert("global_functions");
    }
    if functions.len() > 1 {
        list.insert("subprograms");
    }
    if program.spec.as_ref().is_some_and(|s| s.sleepable) {
        list.insert("sleepable");
    }
    for function in functions {
        for (at, insn) in function.insns.iter().enumerate() {
            let backwards = matches!(insn.class(), 5 | 6) && !insn.is_call() && insn.off < -1;
            let backwards = backwards && usize::from(insn.off.unsigned_abs()) <= at;
            list.extend(backwards.then_some("bounded_loops"));
            list.extend(feature_of(insn.code, insn.off, insn.imm));
        }
        if function
            .refs
            .values()
            .any(|r| matches!(r, RefTarget::Function(_)))
        {
            list.insert("callbacks");
        }
    }
    if object.entry(program).insns.len() > 4096 {
        list.insert("large_programs");
    }
    list.into_iter().map(str::to_owned).collect()
}

/// Source: kernel `Documentation/bpf/standardization/instruction-set.rst`; LLVM's `-mcpu` levels.
fn feature_of(code: u8, off: i16, imm: i32) -> Option<&'static str> {
    let class = code & 7;
    match (class, code) {
        (6, 0x06) => Some("isa_v4"),
        (6, _) => Some("isa_v3"),
        (5, 0xe5) => Some("may_goto"),
        // Jumps on "less than" came with the second instruction set.
        (5, _) if matches!(code & 0xf0, 0xa0 | 0xb0 | 0xc0 | 0xd0) => Some("isa_v2"),
        (1, _) if code & 0xe0 == 0x80 => Some("isa_v4"),
        (4 | 7, _) if code & 0xf0 == 0xb0 && off != 0 => Some("isa_v4"),
        (7, _) if code & 0xf0 == 0xd0 => Some("isa_v4"),
        (3, _) if code & 0xe0 == 0xc0 => Some(match imm {
            0 => "atomic_add",
            0x100 | 0x110 => "load_acquire",
            _ => "atomics_v3",
        }),
        _ => None,
    }
}
