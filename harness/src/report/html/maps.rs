//! The maps: kernels × metrics with what each cell rests on, and kernels × scenarios.

use super::{anchor, escape, identifier, shade, tag};
use crate::case::CaseResult;
use crate::class::Class;
use crate::report::Report;
use crate::report::grid::{self, Cell, Line, Verdict};
use crate::report::text::last_words;
use metrics::{Metric, State};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Kernels × metrics, families side by side.
pub(super) fn metrics(report: &Report) -> String {
    let metrics = grid::metrics(report);
    let mut table = String::from(
        "<div class=\"scroll\"><table class=\"map\"><thead><tr><th rowspan=\"2\">kernel</th>",
    );
    for family in metrics.chunk_by(|a, b| a.family == b.family) {
        let name = family.first().map_or("", |metric| metric.family.as_str());
        let _ = write!(
            table,
            "<th class=\"family\" colspan=\"{}\">{name}</th>",
            family.len()
        );
    }
    table.push_str("</tr><tr>");
    for metric in &metrics {
        let short = metric
            .name
            .strip_prefix("bluetooth_")
            .unwrap_or(metric.name);
        let (help, short) = (escape(metric.help), escape(short));
        let _ = write!(
            table,
            "<th class=\"turned\" title=\"{help}\"><span>{short}</span></th>"
        );
    }
    table.push_str("</tr></thead><tbody>\n");
    for kernel in report.kernel_names() {
        table.push_str(&row_head(report, &kernel));
        for metric in &metrics {
            let cell = grid::cell(report, &kernel, metric);
            table.push_str(&metric_cell(report, &kernel, metric, &cell));
        }
        table.push_str("</tr>\n");
    }
    table.push_str("</tbody></table></div>\n");
    table
}

/// Kernels × scenarios; each cell leads to its case.
pub(super) fn scenarios(report: &Report) -> String {
    let scenarios: Vec<&str> = report.scenarios().collect();
    let mut table =
        String::from("<div class=\"scroll\"><table class=\"map\"><thead><tr><th>kernel</th>");
    for scenario in &scenarios {
        let scenario = escape(scenario);
        let _ = write!(table, "<th class=\"turned\"><span>{scenario}</span></th>");
    }
    table.push_str("</tr></thead><tbody>\n");
    for kernel in report.kernel_names() {
        table.push_str(&row_head(report, &kernel));
        for scenario in &scenarios {
            table.push_str(&match report.case(&kernel, scenario) {
                Some(case) => scenario_cell(case),
                None => "<td class=\"none\"></td>".to_owned(),
            });
        }
        table.push_str("</tr>\n");
    }
    table.push_str("</tbody></table></div>\n");
    table
}

fn row_head(report: &Report, kernel: &str) -> String {
    let (name, release) = (escape(kernel), escape(report.release(kernel)));
    format!("<tr><th>{name}<small>{release}</small></th>")
}

fn scenario_cell(case: &CaseResult) -> String {
    let seconds = Duration::from_millis(case.timings.total_ms()).as_secs_f64();
    let time = match case.timings.total_ms() {
        0 => String::new(),
        _ => format!("<small>{seconds:.1} s</small>"),
    };
    let label = format!("{} on {}: {}", case.scenario, case.kernel, case.class);
    format!(
        "<td class=\"{}\"><a href=\"#{}\" aria-label=\"{}\" title=\"{1}\">{}{time}</a></td>",
        shade(case.class),
        anchor(case),
        escape(&label),
        case.class.sign(),
    )
}

/// The color of a verdict.
pub(super) fn style(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Untouched => "none",
        Verdict::Exact => "exact",
        Verdict::Absent => "absent",
        Verdict::Unknown => "unknown",
        Verdict::Wrong => "wrong",
    }
}

fn metric_cell(report: &Report, kernel: &str, metric: &Metric, cell: &Cell) -> String {
    let style = style(cell.verdict);
    if cell.verdict == Verdict::Untouched && cell.reasons.is_empty() {
        let sign = cell.verdict.sign();
        return format!("<td class=\"{style}\" title=\"untouched\">{sign}</td>");
    }
    let count = match cell.lines.len() {
        0 => String::new(),
        count => format!("<small>{count}</small>"),
    };
    let mut sheet = format!(
        "<h3>{} on {} <span class=\"tag {style}\">{} {}</span></h3>",
        escape(metric.name),
        escape(kernel),
        cell.verdict.sign(),
        cell.verdict.as_str()
    );
    for reason in &cell.reasons {
        let _ = write!(sheet, "<p>{}</p>", escape(reason));
    }
    let cases: Vec<&CaseResult> = report
        .results
        .iter()
        .filter(|case| case.kernel.to_string() == kernel)
        .collect();
    if matches!(cell.verdict, Verdict::Unknown | Verdict::Wrong) {
        sheet.push_str(&trouble(&cases));
    }
    if !cell.lines.is_empty() {
        sheet.push_str(&values(kernel, cell));
    }
    sheet.push_str(&programs(&cases, metric));
    let _ = write!(sheet, "<p class=\"faint\">{}</p>", escape(metric.meaning));
    // One name for all: opening a cell closes the one before.
    format!(
        "<td class=\"{style}\"><details name=\"cell\"><summary aria-label=\"{} on {}: {}\">{}{count}</summary><div class=\"sheet\">{sheet}</div></details></td>",
        escape(metric.name),
        escape(kernel),
        cell.verdict.as_str(),
        cell.verdict.sign(),
    )
}

