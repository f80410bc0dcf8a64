//! What debugging information says about inlining: the one thing about a function that neither types
//! nor symbols tell.

use gimli::{AttributeValue, DebugInfoOffset, Dwarf, EndianSlice, RelocateReader, RunTimeEndian};
use object::read::RelocationMap;
use object::{Object as _, ObjectSection as _};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Callers that are kept for one function, for people to read.
const MOST_CALLERS: usize = 8;
/// Entries may lie in one another; compilers make some dozens.
const MOST_DEPTH: usize = 4096;

/// Why debugging information cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DwarfError {
    /// The file is no ELF file, or a section of it is damaged or compressed.
    #[error("broken ELF file")]
    Elf(#[from] object::Error),
    /// There is none.
    #[error("no debugging information (.debug_info) in the file")]
    Absent,
    /// It is damaged.
    #[error("damaged debugging information")]
    Dwarf(#[from] gimli::Error),
}

/// Which functions were inlined, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inlining(BTreeMap<String, Inlined>);

/// What became of the calls of one function. Functions of one name count together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inlined {
    /// Calls that were replaced by the function's body.
    pub copies: usize,
    /// The function exists by itself as well.
    pub out_of_line: bool,
    /// Some of the functions with such a copy.
    pub callers: BTreeSet<String>,
}

type Reader<'d> = RelocateReader<EndianSlice<'d, RunTimeEndian>, &'d Relocations>;

/// Relocations of a section: modules are not linked, their references are still to be filled in.
#[derive(Debug, Default)]
struct Relocations(RelocationMap);

impl gimli::Relocate<usize> for &Relocations {
    fn relocate_address(&self, offset: usize, value: u64) -> gimli::Result<u64> {
        Ok(self.0.relocate(offset as u64, value))
    }

    fn relocate_offset(&self, offset: usize, value: usize) -> gimli::Result<usize> {
        let value = self.0.relocate(offset as u64, value as u64);
        usize::try_from(value).map_err(|_e| gimli::Error::UnsupportedOffset)
    }
}

impl Inlining {
    /// Reads the debugging information of a kernel or a module.
    ///
    /// # Errors
    /// When there is none, or it is damaged.
    pub fn read(file: &[u8]) -> Result<Self, DwarfError> {
        let elf = object::File::parse(file)?;
        if elf.section_by_name(".debug_info").is_none() {
            return Err(DwarfError::Absent);
        }
        let endian = if elf.is_little_endian() {
            RunTimeEndian::Little
        } else {
            RunTimeEndian::Big
        };
        let load = |id: gimli::SectionId| -> Result<_, object::Error> {
            let Some(section) = elf.section_by_name(id.name()) else {
                return Ok(Default::default());
            };
            let relocations = Relocations(section.relocation_map()?);
            Ok((section.uncompressed_data()?, relocations))
        };
        let sections = gimli::DwarfSections::load(load)?;
        let dwarf = sections.borrow(
            |(data, relocations): &(std::borrow::Cow<'_, [u8]>, Relocations)| {
                RelocateReader::new(EndianSlice::new(data, endian), relocations)
            },
        );
        let mut walk = Walk::default();
        let mut units = dwarf.units();
        while let Some(header) = units.next()? {
            walk.unit(&dwarf, &dwarf.unit(header)?)?;
        }
        Ok(walk.finish())
    }

    /// What is known of a function; `None` if nothing is.
    #[must_use]
    pub fn of(&self, function: &str) -> Option<&Inlined> {
        self.0.get(function)
    }

    /// Adds what another file says.
    pub fn merge(&mut self, other: Self) {
        for (name, inlined) in other.0 {
            let all = self.0.entry(name).or_default();
            all.copies += inlined.copies;
            all.out_of_line |= inlined.out_of_line;
            all.callers.extend(inlined.callers);
        }
    }
}

/// Names and copies, by the place of the function's entry.
#[derive(Default)]
struct Walk {
    names: HashMap<usize, String>,
    /// Entries that say more about another one: definition to declaration.
    same: HashMap<usize, usize>,
    /// Entries that have code.
    code: BTreeSet<usize>,
    /// (copied function, function that holds the copy).
    copies: Vec<(usize, usize)>,
}

impl Walk {
    fn unit<'d>(
        &mut self,
        dwarf: &Dwarf<Reader<'d>>,
        unit: &gimli::Unit<Reader<'d>>,
    ) -> Result<(), gimli::Error> {
        let mut entries = unit.entries();
        // The functions around the present entry, with the depth of each.
        let mut around: Vec<(isize, usize)> = Vec::new();
        while let Some(entry) = entries.next_dfs()? {
            let depth = entry.depth();
            around.retain(|(outer, _)| *outer < depth);
            let place =
                |offset: gimli::UnitOffset| offset.to_debug_info_offset(unit).map_or(0, |o| o.0);
            let target = |value: Option<AttributeValue<Reader<'d>>>| match value? {
                AttributeValue::UnitRef(offset) => Some(place(offset)),
                AttributeValue::DebugInfoRef(DebugInfoOffset(offset)) => Some(offset),
                _ => None,
            };
            let origin = target(entry.attr_value(gimli::DW_AT_abstract_origin))
                .or_else(|| target(entry.attr_value(gimli::DW_AT_specification)));
            let at = place(entry.offset());
            match entry.tag() {
                gimli::DW_TAG_subprogram => {
                    if let Some(name) = entry.attr_value(gimli::DW_AT_name) {
                        let name = dwarf.attr_string(unit, name)?;
                        let name = gimli::Reader::to_string_lossy(&name)?.into_owned();
                        self.names.insert(at, name);
                    }
                    if let Some(origin) = origin {
                        self.same.insert(at, origin);
                    }
                    let has_code = entry.attr_value(gimli::DW_AT_low_pc).is_some()
                        || entry.attr_value(gimli::DW_AT_ranges).is_some();
                    if has_code {
                        self.code.insert(at);
                    }
                    if around.len() < MOST_DEPTH {
                        around.push((depth, at));
                    }
                }
                gimli::DW_TAG_inlined_subroutine => {
                    if let (Some(origin), Some((_, holder))) = (origin, around.last()) {
                        self.copies.push((origin, *holder));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The name of a function's entry, or of those that it points to.
    fn name(&self, mut at: usize) -> Option<&str> {
        // A few steps: damaged references may go round.
        for _ in 0..8 {
            if let Some(name) = self.names.get(&at) {
                return Some(name);
            }
            at = *self.same.get(&at)?;
        }
        None
    }

    fn finish(&self) -> Inlining {
        let mut functions: BTreeMap<String, Inlined> = BTreeMap::new();
        for name in self.code.iter().filter_map(|at| self.name(*at)) {
            functions.entry(name.to_owned()).or_default().out_of_line = true;
        }
        for (copied, holder) in &self.copies {
            let Some(name) = self.name(*copied) else {
                continue;
            };
            let inlined = functions.entry(name.to_owned()).or_default();
            inlined.copies += 1;
            if let Some(holder) = self.name(*holder)
                && inlined.callers.len() < MOST_CALLERS
            {
                inlined.callers.insert(holder.to_owned());
            }
        }
        Inlining(functions)
    }
}
