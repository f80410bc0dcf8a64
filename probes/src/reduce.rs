//! A BTF of few structures, for libbpf to relocate against.
//!
//! libbpf reads the whole BTF of the kernel and of every module, once for each object, and looks
//! through all of it for each structure that an object names. A BTF with nothing but those
//! structures gives the same answers in a hundredth of the time. Kept are their members and what
//! these hold by value; what a member points to is not followed, since libbpf takes any pointer for
//! any other (Kernel: v6.12 tools/lib/bpf/relo_core.c bpf_core_fields_are_compat()).

use std::collections::HashMap;

use crate::btf::{
    Btf, HEADER_BYTES, KIND_ARRAY, KIND_CONST, KIND_ENUM, KIND_ENUM64, KIND_FLOAT, KIND_INT,
    KIND_PTR, KIND_RESTRICT, KIND_STRUCT, KIND_TYPE_TAG, KIND_TYPEDEF, KIND_UNION, KIND_VOLATILE,
    MAGIC, Type, u32_at,
};

/// Number of modifiers in a row that are followed; the kernel's own limit is 32 too.
const MAX_CHAIN: usize = 32;

/// Makes a BTF of these structures: each is a BTF and the number of a type in it.
pub(crate) fn reduce(wanted: &[(&Btf, u32)]) -> Vec<u8> {
    reduce_with(wanted, Reduced::default())
}

/// The same with all enumerators, whose values are all that user space reads of an enumeration.
pub(crate) fn reduce_whole(wanted: &[(&Btf, u32)]) -> Vec<u8> {
    let reduced = Reduced {
        with_enumerators: true,
        ..Reduced::default()
    };
    reduce_with(wanted, reduced)
}

fn reduce_with<'a>(wanted: &[(&'a Btf, u32)], mut reduced: Reduced<'a>) -> Vec<u8> {
    for (btf, id) in wanted {
        reduced.number(btf, *id);
    }
    let mut types = Vec::new();
    let mut next = 0;
    while let Some(&(btf, id)) = reduced.order.get(next) {
        if let Some(ty) = btf.and_then(|btf| Some((btf, btf.get(id)?))) {
            reduced.write(ty.0, &ty.1, &mut types);
        } else {
            // The one pointer, to nothing in particular.
            push(&mut types, &[0, KIND_PTR << 24, 0]);
        }
        next += 1;
    }
    assemble(&types, &reduced.strings)
}

/// Header, types, strings.
fn assemble(types: &[u8], strings: &[u8]) -> Vec<u8> {
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER_BYTES + types.len() + 1 + strings.len());
    bytes.extend(MAGIC.to_ne_bytes());
    bytes.extend([1, 0]); // version, flags
    let header = u32::try_from(HEADER_BYTES).unwrap_or(24);
    push(
        &mut bytes,
        &[header, 0, length(types), length(types), length(strings) + 1],
    );
    bytes.extend(types);
    bytes.push(0);
    bytes.extend(strings);
    bytes
}

/// What is in the new BTF so far.
#[derive(Default)]
struct Reduced<'a> {
    /// Are enumerators kept?
    with_enumerators: bool,
    /// New numbers, by the address of the BTF that a type is in (0: the pointer) and its number there.
    numbers: HashMap<(usize, u32), u32>,
    /// Where each new type comes from, in the order of their numbers; `None`: the pointer.
    order: Vec<(Option<&'a Btf>, u32)>,
    /// All but the empty one.
    strings: Vec<u8>,
    offsets: HashMap<Vec<u8>, u32>,
}

impl<'a> Reduced<'a> {
    /// The new number of a type, without modifiers; 0, void, for what cannot be a member.
    fn number(&mut self, btf: &'a Btf, id: u32) -> u32 {
        let Some((id, kind)) = without_modifiers(btf, id) else {
            return 0;
        };
        let (key, origin) = match kind {
            KIND_PTR => ((0, 0), (None, 0)),
            KIND_INT | KIND_ARRAY | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64
            | KIND_FLOAT => {
                let home = std::ptr::from_ref(btf.owner(id)).addr();
                ((home, id), (Some(btf), id))
            }
            _ => return 0,
        };
        let order = &mut self.order;
        *self.numbers.entry(key).or_insert_with(|| {
            order.push(origin);
            u32::try_from(order.len()).unwrap_or(0)
        })
    }

