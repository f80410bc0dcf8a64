//! The kernel's symbol table, read out of the image that carries it.
//!
//! Source: kernel `scripts/kallsyms.c` (`write_src()`), `kernel/kallsyms.c`.
//! The tables have no header; they are found by their contents. Before 6.4
//! the addresses come before the names, since 6.4 after the token index.

use super::image::{Image, memchr_window};
use crate::bytes::Endian;

const LE: Endian = Endian::Little;
/// More symbols than any kernel has.
const MAX_SYMBOLS: usize = 4 << 20;
/// Longest symbol name. Source: kernel `KSYM_NAME_LEN`.
const MAX_NAME: usize = 512;

/// Why no symbol table could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KallsymsError {
    /// The table of tokens is not there.
    #[error("no kallsyms token table in the image")]
    NoTokens,
    /// Tokens, but no names in front of them.
    #[error("no kallsyms names in the image")]
    NoNames,
    /// Names, but no addresses.
    #[error("no kallsyms addresses in the image")]
    NoAddresses,
}

/// One symbol: address, type letter as in `nm`, name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawSymbol {
    /// Address as linked.
    pub address: u64,
    /// Type letter.
    pub kind: u8,
    /// Name.
    pub name: String,
}

/// Reads all symbols of an image, in the order of their addresses.
///
/// # Errors
/// When the tables cannot be found.
pub fn read(image: &Image) -> Result<Vec<RawSymbol>, KallsymsError> {
    let data = image.rodata();
    let tokens = Tokens::find(data).ok_or(KallsymsError::NoTokens)?;
    let names = Names::find(data, &tokens).ok_or(KallsymsError::NoNames)?;
    let symbols = names.decode(data, &tokens);
    let addresses =
        addresses(image, &tokens, &names, &symbols).ok_or(KallsymsError::NoAddresses)?;
    Ok(symbols
        .into_iter()
        .zip(addresses)
        .filter_map(|(text, address)| {
            let mut text = text.into_iter();
            let kind = text.next()?;
            let name = String::from_utf8(text.collect()).ok()?;
            Some(RawSymbol {
                address,
                kind,
                name,
            })
        })
        .collect())
}

fn word(data: &[u8], at: usize) -> Option<usize> {
    usize::try_from(LE.u32(data, at)?).ok()
}

/// The 256 pieces that names are made of.
struct Tokens {
    start: usize,
    /// End of the index that follows the table.
    end: usize,
    pieces: Vec<Vec<u8>>,
}

impl Tokens {
    fn find(data: &[u8]) -> Option<Self> {
        // Every digit stands for itself in every kernel.
        const DIGITS: &[u8] = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";
        let mut from = 0;
        while let Some(at) = memchr_window(data.get(from..)?, DIGITS) {
            let digits = from + at;
            if let Some(tokens) = Self::around(data, digits) {
                return Some(tokens);
            }
            from = digits + 1;
        }
        None
    }

    /// The table whose 48th piece is at `digits`: the index behind it tells where it starts.
    fn around(data: &[u8], digits: usize) -> Option<Self> {
        let mut end = digits;
        for _ in usize::from(b'0')..256 {
            let len = data
                .get(end..)?
                .iter()
                .take(MAX_NAME)
                .position(|&b| b == 0)?;
            end += len + 1;
        }
        // The padding differs between assemblers: 4 or 8.
        (end..end + 16).find_map(|index| {
            let offset = |i: usize| Some(usize::from(LE.u16(data, index + i * 2)?));
            if offset(0)? != 0 {
                return None;
            }
            let start = digits.checked_sub(offset(usize::from(b'0'))?)?;
            let mut pieces = Vec::with_capacity(256);
            for i in 0..256 {
                let at = start + offset(i)?;
                let len = data.get(at..end)?.iter().position(|&b| b == 0)?;
                if i > 0 && data.get(at.checked_sub(1)?) != Some(&0) {
                    return None;
                }
                pieces.push(data[at..at + len].to_vec());
            }
            Some(Self {
                start,
                end: index + 512,
                pieces,
            })
        })
    }
}

/// Where the compressed names are.
struct Names {
    start: usize,
    count: usize,
    /// Two-byte lengths are in use (since 6.1).
    long_lengths: bool,
}

impl Names {
    /// Looks backwards from the tokens for the markers, which hold the place of
    /// every 256th name, and from them for the names.
    fn find(data: &[u8], tokens: &Tokens) -> Option<Self> {
        let lowest = tokens.start.saturating_sub(8 << 20);
        (lowest..tokens.start)
            .rev()
            .filter(|at| at % 4 == 0)
            .filter(|&at| word(data, at) == Some(0))
            .filter(|&at| plausible_markers(data, at, tokens.start))
            .find_map(|markers| Self::before(data, markers))
    }

    fn before(data: &[u8], markers: usize) -> Option<Self> {
        let mut count = 1;
        while follows(data, markers + count * 4) {
            count += 1;
            if count > MAX_SYMBOLS / 256 {
                return None;
            }
        }
        let last = word(data, markers + (count - 1) * 4)?;
        // The last group is 1 to 256 names of at least 2 bytes behind `last`.
        let highest = markers.checked_sub(last)?;
        let lowest = highest.saturating_sub(256 * 130);
        for start in (lowest..=highest).rev().filter(|s| s % 4 == 0) {
            for back in [4, 8] {
                let symbols = start.checked_sub(back).and_then(|at| word(data, at));
                let Some(symbols) = symbols.filter(|n| n.div_ceil(256) == count) else {
                    continue;
                };
                for long_lengths in [true, false] {
                    let names = Self {
                        start,
                        count: symbols,
                        long_lengths,
                    };
                    if names.fits(data, markers) {
                        return Some(names);
                    }
                }
            }
        }
        None
    }

