//! What is known about registers and stack at one instruction.

use super::Place;
use std::collections::BTreeMap;

/// How an instruction is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reach {
    /// Not at all: the verifier removes it.
    Never,
    /// Only for some settings that user space makes before loading.
    Conditional,
    /// For every setting, as far as can be told.
    Possible,
}

/// What is known about a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    Unknown,
    /// The context pointer plus so many bytes.
    Context(i32),
    /// This number.
    Constant(u64),
    /// Pointer to variables that user space or the configuration sets.
    Settings,
    /// Pointer to an external value that is known.
    Known(u64),
    /// A value read from there.
    Setting,
    /// Frame pointer plus so many bytes.
    Stack(i32),
    /// An offset that a relocation supplies.
    Offset(usize, usize),
    /// A value read from the context at this offset.
    Loaded(i32),
    /// An address made with such an offset, from a value of the context if that is known.
    Field(usize, usize, Option<i32>),
    /// An address made with an offset that nothing corrects.
    Raw,
}

/// A choice that depends on settings: the branch and which way it went.
type Condition = (Place, bool);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) registers: [Value; 11],
    pub(super) stack: BTreeMap<i32, Value>,
    /// Choices common to all paths that lead here, sorted.
    conditions: Vec<Condition>,
}

impl State {
    /// State at the entry of a program.
    pub(super) fn entry() -> Self {
        let mut state = Self::blank();
        state.registers[1] = Value::Context(0);
        state
    }

    /// Nothing known but the frame pointer.
    pub(super) fn blank() -> Self {
        let mut registers = [Value::Unknown; 11];
        registers[10] = Value::Stack(0);
        Self {
            registers,
            stack: BTreeMap::new(),
            conditions: Vec::new(),
        }
    }

    /// State in a function called from here.
    pub(super) fn for_callee(&self) -> Self {
        let mut callee = Self::blank();
        for r in 1..=5 {
            callee.registers[r] = match self.registers[r] {
                Value::Stack(_) => Value::Unknown,
                value => value,
            };
        }
        callee.conditions.clone_from(&self.conditions);
        callee
    }

    pub(super) fn get(&self, register: u8) -> Value {
        *self
            .registers
            .get(usize::from(register))
            .unwrap_or(&Value::Unknown)
    }

    pub(super) fn set(&mut self, register: u8, value: Value) {
        if let Some(slot) = self.registers.get_mut(usize::from(register)) {
            *slot = value;
        }
    }

    /// Registers that a call destroys.
    pub(super) fn clobber(&mut self) {
        self.registers[..=5].fill(Value::Unknown);
    }

    pub(super) fn assume(&mut self, place: Place, taken: bool) {
        let condition = (place, taken);
        if let Err(at) = self.conditions.binary_search(&condition) {
            self.conditions.insert(at, condition);
        }
    }

    pub(super) fn reach(&self) -> Reach {
        if self.conditions.is_empty() {
            Reach::Possible
        } else {
            Reach::Conditional
        }
    }

    /// Keeps what holds in both states; says whether anything was lost.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        let mut changed = false;
        for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
            if mine != theirs && *mine != Value::Unknown {
                *mine = join_values(*mine, *theirs);
                changed = true;
            }
        }
        let before = self.stack.len();
        self.stack
            .retain(|slot, value| other.stack.get(slot) == Some(value));
        changed |= self.stack.len() != before;
        let before = self.conditions.len();
        self.conditions
            .retain(|c| other.conditions.binary_search(c).is_ok());
        changed | (self.conditions.len() != before)
    }
}

/// A constant on one path and a setting on the other still depends on settings
/// alone. It can only become unknown after that, so joining ends.
fn join_values(a: Value, b: Value) -> Value {
    match (a, b) {
        (Value::Setting, Value::Constant(_)) => Value::Unknown,
        (Value::Constant(_), Value::Setting) => Value::Setting,
        _ => Value::Unknown,
    }
}
