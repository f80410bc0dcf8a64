//! One case: what became of it, and what came home from it.

use super::{anchor, escape, tag};
use crate::case::{Capture, CaseResult};
use crate::report::Report;
use crate::report::text::what_happened;
use std::fmt::Write as _;

/// Ledger entries that one case shows; the bundle has them all.
const LEDGER_LINES: usize = 400;

/// The case, folded.
pub(super) fn case(report: &Report, page: &mut String, result: &CaseResult) {
    let right = result.class.is_right();
    let state = if right { "good" } else { "bad" };
    let _ = writeln!(
        page,
        "<details class=\"case {state}\" id=\"{}\"><summary>{} {} × {} <span class=\"faint\">{}</span></summary><div>",
        anchor(result),
        tag(result.class),
        escape(&result.kernel.to_string()),
        escape(&result.scenario),
        escape(&result.outcome.detail()),
    );
    let happened = what_happened(result);
    if !happened.is_empty() {
        let _ = writeln!(page, "<pre>{}</pre>", escape(&happened.join("\n")));
    }
    if !right {
        let again = escape(&report.again(result));
        let _ = writeln!(
            page,
            "<p>Run it again:</p><pre class=\"command\">{again}</pre>"
        );
    }
    if let Some(bundle) = &result.bundle {
        let replay = escape(&format!("cargo xtask replay {bundle}"));
        let _ = writeln!(
            page,
            "<p>Replay it as it was:</p><pre class=\"command\">{replay}</pre>"
        );
    }
    captures(page, result);
    evidence(page, result);
    page.push_str("</div></details>\n");
}

/// Links to what Wireshark and btmon open, in the case's bundle.
fn captures(page: &mut String, result: &CaseResult) {
    let Some(bundle) = &result.bundle else { return };
    for Capture { name, bytes: _ } in &result.captures {
        let (file, name) = (escape(&format!("{bundle}/{name}")), escape(name));
        let _ = writeln!(
            page,
            "<p>Capture, for Wireshark: <a href=\"{file}\">{name}</a></p>"
        );
    }
}

/// What came home, most telling first, each part folded.
fn evidence(page: &mut String, result: &CaseResult) {
    let evidence = &result.evidence;
    let kmsg = evidence.kmsg.iter().map(|(level, time_us, text)| {
        format!(
            "<{level}> {}.{:06} {text}",
            time_us / 1_000_000,
            time_us % 1_000_000
        )
    });
    let probes = evidence.probes.iter().map(|probe| {
        let mut text = format!("{} {} {}", probe.state.as_str(), probe.attach, probe.prog);
        if let Some(reason) = &probe.reason {
            let _ = write!(text, ": {reason}");
        }
        if let Some(log) = &probe.log {
            let _ = write!(text, "\n{log}");
        }
        text
    });
    let timeline = evidence
        .timeline
        .iter()
        .map(|(at_ms, phase)| format!("{at_ms:>7} ms  {phase}"));
    let calls = evidence.calls.iter().map(|call| {
        format!(
            "{} {} {}: {} calls, {} bytes",
            call.protocol.label(),
            call.direction.label(),
            call.result,
            call.calls,
            call.bytes
        )
    });
    fold(page, "Console", evidence.console.iter().cloned());
    fold(page, "Kernel log, warnings and worse", kmsg);
    fold(page, "Socket calls", calls);
    // A right case shows what was counted, not how it came about: a page of a whole matrix is to be read on a phone.
    if !result.class.is_right() {
        fold(page, "Timeline", timeline);
        fold(page, "Programs, with the verifier's words", probes);
        let entries = evidence.ledgers.iter().flat_map(|(hci, entries)| {
            entries.iter().map(move |entry| {
                let entry = serde_json::to_string(entry).unwrap_or_default();
                format!("hci{hci} {entry}")
            })
        });
        fold(page, "Controllers' ledgers", entries.take(LEDGER_LINES));
    }
}

fn fold(page: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        let _ = writeln!(
            page,
            "<details><summary>{title} ({})</summary><pre>{}</pre></details>",
            lines.len(),
            escape(&lines.join("\n"))
        );
    }
}
