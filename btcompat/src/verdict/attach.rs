//! Whether a program's hook exists and can be attached to.

use super::decide::Case;
use super::modules::Found;
use super::tracepoint::{judge_raw_tracepoint, judge_tracepoint};
use super::{Code, Finding, ProgramVerdict, Severity, Stage};
use crate::btf::{Btf, Kind, Type};
use crate::object::{AttachKind, ContextUse};
use crate::surface::Flags;
use metrics::catalogue::SOMETIMES_VOID;

/// Judges the hook of a program.
pub(super) fn judge_attach(case: &Case, verdict: &mut ProgramVerdict) {
    let Some(spec) = case.spec() else {
        return;
    };
    let Some(target) = spec.target.as_deref() else {
        return verdict.add(note(Code::TargetUserSpace, &spec.prefix));
    };
    match spec.kind() {
        AttachKind::Fentry | AttachKind::Fexit | AttachKind::FmodRet => {
            judge_trampoline(case, target, verdict);
        }
        AttachKind::Kprobe | AttachKind::Kretprobe | AttachKind::KprobeMulti => {
            judge_kprobe(case, spec.kind(), target, verdict);
        }
        AttachKind::Ksyscall => {
            let prefix = case.view.surface.arch.syscall_prefix();
            judge_kprobe(
                case,
                AttachKind::Kprobe,
                &format!("{prefix}{target}"),
                verdict,
            );
        }
        AttachKind::TpBtf | AttachKind::RawTp => {
            judge_raw_tracepoint(case, spec.kind(), target, verdict);
        }
        AttachKind::Tracepoint => judge_tracepoint(case, target, verdict),
        AttachKind::Lsm => judge_hook(case, &format!("bpf_lsm_{target}"), target, verdict),
        AttachKind::Iter => judge_hook(case, &format!("bpf_iter_{target}"), target, verdict),
        AttachKind::UserSpace | AttachKind::Other => {
            verdict.add(note(Code::TargetUserSpace, target));
        }
        AttachKind::StructOps => {
            let mut finding = note(Code::HookUnknown, target);
            finding.stage = Stage::Load;
            finding.severity = Severity::Undetermined;
            verdict.add(finding);
        }
    }
}

fn note(code: Code, subject: &str) -> Finding {
    finding(code, Stage::Attach, Severity::Note, subject, "")
}

pub(super) fn finding(
    code: Code,
    stage: Stage,
    severity: Severity,
    subject: &str,
    evidence: impl Into<String>,
) -> Finding {
    Finding {
        code,
        stage,
        severity,
        subject: subject.to_owned(),
        place: None,
        evidence: evidence.into(),
        advice: String::new(),
    }
}

impl Finding {
    pub(super) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }
}

/// `module:function` or a function alone.
fn split_module(target: &str) -> (Option<&str>, &str) {
    match target.split_once(':') {
        Some((module, function)) => (Some(module), function),
        None => (None, target),
    }
}

/// fentry, fexit, fmod_ret: the prototype is needed to load, a call site to attach.
fn judge_trampoline(case: &Case, target: &str, verdict: &mut ProgramVerdict) {
    let (_, function) = split_module(target);
    let Some((btf, proto)) = prototype_of(case, function) else {
        return verdict.add(no_prototype(case, function));
    };
    judge_arguments(case, btf, proto, function, verdict);
    if proto.vlen() > 6 && case.view.surface.arch == crate::surface::Arch::X86_64 {
        judge_many_arguments(case, proto.vlen(), function, verdict);
    }
    if case.view.surface.symbols.is_none() {
        return;
    }
    let found = case.view.functions(function);
    let Some(first) = found.first() else {
        let variants = case.view.derived(function).join(", ");
        let code = if variants.is_empty() {
            Code::FnInlined
        } else {
            Code::FnNoAddress
        };
        let evidence = if variants.is_empty() {
            "in BTF, but no symbol".to_owned()
        } else {
            format!("only {variants}")
        };
        let gone = finding(code, Stage::Load, Severity::Breaks, function, evidence);
        return verdict.add(gone.advise("attach to a caller or a callee"));
    };
    if distinct(&found) > 1 {
        let evidence = format!("{} functions", distinct(&found));
        verdict.add(finding(
            Code::FnFirstOfMany,
            Stage::Run,
            Severity::Lies,
            function,
            evidence,
        ));
    }
    judge_call_site(case, first, function, verdict);
    judge_option(case, "DYNAMIC_FTRACE_WITH_DIRECT_CALLS", verdict);
}

