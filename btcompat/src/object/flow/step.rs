//! The effect of one instruction on what is known.

use super::super::insn::Insn;
use super::super::model::{CallTarget, RefTarget};
use super::state::{State, Value};
use super::{ContextRead, Engine, Oracle, Place, ProbeRead};
use crate::relocate::CoreReloKind;

/// `bpf_probe_read` and `bpf_probe_read_kernel`: (destination, size, source).
const PROBE_READS: [u32; 2] = [4, 113];

impl Engine<'_> {
    pub(super) fn execute(&mut self, place: Place) {
        let (Some(insn), Some(state)) = (self.insn(place), self.states.get(&place)) else {
            return;
        };
        let mut state = state.clone();
        match insn.class() {
            Insn::ALU | Insn::ALU64 => self.alu(place, insn, &mut state),
            Insn::LD => {
                self.load_constant(place, insn, &mut state);
                if insn.is_ldimm64() {
                    self.arrive((place.0, place.1 + 2), state);
                    return;
                }
            }
            Insn::LDX => self.load(place, insn, &mut state),
            Insn::ST | Insn::STX => store(insn, &mut state),
            _ => return self.jump(place, insn, state),
        }
        self.arrive((place.0, place.1 + 1), state);
    }

    /// The relocation at this instruction, if its value is the offset of a field.
    fn offset_relocation(&self, place: Place) -> Option<(usize, usize)> {
        let (r, relocation) = self.relocation(place)?;
        let kind = relocation.relo.as_ref()?.kind;
        (kind == CoreReloKind::ByteOff).then_some((place.0, r))
    }

    /// The immediate operand: a number, or open while a relocation is not resolved.
    fn immediate(&self, place: Place, insn: Insn) -> Value {
        let open = matches!(self.oracle, Oracle::Compiled) && self.relocation(place).is_some();
        if open {
            return Value::Unknown;
        }
        Value::Constant(i64::from(insn.imm).cast_unsigned())
    }

    fn alu(&mut self, place: Place, insn: Insn, state: &mut State) {
        let wide = insn.class() == Insn::ALU64;
        let by_register = insn.code & 0x08 != 0;
        let offset = self.offset_relocation(place);
        let operand = match (by_register, offset) {
            (true, _) => state.get(insn.src),
            (false, Some((f, r))) => Value::Offset(f, r),
            (false, None) => self.immediate(place, insn),
        };
        let result = match insn.code & 0xf0 {
            // A move that extends the sign keeps its width in `off`.
            0xb0 if insn.off == 0 => truncate(operand, wide),
            0x00 if wide => add(
                state.get(insn.dst),
                operand,
                by_register || offset.is_some(),
            ),
            op => fold(op, state.get(insn.dst), operand, wide),
        };
        state.set(insn.dst, result);
    }

    fn load_constant(&mut self, place: Place, insn: Insn, state: &mut State) {
        if !insn.is_ldimm64() {
            // Packet access: destroys what a call does.
            state.clobber();
            return;
        }
        let value = match self.reference(place) {
            Some(RefTarget::Data(_)) => Value::Settings,
            Some(RefTarget::Extern(name)) if self.external(name).is_some() => {
                self.external(name).map_or(Value::Unknown, Value::Known)
            }
            Some(RefTarget::Extern(name)) => {
                let kconfig =
                    self.object.externs.iter().any(|e| {
                        e.name == *name && e.kind == super::super::model::ExternKind::Kconfig
                    });
                if kconfig {
                    Value::Settings
                } else {
                    Value::Unknown
                }
            }
            Some(RefTarget::Function(callback)) => {
                self.arrive((*callback, 0), State::blank());
                Value::Unknown
            }
            Some(RefTarget::Map(_)) => Value::Unknown,
            None => match (
                self.immediate(place, insn),
                self.insn((place.0, place.1 + 1)),
            ) {
                (Value::Constant(_), Some(next)) => {
                    let low = u64::from(insn.imm.cast_unsigned());
                    Value::Constant(low | u64::from(next.imm.cast_unsigned()) << 32)
                }
                _ => Value::Unknown,
            },
        };
        state.set(insn.dst, value);
    }

    fn load(&mut self, place: Place, insn: Insn, state: &mut State) {
        let width = insn.memory_width();
        let value = match state.get(insn.src) {
            Value::Context(at) => {
                self.flow.context_reads.insert(ContextRead {
                    offset: at.saturating_add(insn.off.into()),
                    width,
                    place,
                });
                Value::Loaded(at.saturating_add(insn.off.into()))
            }
            Value::Loaded(origin) => {
                if let Some((f, r)) = self.offset_relocation(place) {
                    self.flow.typed_uses.insert((origin, f, r));
                }
                Value::Unknown
            }
            Value::Stack(at) => {
                let slot = at.saturating_add(insn.off.into());
                let spilled = state.stack.get(&slot).copied();
                spilled.filter(|_| width == 8).unwrap_or(Value::Unknown)
            }
            Value::Settings => Value::Setting,
            Value::Known(number) => Value::Constant(number),
            _ => Value::Unknown,
        };
        state.set(insn.dst, value);
    }

    /// The value of an external symbol, if it was given.
    fn external(&self, name: &str) -> Option<u64> {
        match self.oracle {
            Oracle::Patched(_, externals) => externals.get(name).copied(),
            Oracle::Compiled => None,
        }
    }

    fn jump(&mut self, place: Place, insn: Insn, mut state: State) {
        let (function, at) = place;
        let branch = |offset: i64| {
            let to = i64::try_from(at)
                .ok()?
                .checked_add(1)?
                .checked_add(offset)?;
            usize::try_from(to).ok()
        };
        if insn.is_exit() {
            return;
        }
        if insn.is_call() {
            self.call(place, &mut state);
            self.arrive((function, at + 1), state);
            return;
        }
        if insn.code == 0x05 || insn.code == 0x06 {
            let distance = if insn.code == 0x05 {
                i64::from(insn.off)
            } else {
                i64::from(insn.imm)
            };
            if let Some(to) = branch(distance) {
                self.arrive((function, to), state);
            }
            return;
        }
        let target = branch(insn.off.into());
        let wide = insn.class() == Insn::JMP;
        let left = truncate(state.get(insn.dst), wide);
        let right = if insn.code & 0x08 != 0 {
            truncate(state.get(insn.src), wide)
        } else {
            truncate(self.immediate(place, insn), wide)
        };
        let decided = compare(insn.code & 0xf0, left, right, wide);
        let by_setting = is_setting(left, right);
        for (way, to) in [(true, target), (false, Some(at + 1))] {
            if let (Some(to), true) = (to, decided.is_none_or(|d| d == way)) {
                let mut next = state.clone();
                if by_setting {
                    next.assume(place, way);
                }
                self.arrive((function, to), next);
            }
        }
    }

    fn call(&mut self, place: Place, state: &mut State) {
        let object = self.object;
        match object.functions[place.0].calls.get(&place.1) {
            Some(CallTarget::Local(callee)) => self.arrive((*callee, 0), state.for_callee()),
            Some(CallTarget::Helper(id)) if PROBE_READS.contains(id) => {
                self.probe_read(place, state);
            }
            _ => {}
        }
        state.clobber();
    }

    fn probe_read(&mut self, place: Place, state: &State) {
        let size = match state.get(2) {
            Value::Constant(size) => u32::try_from(size).ok(),
            _ => None,
        };
        let source = state.get(3);
        if let (Value::Context(offset), Some(width)) = (source, size) {
            self.flow.context_reads.insert(ContextRead {
                offset,
                width,
                place,
            });
            return;
        }
        if let Value::Field(f, r, Some(origin)) = source {
            self.flow.typed_uses.insert((origin, f, r));
        }
        self.flow.probe_reads.insert(ProbeRead {
            place,
            size,
            relocation: match source {
                Value::Field(f, r, _) => Some((f, r)),
                _ => None,
            },
            fixed_offset: source == Value::Raw,
        });
    }
}

