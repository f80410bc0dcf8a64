//! Programs that load, run, and report what is not true.

use super::decide::Case;
use super::relocations::Outcome;
use super::{Code, Finding, ProgramVerdict, Severity, Stage};
use crate::btf::{Btf, Kind, Type, essential_name, names_match};
use crate::object::{AttachKind, Reach, Register, context_slot};
use crate::relocate::{CoreReloKind, Resolved, Spec, parse_spec};

/// Looks for silent lies.
pub(super) fn judge_lies(case: &Case, verdict: &mut ProgramVerdict) {
    judge_probe_reads(case, verdict);
    judge_fields(case, verdict);
    judge_argument_types(case, verdict);
    judge_inlining(case, verdict);
}

/// Calls whose code is elsewhere: debugging information knows them, and nothing else does.
fn judge_inlining(case: &Case, verdict: &mut ProgramVerdict) {
    let hooks_function = case.kind().is_some_and(|k| {
        matches!(
            k,
            AttachKind::Fentry
                | AttachKind::Fexit
                | AttachKind::Kprobe
                | AttachKind::Kretprobe
                | AttachKind::KprobeMulti
        )
    });
    let target = case.spec().and_then(|s| s.target.as_deref());
    let Some(target) = target.filter(|_| hooks_function) else {
        return;
    };
    let function = target.rsplit(':').next().unwrap_or(target);
    let known = case.view.surface.inlining.as_ref();
    let finding = match known.and_then(|inlining| inlining.of(function)) {
        Some(inlined) if inlined.copies > 0 && inlined.out_of_line => {
            let callers: Vec<&str> = inlined.callers.iter().map(String::as_str).collect();
            Finding {
                code: Code::InlineSelective,
                stage: Stage::Run,
                severity: Severity::Lies,
                subject: function.to_owned(),
                place: None,
                evidence: format!(
                    "{} calls inlined, in {}",
                    inlined.copies,
                    callers.join(", ")
                ),
                advice: "attach to a callee, or to its callers as well".to_owned(),
            }
        }
        // Every call is a call; or there is no code to attach to, which is found elsewhere.
        Some(_) => return,
        None => Finding {
            code: Code::InlineUnknown,
            stage: Stage::Run,
            severity: Severity::Note,
            subject: function.to_owned(),
            place: None,
            evidence: "needs debugging information to tell".to_owned(),
            advice: "--debug-info FILE".to_owned(),
        },
    };
    verdict.add(finding);
}

/// The two ends of a resolved field relocation.
struct Ends<'a> {
    local: &'a Btf,
    target: &'a Btf,
    /// Types of the field, wrappers included.
    before: u32,
    after: u32,
    path: String,
}

fn ends<'a>(case: &'a Case, key: (usize, usize)) -> Option<Ends<'a>> {
    let local = case.object.btf.as_ref()?;
    let relocation = case.object.functions[key.0].relocations.get(key.1)?;
    let relo = relocation.relo.as_ref()?;
    let Outcome::Done { resolved, .. } = case.relocated.outcomes.get(&key)? else {
        return None;
    };
    let (candidate, spec) = matched(resolved)?;
    let local_spec = parse_spec(relo, local).ok()?;
    Some(Ends {
        local,
        target: candidate,
        before: local_spec.field_type(local)?,
        after: spec.field_type(candidate)?,
        path: local_spec.path(local),
    })
}

fn matched<'t>(resolved: &'t Resolved<'t>) -> Option<(&'t Btf, &'t Spec<'t>)> {
    let (candidate, spec) = resolved.target.as_ref()?;
    Some((candidate.btf, spec))
}

/// Reads through helpers: their width is the object's, whatever the kernel has.
fn judge_probe_reads(case: &Case, verdict: &mut ProgramVerdict) {
    for read in &case.flow.probe_reads {
        if read.fixed_offset {
            verdict.add(Finding {
                code: Code::LieFixedOffset,
                stage: Stage::Run,
                severity: Severity::Note,
                subject: "bpf_probe_read".to_owned(),
                place: Some(case.place(read.place)),
                evidence: "the address is a pointer plus a constant".to_owned(),
                advice: "use BPF_CORE_READ".to_owned(),
            });
        }
        let (Some(key), Some(size)) = (read.relocation, read.size) else {
            continue;
        };
        let Some(ends) = ends(case, key) else {
            continue;
        };
        let (Ok(before), Ok(after)) = (
            ends.local.size_of(ends.before),
            ends.target.size_of(ends.after),
        ) else {
            continue;
        };
        // Another size than the field's own was chosen on purpose.
        if before == after || size != before || !is_scalar(ends.local, ends.before) {
            continue;
        }
        let effect = if after > before {
            "the value is cut"
        } else {
            "the next field is read too"
        };
        verdict.add(Finding {
            code: Code::LieWidth,
            stage: Stage::Run,
            severity: Severity::Lies,
            subject: ends.path,
            place: Some(case.place(read.place)),
            evidence: format!("{after} bytes here, {before} in the object: {effect}"),
            advice: "read it with bpf_core_read() of bpf_core_field_size(), or add a flavor"
                .to_owned(),
        });
    }
}