/// Why there is no prototype: the whole way from "module not loaded" to "inlined".
fn no_prototype(case: &Case, function: &str) -> Finding {
    let breaks =
        |code, evidence: String| finding(code, Stage::Load, Severity::Breaks, function, evidence);
    if let Some(module) = case.view.waiting(function) {
        let evidence = format!("in module {}, which is not loaded", module.name);
        return breaks(Code::ModNotLoaded, evidence).advise(format!("modprobe {}", module.name));
    }
    let found = case.view.functions(function);
    if let Some(first) = found.first() {
        let has_btf = first.module.is_none_or(|name| {
            let module = case.view.surface.modules.get(name);
            module.is_some_and(|m| m.btf.get().is_some())
        });
        if has_btf && first.module.is_some() && !case.view.may_read_modules {
            let evidence = "BTF of the module takes CAP_SYS_ADMIN to read".to_owned();
            return breaks(Code::BtfModulesUnreadable, evidence).advise("add CAP_SYS_ADMIN");
        }
        let evidence = match (has_btf, first.module) {
            (false, Some(module)) => format!("module {module} has no BTF"),
            _ => "pahole left it out".to_owned(),
        };
        return breaks(Code::FnNoBtf, evidence).advise("use a kprobe");
    }
    absent(case, function, Stage::Load)
}

/// No function of this name anywhere.
fn absent(case: &Case, function: &str, stage: Stage) -> Finding {
    if case.view.surface.symbols.is_none() {
        return finding(
            Code::SymbolsUnknown,
            stage,
            Severity::Undetermined,
            function,
            "",
        );
    }
    let derived = case.view.derived(function);
    let only_cold = derived.iter().all(|n| n.ends_with(".cold"));
    if !derived.is_empty() && !only_cold {
        let evidence = format!("only {}", derived.join(", "));
        return finding(
            Code::FnOptimized,
            stage,
            Severity::Breaks,
            function,
            evidence,
        )
        .advise("attach to a caller or a callee; or a kprobe by the full name");
    }
    let in_btf = case.view.find_type(function, Kind::Func).is_some();
    if in_btf {
        let evidence = "in BTF, but no symbol";
        return finding(Code::FnInlined, stage, Severity::Breaks, function, evidence)
            .advise("attach to a caller or a callee");
    }
    if let Some(spot) = case.view.blind_spot(function) {
        return finding(
            Code::ModUnread,
            stage,
            Severity::Undetermined,
            function,
            spot,
        )
        .advise(case.view.remedy());
    }
    let similar = case.view.similar(function);
    let advice = if similar.is_empty() {
        "attach to a caller or a callee".to_owned()
    } else {
        format!("look at {}", similar.join(", "))
    };
    finding(
        Code::FnAbsent,
        stage,
        Severity::Breaks,
        function,
        "no symbol: removed, renamed or inlined",
    )
    .advise(advice)
}

/// Number of different functions; names for one address count once.
fn distinct(found: &[Found]) -> usize {
    let mut places: Vec<(Option<&str>, u64)> =
        found.iter().map(|f| (f.module, f.symbol.address)).collect();
    // A snapshot has no addresses: each entry stands for one.
    if places.iter().all(|(_, address)| *address == 0) {
        return places.len();
    }
    places.sort_unstable();
    places.dedup();
    places.len()
}

