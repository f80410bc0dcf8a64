//! Random edits of BTF that keep it well-formed enough for libbpf to read.

use super::btf_writer::{Body, BtfWriter, TypeRecord};
use btcompat::btf::{Btf, Kind};

/// A small generator (xorshift64*): the same sequence for the same seed.
#[derive(Clone, Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, 0 for 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let wide = usize::try_from(self.next() >> 33).unwrap();
        if bound == 0 { 0 } else { wide % bound }
    }

    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// Reads a BTF back into an editable form.
pub(crate) fn decode(btf: &Btf) -> BtfWriter {
    let mut writer = BtfWriter::new();
    for ty in btf.own_types() {
        let vlen = ty.vlen();
        let bitfields = ty.kind_flag();
        let body = match ty.kind() {
            Kind::Int => Body::Word(
                ty.int_encoding() << 24 | ty.int_bit_offset() << 16 | (ty.size() * 8) & 0xff,
            ),
            Kind::Array => Body::Array(ty.array().0, 1, ty.array().1),
            Kind::Struct | Kind::Union => Body::Members(
                ty.members()
                    .map(|m| {
                        let bits = if bitfields { m.bitfield_bits << 24 } else { 0 };
                        (m.name.to_owned(), m.type_id, bits | m.bit_offset)
                    })
                    .collect(),
            ),
            Kind::Enum => Body::Enum(
                ty.enumerators()
                    .map(|(n, v)| (n.to_owned(), low(v)))
                    .collect(),
            ),
            Kind::Enum64 => Body::Enum64(
                ty.enumerators()
                    .map(|(n, v)| (n.to_owned(), low(v), low(v >> 32)))
                    .collect(),
            ),
            Kind::FuncProto => Body::Params(
                ty.params()
                    .map(|p| (p.name.to_owned(), p.type_id))
                    .collect(),
            ),
            Kind::Func => Body::Vlen(vlen),
            Kind::Var | Kind::DeclTag => Body::Word(0),
            // Sections are of no use for relocation; a forward of the same name keeps the ids.
            Kind::Datasec => Body::Nothing,
            _ => Body::Nothing,
        };
        let datasec = ty.kind() == Kind::Datasec;
        writer.types.push(TypeRecord {
            name: ty.name().to_owned(),
            kind: if datasec { 7 } else { kind_number(ty.kind()) },
            kind_flag: bitfields,
            word: if datasec { 0 } else { ty.size() },
            body,
        });
    }
    writer
}

fn low(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap()
}

fn kind_number(kind: Kind) -> u32 {
    const KINDS: [Kind; 20] = [
        Kind::Void,
        Kind::Int,
        Kind::Ptr,
        Kind::Array,
        Kind::Struct,
        Kind::Union,
        Kind::Enum,
        Kind::Fwd,
        Kind::Typedef,
        Kind::Volatile,
        Kind::Const,
        Kind::Restrict,
        Kind::Func,
        Kind::FuncProto,
        Kind::Var,
        Kind::Datasec,
        Kind::Float,
        Kind::DeclTag,
        Kind::TypeTag,
        Kind::Enum64,
    ];
    let position = KINDS.iter().position(|&k| k == kind);
    u32::try_from(position.unwrap()).unwrap()
}

/// Makes room for the ids of a base: adds `by` to every reference.
pub(crate) fn shift_ids(writer: &mut BtfWriter, by: u32) {
    let moved = |id: &mut u32| {
        if *id != 0 {
            *id += by;
        }
    };
    for ty in &mut writer.types {
        match &mut ty.body {
            Body::Array(element, index, _) => {
                moved(element);
                moved(index);
            }
            Body::Members(members) => members.iter_mut().for_each(|m| moved(&mut m.1)),
            Body::Params(params) => params.iter_mut().for_each(|p| moved(&mut p.1)),
            _ => {}
        }
        if matches!(ty.kind, 2 | 8..=14 | 17 | 18) {
            moved(&mut ty.word);
        }
    }
}