fn store(insn: Insn, state: &mut State) {
    let Value::Stack(at) = state.get(insn.dst) else {
        return;
    };
    let slot = at.saturating_add(insn.off.into());
    let width = insn.memory_width();
    let end = slot.saturating_add(width.cast_signed());
    // A store that touches part of a spilled value destroys it.
    state
        .stack
        .retain(|&other, _| other.saturating_add(8) <= slot || other >= end);
    let plain = insn.code & 0xe0 == 0x60;
    if insn.class() == Insn::STX && width == 8 && plain && slot >= -512 {
        let value = state.get(insn.src);
        if value != Value::Unknown {
            state.stack.insert(slot, value);
        }
    }
}

fn truncate(value: Value, wide: bool) -> Value {
    match value {
        Value::Constant(n) if !wide => Value::Constant(n & 0xffff_ffff),
        Value::Constant(_) | Value::Setting | Value::Offset(..) => value,
        _ if wide => value,
        _ => Value::Unknown,
    }
}

fn add(left: Value, right: Value, corrected: bool) -> Value {
    let small = |n: u64| i32::try_from(n.cast_signed()).ok();
    match (left, right) {
        (Value::Constant(a), Value::Constant(b)) => Value::Constant(a.wrapping_add(b)),
        (base, Value::Offset(f, r)) | (Value::Offset(f, r), base) => {
            let origin = match base {
                Value::Loaded(at) => Some(at),
                _ => None,
            };
            Value::Field(f, r, origin)
        }
        (Value::Context(at), Value::Constant(n)) => {
            small(n).map_or(Value::Unknown, |n| Value::Context(at.saturating_add(n)))
        }
        (Value::Stack(at), Value::Constant(n)) => {
            small(n).map_or(Value::Unknown, |n| Value::Stack(at.saturating_add(n)))
        }
        (Value::Settings, Value::Constant(_)) => Value::Settings,
        (Value::Setting, Value::Setting | Value::Constant(_)) => Value::Setting,
        (Value::Unknown | Value::Raw | Value::Loaded(_), Value::Constant(n))
            if n != 0 && !corrected =>
        {
            Value::Raw
        }
        _ => Value::Unknown,
    }
}

