//! The number that a relocation stands for.
//!
//! Source: libbpf `bpf_core_calc_relo()` and its three helpers.

use super::{CoreReloKind, LibbpfVersion, RelocError, Resolution, Spec};
use crate::btf::{Btf, Kind, Type};
use crate::bytes::Endian;

/// Where an access ends, in one BTF.
type End<'a> = (&'a Btf, &'a Spec<'a>);

/// One side's value. `None` where libbpf asks for the instruction to be poisoned.
#[derive(Clone, Copy, Default)]
struct Value {
    number: u64,
    field_size: u32,
    field_type: u32,
    validate: bool,
}

/// Values in the object and in the kernel, and what to do about them.
pub(super) fn calculate(
    kind: CoreReloKind,
    local: End,
    target: Option<End>,
    version: LibbpfVersion,
) -> Result<Resolution, RelocError> {
    let orig = value(kind, Some(local), version)?.unwrap_or_default();
    let new = value(kind, target, version)?;
    let mut resolution = Resolution {
        orig_val: orig.number,
        validate: orig.validate,
        orig_sz: orig.field_size,
        orig_type_id: orig.field_type,
        ..Resolution::default()
    };
    let Some(new) = new else {
        resolution.poison = true;
        return Ok(resolution);
    };
    resolution.new_val = new.number;
    resolution.new_sz = new.field_size;
    resolution.new_type_id = new.field_type;
    if let Some((target_btf, _)) = target {
        let before = local.0.ty(orig.field_type);
        let after = target_btf.ty(new.field_type);
        resolution.fail_memsz_adjust =
            orig.field_size != new.field_size && !width_may_change(before, after);
    }
    Ok(resolution)
}

/// A load of another width gives the same number for pointers and unsigned
/// integers only.
fn width_may_change(before: Option<Type>, after: Option<Type>) -> bool {
    let (Some(a), Some(b)) = (before, after) else {
        return false;
    };
    let unsigned = |t: Type| t.kind() == Kind::Int && t.int_encoding() != 1;
    (a.kind() == Kind::Ptr && b.kind() == Kind::Ptr) || (unsigned(a) && unsigned(b))
}

fn value(
    kind: CoreReloKind,
    end: Option<End>,
    version: LibbpfVersion,
) -> Result<Option<Value>, RelocError> {
    let plain = |number| Value {
        number,
        validate: true,
        ..Value::default()
    };
    match (kind, end) {
        (k, _) if k.is_existence() => Ok(Some(plain(u64::from(end.is_some())))),
        (k, None) if k.is_type() => Ok(Some(plain(0))),
        (_, None) => Ok(None),
        (CoreReloKind::EnumvalValue, Some((btf, spec))) => {
            let step = spec.steps.first();
            let found = step.and_then(|s| btf.ty(s.type_id)?.enumerator(s.index));
            let (_, number) = found.ok_or(RelocError::Malformed("no such enumerator"))?;
            Ok(Some(plain(number)))
        }
        (CoreReloKind::TargetTypeId, Some((_, spec))) => Ok(Some(Value {
            number: u64::from(spec.root_type_id),
            ..Value::default()
        })),
        (CoreReloKind::TypeSize, Some((btf, spec))) => {
            Ok(Some(plain(u64::from(size(btf, spec.root_type_id)?))))
        }
        (k, Some(end)) if k.is_field() => field_value(k, end, version).map(Some),
        _ => Err(RelocError::Unsupported("this kind")),
    }
}

fn size(btf: &Btf, id: u32) -> Result<u32, RelocError> {
    btf.size_of(id).map_err(|_e| RelocError::BadTarget { id })
}

/// Width in bytes that a load of this type has: that of the innermost element.
fn load_width(btf: &Btf, id: u32, version: LibbpfVersion) -> Result<u32, RelocError> {
    if !version.checks_element_width() {
        return size(btf, id);
    }
    let bad = || RelocError::BadTarget { id };
    let mut ty = btf.strip(id).ok_or_else(bad)?;
    for _ in 0..64 {
        if ty.kind() != Kind::Array {
            return size(btf, ty.id);
        }
        ty = btf.strip(ty.array().0).ok_or_else(bad)?;
    }
    Err(bad())
}