fn judge_call_site(case: &Case, found: &Found, function: &str, verdict: &mut ProgramVerdict) {
    let surface = case.view.surface;
    let known = match found.module {
        Some(name) => surface.modules.get(name).is_some_and(|m| m.ftrace_known),
        None => surface.ftrace_known,
    };
    if !known {
        return verdict.add(finding(
            Code::FtraceUnknown,
            Stage::Attach,
            Severity::Undetermined,
            function,
            "",
        ));
    }
    if !found.symbol.flags.has(Flags::FTRACE) {
        let stuck = finding(
            Code::FnNotTraceable,
            Stage::Attach,
            Severity::Breaks,
            function,
            "no ftrace call site",
        );
        verdict.add(stuck.advise("attach to a caller or a callee"));
    }
}

/// Kernel: v6.6 473e3150e30a "bpf, x86: allow function arguments up to 12 for TRACING".
/// Neither BTF nor symbols show it.
fn judge_many_arguments(case: &Case, count: u32, function: &str, verdict: &mut ProgramVerdict) {
    let Some((major, minor, _)) = case.view.surface.version() else {
        return;
    };
    if (major, minor) < (6, 6) {
        let evidence = format!("{count} arguments on {major}.{minor}");
        let stuck = finding(
            Code::FnTooManyArgs,
            Stage::Attach,
            Severity::Breaks,
            function,
            evidence,
        );
        verdict.add(stuck.advise("use a kprobe"));
    }
}

/// kprobe, kretprobe, kprobe.multi: a symbol that is not refused.
fn judge_kprobe(case: &Case, kind: AttachKind, target: &str, verdict: &mut ProgramVerdict) {
    let (_, name) = split_module(target);
    let name = name.split('+').next().unwrap_or(name);
    if name.contains(['*', '?']) {
        let mut pattern = note(Code::HookUnknown, target);
        pattern.severity = Severity::Undetermined;
        return verdict.add(pattern);
    }
    let option = if kind == AttachKind::KprobeMulti {
        "FPROBE"
    } else {
        "KPROBE_EVENTS"
    };
    judge_option(case, option, verdict);
    let found = case.view.functions(name);
    let Some(first) = found.first() else {
        if let Some(module) = case.view.waiting(name) {
            let evidence = format!("in module {}, which is not loaded", module.name);
            let waiting = finding(
                Code::ModNotLoaded,
                Stage::Attach,
                Severity::Breaks,
                name,
                evidence,
            );
            return verdict.add(waiting.advise(format!("modprobe {}", module.name)));
        }
        return verdict.add(absent(case, name, Stage::Attach));
    };
    if distinct(&found) > 1 {
        let evidence = format!("{} functions", distinct(&found));
        let many = finding(
            Code::FnDuplicate,
            Stage::Attach,
            Severity::Breaks,
            name,
            evidence,
        );
        verdict.add(many.advise("attach by address, or to a caller"));
    }
    if first.symbol.flags.has(Flags::BLACKLIST) {
        verdict.add(finding(
            Code::FnBlacklisted,
            Stage::Attach,
            Severity::Breaks,
            name,
            "on the kprobe blacklist",
        ));
    }
    let notrace_allowed = case.view.surface.kconfig.as_ref();
    let notrace_allowed = notrace_allowed.is_some_and(|c| c.is_yes("KPROBE_EVENTS_ON_NOTRACE"));
    if kind == AttachKind::KprobeMulti || !notrace_allowed {
        judge_call_site(case, first, name, verdict);
    }
    match prototype_of(case, name) {
        Some((btf, proto)) => judge_arguments(case, btf, proto, name, verdict),
        None => judge_unknown_result(case, name, verdict),
    }
}

