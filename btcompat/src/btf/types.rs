//! One BTF type, viewed in place.

use super::Btf;
use serde::{Deserialize, Serialize};

/// The kind of a BTF type. Source: kernel `include/uapi/linux/btf.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are the kernel's own names")]
pub enum Kind {
    Void,
    Int,
    Ptr,
    Array,
    Struct,
    Union,
    Enum,
    Fwd,
    Typedef,
    Volatile,
    Const,
    Restrict,
    Func,
    FuncProto,
    Var,
    Datasec,
    Float,
    DeclTag,
    TypeTag,
    Enum64,
}

impl Kind {
    pub(super) fn from_raw(raw: u32) -> Option<Self> {
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
        KINDS.get(usize::try_from(raw).ok()?).copied()
    }

    /// Whether the type only wraps another one: modifiers and typedefs.
    #[must_use]
    pub fn is_wrapper(self) -> bool {
        matches!(
            self,
            Self::Typedef | Self::Volatile | Self::Const | Self::Restrict | Self::TypeTag
        )
    }

    /// A struct or a union.
    #[must_use]
    pub fn is_composite(self) -> bool {
        matches!(self, Self::Struct | Self::Union)
    }

    /// An enum of either width.
    #[must_use]
    pub fn is_enum(self) -> bool {
        matches!(self, Self::Enum | Self::Enum64)
    }

    /// Whether CO-RE takes the two kinds for the same: equal, or both enums.
    /// Source: libbpf `btf_kind_core_compat()`.
    #[must_use]
    pub fn core_compatible(self, other: Self) -> bool {
        self == other || (self.is_enum() && other.is_enum())
    }

    /// The kernel's word for the kind.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Void => "void",
            Self::Int => "int",
            Self::Ptr => "ptr",
            Self::Array => "array",
            Self::Struct => "struct",
            Self::Union => "union",
            Self::Enum => "enum",
            Self::Fwd => "fwd",
            Self::Typedef => "typedef",
            Self::Volatile => "volatile",
            Self::Const => "const",
            Self::Restrict => "restrict",
            Self::Func => "func",
            Self::FuncProto => "func_proto",
            Self::Var => "var",
            Self::Datasec => "datasec",
            Self::Float => "float",
            Self::DeclTag => "decl_tag",
            Self::TypeTag => "type_tag",
            Self::Enum64 => "enum64",
        }
    }
}

/// A member of a struct or union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// Name; empty for an anonymous member.
    pub name: &'a str,
    /// Type of the member.
    pub type_id: u32,
    /// Offset from the start of the enclosing type, in bits.
    pub bit_offset: u32,
    /// Width in bits of a bitfield, 0 for any other member.
    pub bitfield_bits: u32,
}

/// A parameter of a function prototype.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// Name; empty when the prototype gives none.
    pub name: &'a str,
    /// Type; 0 with an empty name means "and more" (`...`).
    pub type_id: u32,
}

/// One type, viewed in the BTF that defines it.
#[derive(Clone, Copy, Debug)]
pub struct Type<'a> {
    pub(super) btf: &'a Btf,
    /// Id in the BTF that was asked (a split BTF continues its base's ids).
    pub id: u32,
    pub(super) name_off: u32,
    pub(super) info: u32,
    pub(super) size_or_type: u32,
    pub(super) body: &'a [u8],
    pub(super) kind: Kind,
}

