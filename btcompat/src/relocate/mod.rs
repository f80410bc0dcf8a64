//! CO-RE relocation as libbpf does it: same candidates, same matching rules,
//! same values, same refusals.
//!
//! Source: libbpf 1.7 `src/relo_core.c` and `bpf_core_find_cands()` in
//! `src/libbpf.c`. Quirks of libbpf that change a result are kept and marked.

mod candidates;
mod compat;
mod kind;
mod matching;
mod patch;
mod spec;
mod value;

pub use candidates::{Candidate, Targets};
pub use kind::{CoreReloKind, LibbpfVersion};
pub use patch::{PatchError, Patched, patch};
pub use spec::{Accessor, Mismatch, Spec, parse_spec};

pub(crate) use compat::types_are_compat;

use crate::btf::Btf;
use spec::{Match, match_spec};

/// One relocation as it stands in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreRelo {
    /// What is asked for.
    pub kind: CoreReloKind,
    /// Root type in the object's own BTF.
    pub type_id: u32,
    /// Accessor string: `0:3:1`.
    pub access: String,
}

/// What libbpf would write into the instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Value expected in the instruction now.
    pub orig_val: u64,
    /// Value to be written.
    pub new_val: u64,
    /// The instruction becomes an invalid call: nothing matched.
    pub poison: bool,
    /// Whether `orig_val` must be found in the instruction.
    pub validate: bool,
    /// A load or store of this width cannot be adjusted: it becomes poison too.
    pub fail_memsz_adjust: bool,
    /// Width in bytes of the accessed value in the object.
    pub orig_sz: u32,
    /// Width in bytes of the accessed value in the kernel.
    pub new_sz: u32,
    /// Type behind `orig_sz`.
    pub orig_type_id: u32,
    /// Type behind `new_sz`.
    pub new_type_id: u32,
}

/// Why libbpf refuses the whole object because of one relocation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RelocError {
    /// The relocation itself makes no sense: bad id, accessor or kind.
    #[error("malformed relocation: {0}")]
    Malformed(&'static str),
    /// A type in the kernel's BTF is broken.
    #[error("the kernel's type {id} cannot be followed")]
    BadTarget {
        /// Its id.
        id: u32,
    },
    /// The accessor or a bitfield is too large.
    #[error("{0}")]
    TooBig(&'static str),
    /// An array element of 2 GiB or more, whose size libbpf takes for an error.
    #[error("an element of {bytes} bytes")]
    HugeElement {
        /// Size of the element.
        bytes: u32,
    },
    /// The loader does not know the relocation kind.
    #[error("the loader does not support {0}")]
    Unsupported(&'static str),
    /// Candidates disagree where the field is.
    #[error("field offset ambiguity: bit {first} or bit {other}")]
    AmbiguousOffset {
        /// Offset in bits by the first candidate.
        first: u32,
        /// Offset in bits by a later one.
        other: u32,
    },
    /// Candidates disagree about the value.
    #[error("relocation decision ambiguity: {first} or {other}")]
    AmbiguousValue {
        /// Value by the first candidate.
        first: u64,
        /// Value by a later one.
        other: u64,
    },
}

impl RelocError {
    /// The negative errno that libbpf returns.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::TooBig(_) => -7,
            Self::Unsupported(_) => -95,
            Self::HugeElement { bytes } => bytes.cast_signed(),
            _ => -22,
        }
    }
}

/// A relocation resolved against a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved<'t> {
    /// What goes into the instruction.
    pub resolution: Resolution,
    /// The first matching candidate and where the access ends in it.
    pub target: Option<(Candidate<'t>, Spec<'t>)>,
    /// Why candidates did not match, in their order.
    pub mismatches: Vec<(Candidate<'t>, Mismatch)>,
}

/// Resolves one relocation. `candidates` come from [`Targets::candidates`] and
/// are pruned to those that matched, as libbpf does between the relocations of
/// one root type.
///
/// # Errors
/// When libbpf would refuse the object.
pub fn resolve<'t>(
    relo: &CoreRelo,
    local: &Btf,
    candidates: &mut Vec<Candidate<'t>>,
    version: LibbpfVersion,
) -> Result<Resolved<'t>, RelocError> {
    let root = local
        .ty(relo.type_id)
        .ok_or(RelocError::Malformed("no such local type"))?;
    let local_spec = parse_spec(relo, local).map_err(|e| match e {
        RelocError::TooBig(what) => RelocError::Malformed(what),
        other => other,
    })?;
    if !version.supports(relo.kind) {
        return Err(RelocError::Unsupported(relo.kind.name()));
    }
    if relo.kind == CoreReloKind::LocalTypeId {
        let id = u64::from(relo.type_id);
        return Ok(Resolved {
            resolution: Resolution {
                orig_val: id,
                new_val: id,
                ..Resolution::default()
            },
            target: None,
            mismatches: Vec::new(),
        });
    }
    if root.name().is_empty() {
        return Err(RelocError::Unsupported("anonymous root types"));
    }
    let mut choice = Choice::default();
    for &candidate in candidates.iter() {
        match match_spec(&local_spec, local, candidate)? {
            Match::Differs(mismatch) => choice.mismatches.push((candidate, mismatch)),
            Match::Found(spec) => {
                let resolution = value::calculate(
                    relo.kind,
                    (local, &local_spec),
                    Some((candidate.btf, &spec)),
                    version,
                )?;
                choice.agree(candidate, spec, resolution)?;
            }
        }
    }
    if !choice.matching.is_empty() {
        candidates.clone_from(&choice.matching);
    }
    let resolution = match choice.resolution {
        Some(resolution) => resolution,
        None => value::calculate(relo.kind, (local, &local_spec), None, version)?,
    };
    Ok(Resolved {
        resolution,
        target: choice.target,
        mismatches: choice.mismatches,
    })
}

#[derive(Default)]
struct Choice<'t> {
    resolution: Option<Resolution>,
    target: Option<(Candidate<'t>, Spec<'t>)>,
    matching: Vec<Candidate<'t>>,
    mismatches: Vec<(Candidate<'t>, Mismatch)>,
}

impl<'t> Choice<'t> {
    fn agree(
        &mut self,
        candidate: Candidate<'t>,
        spec: Spec<'t>,
        resolution: Resolution,
    ) -> Result<(), RelocError> {
        self.matching.push(candidate);
        let (Some(first), Some((_, first_spec))) = (self.resolution, &self.target) else {
            self.resolution = Some(resolution);
            self.target = Some((candidate, spec));
            return Ok(());
        };
        if spec.bit_offset != first_spec.bit_offset {
            return Err(RelocError::AmbiguousOffset {
                first: first_spec.bit_offset,
                other: spec.bit_offset,
            });
        }
        if resolution.poison != first.poison || resolution.new_val != first.new_val {
            return Err(RelocError::AmbiguousValue {
                first: first.new_val,
                other: resolution.new_val,
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
