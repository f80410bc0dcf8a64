//! The report on a terminal.

use super::Report;
use crate::case::CaseResult;
use crate::class::Class;
use crate::outcome::Outcome;
use comfy_table::{Table, presets};
use std::fmt::Write as _;
use std::time::Duration;

impl Report {
    /// For a terminal: a table kernels × scenarios, then everything that is wrong.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n", self.table());
        for result in self.results.iter().filter(|r| r.class != Class::Exact) {
            let _ = writeln!(text, "\n{} × {}", result.kernel, result.scenario);
            for line in what_happened(result) {
                let _ = writeln!(text, "  {line}");
            }
            if !result.class.is_right() {
                let _ = writeln!(text, "  again: {}", self.again(result));
            }
        }
        for result in self.flaky() {
            let first = result.earlier.first().map(Outcome::detail);
            let _ = writeln!(
                text,
                "\nflaky: {} × {}: {}",
                result.kernel,
                result.scenario,
                first.unwrap_or_default()
            );
        }
        for line in self.foretold_lines() {
            let _ = writeln!(text, "\n{line}");
        }
        let _ = writeln!(
            text,
            "\n{} ({}: {})",
            self.summary(),
            self.accel,
            self.accel_reason
        );
        text
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let scenarios: Vec<&str> = self.scenarios().collect();
        let header = ["kernel", "release"].into_iter();
        table.set_header(header.chain(scenarios.iter().copied()));
        for kernel in self.kernel_names() {
            let mut row = vec![kernel.clone(), self.release(&kernel).to_owned()];
            row.extend(scenarios.iter().map(|scenario| {
                let case = self.case(&kernel, scenario);
                case.map_or_else(|| "–".to_owned(), cell)
            }));
            table.add_row(row);
        }
        table
    }
}

fn cell(case: &CaseResult) -> String {
    if let Some(repeats) = &case.repeats {
        return format!("{} {repeats}", case.class);
    }
    let total = Duration::from_millis(case.timings.total_ms()).as_secs_f64();
    match &case.outcome {
        Outcome::Passed => format!("exact  {total:.1} s"),
        Outcome::Absent { series } => format!("absent ({})", series.len()),
        Outcome::NotApplicable { .. } => "n/a".to_owned(),
        Outcome::Splat { splats } => format!("SPLAT ({})", splats.len()),
        Outcome::Differs { differences } => format!("DIFFERS ({})", differences.len()),
        Outcome::Failed { .. } => "FAILED".to_owned(),
        Outcome::Died { class, .. } => format!("DIED ({class})"),
        Outcome::NotRun { .. } => "not run".to_owned(),
        Outcome::Cancelled => "cancelled".to_owned(),
    }
}

/// What is to be known of a case, as lines.
pub(super) fn what_happened(result: &CaseResult) -> Vec<String> {
    let mut lines = match &result.outcome {
        Outcome::Passed => Vec::new(),
        Outcome::Differs { differences } => differences
            .iter()
            .flat_map(|d| {
                [
                    format!("{}{}", d.metric, d.labels),
                    format!("  expected {}", d.expected),
                    format!("  observed {}", d.observed),
                ]
            })
            .collect(),
        Outcome::Failed { step, error } => {
            vec![format!("could not carry out: {step}"), error.clone()]
        }
        Outcome::Died {
            class,
            phase,
            detail,
        } => {
            let mut lines = vec![format!("{class} while {phase}: {detail}")];
            lines.extend(last_words(result).map(|line| format!("| {line}")));
            lines
        }
        Outcome::Absent { series } => series
            .iter()
            .map(|lost| {
                let labels = lost
                    .labels
                    .iter()
                    .map(|(name, value)| format!("{name}={value:?}"));
                let labels: Vec<String> = labels.collect();
                format!(
                    "absent: {}{{{}}}: {}",
                    lost.metric,
                    labels.join(","),
                    lost.reason
                )
            })
            .collect(),
        Outcome::NotApplicable { reason } => vec![format!("not applicable: {reason}")],
        Outcome::NotRun { error } => vec![format!("not run: {error}")],
        Outcome::Splat { .. } => {
            vec!["every value is right, but the kernel complained:".to_owned()]
        }
        Outcome::Cancelled => vec![format!("cancelled while {}", result.evidence.phase)],
    };
    if let Some(repeats) = &result.repeats {
        lines.insert(0, format!("right in {repeats} runs"));
    }
    lines.extend(result.splats.iter().map(|splat| match &splat.excused {
        None => format!("kernel: {}", splat.title),
        Some(reason) => format!("kernel (excused: {reason}): {}", splat.title),
    }));
    lines
}

/// The last lines of the console; for a panic, from where it begins.
pub(super) fn last_words(result: &CaseResult) -> impl Iterator<Item = &str> {
    let console = &result.evidence.console;
    let panic = console
        .iter()
        .position(|line| line.contains("Kernel panic"));
    let from = match (result.class, panic) {
        (Class::Panic, Some(at)) => at.saturating_sub(20),
        _ => console.len().saturating_sub(15),
    };
    console.iter().skip(from).take(30).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use crate::outcome::Outcome;
    use crate::report::samples::{died, differs, report};

    /// Check what people read.
    #[test]
    fn text_names_every_difference_and_death() {
        insta::assert_snapshot!(report(vec![Outcome::Passed, differs(), died()]).to_text());
    }
}
