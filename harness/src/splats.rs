//! What the guest's kernel complained about: warnings with a backtrace, bugs, sanitizers, lock
//! checkers, stalls. One of them makes a run wrong whose values were all right, unless it is
//! excused, with a reason, in `known-splats.toml`.

use kernels::KernelId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// Which part of the kernel speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SplatKind {
    /// A failed `WARN_ON`.
    Warning,
    /// A failed `BUG_ON`, an oops, a fault.
    Bug,
    /// KASAN, KCSAN, KMSAN, KFENCE, UBSAN.
    Sanitizer,
    /// The lock validator.
    Lockdep,
    /// A task, a processor or RCU that makes no progress.
    Stall,
    /// A report whose first line is missing or not known.
    Other,
}

/// One complaint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Splat {
    /// What kind.
    pub kind: SplatKind,
    /// Its first telling line.
    pub title: String,
    /// Time since the guest's boot, microseconds.
    pub time_us: u64,
    /// Log level, 0 (emergency) to 4 (warning).
    pub level: u8,
    /// Why it does not count, if it does not.
    pub excused: Option<String>,
}

/// Words that begin or mark a complaint. The first that is found in a line decides.
///
/// Kernel: kernel/panic.c `__warn()`, lib/bug.c `report_bug()`, mm/kasan/report.c, lib/ubsan.c,
/// kernel/locking/lockdep.c, kernel/hung_task.c, kernel/watchdog.c, kernel/rcu/tree_stall.h.
const MARKS: &[(&str, SplatKind)] = &[
    ("BUG: KASAN", SplatKind::Sanitizer),
    ("BUG: KCSAN", SplatKind::Sanitizer),
    ("BUG: KMSAN", SplatKind::Sanitizer),
    ("BUG: KFENCE", SplatKind::Sanitizer),
    ("UBSAN:", SplatKind::Sanitizer),
    ("locking dependency detected", SplatKind::Lockdep),
    ("possible recursive locking", SplatKind::Lockdep),
    ("inconsistent lock state", SplatKind::Lockdep),
    ("suspicious RCU usage", SplatKind::Lockdep),
    ("lock held when returning to user space", SplatKind::Lockdep),
    ("irq lock inversion", SplatKind::Lockdep),
    ("BUG: soft lockup", SplatKind::Stall),
    ("BUG: workqueue lockup", SplatKind::Stall),
    ("hard LOCKUP", SplatKind::Stall),
    ("blocked for more than", SplatKind::Stall),
    ("detected stall", SplatKind::Stall),
    ("self-detected stall", SplatKind::Stall),
    ("rcu_preempt kthread starved", SplatKind::Stall),
    ("WARNING: CPU:", SplatKind::Warning),
    ("WARNING: at ", SplatKind::Warning),
    ("WARNING: ", SplatKind::Warning),
    ("kernel BUG at", SplatKind::Bug),
    ("BUG: ", SplatKind::Bug),
    ("Oops: ", SplatKind::Bug),
    ("general protection fault", SplatKind::Bug),
    ("Unable to handle kernel", SplatKind::Bug),
    ("refcount_t: ", SplatKind::Warning),
    ("list_add corruption", SplatKind::Bug),
    ("list_del corruption", SplatKind::Bug),
];

/// Begins a report of `WARN` or `BUG`; the telling line follows at once.
const CUT_HERE: &str = "[ cut here ]";
/// Ends such a report.
const END_TRACE: &str = "---[ end trace";

/// All complaints among the lines of a kernel's log, each a level, a time and a text. Those of
/// which the list knows a reason on this kernel carry it.
#[must_use]
pub fn find(kernel: &KernelId, log: &[(u8, u64, String)]) -> Vec<Splat> {
    find_with(known(), &kernel.to_string(), log)
}

fn find_with(known: &[Known], kernel: &str, log: &[(u8, u64, String)]) -> Vec<Splat> {
    let mut splats = Vec::new();
    // Within a report, further marks ("refcount_t: …" before a WARN's own line) are part of it.
    let mut inside = false;
    for (at, (level, time_us, text)) in log.iter().enumerate() {
        if text.contains(END_TRACE) {
            inside = false;
            continue;
        }
        let begins = text.contains(CUT_HERE);
        let mark = kind_of(text);
        if !begins && (inside || mark.is_none()) {
            continue;
        }
        inside = begins;
        let following = log.get(at + 1).map(|(_, _, text)| text.as_str());
        let title = if begins {
            following.unwrap_or(text)
        } else {
            text
        };
        splats.push(Splat {
            kind: kind_of(title).unwrap_or(SplatKind::Other),
            title: title.trim().to_owned(),
            time_us: *time_us,
            level: *level,
            excused: excuse(known, kernel, title),
        });
    }
    splats
}

/// The first line of a console that says that something makes no progress: of a machine that is to be
/// saved, that is the fault of the one that it runs on.
#[must_use]
pub fn stall(console: &str) -> Option<&str> {
    let mut lines = console.lines();
    lines.find(|line| kind_of(line) == Some(SplatKind::Stall))
}

fn kind_of(text: &str) -> Option<SplatKind> {
    let mark = MARKS.iter().find(|(mark, _)| text.contains(mark));
    mark.map(|(_, kind)| *kind)
}

