//! Reading the BTF blob: header, type table, strings.

use super::index::NameIndex;
use super::types::{Kind, Type};
use crate::bytes::{Endian, c_str};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

const MAGIC: u16 = 0xeb9f;
const HEADER_LEN: usize = 24;

/// Why a BTF blob was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfError {
    /// Shorter than a header.
    #[error("only {len} bytes, a header has 24")]
    Truncated {
        /// Length of the blob in bytes.
        len: usize,
    },
    /// The first two bytes are not BTF's.
    #[error("magic is {magic:#06x}, not 0xeb9f")]
    Magic {
        /// The bytes found, in little-endian order.
        magic: u16,
    },
    /// Header with no types at all: what corrupt module BTF looks like.
    #[error("header only, no types")]
    Empty,
    /// Types or strings reach past the end, or overlap.
    #[error("the {section} section ({offset}+{len}) lies outside the {total} bytes")]
    Section {
        /// Which section.
        section: &'static str,
        /// Offset from the end of the header, in bytes.
        offset: u32,
        /// Length in bytes.
        len: u32,
        /// Bytes there are.
        total: usize,
    },
    /// The strings do not start and end with a NUL, or are not UTF-8.
    #[error("malformed string section")]
    Strings,
    /// A type record is cut off or has an unknown kind.
    #[error("type {id} at offset {offset} is {problem}")]
    Type {
        /// Id of the type.
        id: u32,
        /// Offset within the type section, in bytes.
        offset: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Base and split differ in byte order.
    #[error("base and split BTF differ in byte order")]
    MixedEndian,
}

/// A parsed BTF, base or split. Cloning is cheap only through `Arc`.
#[derive(Debug)]
pub struct Btf {
    data: Arc<[u8]>,
    types: Range<usize>,
    strings: Range<usize>,
    /// Offset of each own type from the start of `types`.
    offsets: Vec<u32>,
    endian: Endian,
    base: Option<Arc<Btf>>,
    pub(super) index: OnceLock<NameIndex>,
    pub(super) pointer_size: OnceLock<Option<u32>>,
}

impl Btf {
    /// Parses a self-contained BTF.
    ///
    /// # Errors
    /// When the blob is not well-formed.
    pub fn parse(data: impl Into<Arc<[u8]>>) -> Result<Self, BtfError> {
        Self::parse_on(data.into(), None)
    }

    /// Parses a module's split BTF, whose ids and strings continue those of `base`.
    ///
    /// # Errors
    /// When the blob is not well-formed.
    pub fn parse_split(data: impl Into<Arc<[u8]>>, base: Arc<Self>) -> Result<Self, BtfError> {
        Self::parse_on(data.into(), Some(base))
    }

    fn parse_on(data: Arc<[u8]>, base: Option<Arc<Self>>) -> Result<Self, BtfError> {
        let header = Header::read(&data)?;
        if base.as_ref().is_some_and(|b| b.endian != header.endian) {
            return Err(BtfError::MixedEndian);
        }
        let strings = &data[header.strings.clone()];
        let terminated = strings.last().is_none_or(|&b| b == 0);
        let starts_empty = base.is_some() || strings.first() == Some(&0);
        if !terminated || !starts_empty || std::str::from_utf8(strings).is_err() {
            return Err(BtfError::Strings);
        }
        let first_id = base.as_ref().map_or(1, |b| b.type_count());
        let offsets = scan_types(&data[header.types.clone()], header.endian, first_id)?;
        Ok(Self {
            types: header.types,
            strings: header.strings,
            endian: header.endian,
            data,
            offsets,
            base,
            index: OnceLock::new(),
            pointer_size: OnceLock::new(),
        })
    }

    /// Byte order of the blob.
    #[must_use]
    pub fn endian(&self) -> Endian {
        self.endian
    }

    /// The blob itself.
    #[must_use]
    pub fn bytes(&self) -> &Arc<[u8]> {
        &self.data
    }

    /// The base of a split BTF.
    #[must_use]
    pub fn base(&self) -> Option<&Arc<Self>> {
        self.base.as_ref()
    }

    /// Id of the first type of this blob: 1, or the base's type count.
    #[must_use]
    pub fn first_id(&self) -> u32 {
        self.base.as_ref().map_or(1, |b| b.type_count())
    }

    /// One more than the highest id, base included.
    #[must_use]
    pub fn type_count(&self) -> u32 {
        let own = u32::try_from(self.offsets.len()).unwrap_or(u32::MAX);
        self.first_id().saturating_add(own)
    }

    fn strings_end(&self) -> u32 {
        let own = u32::try_from(self.strings.len()).unwrap_or(u32::MAX);
        self.base
            .as_ref()
            .map_or(0, |b| b.strings_end())
            .saturating_add(own)
    }

    /// The string at `offset`, which continues past the base's strings in a split BTF.
    #[must_use]
    pub fn string(&self, offset: u32) -> Option<&str> {
        let own = match &self.base {
            Some(base) if offset < base.strings_end() => return base.string(offset),
            Some(base) => offset - base.strings_end(),
            None => offset,
        };
        c_str(&self.data[self.strings.clone()], usize::try_from(own).ok()?)
    }

