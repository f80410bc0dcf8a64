//! The kernel's BTF: what functions, structures and enumerators it describes, by name and by number.
//!
//! Each BTF is read once and serves three times: to choose what can be attached, to say where, and
//! to make the small BTF that libbpf relocates against ([`crate::reduce`]). A module's BTF continues
//! the types and strings of vmlinux's.
//!
//! Kernel: v6.12 include/uapi/linux/btf.h.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use thiserror::Error;

/// The wanted names that a BTF describes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct BtfNames {
    /// Functions, and the number of the first of that name.
    pub(crate) functions: HashMap<String, u32>,
    /// Those of the functions that are described more than once.
    pub(crate) repeated: HashSet<String>,
    /// Those of the functions that return nothing.
    pub(crate) void: HashSet<String>,
    /// Structures and unions, and the numbers of all of that name.
    pub(crate) structs: HashMap<String, Vec<u32>>,
    /// Enumerators and their values.
    pub(crate) enumerators: HashMap<String, u64>,
}

/// Why bytes are not a BTF that this reader knows.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub enum BtfError {
    /// It ends inside a header, a section or a type.
    #[error("BTF ends at byte {length}, needed at least {needed}")]
    Truncated {
        /// How long it is.
        length: usize,
        /// How long it would have to be.
        needed: usize,
    },
    /// It does not begin with the magic number in this machine's byte order.
    #[error("BTF begins with {magic:#06x} instead of 0xeb9f")]
    Magic {
        /// What it begins with.
        magic: u16,
    },
    /// It holds a kind of type whose size is not known.
    #[error("BTF type {index} is of unknown kind {kind}")]
    Kind {
        /// Its place among the types.
        index: usize,
        /// The kind.
        kind: u32,
    },
}

/// Bytes of a header of version 1.
pub(crate) const HEADER_BYTES: usize = 24;
/// The first two bytes, in the byte order of the machine.
pub(crate) const MAGIC: u16 = 0xeb9f;

pub(crate) const KIND_INT: u32 = 1;
pub(crate) const KIND_PTR: u32 = 2;
pub(crate) const KIND_ARRAY: u32 = 3;
pub(crate) const KIND_STRUCT: u32 = 4;
pub(crate) const KIND_UNION: u32 = 5;
pub(crate) const KIND_ENUM: u32 = 6;
pub(crate) const KIND_TYPEDEF: u32 = 8;
pub(crate) const KIND_VOLATILE: u32 = 9;
pub(crate) const KIND_CONST: u32 = 10;
pub(crate) const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
pub(crate) const KIND_FLOAT: u32 = 16;
pub(crate) const KIND_TYPE_TAG: u32 = 18;
pub(crate) const KIND_ENUM64: u32 = 19;

/// One BTF, its types indexed by number.
#[derive(Debug)]
pub(crate) struct Btf {
    bytes: Vec<u8>,
    /// Begin and end of the strings.
    strings: (usize, usize),
    /// Begin of each own type.
    starts: Vec<u32>,
    /// What this one continues.
    base: Option<Arc<Btf>>,
}

/// One type.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Type<'a> {
    /// Offset of its name.
    pub(crate) name: u32,
    /// Kind, number of members, and a flag.
    pub(crate) info: u32,
    /// Its size in bytes or the type that it refers to, by its kind.
    pub(crate) size_or_type: u32,
    /// Members and the like.
    pub(crate) body: &'a [u8],
}

impl Type<'_> {
    pub(crate) fn kind(&self) -> u32 {
        self.info >> 24 & 0x1f
    }
}

impl Btf {
    /// Indexes a BTF, which continues `base` or stands alone.
    pub(crate) fn parse(bytes: Vec<u8>, base: Option<Arc<Self>>) -> Result<Self, BtfError> {
        let magic = bytes
            .first_chunk()
            .map_or(0, |chunk| u16::from_ne_bytes(*chunk));
        if bytes.len() < HEADER_BYTES {
            return Err(truncated(&bytes, HEADER_BYTES));
        }
        if magic != MAGIC {
            return Err(BtfError::Magic { magic });
        }
        let word = |at| Ok::<_, BtfError>(u32_at(&bytes, at)? as usize);
        let header = word(4)?;
        let types = range(&bytes, header.saturating_add(word(8)?), word(12)?)?;
        let strings = range(&bytes, header.saturating_add(word(16)?), word(20)?)?;
        let starts = starts(&bytes, types)?;
        Ok(Self {
            bytes,
            strings,
            starts,
            base,
        })
    }

