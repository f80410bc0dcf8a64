//! Programs that work and may miss events: each reason once, with the programs that it concerns.

use super::reasons::{NAMED, add};
use super::report::Entry;
use btcompat::verdict::{Finding, ProgramVerdict, Severity};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// The reasons of programs that would be used.
pub(crate) fn text(entries: &[Entry]) -> String {
    let mut reasons: BTreeMap<(&str, &str), (Vec<&str>, &str)> = BTreeMap::new();
    for entry in entries {
        for program in entry.verdict.programs.iter().filter(|p| is_used(entry, p)) {
            for finding in program
                .findings
                .iter()
                .filter(|f| f.severity == Severity::Loses)
            {
                let Finding {
                    code,
                    evidence,
                    advice,
                    ..
                } = finding;
                let reason = reasons.entry((code.info().name, evidence)).or_default();
                add(&mut reason.0, &program.name);
                reason.1 = advice;
            }
        }
    }
    let mut out = String::new();
    for ((code, evidence), (programs, advice)) in reasons {
        let named = programs[..programs.len().min(NAMED)].join(", ");
        let more = match programs.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "    {code} ({evidence})\n        {named}{more}");
        if !advice.is_empty() {
            let _ = writeln!(out, "        → {advice}");
        }
    }
    out
}

/// Whether it is a program of some metric; or, where there are none, one that is loaded and works.
fn is_used(entry: &Entry, program: &ProgramVerdict) -> bool {
    if entry.metrics.is_empty() {
        return program.autoload && program.state() == btcompat::verdict::State::Yes;
    }
    let mut used = entry.metrics.iter().flat_map(|metric| &metric.programs);
    used.any(|name| *name == program.name)
}
