//! Look-up of types by name: a sorted table of name hashes.

use super::names::{essential_name, names_match};
use super::types::Kind;
use super::{Btf, Type};

/// Hash of the essential name in the high half, id in the low half, sorted:
/// equal names are neighbours, in the order of their ids.
#[derive(Debug)]
pub(super) struct NameIndex(Vec<u64>);

fn hash(name: &str) -> u32 {
    name.bytes().fold(0x811c_9dc5, |h, b| {
        (h ^ u32::from(b)).wrapping_mul(0x0100_0193)
    })
}

impl Btf {
    fn name_index(&self) -> &NameIndex {
        self.index.get_or_init(|| {
            let mut table: Vec<u64> = self
                .own_types()
                .filter(|t| !t.name().is_empty())
                .map(|t| u64::from(hash(essential_name(t.name()))) << 32 | u64::from(t.id))
                .collect();
            table.sort_unstable();
            NameIndex(table)
        })
    }

    /// Own types (not the base's) whose name without flavor equals that of
    /// `name`, by ascending id.
    pub fn own_by_essential_name<'a>(&'a self, name: &'a str) -> impl Iterator<Item = Type<'a>> {
        let key = u64::from(hash(essential_name(name))) << 32;
        let table = &self.name_index().0;
        let start = table.partition_point(|&entry| entry < key);
        table[start..]
            .iter()
            .take_while(move |&&entry| entry >> 32 == key >> 32)
            .filter_map(|&entry| self.ty(u32::try_from(entry & 0xffff_ffff).ok()?))
            .filter(move |t| names_match(t.name(), name))
    }

    /// Own types with exactly this name and kind, by ascending id.
    pub fn own_by_name<'a>(&'a self, name: &'a str, kind: Kind) -> impl Iterator<Item = Type<'a>> {
        self.own_by_essential_name(name)
            .filter(move |t| t.kind() == kind && t.name() == name)
    }

    /// The first own type with exactly this name and kind.
    #[must_use]
    pub fn first_named(&self, name: &str, kind: Kind) -> Option<Type<'_>> {
        let id = self.own_by_name(name, kind).next()?.id;
        self.ty(id)
    }

    /// The first type with exactly this name and kind, base included.
    #[must_use]
    pub fn find<'a>(&'a self, name: &'a str, kind: Kind) -> Option<Type<'a>> {
        let in_base = self.base().and_then(|base| base.find(name, kind));
        in_base.or_else(|| self.own_by_name(name, kind).next())
    }
}