/// Makes one random edit.
pub(crate) fn mutate(writer: &mut BtfWriter, rng: &mut Rng) {
    let count = writer.types.len();
    let index = rng.below(count);
    match rng.below(14) {
        0 => rename_type(writer, rng, index),
        1 => duplicate(writer, rng, index),
        2 => change_word(writer, rng, index),
        3 | 4 => edit_members(writer, rng, index, |members, rng, _| {
            members.remove(rng.below(members.len()));
        }),
        5 => edit_members(writer, rng, index, |members, rng, _| {
            let other = rng.below(members.len());
            let name = members[other].0.clone();
            let at = rng.below(members.len());
            members[at].0 = if rng.chance(3) {
                "renamed".to_owned()
            } else {
                name
            };
        }),
        6 | 7 => edit_members(writer, rng, index, |members, rng, count| {
            let at = rng.below(members.len());
            members[at].1 = u32::try_from(rng.below(count)).unwrap() + 1;
        }),
        8 => edit_members(writer, rng, index, |members, rng, _| {
            let at = rng.below(members.len());
            let bits = u32::try_from(rng.below(64)).unwrap();
            members[at].2 = members[at].2 & 0xff00_0000 | (members[at].2 + bits * 4) & 0x00ff_ffff;
        }),
        9 => into_anonymous(writer, rng, index),
        10 => make_bitfield(writer, rng, index),
        11 => change_scalar(writer, rng, index),
        12 => change_list(writer, rng, index),
        _ => change_kind(writer, rng, index),
    }
}

fn composite_from(writer: &BtfWriter, start: usize) -> Option<usize> {
    let count = writer.types.len();
    (0..count)
        .map(|i| (start + i) % count)
        .find(|&i| matches!(&writer.types[i].body, Body::Members(m) if !m.is_empty()))
}

type Members = Vec<(String, u32, u32)>;

fn edit_members(
    writer: &mut BtfWriter,
    rng: &mut Rng,
    start: usize,
    edit: impl Fn(&mut Members, &mut Rng, usize),
) {
    let count = writer.types.len();
    let Some(index) = composite_from(writer, start) else {
        return;
    };
    if let Body::Members(members) = &mut writer.types[index].body {
        edit(members, rng, count);
    }
}

fn rename_type(writer: &mut BtfWriter, rng: &mut Rng, index: usize) {
    let ty = &mut writer.types[index];
    if ty.name.is_empty() || ty.kind == 12 {
        return;
    }
    ty.name = match rng.below(3) {
        0 => format!("{}___v2", ty.name),
        1 => format!("{}_old", ty.name),
        _ => String::from("gone"),
    };
}

fn duplicate(writer: &mut BtfWriter, rng: &mut Rng, start: usize) {
    let Some(index) = composite_from(writer, start) else {
        return;
    };
    let mut copy = writer.types[index].clone();
    if rng.chance(2) {
        copy.name = format!("{}___dup", copy.name);
    }
    if let Body::Members(members) = &mut copy.body
        && rng.chance(2)
    {
        let at = rng.below(members.len());
        members[at].2 ^= 64;
    }
    writer.types.push(copy);
}

/// A size or a referred type.
fn change_word(writer: &mut BtfWriter, rng: &mut Rng, index: usize) {
    let count = writer.types.len();
    let kinds: Vec<u32> = writer.types.iter().map(|t| t.kind).collect();
    let ty = &mut writer.types[index];
    let target = rng.below(count);
    match ty.kind {
        1 | 4 | 5 | 6 | 19 => ty.word = [1, 2, 3, 4, 8, 16, 40][rng.below(7)],
        2 => ty.word = u32::try_from(target).unwrap() + 1,
        // A wrapper may only point down, so that there is no cycle.
        8..=11 if target < index && !matches!(kinds[target], 12 | 14 | 17) => {
            ty.word = u32::try_from(target).unwrap() + 1;
        }
        _ => {}
    }
}

fn into_anonymous(writer: &mut BtfWriter, rng: &mut Rng, start: usize) {
    let Some(index) = composite_from(writer, start) else {
        return;
    };
    let size = writer.types[index].word;
    let kind_flag = writer.types[index].kind_flag;
    let Body::Members(members) = &mut writer.types[index].body else {
        return;
    };
    let at = rng.below(members.len());
    let (name, id, offset) = members[at].clone();
    let bits = if kind_flag { offset & 0xff00_0000 } else { 0 };
    let position = offset & 0x00ff_ffff;
    let inner_at = position % 64;
    let inner = TypeRecord {
        name: String::new(),
        kind: if rng.chance(2) { 5 } else { 4 },
        kind_flag,
        word: size,
        body: Body::Members(vec![(name, id, bits | inner_at)]),
    };
    let id = writer.first_id + u32::try_from(writer.types.len()).unwrap();
    if let Body::Members(members) = &mut writer.types[index].body {
        members[at] = (String::new(), id, position - inner_at);
    }
    writer.types.push(inner);
}