fn fold(op: u8, left: Value, right: Value, wide: bool) -> Value {
    if is_setting(left, right) {
        return Value::Setting;
    }
    let (Value::Constant(a), Value::Constant(b)) = (truncate(left, wide), truncate(right, wide))
    else {
        return Value::Unknown;
    };
    let shift = u32::try_from(b & if wide { 63 } else { 31 }).unwrap_or(0);
    let number = match op {
        0x00 => a.wrapping_add(b),
        0x10 => a.wrapping_sub(b),
        0x20 => a.wrapping_mul(b),
        0x40 => a | b,
        0x50 => a & b,
        0x60 => a << shift,
        0x70 => a >> shift,
        0xa0 => a ^ b,
        0xc0 if wide => (a.cast_signed() >> shift).cast_unsigned(),
        0xc0 => u64::from(low(a).cast_signed().wrapping_shr(shift).cast_unsigned()),
        _ => return Value::Unknown,
    };
    truncate(Value::Constant(number), wide)
}

/// The low half of a number.
fn low(number: u64) -> u32 {
    u32::try_from(number & 0xffff_ffff).unwrap_or(0)
}

fn is_setting(left: Value, right: Value) -> bool {
    matches!(
        (left, right),
        (Value::Setting, Value::Setting | Value::Constant(_))
            | (Value::Constant(_), Value::Setting)
    )
}

/// Whether a conditional jump is taken, if that is certain.
fn compare(op: u8, left: Value, right: Value, wide: bool) -> Option<bool> {
    let (Value::Constant(a), Value::Constant(b)) = (left, right) else {
        return None;
    };
    let signed = |n: u64| {
        if wide {
            n.cast_signed()
        } else {
            // The high half was cut off; bit 31 is the sign.
            (n.cast_signed() << 32) >> 32
        }
    };
    let (x, y) = (signed(a), signed(b));
    Some(match op {
        0x10 => a == b,
        0x20 => a > b,
        0x30 => a >= b,
        0x40 => a & b != 0,
        0x50 => a != b,
        0x60 => x > y,
        0x70 => x >= y,
        0xa0 => a < b,
        0xb0 => a <= b,
        0xc0 => x < y,
        0xd0 => x <= y,
        _ => return None,
    })
}