fn is_scalar(btf: &Btf, id: u32) -> bool {
    btf.strip(id)
        .is_some_and(|t| matches!(t.kind(), Kind::Int | Kind::Enum | Kind::Enum64 | Kind::Ptr))
}

/// Fields whose sign or pointee differs.
fn judge_fields(case: &Case, verdict: &mut ProgramVerdict) {
    for &f in &case.program.reachable {
        for (r, relocation) in case.object.functions[f].relocations.iter().enumerate() {
            let at = (f, relocation.insn);
            let is_read = relocation
                .relo
                .as_ref()
                .is_some_and(|relo| relo.kind == CoreReloKind::ByteOff);
            if !is_read || case.flow.reach(at) == Reach::Never {
                continue;
            }
            let Some(ends) = ends(case, (f, r)) else {
                continue;
            };
            let (Some(before), Some(after)) =
                (ends.local.strip(ends.before), ends.target.strip(ends.after))
            else {
                continue;
            };
            let Some((code, evidence)) = differs(&ends, before, after) else {
                continue;
            };
            verdict.add(Finding {
                code,
                stage: Stage::Run,
                severity: if code == Code::LieSign {
                    Severity::Note
                } else {
                    Severity::Lies
                },
                subject: ends.path,
                place: Some(case.place(at)),
                evidence,
                advice: "add a flavor for this kernel".to_owned(),
            });
        }
    }
}

fn differs(ends: &Ends, before: Type, after: Type) -> Option<(Code, String)> {
    let here = || {
        let (a, b) = (
            ends.target.spelling(ends.after),
            ends.local.spelling(ends.before),
        );
        format!("{a} here, {b} in the object")
    };
    match (before.kind(), after.kind()) {
        (Kind::Int, Kind::Int) => {
            let sign = |t: Type| t.int_encoding() & 1;
            (sign(before) != sign(after)).then(|| (Code::LieSign, here()))
        }
        (Kind::Ptr, Kind::Ptr) => {
            let a = ends.local.strip(before.target())?;
            let b = ends.target.strip(after.target())?;
            pointees_differ(a, b).then(|| (Code::LiePointee, here()))
        }
        _ => None,
    }
}

/// Only named structures can be told apart; a forward stands for its structure.
fn pointees_differ(a: Type, b: Type) -> bool {
    let is_structure = |t: Type| t.kind().is_composite() || t.kind() == Kind::Fwd;
    let named = !a.name().is_empty() && !b.name().is_empty();
    is_structure(a) && is_structure(b) && named && !names_match(a.name(), b.name())
}

/// Arguments that are used as pointers to a type, against the prototype.
fn judge_argument_types(case: &Case, verdict: &mut ProgramVerdict) {
    let (Some(local), Some(spec)) = (&case.object.btf, case.spec()) else {
        return;
    };
    let hooks_function = matches!(
        spec.kind(),
        AttachKind::Fentry | AttachKind::Fexit | AttachKind::Kprobe | AttachKind::KprobeMulti
    );
    let Some(function) = spec.target.as_deref().filter(|_| hooks_function) else {
        return;
    };
    let proto = case.view.btfs().into_iter().find_map(|(_, btf)| {
        let mut same = btf.own_by_essential_name(function);
        let func = same.find(|t| t.kind() == Kind::Func && t.name() == function)?;
        Some((btf, btf.ty(func.target())?))
    });
    let Some((btf, proto)) = proto else {
        return;
    };
    for &(offset, f, r) in &case.flow.typed_uses {
        let relocation = &case.object.functions[f].relocations[r];
        let root = relocation
            .relo
            .as_ref()
            .and_then(|x| local.strip(x.type_id));
        let slot = context_slot(case.object, spec.kind(), offset, (f, relocation.insn));
        let (Some(root), Some(Register::Argument(n))) = (root, slot) else {
            continue;
        };
        let Some(param) = proto.param(n) else {
            continue;
        };
        let pointee = btf
            .strip(param.type_id)
            .filter(|t| t.kind() == Kind::Ptr)
            .and_then(|t| btf.strip(t.target()));
        let fits = match pointee {
            Some(t) => {
                let extends = |a: &str, b: &str| case.view.starts_with(a, b);
                t.kind() == Kind::Void
                    || !pointees_differ(root, t)
                    || extends(essential_name(root.name()), t.name())
                    || extends(t.name(), essential_name(root.name()))
            }
            None => false,
        };
        if fits {
            continue;
        }
        verdict.add(Finding {
            code: Code::FnSignature,
            stage: Stage::Run,
            severity: Severity::Lies,
            subject: format!("{function}, argument {n}"),
            place: Some(case.place((f, relocation.insn))),
            evidence: format!(
                "{} here, {} * in the object",
                btf.spelling(param.type_id),
                local.spelling(root.id)
            ),
            advice: "ship a variant for this prototype".to_owned(),
        });
    }
}
