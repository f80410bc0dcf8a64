//! BTF in an order that compresses better: all names together, all sizes together, and so on. The same bytes come back out of it.
//!
//! A type is a record of words with different meanings, and what stands in front of a word says little about it; the same word of the type before
//! says much. Each column is a list of numbers of variable length: names as the distance from what came last or, for members and parameters, as
//! their number; types and offsets in one of the same two ways.

use crate::bytes::Endian;

const LE: Endian = Endian::Little;
/// `magic` to `str_len`.
const HEADER: usize = 24;

/// How the numbers of a column are written.
#[derive(Clone, Copy)]
enum Way {
    /// As they are.
    Plain,
    /// As the difference from the one before in the column.
    Step,
}

/// The columns: what each holds, by the place of its word in a record.
#[derive(Clone, Copy)]
struct Column {
    number: usize,
    way: Way,
}

const fn column(number: usize, way: Way) -> Column {
    Column { number, way }
}

const INFO: Column = column(0, Way::Plain);
/// Names and third words of types have a column for each kind.
const NAMES: usize = 1;
const THIRDS: usize = NAMES + KINDS;
const KINDS: usize = 20;
const REST: usize = THIRDS + KINDS;
const COUNT: usize = REST + 16;

/// What follows the three words that every type has: the columns of one element. Kinds that are not known have none.
/// Source: kernel include/uapi/linux/btf.h.
fn elements(kind: u32, vlen: u32) -> Option<(usize, &'static [Column])> {
    const INT: &[Column] = &[column(REST, Way::Plain)];
    const ARRAY: &[Column] = &[
        column(REST + 1, Way::Step),
        column(REST + 2, Way::Step),
        column(REST + 3, Way::Plain),
    ];
    const MEMBER: &[Column] = &[
        column(REST + 4, Way::Plain),
        column(REST + 5, Way::Plain),
        column(REST + 6, Way::Step),
    ];
    const ENUMERATOR: &[Column] = &[column(REST + 7, Way::Step), column(REST + 8, Way::Step)];
    const PARAMETER: &[Column] = &[column(REST + 9, Way::Plain), column(REST + 10, Way::Plain)];
    const VARIABLE: &[Column] = &[column(REST + 11, Way::Plain)];
    const SECTION: &[Column] = &[
        column(REST + 12, Way::Step),
        column(REST + 13, Way::Plain),
        column(REST + 14, Way::Plain),
    ];
    const TAG: &[Column] = &[column(REST + 15, Way::Plain)];
    let many = vlen as usize;
    Some(match kind {
        1 => (1, INT),
        3 => (1, ARRAY),
        4 | 5 => (many, MEMBER),
        6 => (many, ENUMERATOR),
        13 => (many, PARAMETER),
        14 => (1, VARIABLE),
        15 => (many, SECTION),
        17 => (1, TAG),
        19 => (many, SECTION),
        2 | 7..=12 | 16 | 18 => (0, &[]),
        _ => return None,
    })
}

/// The columns of a BTF; `None` for one that is not laid out as pahole does it, which is stored as it is.
pub(super) fn encode(btf: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| LE.u32(btf, at);
    let length = |at: usize| usize::try_from(word(at)?).ok();
    let (types, strings) = (length(12)?, length(20)?);
    let laid_out = word(4)? as usize == HEADER && word(8)? == 0 && length(16)? == types;
    if !laid_out || !types.is_multiple_of(4) || btf.len() != HEADER + types + strings {
        return None;
    }
    let words: Vec<u32> = btf[HEADER..HEADER + types]
        .chunks_exact(4)
        .filter_map(|w| LE.u32(w, 0))
        .collect();
    let mut columns = Columns::default();
    let mut rest = &words[..];
    while let [name, info, third, after @ ..] = rest {
        let (kind, vlen) = (info >> 24 & 31, info & 0xffff);
        let (count, each) = elements(kind, vlen)?;
        columns.put(INFO, *info);
        columns.put(name_of(kind), *name);
        columns.put(third_of(kind), *third);
        let own = after.get(..count * each.len())?;
        for element in own.chunks_exact(each.len().max(1)) {
            for (column, value) in each.iter().zip(element) {
                columns.put(*column, *value);
            }
        }
        rest = &after[own.len()..];
    }
    rest.is_empty().then(|| columns.finish(btf, types))
}

/// The BTF that [`encode`] was given; `None` for damaged columns.
pub(super) fn decode(data: &[u8]) -> Option<Vec<u8>> {
    let mut out = data.get(..HEADER)?.to_vec();
    let types = usize::try_from(LE.u32(&out, 12)?).ok()?;
    let mut data = data.get(HEADER..)?;
    let mut columns = Vec::with_capacity(COUNT);
    for _ in 0..COUNT {
        let length = usize::try_from(read_number(&mut data)?).ok()?;
        columns.push((data.get(..length)?, 0_u32));
        data = &data[length..];
    }
    let mut take = |column: Column| {
        let (bytes, last) = &mut columns[column.number];
        let number = read_number(bytes)?;
        let value = match column.way {
            Way::Plain => number,
            Way::Step => last.wrapping_add((number >> 1) ^ (number & 1).wrapping_neg()),
        };
        *last = value;
        Some(value)
    };
    while out.len() < HEADER + types {
        let info = take(INFO)?;
        let (kind, vlen) = (info >> 24 & 31, info & 0xffff);
        let (count, each) = elements(kind, vlen)?;
        for word in [take(name_of(kind))?, info, take(third_of(kind))?] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        for column in std::iter::repeat_n(each, count).flatten() {
            out.extend_from_slice(&take(*column)?.to_le_bytes());
        }
    }
    out.extend_from_slice(data);
    (out.len() >= HEADER + types).then_some(out)
}

