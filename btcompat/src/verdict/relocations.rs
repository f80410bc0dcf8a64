//! CO-RE relocations of an object: resolved once, judged per program.

use super::decide::Case;
use super::{Code, Finding, ProgramVerdict, Severity, Stage};
use crate::btf::Btf;
use crate::object::{Insn, Object, Reach};
use crate::relocate::{
    Candidate, CoreRelo, CoreReloKind, LibbpfVersion, Mismatch, PatchError, RelocError, Resolved,
    Targets, parse_spec, patch, resolve,
};
use std::collections::{BTreeMap, HashMap};

/// What became of one relocation.
#[derive(Debug)]
pub(super) enum Outcome<'t> {
    /// Resolved; the instruction was replaced by an invalid call if `poisoned`.
    Done {
        resolved: Box<Resolved<'t>>,
        poisoned: bool,
    },
    /// libbpf refuses the object.
    Refused(RelocError),
    /// libbpf refuses the object because of the instruction.
    Unpatchable(PatchError),
    /// Old libbpf without the right to read module BTF.
    Unreadable,
    /// A kind that is not known.
    UnknownKind(u32),
}

/// All relocations of an object on one kernel.
#[derive(Debug, Default)]
pub(super) struct Relocated<'t> {
    /// By (function, position in its list).
    pub(super) outcomes: BTreeMap<(usize, usize), Outcome<'t>>,
    /// Changed instructions.
    pub(super) patched: BTreeMap<(usize, usize), Insn>,
}

/// Resolves all relocations in libbpf's order. Nothing without BTF.
pub(super) fn relocate<'t>(
    object: &Object,
    targets: Option<&'t Targets>,
    version: LibbpfVersion,
) -> Relocated<'t> {
    let mut result = Relocated::default();
    let (Some(targets), Some(local)) = (targets, &object.btf) else {
        return result;
    };
    let mut cache: HashMap<u32, Vec<Candidate>> = HashMap::new();
    for (f, r) in object.relocation_order() {
        let relocation = &object.functions[f].relocations[r];
        let outcome = match &relocation.relo {
            None => Outcome::UnknownKind(relocation.raw_kind),
            Some(relo) => {
                let outcome = one(relo, local, targets, &mut cache, version);
                let insns = &object.functions[f].insns;
                write(outcome, insns, (f, relocation.insn), &mut result.patched)
            }
        };
        result.outcomes.insert((f, r), outcome);
    }
    result
}

fn one<'t>(
    relo: &CoreRelo,
    local: &Btf,
    targets: &'t Targets,
    cache: &mut HashMap<u32, Vec<Candidate<'t>>>,
    version: LibbpfVersion,
) -> Outcome<'t> {
    if !cache.contains_key(&relo.type_id) && relo.kind != CoreReloKind::LocalTypeId {
        match targets.candidates(local, relo.type_id, version) {
            Ok(found) => cache.insert(relo.type_id, found),
            Err(_) => return Outcome::Unreadable,
        };
    }
    let candidates = cache.entry(relo.type_id).or_default();
    match resolve(relo, local, candidates, version) {
        Ok(resolved) => Outcome::Done {
            resolved: Box::new(resolved),
            poisoned: false,
        },
        Err(e) => Outcome::Refused(e),
    }
}

/// Patches the instruction of a resolved relocation.
fn write<'t>(
    outcome: Outcome<'t>,
    insns: &[Insn],
    (function, at): (usize, usize),
    patched: &mut BTreeMap<(usize, usize), Insn>,
) -> Outcome<'t> {
    let Outcome::Done { resolved, .. } = outcome else {
        return outcome;
    };
    let Some(&insn) = insns.get(at) else {
        return Outcome::Refused(RelocError::Malformed("no such instruction"));
    };
    match patch(insn, insns.get(at + 1).copied(), &resolved.resolution) {
        Ok(new) => {
            for (i, insn) in new.insns.into_iter().enumerate() {
                patched.insert((function, at + i), insn);
            }
            Outcome::Done {
                resolved,
                poisoned: new.poisoned,
            }
        }
        Err(e) => Outcome::Unpatchable(e),
    }
}

