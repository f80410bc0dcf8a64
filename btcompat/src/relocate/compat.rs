//! The two weaker notions of "same type" that CO-RE uses.

use super::RelocError;
use crate::btf::{Btf, Kind, names_match};

/// How deep a comparison of types may go.
pub(super) const MAX_LEVEL: u32 = 32;
/// Bound on nested arrays, which libbpf follows without one.
const MAX_ARRAYS: u32 = 256;

fn bad(id: u32) -> RelocError {
    RelocError::BadTarget { id }
}

/// Whether a field of one type may be read as a field of the other.
/// Source: libbpf `bpf_core_fields_are_compat()`.
pub(super) fn fields_are_compat(
    local: &Btf,
    mut local_id: u32,
    target: &Btf,
    mut target_id: u32,
) -> Result<bool, RelocError> {
    for _ in 0..MAX_ARRAYS {
        let a = local.strip(local_id).ok_or_else(|| bad(local_id))?;
        let b = target.strip(target_id).ok_or_else(|| bad(target_id))?;
        if a.kind().is_composite() && b.kind().is_composite() {
            return Ok(true);
        }
        if !a.kind().core_compatible(b.kind()) {
            return Ok(false);
        }
        return Ok(match a.kind() {
            Kind::Ptr | Kind::Float => true,
            Kind::Fwd | Kind::Enum | Kind::Enum64 => {
                a.name().is_empty() || b.name().is_empty() || names_match(a.name(), b.name())
            }
            Kind::Int => a.int_bit_offset() == 0 && b.int_bit_offset() == 0,
            Kind::Array => {
                local_id = a.array().0;
                target_id = b.array().0;
                continue;
            }
            _ => false,
        });
    }
    Err(bad(target_id))
}

/// Whether two types are the same as far as `type_exists`, `type_size`,
/// `type_id` and prototypes go. Source: libbpf `__bpf_core_types_are_compat()`.
pub(crate) fn types_are_compat(
    local: &Btf,
    local_id: u32,
    target: &Btf,
    target_id: u32,
) -> Result<bool, RelocError> {
    compat_at(local, local_id, target, target_id, MAX_LEVEL)
}

fn compat_at(
    local: &Btf,
    mut local_id: u32,
    target: &Btf,
    mut target_id: u32,
    level: u32,
) -> Result<bool, RelocError> {
    let a = local.ty(local_id).ok_or_else(|| bad(local_id))?;
    let b = target.ty(target_id).ok_or_else(|| bad(target_id))?;
    if !a.kind().core_compatible(b.kind()) {
        return Ok(false);
    }
    for _ in 0..MAX_LEVEL {
        let a = local.strip(local_id).ok_or_else(|| bad(local_id))?;
        let b = target.strip(target_id).ok_or_else(|| bad(target_id))?;
        if !a.kind().core_compatible(b.kind()) {
            return Ok(false);
        }
        match a.kind() {
            Kind::Void | Kind::Struct | Kind::Union | Kind::Enum | Kind::Enum64 | Kind::Fwd => {
                return Ok(true);
            }
            Kind::Int => return Ok(a.int_bit_offset() == 0 && b.int_bit_offset() == 0),
            Kind::Ptr => {
                local_id = a.target();
                target_id = b.target();
            }
            Kind::Array => {
                local_id = a.array().0;
                target_id = b.array().0;
            }
            Kind::FuncProto => {
                if a.vlen() != b.vlen() {
                    return Ok(false);
                }
                for (p, q) in a.params().zip(b.params()) {
                    if level == 0 {
                        return Err(bad(target_id));
                    }
                    let p = local.strip(p.type_id).ok_or_else(|| bad(p.type_id))?.id;
                    let q = target.strip(q.type_id).ok_or_else(|| bad(q.type_id))?.id;
                    if !compat_at(local, p, target, q, level - 1)? {
                        return Ok(false);
                    }
                }
                local_id = local.strip(a.target()).ok_or_else(|| bad(local_id))?.id;
                target_id = target.strip(b.target()).ok_or_else(|| bad(target_id))?.id;
            }
            _ => return Ok(false),
        }
    }
    Err(bad(target_id))
}