fn excuse(known: &[Known], kernel: &str, title: &str) -> Option<String> {
    let fits = |known: &&Known| {
        title.contains(&known.contains) && crate::select::glob_matches(&known.kernels, kernel)
    };
    known.iter().find(fits).map(|known| known.reason.clone())
}

/// One excused complaint.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    /// The telling line contains this.
    contains: String,
    /// The kernels of kernels.toml on which it is excused, as a glob.
    kernels: String,
    /// Why it does not count.
    reason: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownFile {
    #[serde(default)]
    splat: Vec<Known>,
}

fn known() -> &'static [Known] {
    static KNOWN: OnceLock<Vec<Known>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let file: KnownFile = toml::from_str(include_str!("../known-splats.toml"))
            .expect("known-splats.toml is checked by a test");
        file.splat
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn log(lines: &[&str]) -> Vec<(u8, u64, String)> {
        let lines = lines.iter().zip(1..);
        lines
            .map(|(text, time)| (4, time, (*text).to_owned()))
            .collect()
    }

    /// Check that each part of the kernel that complains is recognized by its own words.
    #[rstest]
    #[case(
        "WARNING: CPU: 0 PID: 91 at net/bluetooth/hci_core.c:2706 hci_x+0x1/0x2",
        Some(SplatKind::Warning)
    )]
    #[case("kernel BUG at mm/slub.c:305!", Some(SplatKind::Bug))]
    #[case(
        "BUG: kernel NULL pointer dereference, address: 0000000000000000",
        Some(SplatKind::Bug)
    )]
    #[case(
        "BUG: KASAN: slab-use-after-free in l2cap_x+0x1/0x2",
        Some(SplatKind::Sanitizer)
    )]
    #[case(
        "UBSAN: array-index-out-of-bounds in net/x.c:3:4",
        Some(SplatKind::Sanitizer)
    )]
    #[case(
        "WARNING: possible circular locking dependency detected",
        Some(SplatKind::Lockdep)
    )]
    #[case("WARNING: suspicious RCU usage", Some(SplatKind::Lockdep))]
    #[case(
        "INFO: task kworker/0:1:9 blocked for more than 120 seconds.",
        Some(SplatKind::Stall)
    )]
    #[case(
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        Some(SplatKind::Stall)
    )]
    #[case("Bluetooth: hci0: unexpected event for opcode 0x0000", None)]
    #[case("bpf_testmod: loading out-of-tree module taints kernel.", None)]
    fn splat_is_recognized_by_its_words(#[case] line: &str, #[case] kind: Option<SplatKind>) {
        let found = find_with(&[], "debian:6.12", &log(&[line]));
        assert_eq!(found.first().map(|splat| splat.kind), kind);
    }

    /// Check that a report of many lines is one complaint, named by its telling line, and that
    /// the next report is another.
    #[test]
    fn splat_of_many_lines_is_one() {
        let lines = log(&[
            "------------[ cut here ]------------",
            "refcount_t: underflow; use-after-free.",
            "WARNING: CPU: 0 PID: 1 at lib/refcount.c:28 refcount_warn_saturate+0x1/0x2",
            "---[ end trace 0000000000000000 ]---",
            "BUG: scheduling while atomic: agent/77/0x00000002",
        ]);
        let titles: Vec<_> = find_with(&[], "debian:6.12", &lines)
            .into_iter()
            .map(|splat| splat.title)
            .collect();
        assert_eq!(
            titles,
            [
                "refcount_t: underflow; use-after-free.",
                "BUG: scheduling while atomic: agent/77/0x00000002"
            ]
        );
    }

    /// Check that an excuse holds for its kernels and its words only.
    #[rstest]
    #[case("debian:6.1", "WARNING: CPU: 0 PID: 1 at net/a.c:1", true)]
    #[case("debian:6.12", "WARNING: CPU: 0 PID: 1 at net/a.c:1", false)]
    #[case("debian:6.1", "WARNING: CPU: 0 PID: 1 at net/b.c:1", false)]
    fn splat_is_excused_where_the_list_says_so(
        #[case] kernel: &str,
        #[case] line: &str,
        #[case] excused: bool,
    ) {
        let known = [Known {
            contains: "at net/a.c".to_owned(),
            kernels: "debian:6.1".to_owned(),
            reason: "mended in 6.2".to_owned(),
        }];
        let found = find_with(&known, kernel, &log(&[line]));
        assert_eq!(found[0].excused.is_some(), excused);
    }

    /// Check that of a console's lines the one that tells of a stall is found, and no other complaint.
    #[rstest]
    #[case(
        "hci0: x\n[   31.2] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\n",
        Some("31.2")
    )]
    #[case(
        "[    9.1] watchdog: BUG: soft lockup - CPU#0 stuck for 26s!\nx",
        Some("soft lockup")
    )]
    #[case("[    9.1] BUG: kernel NULL pointer dereference\n", None)]
    #[case("", None)]
    fn stall_of_console_is_found(#[case] console: &str, #[case] words: Option<&str>) {
        let found = stall(console);
        assert_eq!(found.is_some(), words.is_some());
        assert!(words.is_none_or(|words| found.unwrap().contains(words)));
    }

    /// Check that the list can be read and that each entry gives a reason.
    #[test]
    fn known_splats_all_give_reasons() {
        assert!(known().iter().all(|known| known.reason.len() > 20));
    }
}