/// The cases of a kernel that went wrong, each with its last words and a link to the rest.
fn trouble(cases: &[&CaseResult]) -> String {
    let mut text = String::new();
    for case in cases.iter().filter(|case| !case.class.is_right()) {
        let _ = write!(
            text,
            "<p><a href=\"#{}\">{} {}</a>: console, kernel log, verifier, ledgers",
            anchor(case),
            tag(case.class),
            escape(&case.scenario)
        );
        text.push_str(if case.captures.is_empty() {
            "</p>"
        } else {
            ", captures</p>"
        });
        let lives = matches!(case.class, Class::Assertion | Class::Step | Class::Splat);
        let words: Vec<&str> = last_words(case).collect();
        if !lives && !words.is_empty() {
            let _ = write!(text, "<pre>{}</pre>", escape(&words.join("\n")));
        }
    }
    text
}

/// The values: first each that is wrong, then those that are right, alike ones together.
fn values(kernel: &str, cell: &Cell) -> String {
    let mut table = String::from(
        "<table class=\"values\"><thead><tr><th>scenario</th><th>series</th><th>expected</th><th>observed</th></tr></thead><tbody>",
    );
    for line in cell.lines.iter().filter(|line| !line.exact) {
        let where_from = link(kernel, &line.scenario);
        table.push_str(&value_row(" class=\"bad\"", &where_from, line));
    }
    let mut alike: BTreeMap<(&str, &str, &str), Vec<&Line>> = BTreeMap::new();
    for line in cell.lines.iter().filter(|line| line.exact) {
        let values = (
            line.labels.as_str(),
            line.expected.as_str(),
            line.observed.as_str(),
        );
        alike.entry(values).or_default().push(line);
    }
    for lines in alike.values() {
        table.push_str(&value_row("", &links(kernel, lines), lines[0]));
    }
    table.push_str("</tbody></table>");
    table
}

fn value_row(class: &str, where_from: &str, line: &Line) -> String {
    format!(
        "<tr{class}><td>{where_from}</td><td class=\"mono\">{}</td><td data-name=\"expected\">{}</td><td data-name=\"observed\">{}</td></tr>",
        escape(&plain(&line.labels)),
        escape(&line.expected),
        escape(&line.observed),
    )
}

/// Labels without the signs that only a machine needs.
fn plain(labels: &str) -> String {
    let labels = labels.trim_start_matches('{').trim_end_matches('}');
    labels.replace("\",", ", ").replace('"', "")
}

fn link(kernel: &str, scenario: &str) -> String {
    let anchor = identifier(kernel, scenario);
    format!("<a href=\"#{anchor}\">{}</a>", escape(scenario))
}

/// So many scenarios with the same value are named.
const NAMED: usize = 2;

fn links(kernel: &str, lines: &[&Line]) -> String {
    let named = lines.iter().take(NAMED);
    let named: Vec<String> = named.map(|line| link(kernel, &line.scenario)).collect();
    match lines.len().saturating_sub(NAMED) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// The family's programs, as the first case that loaded them found them, with what the verifier
/// said of those that failed.
fn programs(cases: &[&CaseResult], metric: &Metric) -> String {
    let of_family = |case: &&&CaseResult| {
        let probes = &case.evidence.probes;
        probes.iter().any(|probe| probe.family == metric.family)
    };
    let Some(case) = cases.iter().find(of_family) else {
        return String::new();
    };
    let probes = case.evidence.probes.iter();
    let probes: Vec<_> = probes.filter(|p| p.family == metric.family).collect();
    let attached = probes.iter().filter(|p| p.state == State::Attached);
    let attached: Vec<String> = attached
        .map(|p| format!("{} {}", p.attach, p.prog))
        .collect();
    let mut text = format!(
        "<p class=\"faint\">Counted by {}.</p>",
        escape(&attached.join(", "))
    );
    for probe in probes.iter().filter(|probe| probe.state == State::Failed) {
        let reason = probe.reason.as_deref().unwrap_or("no reason given");
        let log = probe.log.as_deref().unwrap_or_default();
        let failed = format!("{} {}: {reason}\n{log}", probe.attach, probe.prog);
        let _ = write!(text, "<pre>{}</pre>", escape(&failed));
    }
    text
}
