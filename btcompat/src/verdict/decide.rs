//! From an object, a kernel and a scenario to a verdict.

use super::attach::judge_attach;
use super::features::{judge_externs, judge_features, judge_maps};
use super::host::{Caps, Host, judge_host};
use super::lies::judge_lies;
use super::losses::judge_losses;
use super::modules::View;
use super::relocations::{Relocated, judge_relocations, relocate};
use super::{Code, Finding, Place, ProgramVerdict, Severity, Stage, State, Verdict};
use crate::btf::Btf;
use crate::object::{AttachKind, Object, Oracle, Program, SectionSpec, analyze};
use crate::relocate::{LibbpfVersion, Targets};
use crate::surface::{Loaded, ModuleBtf, Surface};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is assumed about the moment of loading.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Which modules are loaded.
    pub loaded: Loaded,
    /// Capabilities of the loading process.
    pub caps: Caps,
    /// The libbpf that loads.
    pub libbpf: LibbpfVersion,
    /// Switches of a running host.
    pub host: Option<Host>,
    /// BTF that the loader is given besides what the kernel has.
    pub btf: Option<OtherBtf>,
}

/// BTF that does not come from the kernel.
#[derive(Clone, Debug)]
pub enum OtherBtf {
    /// In place of the kernel's own (libbpf: `btf_custom_path`).
    Instead(Arc<Btf>),
    /// For what the kernel does not describe, as the loader of this project's probes takes it: modules of kernels that have no BTF of modules.
    Beside(Arc<Btf>),
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            loaded: Loaded::Actual,
            caps: Caps::ALL,
            libbpf: LibbpfVersion::CURRENT,
            host: None,
            btf: None,
        }
    }
}

/// Everything that one program is judged with.
pub(super) struct Case<'a> {
    pub(super) object: &'a Object,
    pub(super) program: &'a Program,
    pub(super) view: &'a View<'a>,
    pub(super) relocated: &'a Relocated<'a>,
    pub(super) scenario: &'a Scenario,
    pub(super) flow: crate::object::Flow,
}

impl<'a> Case<'a> {
    pub(super) fn spec(&self) -> Option<&'a SectionSpec> {
        self.program.spec.as_ref()
    }

    pub(super) fn kind(&self) -> Option<AttachKind> {
        self.spec().map(SectionSpec::kind)
    }

    pub(super) fn place(&self, (function, insn): (usize, usize)) -> Place {
        let function = &self.object.functions[function];
        Place {
            function: function.name.clone(),
            insn,
            line: function
                .line(insn)
                .map(|(file, line)| (file.to_owned(), line)),
        }
    }
}

/// Judges an object on a kernel.
#[must_use]
pub fn decide(name: &str, object: &Object, surface: &Surface, scenario: &Scenario) -> Verdict {
    let view = View::new(surface, &scenario.loaded, scenario.caps.sys_admin);
    let targets = match &scenario.btf {
        // libbpf looks nowhere else then: not in the kernel, not in modules.
        Some(OtherBtf::Instead(btf)) => Some(Targets::vmlinux_only(Arc::clone(btf))),
        other => {
            let mut targets = surface.targets(&scenario.loaded, scenario.caps.sys_admin);
            if let (Some(OtherBtf::Beside(btf)), Some(targets)) = (other, &mut targets)
                && targets.modules.is_empty()
            {
                targets.modules.push(("given".to_owned(), Arc::clone(btf)));
            }
            targets
        }
    };
    let relocated = relocate(object, targets.as_ref(), scenario.libbpf);
    let externals = externals(surface);
    let mut findings = judge_kernel(object, &view, scenario.btf.is_some());
    findings.extend(judge_loader(object, surface, scenario));
    judge_externs(object, &view, &mut findings);
    judge_maps(object, &view, &mut findings);
    let programs = object
        .programs
        .iter()
        .map(|program| {
            let flow = analyze(
                object,
                program,
                Oracle::Patched(&relocated.patched, &externals),
            );
            judge_program(&Case {
                object,
                program,
                view: &view,
                relocated: &relocated,
                scenario,
                flow,
            })
        })
        .collect();
    Verdict {
        object: name.to_owned(),
        kernel: surface.release.clone(),
        arch: surface.arch.name().to_owned(),
        findings,
        programs,
    }
}