fn name_of(kind: u32) -> Column {
    column(NAMES + kind as usize, Way::Step)
}

/// A size, or a type.
fn third_of(kind: u32) -> Column {
    let way = if matches!(kind, 1 | 4 | 5 | 6 | 15 | 16 | 19) {
        Way::Plain
    } else {
        Way::Step
    };
    column(THIRDS + kind as usize, way)
}

/// Columns that are being written, and the last value of each.
struct Columns(Vec<(Vec<u8>, u32)>);

impl Default for Columns {
    fn default() -> Self {
        Self(vec![(Vec::new(), 0); COUNT])
    }
}

impl Columns {
    fn put(&mut self, column: Column, value: u32) {
        let (bytes, last) = &mut self.0[column.number];
        let number = match column.way {
            Way::Plain => value,
            Way::Step => {
                let step = value.wrapping_sub(*last);
                (step << 1) ^ (step.cast_signed() >> 31).cast_unsigned()
            }
        };
        *last = value;
        write_number(number, bytes);
    }

    /// The header, the columns each behind its length, the strings.
    fn finish(self, btf: &[u8], types: usize) -> Vec<u8> {
        let mut out = btf[..HEADER].to_vec();
        for (bytes, _) in self.0 {
            let length = u32::try_from(bytes.len()).expect("a column is no longer than the BTF");
            write_number(length, &mut out);
            out.extend(bytes);
        }
        out.extend_from_slice(&btf[HEADER + types..]);
        out
    }
}

/// Seven bits a byte, the lowest first.
fn write_number(mut number: u32, out: &mut Vec<u8>) {
    loop {
        let low = (number & 0x7f).to_le_bytes()[0];
        number >>= 7;
        if number == 0 {
            return out.push(low);
        }
        out.push(low | 0x80);
    }
}

fn read_number(data: &mut &[u8]) -> Option<u32> {
    let mut number = 0_u32;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        number |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{HEADER, decode, encode, read_number, write_number};
    use proptest::prelude::*;

    /// A BTF with these words for types, and some strings.
    fn btf(types: &[u32]) -> Vec<u8> {
        let bytes = u32::try_from(types.len() * 4).unwrap();
        let header = [0x0001_eb9f, 24, 0, bytes, bytes, 3];
        let words = header.iter().chain(types);
        let mut btf: Vec<u8> = words.flat_map(|word| word.to_le_bytes()).collect();
        btf.extend(b"\0a\0");
        btf
    }

    /// One type of every kind; structures, enums and prototypes with two elements.
    fn every_kind() -> Vec<u32> {
        let mut words = Vec::new();
        for kind in 1..20_u32 {
            let (vlen, more) = match kind {
                1 | 14 | 17 => (0, 1),
                3 => (0, 3),
                4 | 5 | 15 | 19 => (2, 6),
                6 | 13 => (2, 4),
                _ => (0, 0),
            };
            words.extend([kind * 7, kind << 24 | vlen | 1 << 31, u32::MAX - kind]);
            words.extend((0..more).map(|i| kind * 1000 + i * i));
        }
        words
    }

    /// Check that the same bytes come back, whatever the kind.
    #[test]
    fn types_of_every_kind_come_back() {
        let btf = btf(&every_kind());
        assert_eq!(decode(&encode(&btf).unwrap()).unwrap(), btf);
    }

    /// Check that what is laid out otherwise has no columns.
    #[test]
    fn other_layouts_have_no_columns() {
        let good = btf(&every_kind());
        assert!(encode(&good).is_some());
        for at in [4, 8, 12, 16, 20] {
            let mut bad = good.clone();
            bad[at] += 4;
            assert_eq!(encode(&bad), None, "{at}");
        }
        assert_eq!(encode(&btf(&[0, 20 << 24, 0])), None);
        assert_eq!(encode(&btf(&[0, 4 << 24 | 9, 0])), None);
        assert_eq!(encode(&good[..good.len() - 1]), None);
        assert_eq!(encode(&good[..10]), None);
    }

    proptest! {
        /// Check that any number comes back.
        #[test]
        fn number_comes_back(number: u32) {
            let mut out = Vec::new();
            write_number(number, &mut out);
            prop_assert_eq!(read_number(&mut &out[..]), Some(number));
        }

        /// Check that any words which have columns come back.
        #[test]
        fn any_types_come_back(kinds in proptest::collection::vec((any::<u32>(), 0u32..20, 0u32..3, any::<[u32; 7]>()), 0..20)) {
            let words = kinds.iter().flat_map(|(name, kind, vlen, rest)| {
                let more = super::elements(*kind, *vlen).map_or(0, |(count, each)| count * each.len());
                [*name, kind << 24 | vlen].into_iter().chain(rest[..=more].to_vec())
            });
            let btf = btf(&words.collect::<Vec<_>>());
            if let Some(columns) = encode(&btf) {
                prop_assert_eq!(decode(&columns), Some(btf));
            }
        }

        /// Check that damaged columns neither panic nor grow without bounds.
        #[test]
        fn damaged_columns_are_survived(at: prop::sample::Index, byte: u8) {
            let mut columns = encode(&btf(&every_kind())).unwrap();
            let at = at.index(columns.len());
            columns[at] = byte;
            if let Some(btf) = decode(&columns) {
                prop_assert!(btf.len() <= HEADER + columns.len() * 70_000);
            }
        }
    }
}