    /// The type of that number; 0 is void, and none.
    pub(crate) fn get(&self, id: u32) -> Option<Type<'_>> {
        let own = id.checked_sub(self.first_id());
        let Some(own) = own else {
            return self.base.as_ref()?.get(id);
        };
        let at = *self.starts.get(own as usize)? as usize;
        self.type_at(at).ok()
    }

    /// The BTF that the type of that number is in: this one, or one that it continues.
    pub(crate) fn owner(&self, id: u32) -> &Self {
        match &self.base {
            Some(base) if id < self.first_id() => base.owner(id),
            _ => self,
        }
    }

    /// The string at that offset, without the 0 that ends it.
    pub(crate) fn string(&self, offset: u32) -> Option<&[u8]> {
        let rest = self.rest(offset)?;
        let end = rest.iter().position(|byte| *byte == 0)?;
        Some(&rest[..end])
    }

    /// Finds which of the `wanted` names this BTF itself describes.
    pub(crate) fn names(&self, wanted: &HashSet<&str>) -> BtfNames {
        let filter = Filter::new(wanted);
        let mut found = BtfNames::default();
        for (id, at) in (self.first_id()..).zip(&self.starts) {
            let Ok(ty) = self.type_at(*at as usize) else {
                break;
            };
            match ty.kind() {
                KIND_FUNC => {
                    if let Some(name) = self.wanted(ty.name, &filter) {
                        if *found.functions.entry(name.to_owned()).or_insert(id) != id {
                            found.repeated.insert(name.to_owned());
                        }
                        let prototype = self.get(ty.size_or_type);
                        if prototype.is_some_and(|prototype| prototype.size_or_type == 0) {
                            found.void.insert(name.to_owned());
                        }
                    }
                }
                KIND_STRUCT | KIND_UNION => {
                    if let Some(name) = self.wanted(ty.name, &filter) {
                        found.structs.entry(name.to_owned()).or_default().push(id);
                    }
                }
                KIND_ENUM => self.enumerators(ty.body, 8, &filter, &mut found.enumerators),
                KIND_ENUM64 => self.enumerators(ty.body, 12, &filter, &mut found.enumerators),
                _ => {}
            }
        }
        found
    }

    /// Has the first structure of that name such a member? `None`: there is no such structure.
    pub(crate) fn has_member(&self, structure: &str, member: &str) -> Option<bool> {
        let id = *self.named(|name| name == structure, |_| false).first()?;
        let ty = self.get(id)?;
        let name = |entry: &[u8]| self.string(u32_at(entry, 0).ok()?);
        let mut names = ty.body.chunks_exact(12).map(name);
        Some(names.any(|name| name == Some(member.as_bytes())))
    }

    /// Numbers of this BTF's own structures and unions whose name is wanted, and of its enumerations
    /// with a wanted enumerator.
    pub(crate) fn named(
        &self,
        structure: impl Fn(&str) -> bool,
        enumerator: impl Fn(&str) -> bool,
    ) -> Vec<u32> {
        let text = |at| str::from_utf8(self.string(at)?).ok();
        let is_wanted = |ty: &Type<'_>| match ty.kind() {
            KIND_STRUCT | KIND_UNION => text(ty.name).is_some_and(&structure),
            kind @ (KIND_ENUM | KIND_ENUM64) => {
                let stride = if kind == KIND_ENUM { 8 } else { 12 };
                let mut entries = ty.body.chunks_exact(stride);
                let name = |entry| u32_at(entry, 0).ok().and_then(text);
                entries.any(|entry| name(entry).is_some_and(&enumerator))
            }
            _ => false,
        };
        (self.first_id()..)
            .zip(&self.starts)
            .filter(|(_, at)| self.type_at(**at as usize).is_ok_and(|ty| is_wanted(&ty)))
            .map(|(id, _)| id)
            .collect()
    }

    fn enumerators(
        &self,
        body: &[u8],
        stride: usize,
        filter: &Filter<'_>,
        found: &mut HashMap<String, u64>,
    ) {
        let word = |entry: &[u8], at| u32_at(entry, at).unwrap_or(0);
        for entry in body.chunks_exact(stride) {
            if let Some(name) = self.wanted(word(entry, 0), filter) {
                let high = if stride == 12 { word(entry, 8) } else { 0 };
                found.insert(
                    name.to_owned(),
                    u64::from(high) << 32 | u64::from(word(entry, 4)),
                );
            }
        }
    }

    /// The string at that offset, if it is wanted.
    fn wanted(&self, offset: u32, filter: &Filter<'_>) -> Option<&str> {
        let rest = self.rest(offset)?;
        if !filter.may_begin(*rest.first()?) {
            return None;
        }
        let name = str::from_utf8(self.string(offset)?).ok()?;
        filter.names.contains(name).then_some(name)
    }

    fn rest(&self, offset: u32) -> Option<&[u8]> {
        let offset = offset as usize;
        let inherited = self.base.as_ref().map_or(0, |base| base.strings_bytes());
        match offset.checked_sub(inherited) {
            None => self.base.as_ref()?.rest(u32::try_from(offset).ok()?),
            Some(offset) => self.bytes[self.strings.0..self.strings.1].get(offset..),
        }
    }

    fn strings_bytes(&self) -> usize {
        self.strings.1 - self.strings.0
    }

    fn first_id(&self) -> u32 {
        self.base.as_ref().map_or(1, |base| {
            let own = u32::try_from(base.starts.len()).unwrap_or(u32::MAX);
            base.first_id().saturating_add(own)
        })
    }

    fn type_at(&self, at: usize) -> Result<Type<'_>, BtfError> {
        let info = u32_at(&self.bytes, at + 4)?;
        let size = body_bytes(info).unwrap_or(0);
        let (begin, end) = range(&self.bytes, at + 12, size)?;
        Ok(Type {
            name: u32_at(&self.bytes, at)?,
            info,
            size_or_type: u32_at(&self.bytes, at + 8)?,
            body: &self.bytes[begin..end],
        })
    }
}

