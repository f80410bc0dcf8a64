//! Helpers, map and program types, externs: what the kernel's own lists say.

use super::decide::Case;
use super::modules::View;
use super::{Code, Finding, ProgramVerdict, Severity, Stage};
use crate::btf::Kind;
use crate::object::{CallTarget, ExternKind, Object, Reach, helper_name};
use crate::relocate::types_are_compat;

fn finding(code: Code, stage: Stage, severity: Severity, subject: String) -> Finding {
    Finding {
        code,
        stage,
        severity,
        subject,
        place: None,
        evidence: String::new(),
        advice: String::new(),
    }
}

/// Program type, attach type and helpers.
pub(super) fn judge_features(case: &Case, verdict: &mut ProgramVerdict) {
    let Some(btf) = &case.view.surface.btf else {
        return;
    };
    if let Some(spec) = case.spec() {
        let lists = [
            (
                "bpf_prog_type",
                Some(format!("BPF_PROG_TYPE_{}", spec.program_type)),
            ),
            ("bpf_attach_type", spec.attach_type.clone()),
        ];
        for (list, wanted) in lists {
            let known = btf.find(list, Kind::Enum).is_some();
            let Some(name) = wanted.filter(|_| known) else {
                continue;
            };
            if case.view.surface.enumerator(list, &name).is_none() {
                let code = if list == "bpf_prog_type" {
                    Code::ProgTypeAbsent
                } else {
                    Code::AttachTypeAbsent
                };
                verdict.add(finding(code, Stage::Load, Severity::Breaks, name));
            }
        }
    }
    judge_helpers(case, verdict);
    judge_kfuncs(case, verdict);
}

fn judge_helpers(case: &Case, verdict: &mut ProgramVerdict) {
    let Some(limit) = case
        .view
        .surface
        .enumerator("bpf_func_id", "__BPF_FUNC_MAX_ID")
    else {
        return;
    };
    for &f in &case.program.reachable {
        for (&insn, target) in &case.object.functions[f].calls {
            let CallTarget::Helper(id) = target else {
                continue;
            };
            let severity = match case.flow.reach((f, insn)) {
                Reach::Never => continue,
                Reach::Conditional => Severity::Undetermined,
                Reach::Possible => Severity::Breaks,
            };
            // A relocation that found nothing puts an invalid call here.
            if u64::from(*id) < limit || case.relocated.patched.contains_key(&(f, insn)) {
                continue;
            }
            let name = helper_name(*id).map_or_else(|| id.to_string(), |n| format!("bpf_{n}"));
            let mut missing = finding(Code::HelperAbsent, Stage::Load, severity, name);
            missing.place = Some(case.place((f, insn)));
            missing.evidence = format!("the kernel knows helpers below {limit}, this is {id}");
            missing.advice = "guard it with bpf_core_enum_value_exists()".to_owned();
            verdict.add(missing);
        }
    }
}

fn judge_kfuncs(case: &Case, verdict: &mut ProgramVerdict) {
    for &f in &case.program.reachable {
        for (&insn, target) in &case.object.functions[f].calls {
            let CallTarget::Kfunc(name) = target else {
                continue;
            };
            let external = case.object.externs.iter().find(|e| e.name == *name);
            let weak = external.is_some_and(|e| e.weak);
            let code = match (
                external,
                kfunc_fits(case, name, external.map(|e| e.type_id)),
            ) {
                (_, Some(true)) => continue,
                (_, Some(false)) => Code::KfuncSignature,
                (_, None) => Code::KfuncAbsent,
            };
            // A weak function that is missing is an invalid call; guards on its
            // address are constants that are not followed here.
            let severity = if weak {
                Severity::Undetermined
            } else {
                Severity::Breaks
            };
            let mut missing = finding(code, Stage::Load, severity, name.clone());
            missing.place = Some(case.place((f, insn)));
            verdict.add(missing);
        }
    }
}

/// Whether the kernel's function has a fitting prototype; `None` if there is none.
fn kfunc_fits(case: &Case, name: &str, local_id: Option<u32>) -> Option<bool> {
    let local = case.object.btf.as_ref()?;
    for (_, btf) in case.view.btfs() {
        let found = btf
            .own_by_essential_name(name)
            .find(|t| t.kind() == Kind::Func);
        if let Some(func) = found {
            let fits = local_id.and_then(|id| local.ty(id)).is_none_or(|declared| {
                types_are_compat(local, declared.target(), btf, func.target()).unwrap_or(false)
            });
            return Some(fits);
        }
    }
    None
}

/// External symbols of the object as a whole.
pub(super) fn judge_externs(object: &Object, view: &View, findings: &mut Vec<Finding>) {
    for external in object.externs.iter().filter(|e| !e.weak) {
        let name = external.name.as_str();
        let code = match external.kind {
            ExternKind::Kfunc => None,
            // libbpf makes these up itself.
            ExternKind::Kconfig if name.starts_with("LINUX_") => None,
            ExternKind::Kconfig => view
                .surface
                .kconfig
                .as_ref()
                .filter(|c| c.get(name).is_none())
                .map(|_| Code::KconfigAbsent),
            ExternKind::TypedKsym => view
                .btfs()
                .iter()
                .all(|(_, b)| {
                    let mut same = b.own_by_essential_name(name);
                    same.all(|t| t.kind() != Kind::Var)
                })
                .then_some(Code::KsymAbsent),
            ExternKind::TypelessKsym if view.surface.symbols.is_none() => None,
            ExternKind::TypelessKsym => match view.symbol_count(name) {
                0 => Some(Code::KsymAbsent),
                1 => None,
                _ => Some(Code::KsymAmbiguous),
            },
        };
        if let Some(code) = code {
            findings.push(finding(
                code,
                Stage::Open,
                Severity::Breaks,
                name.to_owned(),
            ));
        }
    }
}

/// Maps of the object as a whole.
pub(super) fn judge_maps(object: &Object, view: &View, findings: &mut Vec<Finding>) {
    let known = view
        .surface
        .btf
        .as_ref()
        .is_some_and(|b| b.find("bpf_map_type", Kind::Enum).is_some());
    for map in &object.maps {
        let name = format!("BPF_MAP_TYPE_{}", map.type_name);
        let missing = view.surface.enumerator("bpf_map_type", &name).is_none();
        // Two types were renamed with a suffix when they were deprecated.
        let renamed = view
            .surface
            .enumerator("bpf_map_type", &format!("{name}_DEPRECATED"))
            .is_some();
        if known && missing && !renamed {
            let subject = format!("{} ({})", map.name, map.type_name);
            let mut absent = finding(Code::MapTypeAbsent, Stage::Load, Severity::Breaks, subject);
            absent.advice = "turn the map off (bpf_map__set_autocreate)".to_owned();
            findings.push(absent);
        }
        if map.is_unsized() {
            findings.push(finding(
                Code::MapUnsized,
                Stage::Load,
                Severity::Note,
                map.name.clone(),
            ));
        }
    }
}
