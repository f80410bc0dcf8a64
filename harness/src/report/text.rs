//! The report on a terminal.

use super::Report;
use crate::case::CaseResult;
use crate::class::Class;
use crate::outcome::Outcome;
use comfy_table::{Table, presets};
use std::fmt::Write as _;
use std::time::Duration;

impl Report {
    /// For a terminal: a table scenarios × kernels, then everything that is wrong.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}\n{}\n", self.table(), self.releases());
        for (lines, cases) in alike(self.results.iter().filter(|r| r.class.is_right())) {
            let _ = writeln!(text, "\n{}", together(&cases));
            for line in lines {
                let _ = writeln!(text, "  {line}");
            }
        }
        for result in self.results.iter().filter(|r| !r.class.is_right()) {
            let _ = writeln!(text, "\n{} × {}", result.kernel, result.scenario);
            for line in what_happened(result) {
                let _ = writeln!(text, "  {line}");
            }
            let _ = writeln!(text, "  again: {}", self.again(result));
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

    fn releases(&self) -> String {
        let kernels = self.kernel_names().into_iter();
        let releases = kernels.map(|kernel| format!("{kernel} is {}", self.release(&kernel)));
        let releases = releases.collect::<Vec<_>>().join(", ");
        format!("{releases}; where a time stands, every value was exact")
    }

    fn table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::UTF8_BORDERS_ONLY);
        let kernels: Vec<String> = self.kernel_names();
        // Narrow columns: a matrix has more scenarios than kernels, and a terminal more lines than columns.
        let heading = |kernel: &String| kernel.replacen(':', ":\n", 1);
        let first = std::iter::once("scenario".to_owned());
        table.set_header(first.chain(kernels.iter().map(heading)));
        for scenario in self.scenarios() {
            let cells = kernels.iter().map(|kernel| {
                let case = self.case(kernel, scenario);
                case.map_or_else(|| "–".to_owned(), cell)
            });
            table.add_row(std::iter::once(scenario.to_owned()).chain(cells));
        }
        table
    }
}

/// Those of which there is something to say, by what is to be said: what a kernel lacks it lacks in every scenario.
fn alike<'a>(
    results: impl Iterator<Item = &'a CaseResult>,
) -> Vec<(Vec<String>, Vec<&'a CaseResult>)> {
    let mut groups: Vec<(Vec<String>, Vec<&CaseResult>)> = Vec::new();
    for result in results {
        let lines = what_happened(result);
        match groups.iter_mut().find(|(known, _)| *known == lines) {
            _ if lines.is_empty() => {}
            Some((_, cases)) => cases.push(result),
            None => groups.push((lines, vec![result])),
        }
    }
    groups
}

/// Scenarios of a kernel that are named one by one; the table names them all.
const NAMED: usize = 8;

/// `kernel × scenario, scenario and 2 more; kernel × …`
fn together(cases: &[&CaseResult]) -> String {
    let mut kernels: Vec<(String, Vec<&str>)> = Vec::new();
    for case in cases {
        let kernel = case.kernel.to_string();
        match kernels.last_mut() {
            Some((last, scenarios)) if *last == kernel => scenarios.push(&case.scenario),
            _ => kernels.push((kernel, vec![&case.scenario])),
        }
    }
    let of_kernel = |(kernel, scenarios): &(String, Vec<&str>)| {
        let (named, more) = scenarios.split_at(scenarios.len().min(NAMED));
        let more = match more.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        format!("{kernel} × {}{more}", named.join(", "))
    };
    kernels.iter().map(of_kernel).collect::<Vec<_>>().join("; ")
}

/// An exact case shows how long it took.
fn cell(case: &CaseResult) -> String {
    if let Some(repeats) = &case.repeats {
        return format!("{}\n{repeats}", case.class);
    }
    let total = Duration::from_millis(case.timings.total_ms()).as_secs_f64();
    match &case.outcome {
        Outcome::Passed => format!("{total:.1} s"),
        Outcome::Absent { .. } => "absent".to_owned(),
        Outcome::NotApplicable { .. } => "n/a".to_owned(),
        Outcome::NotRun { .. } => "not run".to_owned(),
        Outcome::Cancelled => "stopped".to_owned(),
        Outcome::Differs { .. }
        | Outcome::Splat { .. }
        | Outcome::Failed { .. }
        | Outcome::Died { .. } => case.class.to_string().to_uppercase(),
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
    // Of one that was right each time the table says so.
    if let Some(repeats) = result
        .repeats
        .filter(|repeats| repeats.right < repeats.runs)
    {
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
    use super::{CaseResult, together};
    use crate::outcome::Outcome;
    use crate::report::samples::{died, differs, report};

    /// Check that many scenarios of one kernel do not fill the screen.
    #[test]
    fn together_names_few_and_counts_the_rest() {
        let result = report(vec![Outcome::Passed]).results.remove(0);
        let named = (0..11).map(|number| CaseResult {
            scenario: format!("s{number}"),
            ..result.clone()
        });
        let results: Vec<_> = named.collect();
        let cases: Vec<_> = results.iter().collect();
        assert_eq!(
            together(&cases),
            "debian:6.1 × s0, s1, s2, s3, s4, s5, s6, s7 and 3 more"
        );
        assert_eq!(together(&cases[..2]), "debian:6.1 × s0, s1");
    }

    /// Check what people read.
    #[test]
    fn text_names_every_difference_and_death() {
        insta::assert_snapshot!(report(vec![Outcome::Passed, differs(), died()]).to_text());
    }
}