    /// Writes one type with new numbers and offsets.
    fn write(&mut self, btf: &'a Btf, ty: &Type<'_>, out: &mut Vec<u8>) {
        let word = |at| u32_at(ty.body, at).unwrap_or(0);
        let name = self.string(btf, ty.name);
        match ty.kind() {
            KIND_ARRAY => {
                let element = self.number(btf, word(0));
                let index = self.number(btf, word(4));
                push(out, &[name, ty.info, 0, element, index, word(8)]);
            }
            KIND_STRUCT | KIND_UNION => {
                push(out, &[name, ty.info, ty.size_or_type]);
                for member in ty.body.chunks_exact(12) {
                    let word = |at| u32_at(member, at).unwrap_or(0);
                    let name = self.string(btf, word(0));
                    let number = self.number(btf, word(4));
                    push(out, &[name, number, word(8)]);
                }
            }
            kind @ (KIND_ENUM | KIND_ENUM64) if self.with_enumerators => {
                push(out, &[name, ty.info, ty.size_or_type]);
                let stride = if kind == KIND_ENUM { 8 } else { 12 };
                for enumerator in ty.body.chunks_exact(stride) {
                    let name = self.string(btf, u32_at(enumerator, 0).unwrap_or(0));
                    push(out, &[name]);
                    out.extend(&enumerator[4..]);
                }
            }
            // The size is all that counts of a member's enumeration.
            KIND_ENUM | KIND_ENUM64 => push(out, &[name, ty.kind() << 24, ty.size_or_type]),
            _ => {
                push(out, &[name, ty.info, ty.size_or_type]);
                out.extend(ty.body);
            }
        }
    }

    /// The new offset of a string.
    fn string(&mut self, btf: &Btf, offset: u32) -> u32 {
        let string = btf.string(offset).unwrap_or_default();
        if string.is_empty() {
            return 0;
        }
        if let Some(known) = self.offsets.get(string) {
            return *known;
        }
        let new = u32::try_from(self.strings.len() + 1).unwrap_or(0);
        self.strings.extend(string);
        self.strings.push(0);
        self.offsets.insert(string.to_owned(), new);
        new
    }
}

/// Number and kind of a type without typedefs, const and the like.
fn without_modifiers(btf: &Btf, mut id: u32) -> Option<(u32, u32)> {
    for _ in 0..MAX_CHAIN {
        let ty = btf.get(id)?;
        match ty.kind() {
            KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                id = ty.size_or_type;
            }
            kind => return Some((id, kind)),
        }
    }
    None
}

fn push(out: &mut Vec<u8>, words: &[u32]) {
    out.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::btf::tests::{btf, info};

    /// Check that members keep names, offsets and kinds, that modifiers go, and that what a pointer
    /// points to does not come along.
    #[test]
    fn reduce_keeps_members_and_what_they_hold_by_value() {
        const STRINGS: &[u8] = b"\0outer\0a\0p\0inner\0b\0far\0int\0";
        #[rustfmt::skip]
        let base = [
            23, info(KIND_INT, 0), 4, 32,                   // 1: int
            0, info(KIND_CONST, 0), 1,                      // 2: const int
            19, info(KIND_STRUCT, 0), 64,                   // 3: far
            0, info(KIND_PTR, 0), 3,                        // 4: far *
            11, info(KIND_STRUCT, 1), 4, 17, 2, 0,          // 5: inner { const int b }
        ];
        #[rustfmt::skip]
        let own = [
            1, info(KIND_STRUCT, 2), 16, 7, 5, 0, 9, 4, 64, // 6: outer { inner a; far *p }
        ];
        let base = Arc::new(Btf::parse(btf(&base, STRINGS), None).unwrap());
        let split = Btf::parse(btf(&own, b"\0"), Some(Arc::clone(&base))).unwrap();
        let bytes = reduce(&[(&base, 5), (&split, 6)]);
        let read = Btf::parse(bytes, None).unwrap();
        let names = read.names(&HashSet::from(["outer", "inner", "far"]));
        assert_eq!(names.structs.get("inner"), Some(&vec![1]));
        assert_eq!(names.structs.get("outer"), Some(&vec![2]));
        assert_eq!(names.structs.get("far"), None);
        let outer = read.get(2).unwrap();
        let word = |at| u32_at(outer.body, at).unwrap();
        assert_eq!((word(4), word(8)), (1, 0));
        assert_eq!(
            (read.get(word(16)).unwrap().kind(), word(20)),
            (KIND_PTR, 64)
        );
        assert_eq!(read.string(word(12)), Some(&b"p"[..]));
        let inner = read.get(1).unwrap();
        let int = read.get(u32_at(inner.body, 4).unwrap()).unwrap();
        assert_eq!((int.kind(), int.size_or_type), (KIND_INT, 4));
    }

    proptest! {
        /// Check that arbitrary types, cycles among them, never make reducing panic or run on, and
        /// that what comes out can be read.
        #[test]
        fn reduce_of_arbitrary_types_never_panics(
            types in prop::collection::vec(0_u32..20, 0..80),
            kinds in prop::collection::vec(1_u32..20, 1..20),
        ) {
            let mut words = types;
            for (place, kind) in words.chunks_mut(3).zip(kinds.iter().cycle()) {
                if let [_, place, _] = place {
                    *place = info(*kind, 1);
                }
            }
            if let Ok(read) = Btf::parse(btf(&words, b"\0f\0g\0"), None) {
                let wanted: Vec<_> = (0..20).map(|id| (&read, id)).collect();
                prop_assert!(Btf::parse(reduce(&wanted), None).is_ok());
            }
        }
    }
}