/// Where each type begins.
fn starts(bytes: &[u8], (begin, end): (usize, usize)) -> Result<Vec<u32>, BtfError> {
    let types = &bytes[..end];
    let mut starts = Vec::new();
    let mut at = begin;
    while at < end {
        let info = u32_at(types, at + 4)?;
        let size = body_bytes(info).ok_or(BtfError::Kind {
            index: starts.len(),
            kind: info >> 24 & 0x1f,
        })?;
        range(types, at + 12, size)?;
        starts.push(u32::try_from(at).map_err(|_beyond| truncated(bytes, at))?);
        at += 12 + size;
    }
    Ok(starts)
}

/// Bytes that follow the 12 common ones of a type, or `None` for an unknown kind.
fn body_bytes(info: u32) -> Option<usize> {
    let members = info as usize & 0xffff;
    match info >> 24 & 0x1f {
        // INT, VAR, DECL_TAG: one word.
        1 | 14 | 17 => Some(4),
        // PTR, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FLOAT, TYPE_TAG: nothing.
        2 | 7..=12 | 16 | 18 => Some(0),
        // ARRAY.
        3 => Some(12),
        // STRUCT, UNION, DATASEC, ENUM64: three words each.
        4 | 5 | 15 | 19 => Some(members * 12),
        // ENUM, FUNC_PROTO: two words each.
        6 | 13 => Some(members * 8),
        _ => None,
    }
}

/// Wanted names, and a quick no for most others: few BTF strings begin as a wanted one does.
struct Filter<'a> {
    names: &'a HashSet<&'a str>,
    first_bytes: [bool; 256],
}

impl<'a> Filter<'a> {
    fn new(names: &'a HashSet<&'a str>) -> Self {
        let mut first_bytes = [false; 256];
        for first in names.iter().filter_map(|name| name.bytes().next()) {
            first_bytes[usize::from(first)] = true;
        }
        Self { names, first_bytes }
    }

    fn may_begin(&self, byte: u8) -> bool {
        self.first_bytes[usize::from(byte)]
    }
}

/// Begin and end of `length` bytes that are all there.
fn range(bytes: &[u8], begin: usize, length: usize) -> Result<(usize, usize), BtfError> {
    let end = begin.saturating_add(length);
    if end > bytes.len() {
        return Err(truncated(bytes, end));
    }
    Ok((begin, end))
}

fn truncated(bytes: &[u8], needed: usize) -> BtfError {
    BtfError::Truncated {
        length: bytes.len(),
        needed,
    }
}

