//! Modules without their debugging information. A build leaves it in them, ten times what the guest needs.

use object::build::elf::Builder;

/// What the names of sections with debugging information, and of those with their relocations, begin with.
const DEBUG: [&[u8]; 2] = [b".debug_", b".rela.debug_"];

/// Removes the debugging information from an uncompressed module. A module without any is none of its business, and one that cannot be
/// rewritten is better large than lost: both give nothing.
pub(crate) fn without_debug(module: &[u8]) -> Option<Vec<u8>> {
    let mut elf = Builder::read(module).ok()?;
    let mut found = false;
    for section in &mut elf.sections {
        let name = section.name.as_slice();
        section.delete = DEBUG.iter().any(|start| name.starts_with(start));
        found |= section.delete;
    }
    if !found {
        return None;
    }
    elf.delete_orphans();
    let mut stripped = Vec::new();
    elf.write(&mut stripped).ok()?;
    Some(stripped)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use object::write::{Object as Writer, Relocation, Symbol, SymbolSection};
    use object::{
        Architecture, BinaryFormat, Endianness, Object, ObjectSection, ObjectSymbol,
        RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
    };
    use proptest::prelude::*;

    /// A module with code that refers to a function elsewhere, and debugging information that refers to the code.
    pub(crate) fn module(debug: bool) -> Vec<u8> {
        let mut elf = Writer::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        let text = elf.add_section(Vec::new(), b".text".to_vec(), SectionKind::Text);
        elf.append_section_data(text, &[0x90; 64], 16);
        let info = elf.add_section(Vec::new(), b".modinfo".to_vec(), SectionKind::ReadOnlyData);
        elf.append_section_data(info, b"name=bluetooth\0depends=rfkill\0", 1);
        let btf = elf.add_section(Vec::new(), b".BTF".to_vec(), SectionKind::ReadOnlyData);
        elf.append_section_data(btf, b"types", 4);
        let symbol = |name: &[u8], section| Symbol {
            name: name.to_vec(),
            value: 0,
            size: 8,
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section,
            flags: SymbolFlags::None,
        };
        elf.add_symbol(symbol(b"init_module", SymbolSection::Section(text)));
        let printk = elf.add_symbol(symbol(b"_printk", SymbolSection::Undefined));
        let relocation = |symbol| Relocation {
            offset: 8,
            symbol,
            addend: -4,
            flags: RelocationFlags::Elf {
                r_type: object::elf::R_X86_64_PLT32,
            },
        };
        elf.add_relocation(text, relocation(printk)).unwrap();
        if debug {
            let debug = elf.add_section(Vec::new(), b".debug_info".to_vec(), SectionKind::Debug);
            elf.append_section_data(debug, &[7; 10_000], 1);
            let text = elf.section_symbol(text);
            elf.add_relocation(debug, relocation(text)).unwrap();
        }
        elf.write().unwrap()
    }

    /// A name and what it holds.
    type Section = (String, Vec<u8>);

    /// Names and contents of the sections that are part of the module, its relocations by symbol name, and its named symbols.
    fn content(module: &[u8]) -> (Vec<Section>, Vec<String>, Vec<String>) {
        let elf = object::File::parse(module).unwrap();
        let parts = elf
            .sections()
            .filter(|section| section.kind() != SectionKind::Metadata);
        let parts = parts.map(|section| {
            (
                section.name().unwrap().to_owned(),
                section.data().unwrap().to_vec(),
            )
        });
        let relocations = elf.sections().flat_map(|section| {
            let name = section.name().unwrap().to_owned();
            let of = |(offset, relocation): (u64, object::Relocation)| {
                format!(
                    "{name} {offset} {:?} {}",
                    relocation.flags(),
                    relocation.addend()
                )
            };
            section.relocations().map(of).collect::<Vec<_>>()
        });
        let names = elf
            .symbols()
            .filter_map(|symbol| Some(symbol.name().ok()?.to_owned()));
        let mut names: Vec<String> = names.filter(|name| !name.is_empty()).collect();
        names.sort();
        (parts.collect(), relocations.collect(), names)
    }

    /// Check that the debugging information goes, with its relocations, and that all else is as it was.
    #[test]
    fn module_with_debug_information_keeps_all_else() {
        let stripped = without_debug(&module(true)).unwrap();
        assert_eq!(content(&stripped), content(&module(false)));
        assert!(stripped.len() < 3000, "{}", stripped.len());
    }

    /// Check that a module without debugging information, and what is no module, are left alone.
    #[test]
    fn module_without_debug_information_is_left_alone() {
        assert_eq!(without_debug(&module(false)), None);
        assert_eq!(without_debug(b"no module"), None);
    }

    proptest! {
        /// Check that no damage to a module makes the rewriter panic.
        #[test]
        fn damaged_module_does_not_panic(changes in proptest::collection::vec((0usize..12_000, any::<u8>()), 1..6), cut in 0usize..12_000) {
            let mut bytes = module(true);
            for (at, value) in changes {
                let at = at % bytes.len();
                bytes[at] = value;
            }
            bytes.truncate(cut);
            let _ = without_debug(&bytes);
        }
    }
}