/// Judges the relocations that belong to one program.
pub(super) fn judge_relocations(case: &Case, verdict: &mut ProgramVerdict) {
    let Some(local) = &case.object.btf else {
        return;
    };
    for &f in &case.program.reachable {
        for (r, relocation) in case.object.functions[f].relocations.iter().enumerate() {
            let Some(outcome) = case.relocated.outcomes.get(&(f, r)) else {
                continue;
            };
            let at = (f, relocation.insn);
            let path = relocation.relo.as_ref().map_or_else(String::new, |relo| {
                parse_spec(relo, local).map_or_else(|_| relo.access.clone(), |s| s.path(local))
            });
            let finding = |code, severity, evidence: String, advice: &str| Finding {
                code,
                stage: Stage::Relocate,
                severity,
                subject: path.clone(),
                place: Some(case.place(at)),
                evidence,
                advice: advice.to_owned(),
            };
            let found = match (outcome, &relocation.relo) {
                (Outcome::Done { resolved, poisoned }, Some(relo)) => {
                    judge_done(case, relo, resolved, *poisoned, at, &path)
                }
                (Outcome::Refused(e), _) => Some(refused(e, &finding)),
                (Outcome::Unpatchable(e), _) => Some(finding(
                    Code::RelocMalformed,
                    Severity::Breaks,
                    e.to_string(),
                    "compile the object again",
                )),
                (Outcome::Unreadable, _) => Some(finding(
                    Code::BtfModulesUnreadable,
                    Severity::Breaks,
                    "CAP_SYS_ADMIN is missing".to_owned(),
                    "add CAP_SYS_ADMIN, or load with libbpf 1.3 or later",
                )),
                (Outcome::UnknownKind(kind), _) => Some(finding(
                    Code::RelocUnsupported,
                    Severity::Breaks,
                    format!("kind {kind}"),
                    "load with a newer libbpf",
                )),
                (Outcome::Done { .. }, None) => None,
            };
            if let Some(finding) = found {
                verdict.add(finding);
            }
        }
    }
}

fn refused(
    error: &RelocError,
    finding: &impl Fn(Code, Severity, String, &str) -> Finding,
) -> Finding {
    let (code, advice) = match error {
        RelocError::AmbiguousOffset { .. } => (
            Code::RelocAmbiguous,
            "use a flavor that only one of the types has the fields of",
        ),
        RelocError::AmbiguousValue { .. } => (
            Code::RelocAmbiguous,
            "do not ask for the type id of a module's type; load before other modules that carry it",
        ),
        RelocError::Unsupported(_) => (Code::RelocUnsupported, "load with a newer libbpf"),
        _ => (Code::RelocMalformed, "compile the object again"),
    };
    finding(code, Severity::Breaks, error.to_string(), advice)
}

fn judge_done(
    case: &Case,
    relo: &CoreRelo,
    resolved: &Resolved,
    poisoned: bool,
    at: (usize, usize),
    path: &str,
) -> Option<Finding> {
    let existence_like = relo.kind.is_existence()
        || matches!(
            relo.kind,
            CoreReloKind::TypeSize | CoreReloKind::TargetTypeId
        );
    if !poisoned {
        let missing = resolved.target.is_none() && relo.kind != CoreReloKind::LocalTypeId;
        return (missing && existence_like)
            .then(|| hidden(case, relo, at, path))
            .flatten();
    }
    let reach = case.flow.reach(at);
    // A type that is nowhere may be in a module that was not read.
    let other_btf = case.scenario.btf.is_some();
    let nowhere = resolved.target.is_none() && resolved.mismatches.is_empty();
    let spot = case
        .view
        .blind_spot("")
        .filter(|_| nowhere && !other_btf && type_may_be_hidden(case));
    let (code, severity) = match (reach, resolved.resolution.poison) {
        (Reach::Possible, true) if spot.is_some() => (Code::ModUnread, Severity::Undetermined),
        (Reach::Never, _) => (Code::RelocGuarded, Severity::Note),
        (Reach::Conditional, _) => (Code::RelocSetting, Severity::Undetermined),
        (Reach::Possible, true) => (Code::RelocMissing, Severity::Breaks),
        (Reach::Possible, false) => (Code::RelocWidth, Severity::Breaks),
    };
    let module = root_name(case, relo)
        .filter(|_| !other_btf)
        .and_then(|(name, kind)| case.view.hidden_type(name, kind));
    let (evidence, advice) = match module {
        Some(module) if !case.view.is_loaded(module) => (
            format!("the type is in module {module}, which is not loaded"),
            format!("modprobe {module} first"),
        ),
        Some(module) => (
            format!("the type is in module {module}, whose BTF may not be read"),
            "add CAP_SYS_ADMIN".to_owned(),
        ),
        None if severity == Severity::Undetermined && spot.is_some() => {
            let evidence = format!("no such type in the kernel; {}", spot.unwrap_or_default());
            (evidence, case.view.remedy().to_owned())
        }
        None => (why(case, resolved), advice(case, severity, nowhere, path)),
    };
    Some(Finding {
        code,
        // A poisoned instruction is refused by the verifier, not by libbpf.
        stage: Stage::Load,
        severity,
        subject: path.to_owned(),
        place: Some(case.place(at)),
        evidence,
        advice,
    })
}

