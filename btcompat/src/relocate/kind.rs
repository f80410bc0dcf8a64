//! Relocation kinds and the libbpf versions that know them.

use crate::btf::Kind;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What a relocation asks for; libbpf's names and numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are libbpf's own names")]
pub enum CoreReloKind {
    ByteOff,
    ByteSz,
    FieldExists,
    Signed,
    LshiftU64,
    RshiftU64,
    LocalTypeId,
    TargetTypeId,
    TypeExists,
    TypeSize,
    EnumvalExists,
    EnumvalValue,
    TypeMatches,
}

impl CoreReloKind {
    /// All kinds, by their numbers.
    pub const ALL: [Self; 13] = [
        Self::ByteOff,
        Self::ByteSz,
        Self::FieldExists,
        Self::Signed,
        Self::LshiftU64,
        Self::RshiftU64,
        Self::LocalTypeId,
        Self::TargetTypeId,
        Self::TypeExists,
        Self::TypeSize,
        Self::EnumvalExists,
        Self::EnumvalValue,
        Self::TypeMatches,
    ];

    /// The kind with this number. Source: `enum bpf_core_relo_kind`.
    #[must_use]
    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(raw).ok()?).copied()
    }

    /// libbpf's name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ByteOff => "byte_off",
            Self::ByteSz => "byte_sz",
            Self::FieldExists => "field_exists",
            Self::Signed => "signed",
            Self::LshiftU64 => "lshift_u64",
            Self::RshiftU64 => "rshift_u64",
            Self::LocalTypeId => "local_type_id",
            Self::TargetTypeId => "target_type_id",
            Self::TypeExists => "type_exists",
            Self::TypeSize => "type_size",
            Self::EnumvalExists => "enumval_exists",
            Self::EnumvalValue => "enumval_value",
            Self::TypeMatches => "type_matches",
        }
    }

    /// About a field of a struct or an array element.
    #[must_use]
    pub fn is_field(self) -> bool {
        matches!(
            self,
            Self::ByteOff
                | Self::ByteSz
                | Self::FieldExists
                | Self::Signed
                | Self::LshiftU64
                | Self::RshiftU64
        )
    }

    /// About an enumerator.
    #[must_use]
    pub fn is_enumval(self) -> bool {
        matches!(self, Self::EnumvalExists | Self::EnumvalValue)
    }

    /// About a type as a whole.
    #[must_use]
    pub fn is_type(self) -> bool {
        !self.is_field() && !self.is_enumval()
    }

    /// Asks whether something is there, and so never poisons.
    #[must_use]
    pub fn is_existence(self) -> bool {
        matches!(
            self,
            Self::FieldExists | Self::TypeExists | Self::TypeMatches | Self::EnumvalExists
        )
    }
}

/// Version of the libbpf that will load the object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LibbpfVersion {
    /// Major number.
    pub major: u16,
    /// Minor number.
    pub minor: u16,
}

impl LibbpfVersion {
    /// The version whose rules are taken unless told otherwise.
    pub const CURRENT: Self = Self { major: 1, minor: 7 };

    /// Whether this libbpf has at least this version.
    #[must_use]
    pub fn at_least(self, major: u16, minor: u16) -> bool {
        self >= Self { major, minor }
    }

    /// `type_matches` came with 1.0.
    #[must_use]
    pub fn supports(self, kind: CoreReloKind) -> bool {
        kind != CoreReloKind::TypeMatches || self.at_least(1, 0)
    }

    /// Whether it can read types that have this kind among them: floats since 0.4, tags since 0.6, 64-bit enums since 1.0.
    #[must_use]
    pub fn reads(self, kind: Kind) -> bool {
        match kind {
            Kind::Float => self.at_least(0, 4),
            Kind::DeclTag | Kind::TypeTag => self.at_least(0, 6),
            Kind::Enum64 => self.at_least(1, 0),
            _ => true,
        }
    }

    /// Since 1.6 the width of an array's *element*, not of the array, decides
    /// whether a load can be adjusted.
    #[must_use]
    pub fn checks_element_width(self) -> bool {
        self.at_least(1, 6)
    }

    /// Before 1.3 every enum was taken for signed.
    #[must_use]
    pub fn reads_enum_sign(self) -> bool {
        self.at_least(1, 3)
    }

    /// Since 1.3 module BTF that may not be read is skipped; before, it was an error.
    #[must_use]
    pub fn skips_unreadable_modules(self) -> bool {
        self.at_least(1, 3)
    }
}

impl Default for LibbpfVersion {
    fn default() -> Self {
        Self::CURRENT
    }
}

/// A version that is not `MAJOR.MINOR`.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a libbpf version such as 1.5")]
pub struct ParseVersionError {
    text: String,
}

impl FromStr for LibbpfVersion {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.trim_start_matches('v').split('.');
        let number = |part: Option<&str>| part.and_then(|p| p.parse().ok());
        match (number(parts.next()), number(parts.next())) {
            (Some(major), Some(minor)) => Ok(Self { major, minor }),
            _ => Err(ParseVersionError {
                text: text.to_owned(),
            }),
        }
    }
}
