//! Names in the kernel's BTF: what functions, structures and enumerators it describes.
//!
//! libbpf reads BTF by itself when it relocates and attaches. This reader answers one question
//! before that: is the name there? A module's BTF continues the strings of vmlinux's, so those are
//! read too.
//!
//! Kernel: v6.12 include/uapi/linux/btf.h.

use std::collections::{HashMap, HashSet};

use thiserror::Error;

/// The wanted names that a BTF describes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct BtfNames {
    /// Functions.
    pub(crate) functions: HashSet<String>,
    /// Structures and unions.
    pub(crate) structs: HashSet<String>,
    /// Enumerators and their values.
    pub(crate) enumerators: HashMap<String, u64>,
}

/// Why bytes are not a BTF that this reader knows.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub(crate) enum BtfError {
    /// It ends inside a header, a section or a type.
    #[error("BTF ends at byte {length}, needed at least {needed}")]
    Truncated { length: usize, needed: usize },
    /// It does not begin with the magic number in this machine's byte order.
    #[error("BTF begins with {magic:#06x} instead of 0xeb9f")]
    Magic { magic: u16 },
    /// It holds a kind of type whose size is not known.
    #[error("BTF type {index} is of unknown kind {kind}")]
    Kind { index: usize, kind: u32 },
}

/// Place of the sections in a BTF, as offsets from its beginning.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    types: (usize, usize),
    /// Begin and length of the strings.
    pub(crate) strings: (usize, usize),
}

/// Bytes of a header of version 1.
pub(crate) const HEADER_BYTES: usize = 24;
const MAGIC: u16 = 0xeb9f;

impl Header {
    /// Reads the header; does not check that the sections are there.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BtfError> {
        let magic = bytes
            .first_chunk()
            .map_or(0, |chunk| u16::from_ne_bytes(*chunk));
        if bytes.len() < HEADER_BYTES {
            return Err(BtfError::Truncated {
                length: bytes.len(),
                needed: HEADER_BYTES,
            });
        }
        if magic != MAGIC {
            return Err(BtfError::Magic { magic });
        }
        let word = |at| Ok::<_, BtfError>(u32_at(bytes, at)? as usize);
        let header = word(4)?;
        Ok(Self {
            types: (header.saturating_add(word(8)?), word(12)?),
            strings: (header.saturating_add(word(16)?), word(20)?),
        })
    }
}

/// Finds which of the `wanted` names a BTF describes.
///
/// `base_strings` are the strings of the BTF that this one continues; empty if it stands alone.
pub(crate) fn names(
    bytes: &[u8],
    base_strings: &[u8],
    wanted: &HashSet<&str>,
) -> Result<BtfNames, BtfError> {
    let header = Header::parse(bytes)?;
    let types = section(bytes, header.types)?;
    let strings = Strings {
        base: base_strings,
        own: section(bytes, header.strings)?,
    };
    let mut found = BtfNames::default();
    let mut at = 0;
    let mut index = 0;
    while at < types.len() {
        let name = u32_at(types, at)?;
        let info = u32_at(types, at + 4)?;
        let (kind, members) = (info >> 24 & 0x1f, info as usize & 0xffff);
        let size = kind_bytes(kind, members).ok_or(BtfError::Kind { index, kind })?;
        let body = section(types, (at + 12, size))?;
        let wanted_name = strings.get(name).filter(|name| wanted.contains(name));
        match kind {
            KIND_FUNC => found.functions.extend(wanted_name.map(str::to_owned)),
            KIND_STRUCT | KIND_UNION => found.structs.extend(wanted_name.map(str::to_owned)),
            KIND_ENUM => enumerators(body, 8, &strings, wanted, &mut found.enumerators)?,
            KIND_ENUM64 => enumerators(body, 12, &strings, wanted, &mut found.enumerators)?,
            _ => {}
        }
        at += 12 + size;
        index += 1;
    }
    Ok(found)
}

const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FUNC: u32 = 12;
const KIND_ENUM64: u32 = 19;