    /// Length of the entry at `at`, as (bytes of the length, bytes of the name).
    fn entry(&self, data: &[u8], at: usize) -> Option<(usize, usize)> {
        let first = usize::from(*data.get(at)?);
        if self.long_lengths && first & 0x80 != 0 {
            let second = usize::from(*data.get(at + 1)?);
            return Some((2, first & 0x7f | second << 7));
        }
        Some((1, first))
    }

    /// Whether every 256th name lies where the markers say.
    fn fits(&self, data: &[u8], markers: usize) -> bool {
        let mut at = self.start;
        for i in 0..self.count {
            if i % 256 == 0 && word(data, markers + i / 64) != Some(at - self.start) {
                return false;
            }
            match self.entry(data, at) {
                Some((head, len)) if len > 0 => at += head + len,
                _ => return false,
            }
            if at > markers {
                return false;
            }
        }
        true
    }

    fn decode(&self, data: &[u8], tokens: &Tokens) -> Vec<Vec<u8>> {
        let mut at = self.start;
        let mut symbols = Vec::with_capacity(self.count.min(MAX_SYMBOLS));
        for _ in 0..self.count {
            let Some((head, len)) = self.entry(data, at) else {
                break;
            };
            let codes = data.get(at + head..at + head + len).unwrap_or_default();
            let mut text = Vec::with_capacity(32);
            for &code in codes {
                if text.len() < MAX_NAME {
                    text.extend_from_slice(&tokens.pieces[usize::from(code)]);
                }
            }
            symbols.push(text);
            at += head + len;
        }
        symbols
    }
}

/// Whether a marker and the one before it have 256 names of 2 to 129 bytes between them.
fn follows(data: &[u8], at: usize) -> bool {
    match (
        at.checked_sub(4).and_then(|p| word(data, p)),
        word(data, at),
    ) {
        (Some(previous), Some(value)) => {
            value >= previous.saturating_add(512) && value <= previous.saturating_add(256 * 130)
        }
        _ => false,
    }
}

/// Markers start at 0 and grow.
fn plausible_markers(data: &[u8], at: usize, end: usize) -> bool {
    (1..8).all(|i| at + i * 4 + 4 <= end && follows(data, at + i * 4))
}

fn align8(at: usize) -> usize {
    at.next_multiple_of(8)
}

/// Since 6.4 the offsets lie behind the token index, before that in front of the names.
fn addresses(
    image: &Image,
    tokens: &Tokens,
    names: &Names,
    symbols: &[Vec<u8>],
) -> Option<Vec<u64>> {
    let data = image.rodata();
    let bytes = names.count * 4;
    let behind = (tokens.end..tokens.end + 16).filter(|at| at % 4 == 0);
    let relative = behind
        .clone()
        .map(|offsets| (offsets, align8(offsets + bytes)));
    let in_front = (0..4).filter_map(|i| {
        let base = names.start.checked_sub(16 + i * 4)?;
        Some((base.checked_sub(align8(bytes))?, base))
    });
    relative
        .chain(in_front)
        .find_map(|(offsets, base)| from_base(data, offsets, base, symbols))
        .or_else(|| {
            behind
                .into_iter()
                .find_map(|at| from_place(data, at, image.rodata_address(), symbols))
        })
}

fn offsets_at(data: &[u8], at: usize, count: usize) -> Option<Vec<i32>> {
    (0..count)
        .map(|i| LE.u32(data, at + i * 4).map(u32::cast_signed))
        .collect()
}

/// Addresses as offsets from one base (until 6.19).
fn from_base(data: &[u8], offsets: usize, base: usize, symbols: &[Vec<u8>]) -> Option<Vec<u64>> {
    let base = LE.u64(data, base)?;
    if base >> 47 != 0x1_ffff {
        return None;
    }
    let raw = offsets_at(data, offsets, symbols.len())?;
    let negative = raw.iter().filter(|&&o| o < 0).count();
    // Per-CPU symbols as absolute numbers, the others counted down from the base (until 6.14).
    let percpu = negative > raw.len() / 2;
    let list = raw.iter().map(|&offset| {
        let wide = i64::from(offset).cast_unsigned();
        match (percpu, offset < 0) {
            (true, true) => base.wrapping_sub(1).wrapping_sub(wide),
            (true, false) => wide,
            (false, _) => base.wrapping_add(u64::from(offset.cast_unsigned())),
        }
    });
    ascending(list.collect(), symbols)
}

/// Addresses as offsets from the place of each offset itself (since 7.0).
fn from_place(data: &[u8], at: usize, data_address: u64, symbols: &[Vec<u8>]) -> Option<Vec<u64>> {
    let raw = offsets_at(data, at, symbols.len())?;
    let list = raw.iter().enumerate().map(|(i, &offset)| {
        let place = data_address.wrapping_add(u64::try_from(at + i * 4).unwrap_or(0));
        place.wrapping_add(i64::from(offset).cast_unsigned())
    });
    ascending(list.collect(), symbols)
}

/// The list, if it ascends as the addresses of symbols do.
fn ascending(list: Vec<u64>, symbols: &[Vec<u8>]) -> Option<Vec<u64>> {
    let descents = list.windows(2).filter(|w| w[0] > w[1]).count();
    // Tables of functions alone start behind `_text`.
    let is_text = |s: &Vec<u8>| matches!(s.get(1..), Some(b"_text" | b"_stext"));
    let has_text = symbols.iter().any(is_text);
    (has_text && descents <= 1 + list.len() / 1000).then_some(list)
}
