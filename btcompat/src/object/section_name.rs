//! What a section name says about the program in it.
//!
//! Source: libbpf `section_defs[]` and `sec_def_matches()`.

use serde::{Deserialize, Serialize};

/// How a program is attached, as far as its section says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionSpec {
    /// Name before the first `/`, without `?`: `fentry`, `kprobe`, `tp_btf`.
    pub prefix: String,
    /// What follows the first `/`: a function, a tracepoint, a path. `None` if user space has to say it.
    pub target: Option<String>,
    /// `enum bpf_prog_type` without `BPF_PROG_TYPE_`.
    pub program_type: String,
    /// `enum bpf_attach_type`, full name; `None` when the type has none.
    pub attach_type: Option<String>,
    /// Loaded unless told otherwise: the section does not start with `?`.
    pub autoload: bool,
    /// The program may sleep.
    pub sleepable: bool,
    /// The target must be found in the kernel's BTF at load time.
    pub attach_btf: bool,
}

/// What a section's program does once it is loaded, in groups that share rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the variants are libbpf's section prefixes")]
pub enum AttachKind {
    Fentry,
    Fexit,
    FmodRet,
    Kprobe,
    Kretprobe,
    KprobeMulti,
    Ksyscall,
    TpBtf,
    RawTp,
    Tracepoint,
    Lsm,
    Iter,
    StructOps,
    UserSpace,
    Other,
}

impl SectionSpec {
    /// Reads a section name; `None` when libbpf knows no such section.
    #[must_use]
    pub fn parse(section: &str) -> Option<Self> {
        let (name, autoload) = match section.strip_prefix('?') {
            Some(rest) => (rest, false),
            None => (section, true),
        };
        let &(pattern, program_type, attach_type, flags) =
            FORMS.iter().find(|(pattern, ..)| matches(pattern, name))?;
        let prefix = pattern.trim_end_matches('+');
        let target = name
            .strip_prefix(prefix)
            .and_then(|rest| rest.strip_prefix('/'))
            .filter(|rest| !rest.is_empty());
        Some(Self {
            prefix: prefix.to_owned(),
            target: target.map(str::to_owned),
            program_type: program_type.to_owned(),
            attach_type: Some(attach_type.to_owned()).filter(|a| !a.is_empty()),
            autoload,
            sleepable: matches!(flags, Flags::S | Flags::SB),
            attach_btf: matches!(flags, Flags::B | Flags::SB),
        })
    }

