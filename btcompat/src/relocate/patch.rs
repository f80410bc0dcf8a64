//! Writing a resolved value into an instruction.
//!
//! Source: libbpf `bpf_core_patch_insn()`.

use super::Resolution;
use crate::object::Insn;

/// Helper number of a poisoned call: `0xbad2310`, "bad relo".
pub(crate) const POISON_CALL: i32 = 0x0bad_2310;

/// What became of an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patched {
    /// The instruction, and its second half if it is a 64-bit load.
    pub insns: Vec<Insn>,
    /// Whether it was replaced by a call that the verifier refuses.
    pub poisoned: bool,
}

/// Why an instruction cannot take the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatchError {
    /// The instruction does not hold the value that the relocation expects.
    #[error("instruction holds {found}, relocation expects {expected}")]
    Unexpected {
        /// Value in the instruction.
        found: u64,
        /// Value by the object's own types.
        expected: u64,
    },
    /// The offset does not fit in 15 bits.
    #[error("offset {value} does not fit into a load or store")]
    OutOfRange {
        /// The offset in bytes.
        value: u64,
    },
    /// Not an instruction that can be relocated.
    #[error("instruction {code:#04x} cannot be relocated")]
    Form {
        /// Its opcode.
        code: u8,
    },
    /// The width of the load is not the field's, or no load has such a width.
    #[error("load of {width} bytes cannot be resized to {wanted}")]
    Width {
        /// Width now, in bytes.
        width: u32,
        /// Width wanted, in bytes.
        wanted: u32,
    },
}

impl PatchError {
    /// The negative errno that libbpf returns.
    #[must_use]
    pub fn errno(&self) -> i32 {
        match self {
            Self::OutOfRange { .. } => -34,
            _ => -22,
        }
    }
}

fn poison() -> Insn {
    Insn {
        code: 0x85,
        imm: POISON_CALL,
        ..Insn::default()
    }
}

fn poisoned(insn: Insn) -> Patched {
    let halves = if insn.is_ldimm64() { 2 } else { 1 };
    Patched {
        insns: vec![poison(); halves],
        poisoned: true,
    }
}

fn sign_extended(value: i32) -> u64 {
    i64::from(value).cast_unsigned()
}

#[expect(clippy::cast_possible_truncation, reason = "libbpf keeps the low half")]
fn low_half(value: u64) -> i32 {
    (value as u32).cast_signed()
}

/// Patches an instruction; `next` is its successor, needed for 64-bit loads.
///
/// # Errors
/// When libbpf would refuse the object.
pub fn patch(insn: Insn, next: Option<Insn>, res: &Resolution) -> Result<Patched, PatchError> {
    if res.poison {
        return Ok(poisoned(insn));
    }
    let form = PatchError::Form { code: insn.code };
    match insn.class() {
        Insn::ALU | Insn::ALU64 => {
            if insn.code & 0x08 != 0 {
                return Err(form);
            }
            expect_value(res, sign_extended(insn.imm))?;
            Ok(done(Insn {
                imm: low_half(res.new_val),
                ..insn
            }))
        }
        Insn::LDX | Insn::ST | Insn::STX => patch_memory(insn, res),
        Insn::LD => {
            let plain = |i: Insn| i.src == 0 && i.off == 0;
            let next = next.filter(|n| n.code == 0 && n.dst == 0 && plain(*n));
            let Some(next) = next.filter(|_| insn.is_ldimm64() && plain(insn)) else {
                return Err(form);
            };
            let imm = |i: Insn| u64::from(i.imm.cast_unsigned());
            expect_value(res, imm(insn) | imm(next) << 32)?;
            let first = Insn {
                imm: low_half(res.new_val),
                ..insn
            };
            let second = Insn {
                imm: low_half(res.new_val >> 32),
                ..next
            };
            Ok(Patched {
                insns: vec![first, second],
                poisoned: false,
            })
        }
        _ => Err(form),
    }
}

fn done(insn: Insn) -> Patched {
    Patched {
        insns: vec![insn],
        poisoned: false,
    }
}

fn expect_value(res: &Resolution, found: u64) -> Result<(), PatchError> {
    if res.validate && found != res.orig_val {
        return Err(PatchError::Unexpected {
            found,
            expected: res.orig_val,
        });
    }
    Ok(())
}

fn patch_memory(insn: Insn, res: &Resolution) -> Result<Patched, PatchError> {
    expect_value(res, sign_extended(insn.off.into()))?;
    let value = res.new_val;
    let off = i16::try_from(value).map_err(|_e| PatchError::OutOfRange { value })?;
    if res.fail_memsz_adjust {
        return Ok(poisoned(insn));
    }
    let mut patched = Insn { off, ..insn };
    if res.new_sz != res.orig_sz {
        let width = insn.memory_width();
        if width != res.orig_sz {
            let wanted = res.orig_sz;
            return Err(PatchError::Width { width, wanted });
        }
        let wanted = res.new_sz;
        let bits = Insn::width_bits(wanted).ok_or(PatchError::Width { width, wanted })?;
        patched.code = insn.code & !0x18 | bits;
    }
    Ok(done(patched))
}