fn make_bitfield(writer: &mut BtfWriter, rng: &mut Rng, start: usize) {
    let kinds: Vec<u32> = writer.types.iter().map(|t| t.kind).collect();
    let Some(index) = composite_from(writer, start) else {
        return;
    };
    let ty = &mut writer.types[index];
    ty.kind_flag = true;
    let Body::Members(members) = &mut ty.body else {
        return;
    };
    for member in members.iter_mut() {
        member.2 &= 0x00ff_ffff;
    }
    let at = rng.below(members.len());
    let id = usize::try_from(members[at].1).unwrap();
    // Anything but an integer has no size to make a bitfield of.
    if id > 0 && kinds.get(id - 1) == Some(&1) {
        let width = u32::try_from(rng.below(31) + 1).unwrap();
        members[at].2 = width << 24 | (members[at].2 + u32::try_from(rng.below(32)).unwrap());
    }
}

fn change_scalar(writer: &mut BtfWriter, rng: &mut Rng, start: usize) {
    let count = writer.types.len();
    let wanted = [1, 3, 6, 19][rng.below(4)];
    let found = (0..count)
        .map(|i| (start + i) % count)
        .find(|&i| writer.types[i].kind == wanted);
    let Some(index) = found else {
        return;
    };
    match &mut writer.types[index].body {
        Body::Word(encoding) => {
            *encoding ^= [0x0100_0000, 0x0200_0000, 0x0400_0000, 0x0001_0000][rng.below(4)];
        }
        Body::Array(_, _, n) => *n = [0, 1, 2, 7, 0x4000_0000][rng.below(5)],
        Body::Enum(values) if !values.is_empty() => {
            let at = rng.below(values.len());
            values[at].1 = u32::try_from(rng.below(1 << 30)).unwrap() * 3;
        }
        Body::Enum64(values) if !values.is_empty() => {
            let at = rng.below(values.len());
            values[at].2 = 0xffff_fff0;
        }
        _ => {}
    }
}

fn change_list(writer: &mut BtfWriter, rng: &mut Rng, start: usize) {
    let count = writer.types.len();
    let wanted = [6, 13, 19][rng.below(3)];
    let found = (0..count)
        .map(|i| (start + i) % count)
        .find(|&i| writer.types[i].kind == wanted);
    let Some(index) = found else {
        return;
    };
    let target = u32::try_from(rng.below(count)).unwrap() + 1;
    match &mut writer.types[index].body {
        Body::Enum(values) if !values.is_empty() => {
            let at = rng.below(values.len());
            if rng.chance(2) {
                values.remove(at);
            } else {
                values[at].0 = format!("{}___v2", values[at].0);
            }
        }
        Body::Enum64(values) if !values.is_empty() => {
            values.remove(rng.below(values.len()));
        }
        Body::Params(params) => {
            if rng.chance(2) || params.is_empty() {
                params.push(("extra".to_owned(), target));
            } else {
                params.remove(rng.below(params.len()));
            }
        }
        _ => {}
    }
}

fn change_kind(writer: &mut BtfWriter, rng: &mut Rng, start: usize) {
    let count = writer.types.len();
    for i in 0..count {
        let ty = &mut writer.types[(start + i) % count];
        match (ty.kind, &mut ty.body) {
            (4, _) => ty.kind = 5,
            (5, _) => ty.kind = 4,
            (6, Body::Enum(values)) => {
                ty.kind = 19;
                let wide = values.iter().map(|(n, v)| (n.clone(), *v, 0)).collect();
                ty.body = Body::Enum64(wide);
                ty.word = if rng.chance(2) { 8 } else { 4 };
            }
            (8..=11, _) => ty.kind = 8 + u32::try_from(rng.below(4)).unwrap(),
            (7, _) => ty.kind_flag = !ty.kind_flag,
            _ => continue,
        }
        if ty.kind == 8 && ty.name.is_empty() {
            ty.kind = 10;
        }
        if matches!(ty.kind, 9..=11) {
            ty.name.clear();
        }
        return;
    }
}