    /// The group of rules that the program is attached by.
    #[must_use]
    pub fn kind(&self) -> AttachKind {
        match self.prefix.trim_end_matches(".s") {
            "fentry" | "fsession" | "fentry.multi" | "fsession.multi" => AttachKind::Fentry,
            "fexit" | "fexit.multi" => AttachKind::Fexit,
            "fmod_ret" => AttachKind::FmodRet,
            "kprobe" => AttachKind::Kprobe,
            "kretprobe" => AttachKind::Kretprobe,
            "kprobe.multi" | "kretprobe.multi" | "kprobe.session" => AttachKind::KprobeMulti,
            "ksyscall" | "kretsyscall" => AttachKind::Ksyscall,
            "tp_btf" => AttachKind::TpBtf,
            "raw_tp" | "raw_tracepoint" | "raw_tp.w" | "raw_tracepoint.w" => AttachKind::RawTp,
            "tp" | "tracepoint" => AttachKind::Tracepoint,
            "lsm" | "lsm_cgroup" => AttachKind::Lsm,
            "iter" => AttachKind::Iter,
            "struct_ops" => AttachKind::StructOps,
            p if p.starts_with('u') => AttachKind::UserSpace,
            _ => AttachKind::Other,
        }
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('+') {
        Some(prefix) => name
            .strip_prefix(prefix)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        None => pattern == name,
    }
}

/// Sleepable (S), target in BTF (B), both, neither.
#[derive(Clone, Copy, Debug)]
enum Flags {
    N,
    S,
    B,
    SB,
}
use Flags::{B, N, S, SB};

/// Section, program type, attach type, flags; the first that fits counts. A
/// trailing `+` lets a target follow.
#[rustfmt::skip]
const FORMS: &[(&str, &str, &str, Flags)] = &[
    ("socket", "SOCKET_FILTER", "", N),
    ("sk_reuseport/migrate", "SK_REUSEPORT", "BPF_SK_REUSEPORT_SELECT_OR_MIGRATE", N),
    ("sk_reuseport", "SK_REUSEPORT", "BPF_SK_REUSEPORT_SELECT", N),
    ("kprobe+", "KPROBE", "", N),
    ("uprobe+", "KPROBE", "", N),
    ("uprobe.s+", "KPROBE", "", S),
    ("kretprobe+", "KPROBE", "", N),
    ("uretprobe+", "KPROBE", "", N),
    ("uretprobe.s+", "KPROBE", "", S),
    ("kprobe.multi+", "KPROBE", "BPF_TRACE_KPROBE_MULTI", N),
    ("kretprobe.multi+", "KPROBE", "BPF_TRACE_KPROBE_MULTI", N),
    ("kprobe.session+", "KPROBE", "BPF_TRACE_KPROBE_SESSION", N),
    ("uprobe.multi+", "KPROBE", "BPF_TRACE_UPROBE_MULTI", N),
    ("uretprobe.multi+", "KPROBE", "BPF_TRACE_UPROBE_MULTI", N),
    ("uprobe.session+", "KPROBE", "BPF_TRACE_UPROBE_SESSION", N),
    ("uprobe.multi.s+", "KPROBE", "BPF_TRACE_UPROBE_MULTI", S),
    ("uretprobe.multi.s+", "KPROBE", "BPF_TRACE_UPROBE_MULTI", S),
    ("uprobe.session.s+", "KPROBE", "BPF_TRACE_UPROBE_SESSION", S),
    ("ksyscall+", "KPROBE", "", N),
    ("kretsyscall+", "KPROBE", "", N),
    ("usdt+", "KPROBE", "", N),
    ("usdt.s+", "KPROBE", "", S),
    ("tc/ingress", "SCHED_CLS", "BPF_TCX_INGRESS", N),
    ("tc/egress", "SCHED_CLS", "BPF_TCX_EGRESS", N),
    ("tcx/ingress", "SCHED_CLS", "BPF_TCX_INGRESS", N),
    ("tcx/egress", "SCHED_CLS", "BPF_TCX_EGRESS", N),
    ("tc", "SCHED_CLS", "", N),
    ("classifier", "SCHED_CLS", "", N),
    ("action", "SCHED_ACT", "", N),
    ("netkit/primary", "SCHED_CLS", "BPF_NETKIT_PRIMARY", N),
    ("netkit/peer", "SCHED_CLS", "BPF_NETKIT_PEER", N),
    ("tracepoint+", "TRACEPOINT", "", N),
    ("tp+", "TRACEPOINT", "", N),
    ("tracepoint.s+", "TRACEPOINT", "", S),
    ("tp.s+", "TRACEPOINT", "", S),
    ("raw_tracepoint+", "RAW_TRACEPOINT", "", N),
    ("raw_tp+", "RAW_TRACEPOINT", "", N),
    ("raw_tracepoint.s+", "RAW_TRACEPOINT", "", S),
    ("raw_tp.s+", "RAW_TRACEPOINT", "", S),
    ("raw_tracepoint.w+", "RAW_TRACEPOINT_WRITABLE", "", N),
    ("raw_tp.w+", "RAW_TRACEPOINT_WRITABLE", "", N),
    ("tp_btf+", "TRACING", "BPF_TRACE_RAW_TP", B),
    ("tp_btf.s+", "TRACING", "BPF_TRACE_RAW_TP", SB),
    ("fentry+", "TRACING", "BPF_TRACE_FENTRY", B),
    ("fmod_ret+", "TRACING", "BPF_MODIFY_RETURN", B),
    ("fexit+", "TRACING", "BPF_TRACE_FEXIT", B),
    ("fentry.s+", "TRACING", "BPF_TRACE_FENTRY", SB),
    ("fmod_ret.s+", "TRACING", "BPF_MODIFY_RETURN", SB),
    ("fexit.s+", "TRACING", "BPF_TRACE_FEXIT", SB),
    ("fsession+", "TRACING", "BPF_TRACE_FSESSION", B),
    ("fsession.s+", "TRACING", "BPF_TRACE_FSESSION", SB),
    ("freplace+", "EXT", "", B),
    ("lsm+", "LSM", "BPF_LSM_MAC", B),
    ("lsm.s+", "LSM", "BPF_LSM_MAC", SB),
    ("lsm_cgroup+", "LSM", "BPF_LSM_CGROUP", B),
    ("iter+", "TRACING", "BPF_TRACE_ITER", B),
    ("iter.s+", "TRACING", "BPF_TRACE_ITER", SB),
    ("syscall", "SYSCALL", "", S),
    ("xdp.frags/devmap", "XDP", "BPF_XDP_DEVMAP", N),
    ("xdp/devmap", "XDP", "BPF_XDP_DEVMAP", N),
    ("xdp.frags/cpumap", "XDP", "BPF_XDP_CPUMAP", N),
    ("xdp/cpumap", "XDP", "BPF_XDP_CPUMAP", N),
    ("xdp.frags", "XDP", "BPF_XDP", N),
    ("xdp", "XDP", "BPF_XDP", N),
    ("perf_event", "PERF_EVENT", "", N),
    ("lwt_in", "LWT_IN", "", N),
    ("lwt_out", "LWT_OUT", "", N),
    ("lwt_xmit", "LWT_XMIT", "", N),
    ("lwt_seg6local", "LWT_SEG6LOCAL", "", N),
    ("sockops", "SOCK_OPS", "BPF_CGROUP_SOCK_OPS", N),
    ("sk_skb/stream_parser", "SK_SKB", "BPF_SK_SKB_STREAM_PARSER", N),
    ("sk_skb/stream_verdict", "SK_SKB", "BPF_SK_SKB_STREAM_VERDICT", N),
    ("sk_skb/verdict", "SK_SKB", "BPF_SK_SKB_VERDICT", N),
    ("sk_skb", "SK_SKB", "", N),
    ("sk_msg", "SK_MSG", "BPF_SK_MSG_VERDICT", N),
    ("lirc_mode2", "LIRC_MODE2", "BPF_LIRC_MODE2", N),
    ("flow_dissector", "FLOW_DISSECTOR", "BPF_FLOW_DISSECTOR", N),
    ("cgroup_skb/ingress", "CGROUP_SKB", "BPF_CGROUP_INET_INGRESS", N),
    ("cgroup_skb/egress", "CGROUP_SKB", "BPF_CGROUP_INET_EGRESS", N),
    ("cgroup/skb", "CGROUP_SKB", "", N),
    ("cgroup/sock_create", "CGROUP_SOCK", "BPF_CGROUP_INET_SOCK_CREATE", N),
    ("cgroup/sock_release", "CGROUP_SOCK", "BPF_CGROUP_INET_SOCK_RELEASE", N),
    ("cgroup/sock", "CGROUP_SOCK", "BPF_CGROUP_INET_SOCK_CREATE", N),
    ("cgroup/post_bind4", "CGROUP_SOCK", "BPF_CGROUP_INET4_POST_BIND", N),
    ("cgroup/post_bind6", "CGROUP_SOCK", "BPF_CGROUP_INET6_POST_BIND", N),
    ("cgroup/bind4", "CGROUP_SOCK_ADDR", "BPF_CGROUP_INET4_BIND", N),
    ("cgroup/bind6", "CGROUP_SOCK_ADDR", "BPF_CGROUP_INET6_BIND", N),
    ("cgroup/connect4", "CGROUP_SOCK_ADDR", "BPF_CGROUP_INET4_CONNECT", N),
    ("cgroup/connect6", "CGROUP_SOCK_ADDR", "BPF_CGROUP_INET6_CONNECT", N),
    ("cgroup/connect_unix", "CGROUP_SOCK_ADDR", "BPF_CGROUP_UNIX_CONNECT", N),
    ("cgroup/sendmsg4", "CGROUP_SOCK_ADDR", "BPF_CGROUP_UDP4_SENDMSG", N),
    ("cgroup/sendmsg6", "CGROUP_SOCK_ADDR", "BPF_CGROUP_UDP6_SENDMSG", N),
    ("cgroup/sendmsg_unix", "CGROUP_SOCK_ADDR", "BPF_CGROUP_UNIX_SENDMSG", N),
    ("cgroup/recvmsg4", "CGROUP_SOCK_ADDR", "BPF_CGROUP_UDP4_RECVMSG", N),
    ("cgroup/recvmsg6", "CGROUP_SOCK_ADDR", "BPF_CGROUP_UDP6_RECVMSG", N),
    ("cgroup/recvmsg_unix", "CGROUP_SOCK_ADDR", "BPF_CGROUP_UNIX_RECVMSG", N),
    ("cgroup/getpeername4", "CGROUP_SOCK_ADDR", "BPF_CGROUP_INET4_GETPEERNAME", N),
    ("cgroup/getpeername6", "CGROUP_SOCK_ADDR", "BPF_CGROUP_INET6_GETPEERNAME", N),
    ("cgroup/getpeername_unix", "CGROUP_SOCK_ADDR", "BPF_CGROUP_UNIX_GETPEERNAME", N),
    ("cgroup/getsockname4", "CGROUP_SOCK_ADDR", "BPF_CGROUP_INET4_GETSOCKNAME", N),
    ("cgroup/getsockname6", "CGROUP_SOCK_ADDR", "BPF_CGROUP_INET6_GETSOCKNAME", N),
    ("cgroup/getsockname_unix", "CGROUP_SOCK_ADDR", "BPF_CGROUP_UNIX_GETSOCKNAME", N),
    ("cgroup/sysctl", "CGROUP_SYSCTL", "BPF_CGROUP_SYSCTL", N),
    ("cgroup/getsockopt", "CGROUP_SOCKOPT", "BPF_CGROUP_GETSOCKOPT", N),
    ("cgroup/setsockopt", "CGROUP_SOCKOPT", "BPF_CGROUP_SETSOCKOPT", N),
    ("cgroup/dev", "CGROUP_DEVICE", "BPF_CGROUP_DEVICE", N),
    ("struct_ops+", "STRUCT_OPS", "", N),
    ("struct_ops.s+", "STRUCT_OPS", "", S),
    ("sk_lookup", "SK_LOOKUP", "BPF_SK_LOOKUP", N),
    ("netfilter", "NETFILTER", "BPF_NETFILTER", N),
    ("fentry.multi+", "TRACING", "BPF_TRACE_FENTRY_MULTI", N),
    ("fentry.multi.s+", "TRACING", "BPF_TRACE_FENTRY_MULTI", S),
    ("fexit.multi+", "TRACING", "BPF_TRACE_FEXIT_MULTI", N),
    ("fexit.multi.s+", "TRACING", "BPF_TRACE_FEXIT_MULTI", S),
    ("fsession.multi+", "TRACING", "BPF_TRACE_FSESSION_MULTI", N),
    ("fsession.multi.s+", "TRACING", "BPF_TRACE_FSESSION_MULTI", S),
];

/// The section forms that are known, in the order in which they are tried.
pub fn forms() -> impl Iterator<Item = &'static str> {
    FORMS.iter().map(|&(pattern, ..)| pattern)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Check what a section name says, form by form.
    #[rstest]
    #[case(
        "fentry/hci_send_frame",
        AttachKind::Fentry,
        Some("hci_send_frame"),
        true,
        false
    )]
    #[case("fexit.s/x", AttachKind::Fexit, Some("x"), true, true)]
    #[case("?kprobe/y", AttachKind::Kprobe, Some("y"), false, false)]
    #[case("kprobe", AttachKind::Kprobe, None, true, false)]
    #[case("kprobe/", AttachKind::Kprobe, None, true, false)]
    #[case(
        "tp/sched/sched_switch",
        AttachKind::Tracepoint,
        Some("sched/sched_switch"),
        true,
        false
    )]
    #[case(
        "uprobe/libc:malloc",
        AttachKind::UserSpace,
        Some("libc:malloc"),
        true,
        false
    )]
    #[case("xdp", AttachKind::Other, None, true, false)]
    #[case("syscall", AttachKind::Other, None, true, true)]
    fn section_known_form_is_understood(
        #[case] section: &str,
        #[case] kind: AttachKind,
        #[case] target: Option<&str>,
        #[case] autoload: bool,
        #[case] sleepable: bool,
    ) {
        let spec = SectionSpec::parse(section).unwrap();
        assert_eq!(spec.kind(), kind);
        assert_eq!(spec.target.as_deref(), target);
        assert_eq!((spec.autoload, spec.sleepable), (autoload, sleepable));
    }

    /// Check that a name which only starts like a form is not taken for it.
    #[rstest]
    #[case("kprobes/x")]
    #[case("xdp/x")]
    #[case(".text")]
    #[case("")]
    fn section_unknown_form_is_none(#[case] section: &str) {
        assert_eq!(SectionSpec::parse(section), None);
    }

    /// Check that the longer of two forms with one beginning wins.
    #[test]
    fn section_multi_is_not_plain() {
        let spec = SectionSpec::parse("kprobe.multi/hci_*").unwrap();
        assert_eq!(spec.kind(), AttachKind::KprobeMulti);
        assert_eq!(spec.attach_type.as_deref(), Some("BPF_TRACE_KPROBE_MULTI"));
    }
}
