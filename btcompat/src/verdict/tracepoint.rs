//! Whether a tracepoint exists and has the arguments that a program reads.

use super::attach::finding;
use super::decide::Case;
use super::{Code, ProgramVerdict, Severity, Stage};
use crate::btf::{Btf, Kind, Type};
use crate::object::{AttachKind, ContextUse};

/// raw_tp and tp_btf.
pub(super) fn judge_raw_tracepoint(
    case: &Case,
    kind: AttachKind,
    target: &str,
    verdict: &mut ProgramVerdict,
) {
    let typedef = format!("btf_trace_{target}");
    let found = prototype_of_tracepoint(case, &typedef);
    let symbol = format!("__traceiter_{target}");
    let exists = found.is_some() || !case.view.functions(&symbol).is_empty();
    if !exists {
        let waiting = case
            .view
            .not_loaded
            .iter()
            .find(|m| m.tracepoints.contains(target));
        let stage = if kind == AttachKind::TpBtf {
            Stage::Load
        } else {
            Stage::Attach
        };
        let finding = match waiting {
            Some(module) => {
                let evidence = format!("in module {}, which is not loaded", module.name);
                finding(
                    Code::ModNotLoaded,
                    stage,
                    Severity::Breaks,
                    target,
                    evidence,
                )
                .advise(format!("modprobe {}", module.name))
            }
            None => match case.view.blind_spot(target) {
                Some(spot) => finding(Code::ModUnread, stage, Severity::Undetermined, target, spot)
                    .advise(case.view.remedy()),
                None => finding(
                    Code::TpAbsent,
                    stage,
                    Severity::Breaks,
                    target,
                    format!("no {typedef}"),
                ),
            },
        };
        return verdict.add(finding);
    }
    let Some((btf, proto)) = found else {
        if kind == AttachKind::TpBtf {
            let stuck = finding(
                Code::FnNoBtf,
                Stage::Load,
                Severity::Breaks,
                target,
                typedef,
            );
            verdict.add(stuck.advise("use raw_tp"));
        }
        return;
    };
    // The first parameter is the tracepoint's own data.
    let count = proto.vlen().saturating_sub(1);
    let used = ContextUse::of(case.object, case.program, &case.flow);
    let certain = used.arguments.iter().find(|&&n| n >= count);
    let conditional = used.conditional.iter().find(|&&n| n >= count);
    if let Some(n) = certain.or(conditional) {
        let evidence = btf.prototype(target, proto.id).unwrap_or_default();
        let (stage, severity) = if kind == AttachKind::TpBtf {
            (Stage::Load, Severity::Breaks)
        } else {
            // Kernel: kernel/trace/bpf_trace.c __bpf_probe_register().
            (Stage::Attach, Severity::Breaks)
        };
        let subject = format!("{target}, argument {n}");
        verdict.add(finding(
            Code::FnArguments,
            stage,
            severity,
            &subject,
            evidence,
        ));
    }
}

fn prototype_of_tracepoint<'a>(case: &Case<'a>, typedef: &str) -> Option<(&'a Btf, Type<'a>)> {
    case.view.btfs().into_iter().find_map(|(_, btf)| {
        let found = btf.first_named(typedef, Kind::Typedef)?;
        let ptr = btf.ty(found.target()).filter(|t| t.kind() == Kind::Ptr)?;
        Some((&**btf, btf.ty(ptr.target())?))
    })
}

/// `category/name`.
pub(super) fn judge_tracepoint(case: &Case, target: &str, verdict: &mut ProgramVerdict) {
    let (category, name) = target.split_once('/').unwrap_or(("", target));
    let in_module = |module: &&crate::surface::Module| {
        let fits = module.category.as_deref().is_none_or(|c| c == category);
        module.tracepoints.contains(name) && fits
    };
    if case.view.loaded.iter().any(&in_module) {
        return;
    }
    if let Some(module) = case.view.not_loaded.iter().find(|m| in_module(m)) {
        let evidence = format!("in module {}, which is not loaded", module.name);
        let waiting = finding(
            Code::ModNotLoaded,
            Stage::Attach,
            Severity::Breaks,
            target,
            evidence,
        );
        return verdict.add(waiting.advise(format!("modprobe {}", module.name)));
    }
    let Some(events) = &case.view.surface.trace_events else {
        return verdict.add(finding(
            Code::TpUnknown,
            Stage::Attach,
            Severity::Undetermined,
            target,
            "",
        ));
    };
    if events.contains(target) {
        return;
    }
    let known_category = events
        .iter()
        .any(|e| e.split_once('/').is_some_and(|(c, _)| c == category));
    if let Some(spot) = case.view.blind_spot(target).filter(|_| !known_category) {
        let unread = finding(
            Code::ModUnread,
            Stage::Attach,
            Severity::Undetermined,
            target,
            spot,
        );
        return verdict.add(unread.advise(case.view.remedy()));
    }
    let elsewhere: Vec<&str> = events
        .iter()
        .filter(|e| e.ends_with(&format!("/{name}")))
        .map(String::as_str)
        .collect();
    let gone = finding(
        Code::TpAbsent,
        Stage::Attach,
        Severity::Breaks,
        target,
        "not among the kernel's events",
    );
    verdict.add(if elsewhere.is_empty() {
        gone
    } else {
        gone.advise(format!("use {}", elsewhere.join(", ")))
    });
}
