//! The report as Markdown, for a pull request or a job's summary.

use super::Report;
use super::text::what_happened;
use crate::case::CaseResult;
use crate::class::Class;
use std::fmt::Write as _;

/// The longest that a forge takes as one comment is 65,536 characters.
const LIMIT_BYTES: usize = 60_000;
/// So much of one case is shown.
const SHOWN_LINES: usize = 40;
/// And so much of each of its lines.
const SHOWN_CHARACTERS: usize = 300;

impl Report {
    /// A table scenarios × kernels, then what is wrong, folded; cut where a comment would end.
    #[must_use]
    pub fn to_markdown(&self) -> String {
        let right = self.results.iter().all(|r| r.class.is_right());
        let mark = if right && self.is_foretold() {
            "✅"
        } else {
            "❌"
        };
        let mut text = format!("### {mark} {}\n\n{}", self.summary(), self.markdown_table());
        let wrong: Vec<&CaseResult> = self
            .results
            .iter()
            .filter(|r| !r.class.is_right())
            .collect();
        for (at, result) in wrong.iter().enumerate() {
            let details = self.markdown_details(result);
            if text.len() + details.len() > LIMIT_BYTES {
                let left = wrong.len() - at;
                let _ = writeln!(text, "\n… and {left} more; the HTML page has them all.");
                break;
            }
            text.push_str(&details);
        }
        text.push_str(&self.foretold_markdown());
        text
    }

    fn markdown_table(&self) -> String {
        let kernels = self.kernel_names();
        let mut text = format!(
            "| scenario | {} |\n|---|{}\n",
            kernels.join(" | "),
            "---|".repeat(kernels.len())
        );
        for scenario in self.scenarios() {
            let cells = kernels.iter().map(|kernel| {
                let case = self.case(kernel, scenario);
                case.map_or_else(String::new, |case| mark(case.class))
            });
            let cells: Vec<String> = cells.collect();
            let _ = writeln!(text, "| {scenario} | {} |", cells.join(" | "));
        }
        text
    }

    fn markdown_details(&self, result: &CaseResult) -> String {
        let lines: Vec<String> = what_happened(result)
            .iter()
            .take(SHOWN_LINES)
            .map(|line| line.chars().take(SHOWN_CHARACTERS).collect())
            .collect();
        let lines = lines.join("\n");
        format!(
            "\n<details><summary>{} × {}: {} {}</summary>\n\n{}\n\n{}\n</details>\n",
            result.kernel,
            result.scenario,
            result.class,
            escape(&result.outcome.detail()),
            fenced(&lines),
            fenced(&self.again(result)),
        )
    }
}

fn mark(class: Class) -> String {
    match class {
        Class::Exact => "✅".to_owned(),
        Class::Absent => "✅ absent".to_owned(),
        Class::NotApplicable => "n/a".to_owned(),
        class => format!("❌ {class}"),
    }
}

/// Text of a guest, which may hold anything, between two lines.
fn escape(text: &str) -> String {
    let one_line = text.replace(['\n', '\r'], " ");
    one_line
        .replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// A block that no line of the text can end.
fn fenced(text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}\n{text}\n{fence}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::samples::{died, differs, report};

    /// Check what reviewers read.
    #[test]
    fn markdown_has_the_table_and_what_is_wrong() {
        insta::assert_snapshot!(report(vec![Outcome::Passed, differs(), died()]).to_markdown());
    }

    /// Check that a guest's text cannot end the block that it stands in, nor the comment's limit
    /// be passed.
    #[test]
    fn markdown_of_hostile_text_stays_in_its_block() {
        assert!(fenced("a\n````\n</details>").starts_with("`````\n"));
        let mut report = report(vec![died()]);
        report.results[0].evidence.console = vec!["é".repeat(9_000); 60];
        let case = report.results[0].clone();
        report.results = vec![case; 12];
        let text = report.to_markdown();
        assert!(
            text.len() < LIMIT_BYTES && text.contains("more; the HTML page"),
            "{}",
            text.len()
        );
    }
}
