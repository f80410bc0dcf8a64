//! Compiled eBPF objects: what is in them and what they ask of a kernel.

mod elf;
mod embedded;
mod flow;
mod helpers;
mod insn;
mod maps;
mod model;
mod requirements;
mod section_name;

pub use embedded::embedded;
pub use flow::{ContextRead, Flow, Oracle, ProbeRead, Reach, analyze};
pub use helpers::helper_name;
pub use insn::Insn;
pub use maps::{MapDef, map_type_name};
pub use model::{
    CallTarget, Extern, ExternKind, Function, Object, ObjectError, Program, RefTarget, Relocation,
};
pub use requirements::{Requirements, requirements};

pub(crate) use requirements::{ContextUse, Register, context_slot};
pub use section_name::{AttachKind, SectionSpec, forms};
