//! JUnit XML: a suite for each kernel, a case for each metric or program.

use super::matrix::{letter, rows};
use super::report::Report;
use std::fmt::Write as _;

/// The report as JUnit XML. What cannot be told is skipped, not failed.
pub(crate) fn report(report: &Report) -> String {
    let (kernels, rows) = rows(report);
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    for (i, kernel) in kernels.iter().enumerate() {
        let cells: Vec<_> = rows
            .iter()
            .filter_map(|r| Some((r, r.cells.get(i)?)))
            .collect();
        let count = |wanted: char| cells.iter().filter(|(_, c)| letter(c) == wanted).count();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" skipped=\"{}\">",
            escape(kernel),
            cells.len(),
            count('-') + count('~'),
            count('?')
        );
        for (row, cell) in &cells {
            let _ = write!(
                out,
                "    <testcase classname=\"{}\" name=\"{}\"",
                escape(&row.object),
                escape(&row.name)
            );
            let reason = escape(&cell.reason);
            let _ = match letter(cell) {
                '+' => writeln!(out, "/>"),
                '?' => writeln!(out, "><skipped message=\"{reason}\"/></testcase>"),
                _ => writeln!(out, "><failure message=\"{reason}\"/></testcase>"),
            };
        }
        out.push_str("  </testsuite>\n");
    }
    for failure in &report.failures {
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"1\" errors=\"1\"><testcase name=\"read\"><error message=\"{}\"/></testcase></testsuite>",
            escape(&failure.kernel),
            escape(&failure.error)
        );
    }
    out.push_str("</testsuites>\n");
    out
}

pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
