//! Prediction beside reality, in each form of the report.

use super::Report;
use super::html::escape;
use crate::foretell::Score;
use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus};
use std::fmt::Write as _;

impl Report {
    /// Did everything that was foretold come true?
    #[must_use]
    pub fn is_foretold(&self) -> bool {
        self.foretold.values().all(|f| f.wrong().is_empty())
    }

    /// All kernels together.
    fn foretold_score(&self) -> Score {
        let mut score = Score::default();
        for foretold in self.foretold.values() {
            score += foretold.score();
        }
        score
    }

    /// What did not come true, kernel by kernel, then the score; nothing if nothing was foretold.
    pub(super) fn foretold_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for (kernel, foretold) in &self.foretold {
            for wrong in foretold.wrong() {
                lines.push(format!("FORETOLD WRONGLY  {kernel}: {wrong}"));
            }
            if let Some(error) = &foretold.error {
                lines.push(format!("not foretold  {kernel}: {error}"));
            }
        }
        if !self.foretold.is_empty() {
            let score = self.foretold_score();
            let kernels = self.foretold.len();
            lines.push(format!(
                "prediction beside reality: {score} (programs and metrics, {kernels} kernels)"
            ));
        }
        lines
    }

    pub(super) fn foretold_markdown(&self) -> String {
        if self.foretold.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "\n<details{}><summary>prediction beside reality: {}</summary>\n\n| kernel | programs and metrics |\n|---|---|\n",
            if self.is_foretold() { "" } else { " open" },
            self.foretold_score()
        );
        for (kernel, foretold) in &self.foretold {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "| {kernel} | {} |", foretold.score());
            for wrong in foretold.wrong() {
                let wrong = escape(&wrong).replace(['\n', '|'], " ");
                let _ = writeln!(text, "| {kernel} | ❌ {wrong} |");
            }
        }
        text.push_str("\n</details>\n");
        text
    }

    pub(super) fn foretold_html(&self, page: &mut String) {
        if self.foretold.is_empty() {
            return;
        }
        let _ = write!(
            page,
            "<h2>Prediction beside reality</h2>\n<p>From each kernel's files alone: {}.</p>\n<table class=\"values\"><thead><tr><th>kernel</th><th>what</th><th>foretold</th><th>came</th></tr></thead><tbody>",
            self.foretold_score()
        );
        for (kernel, foretold) in &self.foretold {
            let kernel = escape(kernel);
            let score = foretold.score();
            let state = if foretold.wrong().is_empty() {
                ""
            } else {
                " class=\"bad\""
            };
            let _ = write!(
                page,
                "<tr{state}><td>{kernel}</td><td colspan=\"3\">{score}</td></tr>"
            );
            for wrong in foretold.wrong() {
                let wrong = escape(&wrong);
                let _ = write!(
                    page,
                    "<tr class=\"bad\"><td>{kernel}</td><td colspan=\"3\">{wrong}</td></tr>"
                );
            }
            for metric in foretold.metrics.iter().filter(|m| !m.lost.is_empty()) {
                let said = if metric.degraded { "in part" } else { "no" };
                let _ = write!(
                    page,
                    "<tr><td>{kernel}</td><td>{}</td><td>{said}: {}</td><td>{}</td></tr>",
                    escape(&metric.metric),
                    escape(&metric.reason),
                    escape(&metric.lost.join("; "))
                );
            }
        }
        page.push_str("</tbody></table>\n");
    }

    /// A test case of its own for what was foretold for a kernel.
    pub(super) fn foretold_case(&self, kernel: &str) -> Option<TestCase> {
        let foretold = self.foretold.get(kernel)?;
        let wrong = foretold.wrong();
        let mut status = TestCaseStatus::success();
        if !wrong.is_empty() {
            status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status
                .set_type("foretold-wrongly")
                .set_message(wrong[0].clone())
                .set_description(wrong.join("\n"));
        }
        let mut case = TestCase::new("foretold", status);
        case.set_classname(format!("vm.{kernel}"));
        Some(case)
    }
}

#[cfg(test)]
mod tests {
    use crate::foretell::Foretold;
    use crate::outcome::Outcome;
    use crate::report::samples::report;
    use crate::report::{Exit, Report};
    use btcompat::verdict::{Agreement, ProgramBeside, State};

    fn with(agreement: Agreement) -> Report {
        let mut report = report(vec![Outcome::Passed]);
        let program = ProgramBeside {
            object: "socket".to_owned(),
            program: "l2cap_send_fexit".to_owned(),
            stage: "use".to_owned(),
            foretold: State::Yes,
            reason: String::new(),
            accepted: agreement == Agreement::Agrees,
            said: "R1 <invalid>".to_owned(),
            agreement,
        };
        let foretold = Foretold {
            programs: vec![program],
            ..Foretold::default()
        };
        report.foretold.insert("debian:6.1".to_owned(), foretold);
        report
    }

    /// Check that a prediction that did not come true is loud in every form and fails the run
    /// although every value is right, and that one that did is neither.
    #[test]
    fn wrong_prediction_fails_the_run_in_every_form() {
        let wrong = with(Agreement::FalseOk);
        assert_eq!(wrong.exit(), Exit::Differs);
        let line =
            "debian:6.1: socket/l2cap_send_fexit at use: said to work, the kernel refused it";
        assert!(
            wrong
                .to_text()
                .contains(&format!("FORETOLD WRONGLY  {line}"))
        );
        assert!(wrong.to_markdown().contains("❌ socket/l2cap_send_fexit"));
        assert!(wrong.to_html().contains("R1 &lt;invalid&gt;"));
        assert!(wrong.to_junit().unwrap().contains("foretold-wrongly"));
        let right = with(Agreement::Agrees);
        assert_eq!(right.exit(), Exit::Passed);
        assert!(right.to_text().contains("1 of 1 as foretold"));
        for text in [right.to_text(), right.to_markdown(), right.to_html()] {
            assert!(
                !text.contains("FORETOLD WRONGLY") && !text.contains('❌'),
                "{text}"
            );
        }
    }
}
