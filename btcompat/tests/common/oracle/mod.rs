//! Judges one relocation twice: by this crate and by libbpf.

pub(crate) mod sections;
mod sys;

use btcompat::btf::{Btf, essential_name};
use btcompat::object::Insn;
use btcompat::relocate::{
    Candidate, CoreRelo, CoreReloKind, LibbpfVersion, Targets, patch, resolve,
};
use std::collections::HashMap;
use std::sync::Arc;
use sys::{Candidates, JudgeBtf, RawRelo, Res};

/// What became of a relocation, in terms both judges share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The object is refused when the value is computed.
    Refused(i32),
    /// The object is refused when the instruction is patched.
    PatchRefused(Res, i32),
    /// The value and the resulting instruction bytes.
    Patched(Res, [[u8; 8]; 2]),
}

/// One relocation to be judged, with the instruction it is for.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) relo: CoreRelo,
    /// Offset of the accessor in the strings of the local BTF.
    pub(crate) access_off: u32,
    pub(crate) insns: [Insn; 2],
}

/// An object's types and a kernel's, as both judges see them.
pub(crate) struct Bench {
    local: Arc<Btf>,
    targets: Targets,
    // Fields drop in order: splits before their base.
    judge_modules: Vec<JudgeBtf>,
    judge_vmlinux: JudgeBtf,
    judge_local: JudgeBtf,
}

impl Bench {
    /// `None` when libbpf refuses one of the BTFs.
    pub(crate) fn new(local: Arc<Btf>, targets: Targets) -> Option<Self> {
        sys::be_quiet();
        let judge_local = JudgeBtf::parse(local.bytes(), None)?;
        judge_local.set_pointer_size(8);
        let judge_vmlinux = JudgeBtf::parse(targets.vmlinux.bytes(), None)?;
        let judge_modules = targets
            .modules
            .iter()
            .map(|(_, btf)| JudgeBtf::parse(btf.bytes(), Some(&judge_vmlinux)))
            .collect::<Option<Vec<_>>>()?;
        Some(Self {
            local,
            targets,
            judge_modules,
            judge_vmlinux,
            judge_local,
        })
    }

    /// Judges relocations in order, keeping candidates between them as libbpf does.
    /// Returns (ours, libbpf's) for each.
    pub(crate) fn judge(&self, questions: &[Question]) -> Vec<(Outcome, Outcome)> {
        let mut ours: HashMap<u32, Vec<Candidate>> = HashMap::new();
        let mut theirs: HashMap<u32, Candidates> = HashMap::new();
        questions
            .iter()
            .map(|q| (self.ours(q, &mut ours), self.theirs(q, &mut theirs)))
            .collect()
    }

    fn ours<'t>(&'t self, q: &Question, cache: &mut HashMap<u32, Vec<Candidate<'t>>>) -> Outcome {
        let version = LibbpfVersion::CURRENT;
        let candidates = cache.entry(q.relo.type_id).or_insert_with(|| {
            let found = self
                .targets
                .candidates(&self.local, q.relo.type_id, version);
            found.expect("modules may be read")
        });
        let resolved = match resolve(&q.relo, &self.local, candidates, version) {
            Ok(resolved) => resolved.resolution,
            Err(e) => return Outcome::Refused(e.errno()),
        };
        let res = Res {
            orig_val: resolved.orig_val,
            new_val: resolved.new_val,
            poison: resolved.poison,
            validate: resolved.validate,
            fail_memsz_adjust: resolved.fail_memsz_adjust,
            orig_sz: resolved.orig_sz,
            orig_type_id: resolved.orig_type_id,
            new_sz: resolved.new_sz,
            new_type_id: resolved.new_type_id,
        };
        match patch(q.insns[0], Some(q.insns[1]), &resolved) {
            Ok(patched) => {
                let mut bytes = q.insns.map(Insn::encode);
                for (slot, insn) in bytes.iter_mut().zip(patched.insns) {
                    *slot = insn.encode();
                }
                Outcome::Patched(res, bytes)
            }
            Err(e) => Outcome::PatchRefused(res, e.errno()),
        }
    }

    fn theirs(&self, q: &Question, cache: &mut HashMap<u32, Candidates>) -> Outcome {
        let relo = RawRelo {
            insn_off: 0,
            type_id: q.relo.type_id,
            access_str_off: q.access_off,
            kind: kind_number(q.relo.kind),
        };
        let candidates = cache
            .entry(relo.type_id)
            .or_insert_with(|| self.candidates(relo.type_id));
        let res = match sys::calculate(&relo, &self.judge_local, candidates) {
            Ok(res) => res,
            Err(errno) => return Outcome::Refused(errno),
        };
        let mut bytes = q.insns.map(Insn::encode);
        match sys::patch(&relo, &res, &mut bytes) {
            Ok(()) => Outcome::Patched(res, bytes),
            Err(errno) => Outcome::PatchRefused(res, errno),
        }
    }

    /// `bpf_core_find_cands()`: the kernel first, modules only if it has none.
    fn candidates(&self, id: u32) -> Candidates {
        let mut found = Candidates::new();
        let name = self.local.ty(id).map_or("", |t| t.name());
        if name.is_empty() {
            return found;
        }
        let len = essential_name(name).len();
        found.add(&self.judge_local, id, len, &self.judge_vmlinux, 1);
        if found.is_empty() {
            let start = self.judge_vmlinux.type_count();
            for module in &self.judge_modules {
                found.add(&self.judge_local, id, len, module, start);
            }
        }
        found
    }
}

fn kind_number(kind: CoreReloKind) -> u32 {
    let position = CoreReloKind::ALL.iter().position(|&k| k == kind);
    u32::try_from(position.expect("every kind is listed")).expect("a small number")
}