/// What to do about a field that is not there.
fn advice(case: &Case, severity: Severity, nowhere: bool, path: &str) -> String {
    if severity == Severity::Note {
        return String::new();
    }
    if nowhere && case.scenario.btf.is_none() && modules_lack_btf(case) {
        return "load it with a BTF made for this kernel (btf_custom_path; here: --btf)".to_owned();
    }
    format!("guard it: bpf_core_field_exists({path})")
}

/// Whether no module that was read has BTF: then no module of this kernel has.
fn modules_lack_btf(case: &Case) -> bool {
    let modules = &case.view.surface.modules;
    !modules.is_empty() && modules.values().all(|m| m.btf.get().is_none())
}

/// Whether types could be in modules that were not read: not if modules that
/// were read have none, because then no module of this kernel has.
fn type_may_be_hidden(case: &Case) -> bool {
    !modules_lack_btf(case)
}

fn root_name<'a>(case: &'a Case, relo: &CoreRelo) -> Option<(&'a str, crate::btf::Kind)> {
    let ty = case.object.btf.as_ref()?.ty(relo.type_id)?;
    Some((ty.name(), ty.kind()))
}

/// A check that says no only because a module is not there or not readable.
fn hidden(case: &Case, relo: &CoreRelo, at: (usize, usize), path: &str) -> Option<Finding> {
    if case.scenario.btf.is_some() {
        return None;
    }
    let (name, kind) = root_name(case, relo)?;
    let in_kernel = case.view.surface.btf.as_ref();
    let shadowed = in_kernel.is_some_and(|btf| {
        let mut same = btf.own_by_essential_name(name);
        same.any(|t| t.kind().core_compatible(kind))
    });
    let module = case.view.hidden_type(name, kind).filter(|_| !shadowed)?;
    if case.flow.reach(at) == Reach::Never {
        return None;
    }
    let loaded = case.view.is_loaded(module);
    let (evidence, advice) = if loaded {
        let why = format!("{name} is in module {module}, whose BTF takes CAP_SYS_ADMIN to read");
        (why, "add CAP_SYS_ADMIN".to_owned())
    } else {
        let why = format!("{name} is in module {module}, which is not loaded");
        (why, format!("modprobe {module} before loading the object"))
    };
    Some(Finding {
        code: Code::LieZero,
        stage: Stage::Run,
        severity: Severity::Lies,
        subject: format!("{}({path})", relo.kind.name()),
        place: Some(case.place(at)),
        evidence,
        advice,
    })
}

/// Why nothing matched, in the kernel's terms.
fn why(case: &Case, resolved: &Resolved) -> String {
    if resolved.resolution.fail_memsz_adjust && !resolved.resolution.poison {
        let res = resolved.resolution;
        return format!("{} bytes here, {} in the object", res.new_sz, res.orig_sz);
    }
    let Some((candidate, mismatch)) = resolved.mismatches.first() else {
        if case.scenario.btf.is_some() {
            return "not in the BTF that was given".to_owned();
        }
        return if modules_lack_btf(case) {
            "no such type; the modules of this kernel have no BTF".to_owned()
        } else {
            "no such type".to_owned()
        };
    };
    let owner = |id: u32| candidate.btf.spelling(id);
    match mismatch {
        Mismatch::Missing { in_type, name } => format!("{} has no {name}", owner(*in_type)),
        Mismatch::Incompatible {
            in_type,
            name,
            found,
        } => format!("{}.{name} is {}", owner(*in_type), owner(*found)),
        Mismatch::TooShort { index, elements } => {
            format!("the array has {elements} elements, index is {index}")
        }
        Mismatch::WrongKind { found } => format!("{} there", owner(*found)),
        Mismatch::Type => format!("{} differs", owner(candidate.id)),
    }
}
