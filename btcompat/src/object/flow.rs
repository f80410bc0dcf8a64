//! A small abstract interpretation of a program: which instructions can run,
//! which parts of its context it reads, what it reads through
//! `bpf_probe_read`, which functions it calls.
//!
//! It follows constants, the context pointer, spilled registers and pointers
//! made by relocations, and takes everything else for unknown. The kernel's
//! verifier knows more, so code that is *not* reached here is dead for the
//! verifier too; the reverse does not hold.

mod state;
mod step;

use super::insn::Insn;
use super::model::{Object, Program, RefTarget, Relocation};
use state::State;
use std::collections::{BTreeMap, BTreeSet};

pub use state::Reach;

/// Steps after which the analysis gives up, per instruction of the program.
const STEPS_PER_INSN: usize = 200;
/// Steps after which it gives up in any case.
const MAX_STEPS: usize = 4_000_000;

/// Position of an instruction: function, then instruction within it.
pub(crate) type Place = (usize, usize);

/// Which code is looked at: as compiled, or as a loader would patch it.
#[derive(Clone, Copy, Debug)]
pub enum Oracle<'a> {
    /// As compiled; what relocations ask about existence is left open.
    Compiled,
    /// With these instructions in the place of compiled ones, and these values
    /// for external symbols such as `LINUX_KERNEL_VERSION`.
    Patched(&'a BTreeMap<Place, Insn>, &'a BTreeMap<String, u64>),
}

/// A read of the program's context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContextRead {
    /// Offset in bytes as compiled.
    pub offset: i32,
    /// Bytes read.
    pub width: u32,
    /// Where.
    pub place: Place,
}

/// A read of kernel memory through a helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeRead {
    /// The call.
    pub place: Place,
    /// Bytes read, if known.
    pub size: Option<u32>,
    /// The relocation (function, position in its list) that made the address.
    pub relocation: Option<(usize, usize)>,
    /// The address was made by adding a number that no relocation corrects.
    pub fixed_offset: bool,
}

/// What was found out about a program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Instructions that may run, and on what condition.
    pub reached: BTreeMap<Place, Reach>,
    /// Reads of the context.
    pub context_reads: BTreeSet<ContextRead>,
    /// Reads through helpers.
    pub probe_reads: BTreeSet<ProbeRead>,
    /// Values of the context that are used as pointers to a relocation's root
    /// type: (offset in the context, function, position in its list).
    pub typed_uses: BTreeSet<(i32, usize, usize)>,
    /// The program is too large to be followed to the end.
    pub gave_up: bool,
}

impl Flow {
    /// How an instruction is reached.
    #[must_use]
    pub fn reach(&self, place: Place) -> Reach {
        if self.gave_up {
            return Reach::Conditional;
        }
        self.reached.get(&place).copied().unwrap_or(Reach::Never)
    }
}

/// Follows a program from its entry.
#[must_use]
pub fn analyze(object: &Object, program: &Program, oracle: Oracle) -> Flow {
    let mut engine = Engine::new(object, oracle);
    engine.arrive((program.function, 0), State::entry());
    let insns: usize = program
        .reachable
        .iter()
        .map(|&f| object.functions[f].insns.len())
        .sum();
    let mut budget = insns.saturating_mul(STEPS_PER_INSN).clamp(1_000, MAX_STEPS);
    while let Some(place) = engine.pending.pop_first() {
        if budget == 0 {
            engine.flow.gave_up = true;
            break;
        }
        budget -= 1;
        engine.execute(place);
    }
    let Engine {
        mut flow, states, ..
    } = engine;
    flow.reached = states
        .into_iter()
        .map(|(place, state)| (place, state.reach()))
        .collect();
    flow
}

struct Engine<'a> {
    object: &'a Object,
    oracle: Oracle<'a>,
    relocations: BTreeMap<Place, usize>,
    states: BTreeMap<Place, State>,
    pending: BTreeSet<Place>,
    flow: Flow,
}

impl<'a> Engine<'a> {
    fn new(object: &'a Object, oracle: Oracle<'a>) -> Self {
        let relocations = object
            .functions
            .iter()
            .enumerate()
            .flat_map(|(f, function)| {
                let places = function.relocations.iter().enumerate();
                places.map(move |(r, relocation)| ((f, relocation.insn), r))
            })
            .collect();
        Self {
            object,
            oracle,
            relocations,
            states: BTreeMap::new(),
            pending: BTreeSet::new(),
            flow: Flow::default(),
        }
    }

    fn insn(&self, place: Place) -> Option<Insn> {
        if let Oracle::Patched(patched, _) = self.oracle
            && let Some(insn) = patched.get(&place)
        {
            return Some(*insn);
        }
        let function = self.object.functions.get(place.0)?;
        function.insns.get(place.1).copied()
    }

    fn relocation(&self, place: Place) -> Option<(usize, &'a Relocation)> {
        let r = *self.relocations.get(&place)?;
        Some((r, &self.object.functions[place.0].relocations[r]))
    }

    /// Control reaches an instruction with this state.
    fn arrive(&mut self, place: Place, state: State) {
        if self.insn(place).is_none() {
            return;
        }
        match self.states.get_mut(&place) {
            None => {
                self.states.insert(place, state);
                self.pending.insert(place);
            }
            Some(known) => {
                if known.join(&state) {
                    self.pending.insert(place);
                }
            }
        }
    }

    fn reference(&self, place: Place) -> Option<&'a RefTarget> {
        self.object.functions[place.0].refs.get(&place.1)
    }
}

#[cfg(test)]
mod tests;
