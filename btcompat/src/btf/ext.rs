//! `.BTF.ext`: what the compiler tells the loader about instructions.
//!
//! Source: kernel `Documentation/bpf/btf.rst`, section ".BTF.ext section";
//! libbpf `btf_ext_parse()`.

use crate::bytes::Endian;

/// Why a `.BTF.ext` section was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BtfExtError {
    /// Too short, or not marked as BTF.
    #[error("no BTF.ext header in {len} bytes")]
    Header {
        /// Length of the section in bytes.
        len: usize,
    },
    /// A table is cut off or its record size is impossible.
    #[error("malformed {table} table at offset {offset}")]
    Table {
        /// Which table.
        table: &'static str,
        /// Where, in bytes from the start of the section.
        offset: usize,
    },
}

/// The records of one table that belong to one ELF section.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<R> {
    /// Offset of the section's name in the BTF strings.
    pub name_off: u32,
    /// The records, in the order of the file.
    pub records: Vec<R>,
}

/// Start of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FuncInfo {
    /// Offset from the start of the ELF section, in bytes.
    pub insn_off: u32,
    /// The function's BTF id.
    pub type_id: u32,
}

/// Source position of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineInfo {
    /// Offset from the start of the ELF section, in bytes.
    pub insn_off: u32,
    /// File name, offset in the BTF strings.
    pub file_off: u32,
    /// Line number, from 1.
    pub line: u32,
}

/// A CO-RE relocation as recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawCoreRelo {
    /// Offset of the instruction from the start of the ELF section, in bytes.
    pub insn_off: u32,
    /// Local root type.
    pub type_id: u32,
    /// Accessor string, offset in the BTF strings.
    pub access_off: u32,
    /// Number of the relocation kind.
    pub kind: u32,
}

/// The three tables of `.BTF.ext`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BtfExt {
    /// Functions.
    pub funcs: Vec<Section<FuncInfo>>,
    /// Source lines.
    pub lines: Vec<Section<LineInfo>>,
    /// CO-RE relocations.
    pub relos: Vec<Section<RawCoreRelo>>,
}

impl BtfExt {
    /// Parses the section.
    ///
    /// # Errors
    /// When the header or a table is malformed.
    pub fn parse(data: &[u8]) -> Result<Self, BtfExtError> {
        let header = BtfExtError::Header { len: data.len() };
        let endian = match Endian::Little.u16(data, 0) {
            Some(0xeb9f) => Endian::Little,
            Some(0x9feb) => Endian::Big,
            _ => return Err(header),
        };
        let word = |at| endian.u32(data, at).and_then(|v| usize::try_from(v).ok());
        let (Some(hdr_len), Some(func_off), Some(func_len), Some(line_off), Some(line_len)) =
            (word(4), word(8), word(12), word(16), word(20))
        else {
            return Err(header);
        };
        if hdr_len < 24 || hdr_len > data.len() {
            return Err(header);
        }
        let body = Tables {
            data,
            endian,
            hdr_len,
        };
        // Objects from before CO-RE have a header without the third table.
        let (relo_off, relo_len) = match (hdr_len >= 32, word(24), word(28)) {
            (true, Some(offset), Some(len)) => (offset, len),
            _ => (0, 0),
        };
        Ok(Self {
            funcs: body.read("func_info", func_off, func_len, 8, |r| FuncInfo {
                insn_off: r[0],
                type_id: r[1],
            })?,
            lines: body.read("line_info", line_off, line_len, 16, |r| LineInfo {
                insn_off: r[0],
                file_off: r[1],
                line: r[3] >> 10,
            })?,
            relos: body.read("core_relo", relo_off, relo_len, 16, |r| RawCoreRelo {
                insn_off: r[0],
                type_id: r[1],
                access_off: r[2],
                kind: r[3],
            })?,
        })
    }
}

struct Tables<'a> {
    data: &'a [u8],
    endian: Endian,
    hdr_len: usize,
}

impl Tables<'_> {
    fn read<R>(
        &self,
        table: &'static str,
        offset: usize,
        len: usize,
        min_record: usize,
        record: impl Fn([u32; 4]) -> R,
    ) -> Result<Vec<Section<R>>, BtfExtError> {
        if len == 0 {
            return Ok(Vec::new());
        }
        let start = self.hdr_len.saturating_add(offset);
        let bad = |at| BtfExtError::Table { table, offset: at };
        let end = start.checked_add(len).filter(|&e| e <= self.data.len());
        let end = end.ok_or_else(|| bad(start))?;
        let data = &self.data[..end];
        let word = |at: usize| self.endian.u32(data, at);
        let size = |at: usize| word(at).and_then(|v| usize::try_from(v).ok());
        let record_size = size(start).ok_or_else(|| bad(start))?;
        if record_size < min_record || record_size % 4 != 0 {
            return Err(bad(start));
        }
        let mut sections = Vec::new();
        let mut at = start + 4;
        while at < end {
            let (name_off, count) = word(at).zip(size(at + 4)).ok_or_else(|| bad(at))?;
            let records_len = count
                .checked_mul(record_size)
                .filter(|&n| n <= end - at - 8 && n > 0)
                .ok_or_else(|| bad(at))?;
            let first = at + 8;
            let records = (first..first + records_len)
                .step_by(record_size)
                .map(|r| {
                    let word = |i: usize| (i * 4 < record_size).then(|| word(r + i * 4)).flatten();
                    record([0, 1, 2, 3].map(|i| word(i).unwrap_or(0)))
                })
                .collect();
            sections.push(Section { name_off, records });
            at = first + records_len;
        }
        Ok(sections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<u8> {
        let mut data = vec![0x9f, 0xeb, 1, 0];
        for word in [32u32, 0, 20, 20, 0, 20, 28] {
            data.extend(word.to_le_bytes());
        }
        for word in [8u32, 1, 1, 0, 7] {
            data.extend(word.to_le_bytes());
        }
        for word in [16u32, 1, 1, 8, 3, 9, 0] {
            data.extend(word.to_le_bytes());
        }
        data
    }

    /// Check that the tables come out as they were written.
    #[test]
    fn ext_well_formed_is_read() {
        let ext = BtfExt::parse(&sample()).unwrap();
        assert_eq!(
            ext.funcs[0].records,
            [FuncInfo {
                insn_off: 0,
                type_id: 7
            }]
        );
        assert_eq!(
            ext.relos[0].records,
            [RawCoreRelo {
                insn_off: 8,
                type_id: 3,
                access_off: 9,
                kind: 0
            }]
        );
        assert!(ext.lines.is_empty());
    }

    proptest! {
        /// Check that damage to a section is an error or a value, never a panic.
        #[test]
        fn ext_damaged_never_panics(edits in prop::collection::vec((0usize..80, any::<u8>()), 0..8), cut in 0usize..81) {
            let mut data = sample();
            for (at, byte) in edits {
                if let Some(b) = data.get_mut(at) {
                    *b = byte;
                }
            }
            data.truncate(cut);
            let _ = BtfExt::parse(&data);
        }
    }
}
