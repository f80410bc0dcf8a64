//! The few ELF facts that the rest needs.

use std::io;
use std::path::Path;

use object::elf::{FileHeader64, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef};

/// The first bytes of an ELF file.
pub(crate) const MAGIC: &[u8] = b"\x7fELF";

/// Name and type of the note that holds the 32-bit entry point for PVH boot.
///
/// Kernel: v6.12 include/xen/interface/elfnote.h XEN_ELFNOTE_PHYS32_ENTRY.
const PVH_NOTE: (&[u8], u32) = (b"Xen", 18);

/// Whether the ELF file at `path` can be booted over PVH.
pub(crate) fn has_pvh_entry(path: &Path) -> io::Result<bool> {
    let cache = ReadCache::new(std::fs::File::open(path)?);
    find_pvh_note(&cache).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn find_pvh_note<'data>(data: impl ReadRef<'data>) -> object::Result<bool> {
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    for segment in header.program_headers(endian, data)? {
        if segment.p_type(endian) != PT_NOTE {
            continue;
        }
        let Some(mut notes) = segment.notes(endian, data)? else {
            continue;
        };
        while let Some(note) = notes.next()? {
            if (note.name(), note.n_type(endian).0) == PVH_NOTE {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    /// A 64-bit ELF file with one note segment that holds one note.
    pub(crate) fn elf_with_note(name: &[u8], kind: u32) -> Vec<u8> {
        let mut note = Vec::new();
        let name_size = u32::try_from(name.len() + 1).unwrap();
        for word in [name_size, 4, kind] {
            note.extend(word.to_le_bytes());
        }
        note.extend(name);
        note.push(0);
        note.resize(note.len().next_multiple_of(4), 0);
        note.extend(0x0100_0000_u32.to_le_bytes());

        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(16, 0);
        elf.extend([2, 0, 62, 0, 1, 0, 0, 0]);
        for word in [0_u64, 64, 0] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
        elf.extend([4, 0, 0, 0, 4, 0, 0, 0]);
        let size = note.len() as u64;
        for word in [120_u64, 0, 0, size, size, 4] {
            elf.extend(word.to_le_bytes());
        }
        elf.extend(note);
        elf
    }

    /// Check that only the note that PVH is about counts.
    #[rstest]
    #[case::pvh(b"Xen", 18, true)]
    #[case::other_type(b"Xen", 6, false)]
    #[case::other_owner(b"GNU", 18, false)]
    fn pvh_note_is_found_by_owner_and_type(
        #[case] name: &[u8],
        #[case] kind: u32,
        #[case] expected: bool,
    ) {
        assert_eq!(
            find_pvh_note(elf_with_note(name, kind).as_slice()),
            Ok(expected)
        );
    }

    /// Check that a file that is not ELF is an error and not "no entry".
    #[test]
    fn pvh_note_of_other_file_is_an_error() {
        assert!(find_pvh_note(b"no ELF file".as_slice()).is_err());
    }

    proptest! {
        /// Check that no damage to an ELF file makes the search panic or run on.
        #[test]
        fn pvh_note_of_damaged_file_does_not_panic(at in 0usize..200, value: u8, length in 0usize..200) {
            let mut elf = elf_with_note(b"Xen", 18);
            let at = at % elf.len();
            elf[at] = value;
            elf.truncate(length);
            let _ = find_pvh_note(elf.as_slice());
        }
    }
}
