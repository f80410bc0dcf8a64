//! Accessors: what a relocation reaches in the object's type, and the same
//! place in a type of the kernel.

use super::compat::{fields_are_compat, types_are_compat};
use super::matching::types_match;
use super::{Candidate, CoreRelo, CoreReloKind, RelocError};
use crate::btf::{Btf, Kind, Type, names_match};

/// Most elements of an accessor. Source: libbpf `BPF_CORE_SPEC_MAX_LEN`.
const MAX_LEN: usize = 64;

/// One step of an access that has a meaning: a named field or an array index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accessor<'a> {
    /// Struct, union or enum that has the field; or the array's element type.
    pub type_id: u32,
    /// Index of the member, enumerator or element.
    pub index: u32,
    /// Name of the field or enumerator; `None` for an array index.
    pub name: Option<&'a str>,
}

/// An access, followed to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec<'a> {
    /// Root type as named, wrappers included.
    pub root_type_id: u32,
    /// What is asked for.
    pub kind: CoreReloKind,
    /// Named fields and array indices.
    pub steps: Vec<Accessor<'a>>,
    /// Offset of the end from the start of the root, in bits.
    pub bit_offset: u32,
    /// Length of the accessor with anonymous members counted.
    raw_len: usize,
}

impl<'a> Spec<'a> {
    fn new(root_type_id: u32, kind: CoreReloKind) -> Self {
        Self {
            root_type_id,
            kind,
            steps: Vec::new(),
            bit_offset: 0,
            raw_len: 0,
        }
    }

    /// The access as text: `hci_dev.conn_hash.acl_num`, `sk_buff.cb[2]`, `hci_type::HCI_AMP`.
    #[must_use]
    pub fn path(&self, btf: &Btf) -> String {
        let root = btf.ty(self.root_type_id).map_or("?", |t| t.name());
        let mut text = if root.is_empty() { "(anonymous)" } else { root }.to_owned();
        for (i, step) in self.steps.iter().enumerate() {
            match step.name {
                Some(name) if self.kind.is_enumval() => text.push_str(&format!("::{name}")),
                Some(name) => text.push_str(&format!(".{name}")),
                None if i > 0 || step.index > 0 => text.push_str(&format!("[{}]", step.index)),
                None => {}
            }
        }
        text
    }

    /// Type of the field at the end of the access, if it ends at one.
    #[must_use]
    pub fn field_type(&self, btf: &Btf) -> Option<u32> {
        let last = self.steps.last().filter(|_| self.kind.is_field())?;
        match last.name {
            Some(_) => Some(btf.ty(last.type_id)?.member(last.index)?.type_id),
            None => Some(last.type_id),
        }
    }
}

/// Why a type of the kernel does not have what is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// No member (or enumerator) of this name.
    Missing {
        /// Type that was searched.
        in_type: u32,
        /// Name that was looked for.
        name: String,
    },
    /// The member is there with a type that cannot be read as the object's.
    Incompatible {
        /// Type that has the member.
        in_type: u32,
        /// Its name.
        name: String,
        /// The member's type in the kernel.
        found: u32,
    },
    /// The array is too short.
    TooShort {
        /// Index that was asked for.
        index: u32,
        /// Elements there are.
        elements: u32,
    },
    /// Not an array, struct or enum where one is needed.
    WrongKind {
        /// The type found.
        found: u32,
    },
    /// The whole type differs.
    Type,
}

/// Result of matching one candidate.
pub(super) enum Match<'t> {
    Found(Spec<'t>),
    Differs(Mismatch),
}

/// Follows a relocation's accessor through the object's own types.
///
/// # Errors
/// When the accessor does not fit the type.
pub fn parse_spec<'a>(relo: &CoreRelo, btf: &'a Btf) -> Result<Spec<'a>, RelocError> {
    let mut spec = Spec::new(relo.type_id, relo.kind);
    if relo.kind.is_type() {
        return if relo.access == "0" {
            Ok(spec)
        } else {
            Err(RelocError::Malformed("type relocation with an accessor"))
        };
    }
    let raw = parse_access(&relo.access)?;
    spec.raw_len = raw.len();
    let root = btf
        .strip(relo.type_id)
        .ok_or(RelocError::Malformed("dangling root type"))?;
    let mut step = Accessor {
        type_id: root.id,
        index: raw[0],
        name: None,
    };
    if relo.kind.is_enumval() {
        let value = root.enumerator(raw[0]).filter(|_| raw.len() == 1);
        step.name = Some(value.ok_or(RelocError::Malformed("no such enumerator"))?.0);
        spec.steps.push(step);
        return Ok(spec);
    }
    spec.steps.push(step);
    spec.bit_offset = element_bits(btf, root.id, raw[0])?;
    let mut at = root.id;
    for &index in &raw[1..] {
        at = descend(&mut spec, btf, at, index)?;
    }
    Ok(spec)
}