    /// The type with this id; 0 is void. `None` when there is no such id.
    #[must_use]
    pub fn ty(&self, id: u32) -> Option<Type<'_>> {
        if id == 0 {
            return Some(self.void());
        }
        let first = self.first_id();
        if id < first {
            return self.base.as_ref()?.ty(id);
        }
        let offset = *self.offsets.get(usize::try_from(id - first).ok()?)?;
        let record = self
            .data
            .get(self.types.clone())?
            .get(usize::try_from(offset).ok()?..)?;
        let info = self.endian.u32(record, 4)?;
        Some(Type {
            btf: self,
            id,
            name_off: self.endian.u32(record, 0)?,
            info,
            size_or_type: self.endian.u32(record, 8)?,
            body: record.get(12..)?,
            kind: Kind::from_raw(info >> 24 & 0x1f)?,
        })
    }

    fn void(&self) -> Type<'_> {
        Type {
            btf: self,
            id: 0,
            name_off: 0,
            info: 0,
            size_or_type: 0,
            body: &[],
            kind: Kind::Void,
        }
    }

    /// The types of this blob in the order of their ids, without its base's.
    pub fn own_types(&self) -> impl Iterator<Item = Type<'_>> {
        (self.first_id()..self.type_count()).filter_map(|id| self.ty(id))
    }

    /// Where in the blob the record of an own type starts, in bytes.
    #[must_use]
    pub fn record_offset(&self, id: u32) -> Option<usize> {
        let own = usize::try_from(id.checked_sub(self.first_id())?).ok()?;
        let offset = usize::try_from(*self.offsets.get(own)?).ok()?;
        Some(self.types.start + offset)
    }
}

struct Header {
    endian: Endian,
    types: Range<usize>,
    strings: Range<usize>,
}

impl Header {
    fn read(data: &[u8]) -> Result<Self, BtfError> {
        let total = data.len();
        let truncated = BtfError::Truncated { len: total };
        let Some(magic) = Endian::Little.u16(data, 0) else {
            return Err(truncated);
        };
        let endian = match magic {
            MAGIC => Endian::Little,
            m if m.swap_bytes() == MAGIC => Endian::Big,
            _ => return Err(BtfError::Magic { magic }),
        };
        let word = |at| endian.u32(data, at);
        let (Some(header_len), Some(type_off), Some(type_len), Some(str_off), Some(str_len)) =
            (word(4), word(8), word(12), word(16), word(20))
        else {
            return Err(truncated);
        };
        let header_len = usize::try_from(header_len).unwrap_or(usize::MAX);
        if header_len < HEADER_LEN || header_len > total {
            return Err(truncated);
        }
        if type_len == 0 && str_len <= 1 {
            return Err(BtfError::Empty);
        }
        let types = section("type", total, header_len, type_off, type_len)?;
        let strings = section("string", total, header_len, str_off, str_len)?;
        if types.end > strings.start {
            return Err(BtfError::Section {
                section: "type",
                offset: type_off,
                len: type_len,
                total,
            });
        }
        Ok(Self {
            endian,
            types,
            strings,
        })
    }
}

fn section(
    section: &'static str,
    total: usize,
    header_len: usize,
    offset: u32,
    len: u32,
) -> Result<Range<usize>, BtfError> {
    let range = || {
        let start = header_len.checked_add(usize::try_from(offset).ok()?)?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        (end <= total).then_some(start..end)
    };
    range().ok_or(BtfError::Section {
        section,
        offset,
        len,
        total,
    })
}

fn scan_types(types: &[u8], endian: Endian, first_id: u32) -> Result<Vec<u32>, BtfError> {
    // A type takes at least 12 bytes, which bounds the table by the input.
    let mut offsets = Vec::with_capacity(types.len() / 32);
    let mut at = 0;
    while at < types.len() {
        let id = first_id.saturating_add(u32::try_from(offsets.len()).unwrap_or(u32::MAX));
        let bad = |problem| BtfError::Type {
            id,
            offset: at,
            problem,
        };
        let info = endian.u32(types, at + 4).ok_or_else(|| bad("cut off"))?;
        let kind = Kind::from_raw(info >> 24 & 0x1f).ok_or_else(|| bad("of an unknown kind"))?;
        let len = record_len(kind, info & 0xffff).ok_or_else(|| bad("void"))?;
        let end = at + len;
        if end > types.len() {
            return Err(bad("cut off"));
        }
        offsets.push(u32::try_from(at).map_err(|_e| bad("too far"))?);
        at = end;
    }
    Ok(offsets)
}

/// Bytes of a type record with `vlen` entries; `None` for void, which has none.
fn record_len(kind: Kind, vlen: u32) -> Option<usize> {
    let vlen = usize::try_from(vlen).ok()?;
    let body = match kind {
        Kind::Void => return None,
        Kind::Int | Kind::Var | Kind::DeclTag => 4,
        Kind::Array => 12,
        Kind::Enum | Kind::FuncProto => vlen * 8,
        Kind::Struct | Kind::Union | Kind::Datasec | Kind::Enum64 => vlen * 12,
        Kind::Ptr
        | Kind::Fwd
        | Kind::Typedef
        | Kind::Volatile
        | Kind::Const
        | Kind::Restrict
        | Kind::Func
        | Kind::Float
        | Kind::TypeTag => 0,
    };
    Some(12 + body)
}