/// The word at that offset, in this machine's byte order.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map(|chunk| u32::from_ne_bytes(*chunk))
        .ok_or_else(|| truncated(bytes, at.saturating_add(4)))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const WANTED: [&str; 4] = ["base_name", "f", "s", "E"];

    /// A BTF with the given words as types and the given strings.
    pub(crate) fn btf(types: &[u32], strings: &[u8]) -> Vec<u8> {
        let type_bytes: Vec<u8> = types.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut bytes = Vec::new();
        bytes.extend(MAGIC.to_ne_bytes());
        bytes.extend([1, 0]);
        let lengths = [24, 0, type_bytes.len(), type_bytes.len(), strings.len()];
        bytes.extend(
            lengths
                .iter()
                .flat_map(|n| u32::try_from(*n).unwrap().to_ne_bytes()),
        );
        bytes.extend(type_bytes);
        bytes.extend(strings);
        bytes
    }

    pub(crate) fn info(kind: u32, members: u32) -> u32 {
        kind << 24 | members
    }

    fn wanted() -> HashSet<&'static str> {
        WANTED.into_iter().collect()
    }

    /// Check that names of the base and of the split part, and enumerators of both widths, are found.
    #[test]
    fn names_of_split_btf_resolves_both_string_tables() {
        let base_strings = b"\0base_name\0";
        let base = Btf::parse(btf(&[0, info(KIND_INT, 0), 4, 32], base_strings), None).unwrap();
        let own = b"f\0s\0E\0other\0";
        let first = u32::try_from(base_strings.len()).unwrap();
        #[rustfmt::skip]
        let types = [
            1, info(KIND_FUNC, 0), 0,
            first, info(KIND_FUNC, 0), 0,
            first + 6, info(KIND_FUNC, 0), 0,
            first + 2, info(KIND_STRUCT, 1), 8, first, 0, 0,
            0, info(KIND_ENUM64, 1), 8, first + 4, 5, 1,
        ];
        let split = Btf::parse(btf(&types, own), Some(Arc::new(base))).unwrap();
        let found = split.names(&wanted());
        let functions = [("base_name".to_owned(), 2), ("f".to_owned(), 3)];
        assert_eq!(found.functions, functions.into());
        assert_eq!(found.structs, [("s".to_owned(), vec![5])].into());
        assert!(split.owner(1).base.is_none() && split.owner(2).base.is_some());
        assert_eq!(split.get(1).map(|ty| ty.kind()), Some(KIND_INT));
        assert!(split.get(0).is_none() && split.get(7).is_none());
        assert_eq!(found.enumerators, [("E".to_owned(), 1 << 32 | 5)].into());
        assert_eq!(split.has_member("s", "f"), Some(true));
        assert_eq!(split.has_member("s", "g"), Some(false));
        assert_eq!(split.has_member("base_name", "f"), None);
        assert_eq!(split.named(|_| false, |name| name == "E"), [6]);
    }

    /// Check that what is not a complete BTF of known kinds is refused by name.
    #[rstest]
    #[case::empty(vec![], BtfError::Truncated { length: 0, needed: 24 })]
    #[case::magic(vec![0; 24], BtfError::Magic { magic: 0 })]
    #[case::kind(btf(&[0, info(31, 0), 0], b"\0"), BtfError::Kind { index: 0, kind: 31 })]
    #[case::members_cut(
        btf(&[0, info(KIND_STRUCT, 2), 8], b"\0"),
        BtfError::Truncated { length: 36, needed: 60 }
    )]
    fn names_of_malformed_btf_names_the_fault(#[case] bytes: Vec<u8>, #[case] error: BtfError) {
        assert_eq!(Btf::parse(bytes, None).err(), Some(error));
    }

    proptest! {
        /// Check that arbitrary bytes never make the reader panic.
        #[test]
        fn names_of_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(read) = Btf::parse(bytes, None) {
                read.names(&wanted());
            }
        }

        /// Check that arbitrary types behind a good header never make the reader panic.
        #[test]
        fn names_of_arbitrary_types_never_panics(types in prop::collection::vec(any::<u32>(), 0..60)) {
            if let Ok(read) = Btf::parse(btf(&types, b"\0f\0"), None) {
                read.names(&wanted());
            }
        }
    }
}