/// `0:3:1` as numbers. Negative indices are refused, as libbpf does since 1.8.
fn parse_access(text: &str) -> Result<Vec<u32>, RelocError> {
    let mut raw = Vec::new();
    for part in text.split(':') {
        if raw.len() == MAX_LEN {
            return Err(RelocError::TooBig("accessor longer than 64"));
        }
        let index: Option<i32> = part.parse().ok();
        let index = index.and_then(|i| u32::try_from(i).ok());
        raw.push(index.ok_or(RelocError::Malformed("accessor is not a list of numbers"))?);
    }
    Ok(raw)
}

/// Offset in bits of element `index`, in 32 bits as libbpf keeps it.
fn element_bits(btf: &Btf, type_id: u32, index: u32) -> Result<u32, RelocError> {
    let size = btf.size_of(type_id).map_err(|e| match e {
        crate::btf::ResolveError::TooBig { .. } => RelocError::TooBig("array larger than 4 GiB"),
        crate::btf::ResolveError::Unsized { id } => RelocError::BadTarget { id },
    })?;
    Ok(index.wrapping_mul(size).wrapping_mul(8))
}

fn descend<'a>(spec: &mut Spec<'a>, btf: &'a Btf, at: u32, index: u32) -> Result<u32, RelocError> {
    let ty = btf
        .strip(at)
        .ok_or(RelocError::Malformed("dangling type"))?;
    if let Some(member) = ty.member(index) {
        spec.bit_offset = spec.bit_offset.wrapping_add(member.bit_offset);
        if !member.name.is_empty() {
            spec.steps.push(Accessor {
                type_id: ty.id,
                index,
                name: Some(member.name),
            });
        }
        return Ok(member.type_id);
    }
    if ty.kind() != Kind::Array {
        return Err(RelocError::Malformed("accessor leaves its type"));
    }
    let (element, count) = ty.array();
    let element = btf
        .strip(element)
        .ok_or(RelocError::Malformed("dangling element type"))?
        .id;
    if index >= count && !is_flexible(btf, spec, count) {
        return Err(RelocError::Malformed("index past the end of an array"));
    }
    spec.steps.push(Accessor {
        type_id: element,
        index,
        name: None,
    });
    let bits = element_bits(btf, element, index)?;
    spec.bit_offset = spec.bit_offset.wrapping_add(bits);
    Ok(element)
}

/// An empty array at the end of a struct has any number of elements.
/// Source: libbpf `is_flex_arr()`.
fn is_flexible(btf: &Btf, spec: &Spec, count: u32) -> bool {
    let Some(last) = spec.steps.last().filter(|s| s.name.is_some() && count == 0) else {
        return false;
    };
    btf.ty(last.type_id)
        .is_some_and(|t| t.vlen() == last.index + 1)
}

/// Looks for the object's access in a type of the kernel.
/// Source: libbpf `bpf_core_spec_match()`.
pub(super) fn match_spec<'t>(
    spec: &Spec,
    local: &Btf,
    candidate: Candidate<'t>,
) -> Result<Match<'t>, RelocError> {
    let target = candidate.btf;
    if spec.kind.is_type() {
        let same = if spec.kind == CoreReloKind::TypeMatches {
            types_match(local, spec.root_type_id, target, candidate.id)?
        } else {
            types_are_compat(local, spec.root_type_id, target, candidate.id)?
        };
        return Ok(if same {
            Match::Found(Spec::new(candidate.id, spec.kind))
        } else {
            Match::Differs(Mismatch::Type)
        });
    }
    if spec.kind.is_enumval() {
        return match_enumerator(spec, candidate);
    }
    let mut found = Spec::new(candidate.id, spec.kind);
    let mut at = candidate.id;
    for (i, step) in spec.steps.iter().enumerate() {
        let ty = target.strip(at).ok_or(RelocError::BadTarget { id: at })?;
        let next = match step.name {
            Some(_) => {
                let mut search = MemberSearch {
                    local,
                    step: *step,
                    target,
                    spec: &mut found,
                    mismatch: None,
                };
                match search.run(ty.id)? {
                    Some(next) => Ok(next),
                    None => Err(search.mismatch.unwrap_or(Mismatch::Missing {
                        in_type: ty.id,
                        name: step.name.unwrap_or_default().to_owned(),
                    })),
                }
            }
            None => match_index(&mut found, target, ty, i, step.index)?,
        };
        match next {
            Ok(next) => at = next,
            Err(mismatch) => return Ok(Match::Differs(mismatch)),
        }
    }
    Ok(Match::Found(found))
}