/// Bytes that follow the 12 common ones of a type, or `None` for an unknown kind.
fn kind_bytes(kind: u32, members: usize) -> Option<usize> {
    match kind {
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

fn enumerators(
    body: &[u8],
    stride: usize,
    strings: &Strings<'_>,
    wanted: &HashSet<&str>,
    found: &mut HashMap<String, u64>,
) -> Result<(), BtfError> {
    for entry in body.chunks_exact(stride) {
        let Some(name) = strings
            .get(u32_at(entry, 0)?)
            .filter(|name| wanted.contains(name))
        else {
            continue;
        };
        let low = u64::from(u32_at(entry, 4)?);
        let high = if stride == 12 {
            u64::from(u32_at(entry, 8)?)
        } else {
            0
        };
        found.insert(name.to_owned(), high << 32 | low);
    }
    Ok(())
}

/// The strings of a BTF and of the one that it continues.
struct Strings<'a> {
    base: &'a [u8],
    own: &'a [u8],
}

impl<'a> Strings<'a> {
    /// The string at that offset, if it is there, ends and is UTF-8.
    fn get(&self, offset: u32) -> Option<&'a str> {
        let offset = offset as usize;
        let rest = match offset.checked_sub(self.base.len()) {
            None => &self.base[offset..],
            Some(offset) => self.own.get(offset..)?,
        };
        let end = rest.iter().position(|byte| *byte == 0)?;
        str::from_utf8(&rest[..end]).ok()
    }
}

fn section(bytes: &[u8], (begin, length): (usize, usize)) -> Result<&[u8], BtfError> {
    let needed = begin.saturating_add(length);
    bytes.get(begin..needed).ok_or(BtfError::Truncated {
        length: bytes.len(),
        needed,
    })
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, BtfError> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .map(|chunk| u32::from_ne_bytes(*chunk))
        .ok_or(BtfError::Truncated {
            length: bytes.len(),
            needed: at.saturating_add(4),
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const WANTED: [&str; 4] = ["base_name", "f", "s", "E"];

    /// A BTF with the given words as types and the given strings.
    fn btf(types: &[u32], strings: &[u8]) -> Vec<u8> {
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

    fn info(kind: u32, members: u32) -> u32 {
        kind << 24 | members
    }

    fn wanted() -> HashSet<&'static str> {
        WANTED.into_iter().collect()
    }

    /// Check that names of the base and of the split part, and enumerators of both widths, are found.
    #[test]
    fn names_of_split_btf_resolves_both_string_tables() {
        let base = b"\0base_name\0";
        let own = b"f\0s\0E\0other\0";
        let first = u32::try_from(base.len()).unwrap();
        #[rustfmt::skip]
        let types = [
            1, info(KIND_FUNC, 0), 0,
            first, info(KIND_FUNC, 0), 0,
            first + 6, info(KIND_FUNC, 0), 0,
            first + 2, info(KIND_STRUCT, 1), 8, first, 0, 0,
            0, info(KIND_ENUM64, 1), 8, first + 4, 5, 1,
        ];
        let found = names(&btf(&types, own), base, &wanted()).unwrap();
        assert_eq!(
            found.functions,
            ["base_name", "f"].map(str::to_owned).into()
        );
        assert_eq!(found.structs, ["s"].map(str::to_owned).into());
        assert_eq!(found.enumerators, [("E".to_owned(), 1 << 32 | 5)].into());
    }

    /// Check that what is not a complete BTF of known kinds is refused by name.
    #[rstest]
    #[case::empty(vec![], BtfError::Truncated { length: 0, needed: 24 })]
    #[case::magic(vec![0; 24], BtfError::Magic { magic: 0 })]
    #[case::kind(btf(&[0, info(31, 0), 0], b"\0"), BtfError::Kind { index: 0, kind: 31 })]
    #[case::members_cut(
        btf(&[0, info(KIND_STRUCT, 2), 8], b"\0"),
        BtfError::Truncated { length: 12, needed: 36 }
    )]
    fn names_of_malformed_btf_names_the_fault(#[case] bytes: Vec<u8>, #[case] error: BtfError) {
        assert_eq!(names(&bytes, &[], &wanted()), Err(error));
    }

    proptest! {
        /// Check that arbitrary bytes never make the reader panic.
        #[test]
        fn names_of_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = names(&bytes, b"\0x\0", &wanted());
        }

        /// Check that arbitrary types behind a good header never make the reader panic.
        #[test]
        fn names_of_arbitrary_types_never_panics(types in prop::collection::vec(any::<u32>(), 0..60)) {
            let _ = names(&btf(&types, b"\0f\0"), &[], &wanted());
        }
    }
}
