//! The state of a running host, as far as it decides about probes. Read by
//! the command; the library only judges it.

use super::{Code, Finding, ProgramVerdict, Severity, Stage};
use crate::object::AttachKind;
use serde::{Deserialize, Serialize};

/// Capabilities that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the kernel's own names")]
#[expect(clippy::struct_excessive_bools, reason = "each is one capability")]
pub struct Caps {
    pub bpf: bool,
    pub perfmon: bool,
    pub sys_admin: bool,
    pub sys_resource: bool,
    pub syslog: bool,
}

impl Caps {
    /// Everything, as root has it.
    pub const ALL: Self = Self {
        bpf: true,
        perfmon: true,
        sys_admin: true,
        sys_resource: true,
        syslog: true,
    };

    /// Nothing.
    pub const NONE: Self = Self {
        bpf: false,
        perfmon: false,
        sys_admin: false,
        sys_resource: false,
        syslog: false,
    };

    /// From the bits of `CapEff`. Source: kernel `include/uapi/linux/capability.h`.
    #[must_use]
    pub fn from_bits(bits: u64) -> Self {
        let has = |bit: u32| bits >> bit & 1 != 0;
        Self {
            bpf: has(39),
            perfmon: has(38),
            sys_admin: has(21),
            sys_resource: has(24),
            syslog: has(34),
        }
    }

    /// From a list such as `bpf,perfmon`; `all` and `none` are understood.
    ///
    /// # Errors
    /// The word that is not a capability.
    pub fn parse(list: &str) -> Result<Self, String> {
        let mut caps = Self::NONE;
        for word in list.split(',').map(str::trim).filter(|w| !w.is_empty()) {
            let lower = word.to_ascii_lowercase();
            match lower.trim_start_matches("cap_") {
                "all" => caps = Self::ALL,
                "none" => {}
                "bpf" => caps.bpf = true,
                "perfmon" => caps.perfmon = true,
                "sys_admin" => caps.sys_admin = true,
                "sys_resource" => caps.sys_resource = true,
                "syslog" => caps.syslog = true,
                _ => return Err(word.to_owned()),
            }
        }
        Ok(caps)
    }

    /// Whether BPF programs may be loaded at all.
    #[must_use]
    pub fn may_load(self) -> bool {
        self.sys_admin || self.bpf
    }

    /// Whether tracing programs may be loaded and attached.
    #[must_use]
    pub fn may_trace(self) -> bool {
        self.sys_admin || (self.bpf && self.perfmon)
    }
}

/// Switches of a running host; `None` where a file could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `none`, `integrity` or `confidentiality`.
    pub lockdown: Option<String>,
    /// How the kernel preempts its own code: `none`, `voluntary`, `full` or `lazy`.
    pub preempt: Option<String>,
    /// `kernel.ftrace_enabled`.
    pub ftrace_enabled: Option<bool>,
    /// `debugfs kprobes/enabled`.
    pub kprobes_enabled: Option<bool>,
    /// `net.core.bpf_jit_enable`.
    pub jit_enabled: Option<bool>,
    /// Tracefs is mounted.
    pub tracefs: Option<bool>,
    /// `RLIMIT_MEMLOCK` in bytes; `u64::MAX` for none.
    pub memlock_bytes: Option<u64>,
    /// `kernel.kptr_restrict`.
    pub kptr_restrict: Option<u32>,
    /// `kernel.perf_event_paranoid`.
    pub perf_event_paranoid: Option<i32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u32>,
}

fn finding(code: Code, stage: Stage, subject: &str, evidence: String, advice: &str) -> Finding {
    Finding {
        code,
        stage,
        severity: Severity::Breaks,
        subject: subject.to_owned(),
        place: None,
        evidence,
        advice: advice.to_owned(),
    }
}

