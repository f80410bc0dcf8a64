//! What follows from several types together: sizes, stripped types, spelling.

use super::Btf;
use super::types::{Kind, Type};
use std::fmt::Write as _;

/// How many wrappers or arrays are followed before a chain is taken for a cycle.
const MAX_DEPTH: usize = 32;
/// Wrappers may nest deeper than arrays; still no real type comes near this.
const MAX_WRAPPERS: usize = 4096;

/// Why a type has no size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// No such type, a kind without a size, or a chain that is too deep.
    #[error("type {id} has no size")]
    Unsized {
        /// Id at which the search ended.
        id: u32,
    },
    /// An array larger than 4 GiB.
    #[error("type {id} is larger than 4 GiB")]
    TooBig {
        /// Id of the array.
        id: u32,
    },
}

impl Btf {
    /// The type below modifiers and typedefs. `None` for a dangling id or a cycle.
    #[must_use]
    pub fn strip(&self, id: u32) -> Option<Type<'_>> {
        let mut ty = self.ty(id)?;
        for _ in 0..MAX_WRAPPERS {
            if !ty.kind().is_wrapper() {
                return Some(ty);
            }
            ty = self.ty(ty.target())?;
        }
        None
    }

    /// Size of a pointer in bytes, as recorded by the type `long`; 8 if there is none.
    #[must_use]
    pub fn pointer_size(&self) -> u32 {
        if let Some(base) = self.base()
            && let Some(size) = base.recorded_pointer_size()
        {
            return size;
        }
        self.recorded_pointer_size().unwrap_or(8)
    }

    /// Fixes the size of a pointer: an object's own pointers are 8 bytes wide
    /// whatever its types say. Without effect once a size has been asked for.
    pub fn set_pointer_size(&self, bytes: u32) {
        // A second call keeps the first value, as documented.
        let _ = self.pointer_size.set(Some(bytes));
    }

    /// Source: libbpf `determine_ptr_size()`.
    fn recorded_pointer_size(&self) -> Option<u32> {
        const LONGS: [&str; 11] = [
            "long",
            "long int",
            "int long",
            "unsigned long",
            "long unsigned",
            "unsigned long int",
            "unsigned int long",
            "long unsigned int",
            "long int unsigned",
            "int unsigned long",
            "int long unsigned",
        ];
        *self.pointer_size.get_or_init(|| {
            self.own_types()
                .find(|t| {
                    t.kind() == Kind::Int && matches!(t.size(), 4 | 8) && LONGS.contains(&t.name())
                })
                .map(|t| t.size())
        })
    }

    /// Size of a value of this type, in bytes. Source: libbpf `btf__resolve_size()`.
    ///
    /// # Errors
    /// When the type has no size or its size does not fit in 32 bits.
    pub fn size_of(&self, id: u32) -> Result<u32, ResolveError> {
        let mut elements: u32 = 1;
        let mut at = id;
        for _ in 0..MAX_DEPTH {
            let ty = self.ty(at).ok_or(ResolveError::Unsized { id: at })?;
            let size = match ty.kind() {
                Kind::Int
                | Kind::Struct
                | Kind::Union
                | Kind::Enum
                | Kind::Enum64
                | Kind::Datasec
                | Kind::Float => ty.size(),
                Kind::Ptr => self.pointer_size(),
                Kind::Array => {
                    let (element, count) = ty.array();
                    elements = elements
                        .checked_mul(count)
                        .ok_or(ResolveError::TooBig { id: at })?;
                    at = element;
                    continue;
                }
                Kind::Typedef
                | Kind::Volatile
                | Kind::Const
                | Kind::Restrict
                | Kind::Var
                | Kind::DeclTag
                | Kind::TypeTag => {
                    at = ty.target();
                    continue;
                }
                Kind::Void | Kind::Fwd | Kind::Func | Kind::FuncProto => {
                    return Err(ResolveError::Unsized { id: at });
                }
            };
            return elements
                .checked_mul(size)
                .ok_or(ResolveError::TooBig { id: at });
        }
        Err(ResolveError::Unsized { id: at })
    }

    /// How C would spell the type, shortened: `struct hci_dev *`, `u16`, `int[4]`.
    #[must_use]
    pub fn spelling(&self, id: u32) -> String {
        let mut text = String::new();
        self.spell(id, 0, &mut text);
        text
    }

    fn spell(&self, id: u32, depth: usize, out: &mut String) {
        let Some(ty) = self.ty(id).filter(|_| depth < MAX_DEPTH) else {
            out.push('?');
            return;
        };
        let name = if ty.name().is_empty() {
            "(anonymous)"
        } else {
            ty.name()
        };
        match ty.kind() {
            Kind::Void => out.push_str("void"),
            Kind::Ptr => {
                self.spell(ty.target(), depth + 1, out);
                out.push_str(if out.ends_with('*') { "*" } else { " *" });
            }
            Kind::Array => {
                let (element, count) = ty.array();
                self.spell(element, depth + 1, out);
                // Writing to a String cannot fail.
                let _ = write!(out, "[{count}]");
            }
            Kind::Struct | Kind::Union | Kind::Enum | Kind::Fwd => {
                let keyword = match ty.kind() {
                    Kind::Fwd if ty.kind_flag() => "union",
                    Kind::Fwd => "struct",
                    kind => kind.name(),
                };
                let _ = write!(out, "{keyword} {name}");
            }
            Kind::Enum64 => {
                let _ = write!(out, "enum {name}");
            }
            Kind::Volatile | Kind::Const | Kind::Restrict | Kind::TypeTag => {
                self.spell(ty.target(), depth + 1, out);
            }
            Kind::FuncProto => out.push_str("function"),
            _ => out.push_str(name),
        }
    }

    /// How C would declare the function whose prototype is `proto`.
    #[must_use]
    pub fn prototype(&self, name: &str, proto: u32) -> Option<String> {
        let proto = self.ty(proto).filter(|t| t.kind() == Kind::FuncProto)?;
        let params: Vec<String> = proto
            .params()
            .map(|p| match (p.type_id, p.name) {
                (0, _) => "...".to_owned(),
                (id, "") => self.spelling(id),
                (id, name) => format!("{} {name}", self.spelling(id)),
            })
            .collect();
        let returned = self.spelling(proto.target());
        Some(format!("{returned} {name}({})", params.join(", ")))
    }
}