/// The result of a function that some kernels have without one, where no prototype tells.
fn judge_unknown_result(case: &Case, function: &str, verdict: &mut ProgramVerdict) {
    let known = |name: &&str| name.rsplit(':').next() == Some(function);
    let used = ContextUse::of(case.object, case.program, &case.flow);
    if case.kind() != Some(AttachKind::Kretprobe)
        || !used.return_value
        || !SOMETIMES_VOID.iter().any(known)
    {
        return;
    }
    let subject = format!("{function}, returned value");
    let unknown = finding(
        Code::FnArguments,
        Stage::Run,
        Severity::Undetermined,
        &subject,
        "some kernels return nothing here, and no BTF of this one tells",
    );
    verdict.add(unknown);
}

/// A function's prototype, where the loader finds it.
fn prototype_of<'a>(case: &Case<'a>, function: &str) -> Option<(&'a Btf, Type<'a>)> {
    case.view.btfs().into_iter().find_map(|(_, btf)| {
        let func = btf.first_named(function, Kind::Func)?;
        Some((&**btf, btf.ty(func.target())?))
    })
}

/// The arguments that the program reads against those that the function has.
fn judge_arguments(
    case: &Case,
    btf: &Btf,
    proto: Type,
    function: &str,
    verdict: &mut ProgramVerdict,
) {
    let used = ContextUse::of(case.object, case.program, &case.flow);
    let kind = case.kind();
    let count = proto.vlen();
    let returns = btf
        .ty(proto.target())
        .is_some_and(|t| t.kind() != Kind::Void);
    let trampoline = matches!(
        kind,
        Some(AttachKind::Fentry | AttachKind::Fexit | AttachKind::FmodRet)
    );
    let result = u32::from(returns && kind != Some(AttachKind::Fentry));
    let limit = if trampoline { count + result } else { count };
    let evidence = btf
        .prototype(function, proto.id)
        .unwrap_or_else(|| format!("{count} arguments"));
    let (stage, severity) = if trampoline {
        (Stage::Load, Severity::Breaks)
    } else {
        (Stage::Run, Severity::Lies)
    };
    // A return probe sees registers after the call: arguments are gone in any case.
    let missing = used.arguments.iter().find(|&&n| n >= limit);
    if let Some(n) = missing {
        let subject = format!("{function}, argument {n}");
        let lost = finding(Code::FnArguments, stage, severity, &subject, &*evidence);
        verdict.add(lost.advise("ship a variant for this prototype"));
    } else if let Some(n) = used.conditional.iter().find(|&&n| n >= limit) {
        let subject = format!("{function}, argument {n}, for some settings");
        let severity = Severity::Undetermined;
        verdict.add(finding(
            Code::FnArguments,
            stage,
            severity,
            &subject,
            &*evidence,
        ));
    }
    if used.return_value && !returns && kind == Some(AttachKind::Kretprobe) {
        let subject = format!("{function}, returned value");
        verdict.add(finding(
            Code::FnArguments,
            Stage::Run,
            Severity::Lies,
            &subject,
            evidence,
        ));
    }
}

/// A hook that is a function in the kernel's BTF.
fn judge_hook(case: &Case, function: &str, target: &str, verdict: &mut ProgramVerdict) {
    let exists = prototype_of(case, function).is_some();
    if !exists {
        let evidence = format!("no {function} in BTF");
        verdict.add(finding(
            Code::HookAbsent,
            Stage::Load,
            Severity::Breaks,
            target,
            evidence,
        ));
    }
    if function.starts_with("bpf_lsm_") {
        judge_option(case, "BPF_LSM", verdict);
    }
}

/// A build option that the program needs, if the configuration is known.
fn judge_option(case: &Case, option: &str, verdict: &mut ProgramVerdict) {
    let config = case.view.surface.kconfig.as_ref();
    if config.is_some_and(|c| !c.is_yes(option)) {
        verdict.add(finding(
            Code::ConfigMissing,
            Stage::Attach,
            Severity::Breaks,
            &format!("CONFIG_{option}"),
            "not set",
        ));
    }
}
