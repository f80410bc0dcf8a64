//! Programs that work and are passed over now and then, so that events go missing.

use super::attach::finding;
use super::decide::Case;
use super::{Code, ProgramVerdict, Severity, Stage};
use crate::btf::Kind;
use crate::object::AttachKind;
use crate::surface::Preemption;
use metrics::catalogue::IN_SOFTIRQ;

/// Looks for what makes a program miss events.
pub(super) fn judge_losses(case: &Case, verdict: &mut ProgramVerdict) {
    let target = case.spec().and_then(|s| s.target.as_deref());
    let Some(target) = target else {
        return;
    };
    let function = target.rsplit(':').next().unwrap_or(target);
    match case.kind() {
        Some(AttachKind::Fentry | AttachKind::Fexit | AttachKind::FmodRet) => {
            judge_preemption(case, function, verdict);
        }
        Some(AttachKind::Kprobe) => judge_interrupts(case, function, verdict),
        Some(AttachKind::Kretprobe) => {
            judge_interrupts(case, function, verdict);
            let evidence = "max(10, 2 x CPUs) calls in flight";
            let (stage, severity) = (Stage::Run, Severity::Note);
            let pool = finding(Code::LieRetprobe, stage, severity, function, evidence);
            verdict
                .add(pool.advise("use fexit, or a larger maxactive, and watch the missed count"));
        }
        _ => {}
    }
}

fn preemption(case: &Case) -> Preemption {
    let mode = case
        .scenario
        .host
        .as_ref()
        .and_then(|h| h.preempt.as_deref());
    case.view.surface.preemption(mode)
}

fn is_in_softirq(function: &str) -> bool {
    let is_this = |known: &&str| known.rsplit(':').next() == Some(function);
    IN_SOFTIRQ.iter().any(is_this)
}

/// A program at a trampoline can be preempted, and the guard against recursion then passes over the next task that gets there on the same
/// processor. Kernel: v6.12 kernel/bpf/trampoline.c __bpf_prog_enter_recur(); the guard came with ca06f55b9002 (v5.12).
fn judge_preemption(case: &Case, function: &str, verdict: &mut ProgramVerdict) {
    let btf = case.view.surface.btf.as_ref();
    let guarded = btf.is_none_or(|btf| {
        let prog = btf.find("bpf_prog", Kind::Struct);
        prog.is_none_or(|prog| prog.members().any(|m| m.name == "active"))
    });
    let (severity, evidence) = match preemption(case) {
        _ if !guarded => return,
        Preemption::Never => return,
        Preemption::Tasks if is_in_softirq(function) => return,
        Preemption::Unknown if is_in_softirq(function) => return,
        Preemption::Tasks => (Severity::Loses, "this kernel preempts its own code"),
        Preemption::RealTime => (Severity::Loses, "this is a real-time kernel"),
        Preemption::Unknown => (
            Severity::Note,
            "whether this kernel preempts its own code is chosen at boot",
        ),
    };
    let lossy = finding(Code::LiePreempted, Stage::Run, severity, function, evidence);
    verdict
        .add(lossy.advise("use a kprobe, or boot with preempt=voluntary; watch recursion_misses"));
}

/// A kprobe that is hit in an interrupt, in the middle of another program on the same processor, is passed over, and nothing counts it.
/// Kernel: v6.12 kernel/trace/bpf_trace.c trace_call_bpf(), `bpf_prog_active`.
fn judge_interrupts(case: &Case, function: &str, verdict: &mut ProgramVerdict) {
    if !is_in_softirq(function) || preemption(case) == Preemption::RealTime {
        return;
    }
    let evidence = "it runs in softirq context";
    let (stage, severity) = (Stage::Run, Severity::Lies);
    let lossy = finding(Code::LieInterrupted, stage, severity, function, evidence);
    verdict.add(lossy.advise("use fentry or fexit"));
}
