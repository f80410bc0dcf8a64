//! An arm64 `Image`: memory of the kernel from its first byte on, without sections, and with addresses that are yet to be filled in.
//!
//! A kernel that can be moved keeps each address in a table of relocations. Newer ones (`CONFIG_RELR`) have the address as linked in its place
//! besides; in older ones there is a zero. Kernel: v6.1 arch/arm64/kernel/head.S `__relocate_kernel`.

use crate::bytes::Endian;

/// Where a kernel is linked that does not tell. Kernel: v6.12 arch/arm64/include/asm/memory.h `KIMAGE_VADDR`.
const LINKED_AT: u64 = 0xffff_8000_8000_0000;
/// Alignment of the first byte. Kernel: v6.12 arch/arm64/include/asm/boot.h `MIN_KIMG_ALIGN`.
const ALIGNMENT: u64 = 2 << 20;
/// Bytes of one `Elf64_Rela`.
const ENTRY: usize = 24;
/// `R_AARCH64_RELATIVE`.
const RELATIVE: u64 = 1027;
/// Fewer entries in a row are taken for something else.
const FEWEST: usize = 64;

/// Fills in the addresses of an image; returns the address of its first byte.
pub(super) fn relocate(data: &mut [u8]) -> u64 {
    let entries = entries(data);
    let addresses = entries.iter().flat_map(|(place, value)| [place, value]);
    let lowest = addresses
        .filter(|address| **address >> 47 == 0x1_ffff)
        .min();
    let Some(lowest) = lowest else {
        return LINKED_AT;
    };
    let base = lowest & !(ALIGNMENT - 1);
    for (place, value) in entries {
        let offset = place.checked_sub(base);
        let offset = offset.and_then(|offset| usize::try_from(offset).ok());
        let word = offset.and_then(|offset| data.get_mut(offset..)?.first_chunk_mut());
        if let Some(word) = word {
            *word = value.to_le_bytes();
        }
    }
    base
}

/// The longest run of relocations: place and value of each.
fn entries(data: &[u8]) -> Vec<(u64, u64)> {
    let word = |at: usize| Endian::Little.u64(data, at);
    let is_entry = |at: usize| word(at + 8) == Some(RELATIVE);
    let mut best = 0..0;
    let mut at = 0;
    while at + ENTRY <= data.len() {
        let mut end = at;
        while end + ENTRY <= data.len() && is_entry(end) {
            end += ENTRY;
        }
        if end - at > best.len() {
            best = at..end;
        }
        at = end.max(at + 8);
    }
    if best.len() < FEWEST * ENTRY {
        return Vec::new();
    }
    let starts = best.step_by(ENTRY);
    starts
        .filter_map(|at| Some((word(at)?, word(at + 16)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{ENTRY, LINKED_AT, RELATIVE, relocate};
    use proptest::prelude::*;

    /// An image of zeros with a table of `count` relocations at its end, each of which fills in its own number.
    fn image(base: u64, count: usize) -> Vec<u8> {
        let mut data = vec![0; 0x1000];
        for i in 0..count as u64 {
            for word in [base + i * 8, RELATIVE, base + 0x100 + i] {
                data.extend(word.to_le_bytes());
            }
        }
        data
    }

    /// Check that each address is put into its place, and that the table tells where the kernel is linked.
    #[test]
    fn addresses_are_filled_in() {
        let base = 0xffff_8000_0800_0000;
        let mut data = image(base, 100);
        assert_eq!(relocate(&mut data), base);
        assert_eq!(data[99 * 8..100 * 8], (base + 0x100 + 99).to_le_bytes());
        assert_eq!(data[100 * 8..101 * 8], [0; 8]);
    }

    /// Check that a few words which look like relocations are none.
    #[test]
    fn image_without_a_table_is_left_alone() {
        let mut data = image(LINKED_AT, 5);
        let before = data.clone();
        assert_eq!(relocate(&mut data), LINKED_AT);
        assert_eq!(data, before);
    }

    proptest! {
        /// Check that no table makes it panic.
        #[test]
        fn any_table_is_survived(words in proptest::collection::vec((any::<u64>(), any::<u64>()), 64..90)) {
            let mut data = vec![0; 64];
            for (place, value) in words {
                for word in [place, RELATIVE, value] {
                    data.extend(word.to_le_bytes());
                }
            }
            let len = data.len();
            relocate(&mut data);
            prop_assert!(data.len() == len && len > 64 * ENTRY);
        }
    }
}