impl<'a> Type<'a> {
    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The name; empty when the type is anonymous or its name is out of range.
    #[must_use]
    pub fn name(&self) -> &'a str {
        self.btf.string(self.name_off).unwrap_or("")
    }

    /// Number of members, enumerators, parameters or variables.
    #[must_use]
    pub fn vlen(&self) -> u32 {
        self.info & 0xffff
    }

    /// The kind-specific flag: bitfields in a struct, signed in an enum, union in a forward.
    #[must_use]
    pub fn kind_flag(&self) -> bool {
        self.info >> 31 != 0
    }

    /// Size in bytes as recorded. Meaningful for int, enum, struct, union, float, datasec.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size_or_type
    }

    /// The type referred to by a pointer, wrapper, function, variable or tag.
    #[must_use]
    pub fn target(&self) -> u32 {
        self.size_or_type
    }

    fn word(&self, index: usize) -> u32 {
        self.btf
            .endian()
            .u32(self.body, index.saturating_mul(4))
            .unwrap_or(0)
    }

    /// An int's encoding bits: 1 signed, 2 char, 4 bool.
    #[must_use]
    pub fn int_encoding(&self) -> u32 {
        (self.word(0) >> 24) & 0x0f
    }

    /// An int's offset in bits within its storage (0 in anything modern).
    #[must_use]
    pub fn int_bit_offset(&self) -> u32 {
        (self.word(0) >> 16) & 0xff
    }

    /// An array's element type and number of elements.
    #[must_use]
    pub fn array(&self) -> (u32, u32) {
        (self.word(0), self.word(2))
    }

    /// The member at `index` of a struct or union.
    #[must_use]
    pub fn member(&self, index: u32) -> Option<Member<'a>> {
        if !self.kind.is_composite() || index >= self.vlen() {
            return None;
        }
        let at = usize::try_from(index).ok()?.checked_mul(3)?;
        let raw_offset = self.word(at + 2);
        let (bit_offset, bitfield_bits) = if self.kind_flag() {
            (raw_offset & 0x00ff_ffff, raw_offset >> 24)
        } else {
            (raw_offset, 0)
        };
        Some(Member {
            name: self.btf.string(self.word(at)).unwrap_or(""),
            type_id: self.word(at + 1),
            bit_offset,
            bitfield_bits,
        })
    }

    /// All members of a struct or union; nothing for other kinds.
    pub fn members(self) -> impl Iterator<Item = Member<'a>> {
        (0..self.vlen()).map_while(move |index| self.member(index))
    }

    /// Name and value of the enumerator at `index`; 32-bit values are sign-extended.
    #[must_use]
    pub fn enumerator(&self, index: u32) -> Option<(&'a str, u64)> {
        if index >= self.vlen() {
            return None;
        }
        let index = usize::try_from(index).ok()?;
        match self.kind {
            Kind::Enum => {
                let value = self.word(index * 2 + 1).cast_signed();
                let name = self.btf.string(self.word(index * 2)).unwrap_or("");
                Some((name, i64::from(value).cast_unsigned()))
            }
            Kind::Enum64 => {
                let low = u64::from(self.word(index * 3 + 1));
                let high = u64::from(self.word(index * 3 + 2));
                let name = self.btf.string(self.word(index * 3)).unwrap_or("");
                Some((name, high << 32 | low))
            }
            _ => None,
        }
    }

    /// All enumerators; nothing for other kinds.
    pub fn enumerators(self) -> impl Iterator<Item = (&'a str, u64)> {
        (0..self.vlen()).map_while(move |index| self.enumerator(index))
    }

    /// The parameter at `index` of a function prototype.
    #[must_use]
    pub fn param(&self, index: u32) -> Option<Param<'a>> {
        if self.kind != Kind::FuncProto || index >= self.vlen() {
            return None;
        }
        let at = usize::try_from(index).ok()?.checked_mul(2)?;
        Some(Param {
            name: self.btf.string(self.word(at)).unwrap_or(""),
            type_id: self.word(at + 1),
        })
    }

    /// All parameters of a function prototype; nothing for other kinds.
    pub fn params(self) -> impl Iterator<Item = Param<'a>> {
        (0..self.vlen()).map_while(move |index| self.param(index))
    }

    /// A datasec's variables as (type id, offset in bytes, size in bytes).
    pub fn variables(self) -> impl Iterator<Item = (u32, u32, u32)> {
        let count = if self.kind == Kind::Datasec {
            self.vlen() as usize
        } else {
            0
        };
        (0..count).map(move |i| (self.word(i * 3), self.word(i * 3 + 1), self.word(i * 3 + 2)))
    }

    /// A variable's linkage: 0 static, 1 global, 2 extern. A function keeps its linkage in `vlen`.
    #[must_use]
    pub fn linkage(&self) -> u32 {
        match self.kind {
            Kind::Var => self.word(0),
            Kind::Func => self.vlen(),
            _ => 0,
        }
    }

    /// A declaration tag's component: -1 for the type itself, else a member or parameter.
    #[must_use]
    pub fn component(&self) -> i32 {
        if self.kind == Kind::DeclTag {
            self.word(0).cast_signed()
        } else {
            -1
        }
    }
}
