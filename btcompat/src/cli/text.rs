//! Text for people: one line for each metric or program, then the reasons.

use super::report::{Entry, Report};
use super::{losses, reasons, word};
use btcompat::verdict::{Finding, MetricVerdict, Severity, State};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Width that explanations are wrapped to.
const WIDTH: usize = 78;

/// A report on one or a few kernels.
pub(crate) fn report(report: &Report, verbose: bool) -> String {
    let mut out = String::new();
    // The entries of one kernel stand together.
    for entries in report.entries.chunk_by(|a, b| a.kernel == b.kernel) {
        kernel(entries, verbose, &mut out);
    }
    for failure in &report.failures {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "kernel {}: {}", failure.kernel, failure.error);
    }
    out
}

/// All entries of one kernel.
fn kernel(entries: &[Entry], verbose: bool, out: &mut String) {
    let Some(first) = entries.first() else {
        return;
    };
    let verdict = &first.verdict;
    let _ = writeln!(
        out,
        "kernel {} ({}, {})",
        first.kernel, verdict.kernel, verdict.arch
    );
    for warning in &first.warnings {
        let _ = writeln!(out, "  warning: {warning}");
    }
    let metrics: Vec<MetricVerdict> = entries.iter().flat_map(|e| e.metrics.clone()).collect();
    let no_bluetooth = first.no_bluetooth.as_ref().filter(|_| !metrics.is_empty());
    if let Some(why) = no_bluetooth {
        let _ = writeln!(out, "  no Bluetooth: {why}; nothing can be measured here");
    }
    for entry in entries {
        one(entry, verbose, out);
    }
    // Without Bluetooth, every other reason follows from that.
    let reasons = reasons::text(&metrics);
    if !reasons.is_empty() && (verbose || no_bluetooth.is_none()) {
        let _ = write!(out, "  reasons\n{reasons}");
    }
    let losses = losses::text(entries);
    if !losses.is_empty() {
        let _ = write!(out, "  may miss events\n{losses}");
    }
}

fn one(entry: &Entry, verbose: bool, out: &mut String) {
    let verdict = &entry.verdict;
    for metric in &entry.metrics {
        let word = if metric.degraded {
            "degraded"
        } else {
            word(metric.state)
        };
        let _ = writeln!(out, "  {word:9} {}", metric.name);
    }
    if entry.metrics.is_empty() {
        let default = || verdict.programs.iter().filter(|p| p.autoload);
        let some = default().any(|p| p.state() == State::Yes);
        let word = match verdict.state() {
            State::No if some => "degraded",
            state => word(state),
        };
        let _ = writeln!(out, "  {word:9} {}", verdict.object);
    }
    for finding in &verdict.findings {
        if verbose || finding.severity < Severity::Loses {
            reason(finding, &verdict.object, out);
        }
    }
    // With metrics, programs are detail: alternatives that are not used do not matter.
    let detail = verbose || entry.metrics.is_empty();
    for program in verdict.programs.iter().filter(|_| detail) {
        let shown = verbose || program.state() != State::Yes;
        if !shown {
            continue;
        }
        let _ = writeln!(
            out,
            "    {:9} {} [{}]{}",
            word(program.state()),
            program.name,
            program.section,
            if program.autoload {
                ""
            } else {
                " (not loaded by default)"
            }
        );
        for finding in grouped(&program.findings) {
            if verbose || finding.0.severity < Severity::Loses {
                reason(finding.0, "", out);
                if finding.1 > 1 {
                    let _ = writeln!(out, "        and {} times more", finding.1 - 1);
                }
            }
        }
    }
}

/// Findings that differ only in their place count once.
fn grouped(findings: &[Finding]) -> Vec<(&Finding, usize)> {
    let mut seen: BTreeMap<(&str, &str, &str), usize> = BTreeMap::new();
    let mut list: Vec<(&Finding, usize)> = Vec::new();
    for finding in findings {
        let key = (
            finding.code.info().name,
            &*finding.subject,
            &*finding.evidence,
        );
        match seen.get(&key) {
            Some(&at) => list[at].1 += 1,
            None => {
                seen.insert(key, list.len());
                list.push((finding, 1));
            }
        }
    }
    list
}

fn reason(finding: &Finding, owner: &str, out: &mut String) {
    let _ = write!(out, "      {} at {}: ", finding.code, finding.stage.name());
    if !owner.is_empty() {
        let _ = write!(out, "{owner}: ");
    }
    let _ = write!(out, "{}", finding.subject);
    if !finding.evidence.is_empty() {
        let _ = write!(out, " ({})", finding.evidence);
    }
    if let Some(place) = &finding.place {
        let _ = match &place.line {
            Some((file, line)) => write!(out, " at {file}:{line} in {}", place.function),
            None => write!(out, " in {}", place.function),
        };
    }
    out.push('\n');
    if !finding.advice.is_empty() {
        let _ = writeln!(out, "        → {}", finding.advice);
    }
}

/// Breaks a text into lines.
pub(crate) fn wrap(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_whitespace() {
        if column > 0 && column + 1 + word.len() > WIDTH {
            out.push('\n');
            column = 0;
        } else if column > 0 {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out
}
