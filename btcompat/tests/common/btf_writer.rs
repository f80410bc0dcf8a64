//! A BTF that can be edited and written out: the input of tests.

/// A type before it is encoded. `kind` and `info` are the kernel's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TypeRecord {
    pub(crate) name: String,
    pub(crate) kind: u32,
    pub(crate) kind_flag: bool,
    /// Size or referred type.
    pub(crate) word: u32,
    pub(crate) body: Body,
}

/// What follows the fixed part of a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Nothing,
    /// One word: int encoding, linkage, component.
    Word(u32),
    /// Element type, index type, count.
    Array(u32, u32, u32),
    /// Name, type, raw offset.
    Members(Vec<(String, u32, u32)>),
    /// Name, value.
    Enum(Vec<(String, u32)>),
    /// Name, low, high.
    Enum64(Vec<(String, u32, u32)>),
    /// Name, type.
    Params(Vec<(String, u32)>),
    /// Only the length: a FUNC keeps its linkage there.
    Vlen(u32),
}

/// Types in the order of their ids, from 1 (or from the base's count).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BtfWriter {
    pub(crate) types: Vec<TypeRecord>,
    /// Length of the base's strings, 0 without a base.
    pub(crate) string_base: u32,
    /// Id of the first type.
    pub(crate) first_id: u32,
}

#[allow(dead_code, reason = "each test uses its own part")]
impl BtfWriter {
    pub(crate) fn new() -> Self {
        Self {
            types: Vec::new(),
            string_base: 0,
            first_id: 1,
        }
    }

    pub(crate) fn add(&mut self, name: &str, kind: u32, word: u32, body: Body) -> u32 {
        self.types.push(TypeRecord {
            name: name.to_owned(),
            kind,
            kind_flag: false,
            word,
            body,
        });
        self.first_id + u32::try_from(self.types.len()).unwrap() - 1
    }

    pub(crate) fn int(&mut self, name: &str, bytes: u32, signed: bool) -> u32 {
        let encoding = (u32::from(signed) << 24) | (bytes * 8);
        self.add(name, 1, bytes, Body::Word(encoding))
    }

    pub(crate) fn ptr(&mut self, target: u32) -> u32 {
        self.add("", 2, target, Body::Nothing)
    }

    pub(crate) fn array(&mut self, element: u32, count: u32) -> u32 {
        self.add("", 3, 0, Body::Array(element, element, count))
    }

    /// Members as (name, type, offset in bits).
    pub(crate) fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let members = members
            .iter()
            .map(|&(n, t, o)| (n.to_owned(), t, o))
            .collect();
        self.add(name, 4, size, Body::Members(members))
    }

    pub(crate) fn typedef(&mut self, name: &str, target: u32) -> u32 {
        self.add(name, 8, target, Body::Nothing)
    }

    pub(crate) fn enumeration(&mut self, name: &str, values: &[(&str, u32)]) -> u32 {
        let values = values.iter().map(|&(n, v)| (n.to_owned(), v)).collect();
        self.add(name, 6, 4, Body::Enum(values))
    }

    /// A function with its prototype; returns the function's id.
    pub(crate) fn func(&mut self, name: &str, returned: u32, params: &[(&str, u32)]) -> u32 {
        let params = params.iter().map(|&(n, t)| (n.to_owned(), t)).collect();
        let proto = self.add("", 13, returned, Body::Params(params));
        self.add(name, 12, proto, Body::Vlen(1))
    }

    /// The blob, little-endian.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut strings = Strings::new(self.string_base);
        let mut types = Vec::new();
        for ty in &self.types {
            encode_type(ty, &mut strings, &mut types);
        }
        let mut out = vec![0x9f, 0xeb, 1, 0];
        let type_len = u32::try_from(types.len()).unwrap();
        let str_len = u32::try_from(strings.bytes.len()).unwrap();
        for word in [24, 0, type_len, type_len, str_len] {
            out.extend(word.to_le_bytes());
        }
        out.extend(types);
        out.extend(strings.bytes);
        out
    }
}

struct Strings {
    base: u32,
    bytes: Vec<u8>,
    seen: std::collections::HashMap<String, u32>,
}

impl Strings {
    fn new(base: u32) -> Self {
        Self {
            base,
            bytes: vec![0],
            seen: std::collections::HashMap::new(),
        }
    }

    fn offset(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        if let Some(&offset) = self.seen.get(text) {
            return offset;
        }
        let offset = self.base + u32::try_from(self.bytes.len()).unwrap();
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
        self.seen.insert(text.to_owned(), offset);
        offset
    }
}

fn encode_type(ty: &TypeRecord, strings: &mut Strings, out: &mut Vec<u8>) {
    let mut words = Vec::new();
    let vlen = match &ty.body {
        Body::Nothing => 0,
        Body::Vlen(n) => *n,
        Body::Word(w) => {
            words.push(*w);
            0
        }
        Body::Array(element, index, count) => {
            words.extend([*element, *index, *count]);
            0
        }
        Body::Members(members) => {
            for (name, id, offset) in members {
                words.extend([strings.offset(name), *id, *offset]);
            }
            u32::try_from(members.len()).unwrap()
        }
        Body::Enum(values) => {
            for (name, value) in values {
                words.extend([strings.offset(name), *value]);
            }
            u32::try_from(values.len()).unwrap()
        }
        Body::Enum64(values) => {
            for (name, low, high) in values {
                words.extend([strings.offset(name), *low, *high]);
            }
            u32::try_from(values.len()).unwrap()
        }
        Body::Params(params) => {
            for (name, id) in params {
                words.extend([strings.offset(name), *id]);
            }
            u32::try_from(params.len()).unwrap()
        }
    };
    let info = u32::from(ty.kind_flag) << 31 | ty.kind << 24 | vlen;
    for word in [strings.offset(&ty.name), info, ty.word] {
        out.extend(word.to_le_bytes());
    }
    for word in words {
        out.extend(word.to_le_bytes());
    }
}