/// Values that libbpf makes up for virtual configuration symbols.
/// Source: libbpf `bpf_object__resolve_externs()`.
fn externals(surface: &Surface) -> BTreeMap<String, u64> {
    let version = surface
        .version()
        .map(|(major, minor, patch)| u64::from(major << 16 | minor << 8 | patch.min(255)));
    // Both machines have wrapped system calls since 4.17 and 4.19.
    let wrapper = Some(1);
    [
        ("LINUX_KERNEL_VERSION", version),
        ("LINUX_HAS_SYSCALL_WRAPPER", wrapper),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

fn judge_program(case: &Case) -> ProgramVerdict {
    let entry = case.object.entry(case.program);
    let spec = case.spec();
    // The other kinds need something of user space to attach to: an event, a device, a file.
    let attaches = spec.is_some_and(|s| {
        let elsewhere = matches!(
            s.kind(),
            AttachKind::Other | AttachKind::UserSpace | AttachKind::StructOps
        );
        s.target.is_some() && !elsewhere
    });
    let mut verdict = ProgramVerdict {
        name: entry.name.clone(),
        section: entry.section.clone(),
        autoload: spec.is_none_or(|s| s.autoload),
        load: State::Yes,
        attach: attaches.then_some(State::Yes),
        truth: State::Yes,
        findings: Vec::new(),
    };
    if spec.is_none() {
        verdict.add(Finding {
            code: Code::SectionUnknown,
            stage: Stage::Open,
            severity: Severity::Undetermined,
            subject: entry.section.clone(),
            place: None,
            evidence: String::new(),
            advice: "set the program type before loading".to_owned(),
        });
    }
    judge_host(
        &mut verdict,
        case.kind(),
        case.scenario.caps,
        case.scenario.host.as_ref(),
        !accounts_memory_by_cgroup(case.view.surface),
    );
    judge_features(case, &mut verdict);
    judge_relocations(case, &mut verdict);
    judge_attach(case, &mut verdict);
    judge_lies(case, &mut verdict);
    judge_losses(case, &mut verdict);
    verdict
}

/// Since 5.11 BPF memory is charged to the memory cgroup, not to RLIMIT_MEMLOCK;
/// the function that charged it is gone since.
/// Kernel: commits from 80ee81e0403c on, "bpf: Eliminate rlimit-based memory accounting".
fn accounts_memory_by_cgroup(surface: &Surface) -> bool {
    let charge = surface
        .symbols
        .as_ref()
        .map(|t| t.named("bpf_map_charge_init").next().is_some());
    charge != Some(true)
}

/// Whether the loader can read the kernel's types at all.
fn judge_loader(object: &Object, surface: &Surface, scenario: &Scenario) -> Option<Finding> {
    let btf = match &scenario.btf {
        Some(OtherBtf::Instead(btf)) => btf,
        _ => surface.btf.as_ref()?,
    };
    let relocates = object.functions.iter().any(|f| !f.relocations.is_empty());
    let mut specs = object.programs.iter().filter_map(|p| p.spec.as_ref());
    if !relocates && !specs.any(|spec| spec.attach_btf) {
        return None;
    }
    let LibbpfVersion { major, minor } = scenario.libbpf;
    let newest = btf
        .own_types()
        .find(|ty| !scenario.libbpf.reads(ty.kind()))?;
    Some(Finding {
        code: Code::BtfUnreadable,
        stage: Stage::Relocate,
        severity: Severity::Breaks,
        subject: format!("libbpf {major}.{minor}"),
        place: None,
        evidence: format!("{:?} is a kind that it does not know", newest.kind()),
        advice: "use a newer libbpf".to_owned(),
    })
}

/// What concerns every program of the object.
fn judge_kernel(object: &Object, view: &View, other_btf: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |code, severity, subject: &str, evidence: String, advice: &str| {
        findings.push(Finding {
            code,
            stage: Stage::Relocate,
            severity,
            subject: subject.to_owned(),
            place: None,
            evidence,
            advice: advice.to_owned(),
        });
    };
    let has_relocations = object.functions.iter().any(|f| !f.relocations.is_empty());
    if has_relocations && view.surface.btf.is_none() && !other_btf {
        add(
            Code::BtfAbsent,
            Severity::Breaks,
            "vmlinux",
            "the kernel has no .BTF".to_owned(),
            "give libbpf a BTF made for this kernel (btf_custom_path)",
        );
    }
    for module in &view.loaded {
        if let ModuleBtf::Broken(why) = &module.btf {
            add(
                Code::BtfModuleBroken,
                Severity::Note,
                &module.name,
                why.clone(),
                "update the module or its kernel",
            );
        }
    }
    if view.surface.symbols.is_none() {
        let why = view.surface.warnings.join("; ");
        add(
            Code::SymbolsUnknown,
            Severity::Undetermined,
            "kallsyms",
            why,
            "give the kernel image, or run as root where kptr_restrict hides symbols",
        );
    }
    findings
}
