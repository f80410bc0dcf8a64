//! What a module says about itself: its `.modinfo` section, `key=value` texts that end in a zero byte.

use object::{Object, ObjectSection};

/// What a module says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Modinfo {
    /// Its name, with `_` for `-`. Empty in modules of kernels before 4.12.
    pub name: String,
    /// Modules whose symbols it uses, with `_` for `-`.
    pub depends: Vec<String>,
    /// Modules that it wants loaded before it, where they exist.
    pub soft_depends_before: Vec<String>,
    /// Names under which it is asked for, such as `net-pf-31` or `usb:v8087p0029…`.
    pub aliases: Vec<String>,
}

/// Why a file is not a module.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModinfoError {
    /// The file is not an ELF file, or a damaged one.
    #[error("not an ELF file")]
    NotElf(#[from] object::Error),
    /// The file has no `.modinfo` section.
    #[error("no .modinfo section")]
    NoSection,
}

impl Modinfo {
    /// Reads the section of an uncompressed module.
    ///
    /// # Errors
    ///
    /// The bytes are not a module.
    pub fn of_module(module: &[u8]) -> Result<Self, ModinfoError> {
        let file = object::File::parse(module)?;
        let section = file
            .section_by_name(".modinfo")
            .ok_or(ModinfoError::NoSection)?;
        Ok(Self::parse(section.data()?))
    }

    /// Parses the bytes of the section. What is not `key=value` is passed over.
    #[must_use]
    pub fn parse(section: &[u8]) -> Self {
        let mut info = Self::default();
        for text in section.split(|byte| *byte == 0) {
            let text = String::from_utf8_lossy(text);
            match text.split_once('=') {
                Some(("name", value)) => info.name = normalise(value),
                Some(("depends", value)) => info.depends.extend(names(value.split(','))),
                Some(("softdep", value)) => info.soft_depends_before.extend(names(before(value))),
                Some(("alias", value)) => info.aliases.push(value.to_owned()),
                _ => {}
            }
        }
        info
    }
}

/// A module's name as the kernel compares it: file names and dependencies use `-` and `_` as they like.
pub(crate) fn normalise(name: &str) -> String {
    name.replace('-', "_")
}

fn names<'a>(words: impl Iterator<Item = &'a str>) -> impl Iterator<Item = String> {
    words.filter(|word| !word.is_empty()).map(normalise)
}

/// The names after `pre:` in `pre: a b post: c`.
fn before(softdep: &str) -> impl Iterator<Item = &str> {
    let mut wanted = false;
    softdep.split_ascii_whitespace().filter(move |word| {
        if word.ends_with(':') {
            wanted = *word == "pre:";
            return false;
        }
        wanted
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use object::write::Object as Writer;
    use object::{Architecture, BinaryFormat, Endianness, SectionKind};
    use proptest::prelude::*;

    /// An ELF file with a `.modinfo` section.
    pub(crate) fn module(name: &str, depends: &str) -> Vec<u8> {
        let mut elf = Writer::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let section = elf.add_section(Vec::new(), b".modinfo".to_vec(), SectionKind::ReadOnlyData);
        elf.append_section_data(
            section,
            format!("license=GPL\0depends={depends}\0name={name}\0").as_bytes(),
            1,
        );
        elf.write().unwrap()
    }

    /// Check that each key is read, and dashes become underscores.
    #[test]
    fn modinfo_with_every_key_is_read() {
        let info = Modinfo::parse(
            b"license=GPL\0alias=net-pf-31\0alias=x=y\0depends=ecdh-generic,rfkill,crc16\0\0\
              softdep=pre: a-b c post: d\0softdep=post: e\0name=bluetooth\0noise\0",
        );
        let expected = Modinfo {
            name: "bluetooth".to_owned(),
            depends: ["ecdh_generic", "rfkill", "crc16"]
                .map(str::to_owned)
                .to_vec(),
            soft_depends_before: ["a_b", "c"].map(str::to_owned).to_vec(),
            aliases: ["net-pf-31", "x=y"].map(str::to_owned).to_vec(),
        };
        assert_eq!(info, expected);
    }

    /// Check that a module without dependencies has none, and not one with an empty name.
    #[test]
    fn modinfo_of_module_without_dependencies_has_none() {
        let info = Modinfo::of_module(&module("rfkill", "")).unwrap();
        assert_eq!(
            info,
            Modinfo {
                name: "rfkill".to_owned(),
                ..Modinfo::default()
            }
        );
    }

    /// Check that other files are refused with the reason.
    #[test]
    fn modinfo_of_other_file_is_refused() {
        assert!(matches!(
            Modinfo::of_module(b"no module"),
            Err(ModinfoError::NotElf(_))
        ));
        let elf = crate::elf::tests::elf_with_note(b"Xen", 18);
        assert!(matches!(
            Modinfo::of_module(&elf),
            Err(ModinfoError::NoSection)
        ));
    }

    proptest! {
        /// Check that no damage to a module makes the reader panic.
        #[test]
        fn modinfo_of_damaged_module_does_not_panic(at in 0usize..1000, value: u8, cut in 0usize..1000) {
            let mut bytes = module("bluetooth", "rfkill");
            let at = at % bytes.len();
            bytes[at] = value;
            bytes.truncate(cut);
            let _ = Modinfo::of_module(&bytes);
        }
    }
}
