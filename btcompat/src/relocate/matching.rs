//! `type_matches`: the strictest notion of "same type" that CO-RE has.
//!
//! Source: libbpf `__bpf_core_types_match()` and its helpers.

use super::RelocError;
use super::compat::MAX_LEVEL;
use crate::btf::{Btf, Kind, Type, names_match};

/// Whether the local type is a part of the target type.
pub(super) fn types_match(
    local: &Btf,
    local_id: u32,
    target: &Btf,
    target_id: u32,
) -> Result<bool, RelocError> {
    Pair { local, target }.matches(local_id, target_id, false, MAX_LEVEL)
}

struct Pair<'a> {
    local: &'a Btf,
    target: &'a Btf,
}

/// Where the comparison goes after one step.
enum Step {
    Done(bool),
    Into(u32, u32),
}

impl Pair<'_> {
    fn matches(
        &self,
        mut local_id: u32,
        mut target_id: u32,
        mut behind_ptr: bool,
        level: u32,
    ) -> Result<bool, RelocError> {
        let bad = |id| RelocError::BadTarget { id };
        if level == 0 {
            return Err(bad(target_id));
        }
        for _ in 0..MAX_LEVEL {
            let a = self.local.strip(local_id).ok_or_else(|| bad(local_id))?;
            let b = self.target.strip(target_id).ok_or_else(|| bad(target_id))?;
            if !names_match(a.name(), b.name()) {
                return Ok(false);
            }
            behind_ptr |= a.kind() == Kind::Ptr && b.kind() == Kind::Ptr;
            match self.step(a, b, behind_ptr, level)? {
                Step::Done(answer) => return Ok(answer),
                Step::Into(next_local, next_target) => {
                    local_id = next_local;
                    target_id = next_target;
                }
            }
        }
        Err(bad(target_id))
    }

    fn step(&self, a: Type, b: Type, behind_ptr: bool, level: u32) -> Result<Step, RelocError> {
        let same_kind = a.kind() == b.kind();
        let answer = match a.kind() {
            Kind::Void => same_kind,
            Kind::Fwd => forward_matches(a, b, behind_ptr),
            Kind::Enum | Kind::Enum64 => b.kind().is_enum() && enums_match(a, b),
            Kind::Struct | Kind::Union if behind_ptr => {
                let union = a.kind() == Kind::Union;
                same_kind || (b.kind() == Kind::Fwd && union == b.kind_flag())
            }
            Kind::Struct | Kind::Union => same_kind && self.composites_match(a, b, level)?,
            Kind::Int => {
                let sign = |t: Type| t.int_encoding() & 1;
                same_kind && a.size() == b.size() && sign(a) == sign(b)
            }
            Kind::Ptr if same_kind => return Ok(Step::Into(a.target(), b.target())),
            Kind::Array if same_kind && a.array().1 == b.array().1 => {
                return Ok(Step::Into(a.array().0, b.array().0));
            }
            Kind::FuncProto if same_kind && a.vlen() == b.vlen() => {
                for (p, q) in a.params().zip(b.params()) {
                    if !self.matches(p.type_id, q.type_id, behind_ptr, level - 1)? {
                        return Ok(Step::Done(false));
                    }
                }
                return Ok(Step::Into(a.target(), b.target()));
            }
            _ => false,
        };
        Ok(Step::Done(answer))
    }

    /// Every local member is in the target under the same name, with a matching type.
    fn composites_match(&self, a: Type, b: Type, level: u32) -> Result<bool, RelocError> {
        if a.vlen() > b.vlen() {
            return Ok(false);
        }
        for wanted in a.members() {
            let mut found = false;
            for member in b.members() {
                if names_match(wanted.name, member.name)
                    && self.matches(wanted.type_id, member.type_id, false, level - 1)?
                {
                    found = true;
                    break;
                }
            }
            if !found {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn forward_matches(a: Type, b: Type, behind_ptr: bool) -> bool {
    match b.kind() {
        Kind::Fwd => a.kind_flag() == b.kind_flag(),
        Kind::Struct => behind_ptr && !a.kind_flag(),
        Kind::Union => behind_ptr && a.kind_flag(),
        _ => false,
    }
}

fn enums_match(a: Type, b: Type) -> bool {
    a.size() == b.size()
        && a.vlen() <= b.vlen()
        && a.enumerators()
            .all(|(name, _)| b.enumerators().any(|(other, _)| names_match(name, other)))
}
