//! BTF, the kernel's type format: a reader for base and split BTF that never
//! trusts a length, an offset or an id.
//!
//! Source: kernel `Documentation/bpf/btf.rst`; `kernel/bpf/btf.c`.

mod ext;
mod index;
mod layout;
mod names;
mod parse;
mod types;

pub use ext::{BtfExt, BtfExtError, FuncInfo, LineInfo, RawCoreRelo, Section};
pub use layout::ResolveError;
pub use names::{essential_name, names_match};
pub use parse::{Btf, BtfError};
pub use types::{Kind, Member, Param, Type};

#[cfg(test)]
#[path = "../../tests/common/btf_writer.rs"]
#[allow(dead_code, reason = "the tests of the crate use more of it")]
pub(crate) mod writer;