fn match_enumerator<'t>(spec: &Spec, candidate: Candidate<'t>) -> Result<Match<'t>, RelocError> {
    let wanted = spec.steps.first().and_then(|s| s.name).unwrap_or_default();
    let bad = RelocError::BadTarget { id: candidate.id };
    let ty = candidate.btf.strip(candidate.id).ok_or(bad)?;
    if !ty.kind().is_enum() {
        return Ok(Match::Differs(Mismatch::WrongKind { found: ty.id }));
    }
    let hit = (0u32..)
        .zip(ty.enumerators())
        .find(|(_, (name, _))| names_match(name, wanted));
    let Some((index, (name, _))) = hit else {
        return Ok(Match::Differs(Mismatch::Missing {
            in_type: ty.id,
            name: wanted.to_owned(),
        }));
    };
    let mut found = Spec::new(candidate.id, spec.kind);
    found.steps.push(Accessor {
        type_id: ty.id,
        index,
        name: Some(name),
    });
    Ok(Match::Found(found))
}

fn match_index<'t>(
    found: &mut Spec<'t>,
    target: &'t Btf,
    ty: Type<'t>,
    position: usize,
    index: u32,
) -> Result<Result<u32, Mismatch>, RelocError> {
    let mut element = ty.id;
    // The first index counts whole root objects; later ones need an array.
    if position > 0 {
        if ty.kind() != Kind::Array {
            return Ok(Err(Mismatch::WrongKind { found: ty.id }));
        }
        let (id, elements) = ty.array();
        if index >= elements && !is_flexible(target, found, elements) {
            return Ok(Err(Mismatch::TooShort { index, elements }));
        }
        element = target.strip(id).ok_or(RelocError::BadTarget { id })?.id;
    }
    if found.raw_len == MAX_LEN {
        return Err(RelocError::TooBig("types nested too deeply"));
    }
    found.steps.push(Accessor {
        type_id: element,
        index,
        name: None,
    });
    found.raw_len += 1;
    let bytes = target.size_of(element).unwrap_or(0);
    if bytes > i32::MAX.cast_unsigned() {
        return Err(RelocError::HugeElement { bytes });
    }
    let bits = element_bits(target, element, index)?;
    found.bit_offset = found.bit_offset.wrapping_add(bits);
    Ok(Ok(element))
}

/// Search of one named member, through anonymous structs and unions.
/// Source: libbpf `bpf_core_match_member()`.
struct MemberSearch<'l, 't, 's> {
    local: &'l Btf,
    step: Accessor<'l>,
    target: &'t Btf,
    spec: &'s mut Spec<'t>,
    mismatch: Option<Mismatch>,
}

impl MemberSearch<'_, '_, '_> {
    /// The type of the member, or `None` when there is no compatible one.
    fn run(&mut self, type_id: u32) -> Result<Option<u32>, RelocError> {
        let bad = |id| RelocError::BadTarget { id };
        let ty = self.target.strip(type_id).ok_or_else(|| bad(type_id))?;
        if !ty.kind().is_composite() {
            return Ok(None);
        }
        for (index, member) in (0u32..).zip(ty.members()) {
            if self.spec.raw_len == MAX_LEN {
                return Err(RelocError::TooBig("types nested too deeply"));
            }
            self.spec.bit_offset = self.spec.bit_offset.wrapping_add(member.bit_offset);
            self.spec.raw_len += 1;
            if member.name.is_empty() {
                if let Some(found) = self.run(member.type_id)? {
                    return Ok(Some(found));
                }
            } else if Some(member.name) == self.step.name {
                // libbpf leaves this member's offset in the sum when its type
                // does not fit and an enclosing search goes on; so do we.
                return self.check(ty.id, index, member.type_id);
            }
            self.spec.bit_offset = self.spec.bit_offset.wrapping_sub(member.bit_offset);
            self.spec.raw_len -= 1;
        }
        Ok(None)
    }

    fn check(&mut self, in_type: u32, index: u32, found: u32) -> Result<Option<u32>, RelocError> {
        let wanted = self
            .local
            .ty(self.step.type_id)
            .and_then(|t| t.member(self.step.index))
            .ok_or(RelocError::Malformed("no such local member"))?;
        let member = self.target.ty(in_type).and_then(|t| t.member(index));
        let name = member.map_or("", |m| m.name);
        if !fields_are_compat(self.local, wanted.type_id, self.target, found)? {
            self.mismatch = Some(Mismatch::Incompatible {
                in_type,
                name: name.to_owned(),
                found,
            });
            return Ok(None);
        }
        self.spec.steps.push(Accessor {
            type_id: in_type,
            index,
            name: Some(name),
        });
        Ok(Some(found))
    }
}