fn field_value(
    kind: CoreReloKind,
    (btf, spec): End,
    version: LibbpfVersion,
) -> Result<Value, RelocError> {
    let last = spec
        .steps
        .last()
        .ok_or(RelocError::Malformed("empty accessor"))?;
    if last.name.is_none() {
        return element_value(kind, btf, spec, last.type_id, version);
    }
    let bad = RelocError::BadTarget { id: last.type_id };
    let owner = btf.ty(last.type_id).ok_or_else(|| bad.clone())?;
    let member = owner.member(last.index).ok_or_else(|| bad.clone())?;
    let ty = btf.strip(member.type_id).ok_or(bad)?;
    let window = if member.bitfield_bits > 0 {
        Window::of_bitfield(ty.size(), spec.bit_offset, member.bitfield_bits)?
    } else {
        let bytes = size(btf, ty.id)?;
        Window {
            byte_offset: spec.bit_offset / 8,
            bytes,
            bits: bytes.wrapping_mul(8),
        }
    };
    let bitfield = member.bitfield_bits > 0;
    let mut value = Value {
        validate: !bitfield || matches!(kind, CoreReloKind::Signed | CoreReloKind::RshiftU64),
        ..Value::default()
    };
    value.number = match kind {
        CoreReloKind::ByteOff => {
            if !bitfield {
                value.field_size = load_width(btf, ty.id, version)?;
                value.field_type = ty.id;
            }
            u64::from(window.byte_offset)
        }
        CoreReloKind::ByteSz => u64::from(window.bytes),
        CoreReloKind::Signed => u64::from(is_signed(ty, version)),
        CoreReloKind::LshiftU64 => window.left_shift(spec.bit_offset),
        CoreReloKind::RshiftU64 => u64::from(64u32.wrapping_sub(window.bits)),
        _ => return Err(RelocError::Unsupported("this kind of a field")),
    };
    Ok(value)
}

fn element_value(
    kind: CoreReloKind,
    btf: &Btf,
    spec: &Spec,
    element: u32,
    version: LibbpfVersion,
) -> Result<Value, RelocError> {
    let mut value = Value {
        validate: true,
        ..Value::default()
    };
    match kind {
        CoreReloKind::ByteOff => {
            value.number = u64::from(spec.bit_offset / 8);
            value.field_size = load_width(btf, element, version)?;
            value.field_type = element;
        }
        CoreReloKind::ByteSz => value.number = u64::from(size(btf, element)?),
        _ => return Err(RelocError::Malformed("not possible for an array element")),
    }
    Ok(value)
}

fn is_signed(ty: Type, version: LibbpfVersion) -> bool {
    if ty.kind().is_enum() {
        return !version.reads_enum_sign() || ty.kind_flag();
    }
    ty.kind() == Kind::Int && ty.int_encoding() & 1 != 0
}

/// The aligned bytes that have to be loaded to get at a field.
struct Window {
    byte_offset: u32,
    bytes: u32,
    bits: u32,
}

impl Window {
    /// The smallest aligned window of 1 to 8 bytes around a bitfield. Sums wrap
    /// at 32 bits, as libbpf's do.
    fn of_bitfield(declared: u32, bit_offset: u32, bits: u32) -> Result<Self, RelocError> {
        let too_big = RelocError::TooBig("bitfield wider than 64 bits");
        let mut bytes = declared;
        loop {
            let start = (bit_offset / 8).checked_div(bytes);
            let byte_offset = start
                .ok_or(RelocError::Malformed("bitfield of size 0"))?
                .wrapping_mul(bytes);
            let end = bit_offset
                .wrapping_add(bits)
                .wrapping_sub(byte_offset.wrapping_mul(8));
            if end <= bytes.wrapping_mul(8) {
                return Ok(Self {
                    byte_offset,
                    bytes,
                    bits,
                });
            }
            if bytes >= 8 {
                return Err(too_big);
            }
            bytes *= 2;
        }
    }

    /// How far the loaded value is shifted left to drop the bits above. The
    /// byte order is this machine's, as in libbpf: the loader runs where the
    /// kernel does.
    fn left_shift(&self, bit_offset: u32) -> u64 {
        let within = bit_offset.wrapping_sub(self.byte_offset.wrapping_mul(8));
        u64::from(match NATIVE {
            Endian::Little => 64u32.wrapping_sub(within.wrapping_add(self.bits)),
            Endian::Big => 8u32
                .wrapping_sub(self.bytes)
                .wrapping_mul(8)
                .wrapping_add(within),
        })
    }
}

/// All machines with Bluetooth that this project knows are little-endian.
const NATIVE: Endian = Endian::Little;
