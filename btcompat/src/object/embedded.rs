//! Objects inside programs: tools that were built with a libbpf skeleton carry theirs in their data.

use super::insn::Insn;
use crate::bytes::Endian;

const MAGIC: &[u8; 7] = b"\x7fELF\x02\x01\x01";
const HEADER_BYTES: usize = 64;
const MACHINE_BPF: u16 = 247;
/// A tool has one or two; this many are noise.
const MOST_OBJECTS: usize = 64;

/// The eBPF objects in a file, in order; the file itself if it is one.
///
/// An object ends with its table of sections, which compilers write last.
/// Source: ELF-64 Object File Format 1.5, `Elf64_Ehdr`.
#[must_use]
pub fn embedded(file: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = find(&file[at..]).filter(|_| found.len() < MOST_OBJECTS) {
        let start = at + next;
        match length(&file[start..]) {
            Some(len) => {
                found.push(&file[start..start + len]);
                at = start + len;
            }
            None => at = start + 1,
        }
    }
    found
}

fn find(data: &[u8]) -> Option<usize> {
    data.windows(MAGIC.len()).position(|w| w == MAGIC)
}

/// Length of the object at the beginning of `data`, if one is there.
fn length(data: &[u8]) -> Option<usize> {
    let header = data.get(..HEADER_BYTES)?;
    let word = |at| Endian::Little.u16(header, at);
    if word(18)? != MACHINE_BPF {
        return None;
    }
    let table = usize::try_from(u64::from_le_bytes(header.get(40..48)?.try_into().ok()?)).ok()?;
    let size = usize::from(word(58)?).checked_mul(word(60)?.into())?;
    let end = table.checked_add(size)?;
    (table >= HEADER_BYTES && size > 0 && end <= data.len() && end > Insn::SIZE).then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(sections: u16) -> Vec<u8> {
        let mut data = vec![0; 80];
        data[..7].copy_from_slice(MAGIC);
        data[18..20].copy_from_slice(&MACHINE_BPF.to_le_bytes());
        data[40..48].copy_from_slice(&80u64.to_le_bytes());
        data[58..60].copy_from_slice(&64u16.to_le_bytes());
        data[60..62].copy_from_slice(&sections.to_le_bytes());
        data.resize(80 + usize::from(sections) * 64, 7);
        data
    }

    /// Check that objects are found wherever they are, whole, and other ELF files are passed over.
    #[test]
    fn embedded_finds_objects_of_bpf_alone() {
        let mut other = object(1);
        other[18] = 62;
        let (a, b) = (object(2), object(1));
        let file = [&other[..], b"noise", &a, MAGIC, &b].concat();
        assert_eq!(embedded(&file), [&a[..], &b[..]]);
        assert_eq!(embedded(&a), [&a[..]]);
    }

    proptest! {
        /// Check that no file makes the search panic or give more than there is.
        #[test]
        fn embedded_in_noise_stays_inside(noise in prop::collection::vec(any::<u8>(), 0..300), at in 0usize..200, end: u64, size: u16) {
            let mut file = noise;
            let mut trap = object(1);
            trap[40..48].copy_from_slice(&end.to_le_bytes());
            trap[58..60].copy_from_slice(&size.to_le_bytes());
            file.splice(at.min(file.len())..at.min(file.len()), trap);
            prop_assert!(embedded(&file).iter().map(|o| o.len()).sum::<usize>() <= file.len());
        }
    }
}
