//! Objects × kernels: per program or metric, where it works.

use super::report::Report;
use btcompat::verdict::{Missing, State};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// One row: what is judged, and the answer for each kernel.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) object: String,
    pub(crate) name: String,
    /// By kernel: answer, degraded, code of the worst finding.
    pub(crate) cells: Vec<Cell>,
}

/// One answer.
#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub(crate) state: State,
    pub(crate) degraded: bool,
    pub(crate) reason: String,
}

/// Kernels in order, and the rows.
pub(crate) fn rows(report: &Report) -> (Vec<String>, Vec<Row>) {
    let mut kernels: Vec<String> = Vec::new();
    for entry in &report.entries {
        if !kernels.contains(&entry.kernel) {
            kernels.push(entry.kernel.clone());
        }
    }
    let mut rows: Vec<Row> = Vec::new();
    let mut index: BTreeMap<(String, String), usize> = BTreeMap::new();
    for entry in &report.entries {
        let mut add = |name: &str, cell: Cell| {
            let key = (entry.verdict.object.clone(), name.to_owned());
            let at = *index.entry(key).or_insert_with(|| {
                rows.push(Row {
                    object: entry.verdict.object.clone(),
                    name: name.to_owned(),
                    cells: Vec::new(),
                });
                rows.len() - 1
            });
            rows[at].cells.push(cell);
        };
        if entry.metrics.is_empty() {
            for program in &entry.verdict.programs {
                let worst = program.findings.iter().min_by_key(|f| f.severity);
                let works = program.state() == State::Yes;
                let reason = worst.filter(|_| !works).map(|f| f.code.to_string());
                add(
                    &program.name,
                    Cell {
                        state: program.state(),
                        degraded: false,
                        reason: reason.unwrap_or_default(),
                    },
                );
            }
        }
        for metric in &entry.metrics {
            add(
                &metric.name,
                Cell {
                    state: metric.state,
                    degraded: metric.degraded,
                    reason: shortened(&metric.missing),
                },
            );
        }
    }
    (kernels, rows)
}

/// The first reason, and how many more there are.
fn shortened(reasons: &[Missing]) -> String {
    match reasons {
        [] => String::new(),
        [one] => one.to_string(),
        [first, rest @ ..] => format!("{first}; and {} more", rest.len()),
    }
}

/// One letter for an answer.
pub(crate) fn letter(cell: &Cell) -> char {
    match (cell.state, cell.degraded) {
        (State::Yes, false) => '+',
        (State::Yes, true) => '~',
        (State::No, _) => '-',
        (State::Unknown, _) => '?',
    }
}

/// "works on 5.10 … 6.8, breaks on 6.9 …: CODE".
pub(crate) fn sentence(kernels: &[String], row: &Row) -> String {
    let mut runs: Vec<(char, usize, usize)> = Vec::new();
    for (i, cell) in row.cells.iter().enumerate() {
        match runs.last_mut() {
            Some((c, _, end)) if *c == letter(cell) => *end = i,
            _ => runs.push((letter(cell), i, i)),
        }
    }
    let parts: Vec<String> = runs
        .iter()
        .map(|&(c, start, end)| {
            let verb = match c {
                '+' => "works on",
                '~' => "degraded on",
                '-' => "breaks on",
                _ => "unknown on",
            };
            let range = if start == end {
                kernels[start].clone()
            } else {
                format!("{} … {}", kernels[start], kernels[end])
            };
            let reason = &row.cells[start].reason;
            if reason.is_empty() {
                format!("{verb} {range}")
            } else {
                format!("{verb} {range}: {reason}")
            }
        })
        .collect();
    parts.join(", ")
}

/// The table, then a sentence for each row that is not the same everywhere.
pub(crate) fn text(report: &Report) -> String {
    let (kernels, rows) = rows(report);
    let mut out = String::new();
    // Writing to a String cannot fail.
    for (i, kernel) in kernels.iter().enumerate() {
        let _ = writeln!(out, "{}┌ {kernel}", "│".repeat(i));
    }
    for row in &rows {
        let cells: String = row.cells.iter().map(letter).collect();
        let _ = writeln!(out, "{cells}  {} {}", row.object, row.name);
    }
    out.push('\n');
    for row in &rows {
        let uniform = row.cells.windows(2).all(|w| letter(&w[0]) == letter(&w[1]));
        let works = row.cells.iter().all(|c| letter(c) == '+');
        if !(uniform && works) {
            let _ = writeln!(out, "{}: {}", row.name, sentence(&kernels, row));
        }
    }
    for failure in &report.failures {
        let _ = writeln!(out, "{}: {}", failure.kernel, failure.error);
    }
    out.push_str("\n+ works  ~ degraded  - broken  ? cannot be told\n");
    out
}
