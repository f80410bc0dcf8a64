//! A heat map in one HTML file without scripts.

use super::junit::escape;
use super::matrix::{letter, rows};
use super::report::Report;
use std::fmt::Write as _;

const STYLE: &str = "body{font:14px system-ui;margin:2em}table{border-collapse:collapse}\
th,td{border:1px solid #ccc;padding:.2em .5em}th.k{writing-mode:vertical-rl}\
td.w{background:#b7e1b5}td.d{background:#ffe9a8}td.b{background:#f4b6b0}td.u{background:#ddd}";

/// The report as HTML; the reason of a cell shows when the pointer rests on it.
pub(crate) fn report(report: &Report) -> String {
    let (kernels, rows) = rows(report);
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>eBPF compatibility</title>\
         <style>{STYLE}</style>\n<table><tr><th>object<th>name"
    );
    for kernel in &kernels {
        // Writing to a String cannot fail.
        let _ = write!(out, "<th class=k>{}", escape(kernel));
    }
    out.push('\n');
    for row in &rows {
        let _ = write!(
            out,
            "<tr><td>{}<td>{}",
            escape(&row.object),
            escape(&row.name)
        );
        for cell in &row.cells {
            let (class, word) = match letter(cell) {
                '+' => ("w", "works"),
                '~' => ("d", "degraded"),
                '-' => ("b", "broken"),
                _ => ("u", "unknown"),
            };
            let _ = write!(
                out,
                "<td class={class} title=\"{}\">{word}",
                escape(&cell.reason)
            );
        }
        out.push('\n');
    }
    out.push_str("</table></html>\n");
    out
}