/// Adds what capabilities and switches of the host forbid.
pub(super) fn judge_host(
    verdict: &mut ProgramVerdict,
    kind: Option<AttachKind>,
    caps: Caps,
    host: Option<&Host>,
    old_memory_accounting: bool,
) {
    let tracing = !matches!(kind, None | Some(AttachKind::Other));
    if !caps.may_load() || (tracing && !caps.may_trace()) {
        verdict.add(finding(
            Code::HostCaps,
            Stage::Load,
            "CAP_BPF, CAP_PERFMON",
            "the process has neither CAP_SYS_ADMIN nor both of these".to_owned(),
            "run as root, or give the program CAP_BPF and CAP_PERFMON",
        ));
    }
    let Some(host) = host else {
        return;
    };
    if tracing && host.lockdown.as_deref() == Some("confidentiality") {
        verdict.add(finding(
            Code::HostLockdown,
            Stage::Load,
            "lockdown",
            "/sys/kernel/security/lockdown says confidentiality".to_owned(),
            "boot with lockdown=integrity or without Secure Boot",
        ));
    }
    let trampoline = matches!(
        kind,
        Some(AttachKind::Fentry | AttachKind::Fexit | AttachKind::FmodRet | AttachKind::Lsm)
    );
    let probe = matches!(
        kind,
        Some(AttachKind::Kprobe | AttachKind::Kretprobe | AttachKind::KprobeMulti)
    );
    let switches = [
        (trampoline, host.ftrace_enabled, "kernel.ftrace_enabled"),
        (trampoline, host.jit_enabled, "net.core.bpf_jit_enable"),
        (
            probe,
            host.kprobes_enabled,
            "/sys/kernel/debug/kprobes/enabled",
        ),
    ];
    for (needed, value, name) in switches {
        if needed && value == Some(false) {
            verdict.add(finding(
                Code::HostSwitch,
                Stage::Attach,
                name,
                format!("{name} is 0"),
                "set it to 1",
            ));
        }
    }
    let low = host.memlock_bytes.is_some_and(|limit| limit < 16 << 20);
    if old_memory_accounting && low && !caps.sys_resource {
        verdict.add(finding(
            Code::HostMemlock,
            Stage::Load,
            "RLIMIT_MEMLOCK",
            format!("limit is {} bytes", host.memlock_bytes.unwrap_or(0)),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::State;
    use rstest::rstest;

    fn verdict() -> ProgramVerdict {
        ProgramVerdict {
            name: "p".to_owned(),
            section: "fentry/f".to_owned(),
            autoload: true,
            load: State::Yes,
            attach: Some(State::Yes),
            truth: State::Yes,
            findings: Vec::new(),
        }
    }

    /// Check which switch stops which kind of program.
    #[rstest]
    #[case::lockdown(Host { lockdown: Some("confidentiality".to_owned()), ..Host::default() }, AttachKind::Kprobe, Some(Code::HostLockdown))]
    #[case::integrity(Host { lockdown: Some("integrity".to_owned()), ..Host::default() }, AttachKind::Kprobe, None)]
    #[case::ftrace_off(Host { ftrace_enabled: Some(false), ..Host::default() }, AttachKind::Fentry, Some(Code::HostSwitch))]
    #[case::ftrace_off_kprobe(Host { ftrace_enabled: Some(false), ..Host::default() }, AttachKind::Kprobe, None)]
    #[case::kprobes_off(Host { kprobes_enabled: Some(false), ..Host::default() }, AttachKind::Kretprobe, Some(Code::HostSwitch))]
    #[case::jit_off(Host { jit_enabled: Some(false), ..Host::default() }, AttachKind::Fexit, Some(Code::HostSwitch))]
    #[case::memlock(Host { memlock_bytes: Some(65536), ..Host::default() }, AttachKind::Kprobe, Some(Code::HostMemlock))]
    fn switch_stops_its_kind(
        #[case] host: Host,
        #[case] kind: AttachKind,
        #[case] code: Option<Code>,
    ) {
        let caps = Caps {
            sys_resource: false,
            ..Caps::ALL
        };
        let mut verdict = verdict();
        judge_host(&mut verdict, Some(kind), caps, Some(&host), true);
        assert_eq!(verdict.findings.first().map(|f| f.code), code);
        let stopped = verdict.state() == State::No;
        assert_eq!(stopped, code.is_some());
    }

    /// Check that the memory limit is no matter where memory is charged to cgroups.
    #[test]
    fn memlock_is_ignored_on_newer_kernels() {
        let host = Host {
            memlock_bytes: Some(65536),
            ..Host::default()
        };
        let mut verdict = verdict();
        let caps = Caps::from_bits(1 << 39 | 1 << 38);
        judge_host(
            &mut verdict,
            Some(AttachKind::Kprobe),
            caps,
            Some(&host),
            false,
        );
        assert!(verdict.findings.is_empty());
    }

    /// Check how capabilities are written, and that a wrong word is named.
    #[rstest]
    #[case("all", Ok(Caps::ALL))]
    #[case("none", Ok(Caps::NONE))]
    #[case("CAP_BPF, perfmon", Ok(Caps { bpf: true, perfmon: true, ..Caps::NONE }))]
    #[case("bpf,flying", Err("flying".to_owned()))]
    fn caps_are_read(#[case] list: &str, #[case] caps: Result<Caps, String>) {
        assert_eq!(Caps::parse(list), caps);
    }
}
