//! Markdown: a table of answers and the reasons.

use super::matrix::{letter, rows, sentence};
use super::report::Report;
use std::fmt::Write as _;

/// The report as Markdown.
pub(crate) fn report(report: &Report) -> String {
    let (kernels, rows) = rows(report);
    let mut out = String::from("| object | name |");
    // Writing to a String cannot fail.
    for kernel in &kernels {
        let _ = write!(out, " {} |", escape(kernel));
    }
    out.push_str("\n|---|---|");
    out.push_str(&"---|".repeat(kernels.len()));
    out.push('\n');
    for row in &rows {
        let _ = write!(out, "| {} | `{}` |", escape(&row.object), row.name);
        for cell in &row.cells {
            let sign = match letter(cell) {
                '+' => "✅",
                '~' => "🟡",
                '-' => "❌",
                _ => "❔",
            };
            let _ = write!(out, " {sign} |");
        }
        out.push('\n');
    }
    out.push('\n');
    for row in &rows {
        if row.cells.iter().any(|c| letter(c) != '+') {
            let _ = writeln!(
                out,
                "- `{}`: {}",
                row.name,
                escape(&sentence(&kernels, row))
            );
        }
    }
    for failure in &report.failures {
        let _ = writeln!(
            out,
            "- {}: {}",
            escape(&failure.kernel),
            escape(&failure.error)
        );
    }
    out
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
