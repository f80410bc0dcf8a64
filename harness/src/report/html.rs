//! The report as one page: no script, nothing to fetch.
//!
//! The heat map stands first; each of its cells is a `<details>` whose content opens over the
//! lower part of the screen. Below, one `<details>` for each case holds what came home from it.

use super::Report;
use super::grid::{self, Cell, Verdict};
use super::text::what_happened;
use crate::case::CaseResult;
use crate::class::Class;
use metrics::Metric;
use std::fmt::Write as _;

const STYLE: &str = include_str!("page.css");
/// Ledger entries that one case shows; the JSON has them all.
const LEDGER_LINES: usize = 400;

impl Report {
    /// One self-contained HTML page.
    #[must_use]
    pub fn to_html(&self) -> String {
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>Bluetooth metrics × kernels</title>\n<style>{STYLE}</style></head>\n<body>\n\
             <h1>Bluetooth metrics × kernels</h1>\n<p>{}</p>\n<p class=\"faint\">Guests ran under {}: {}.</p>\n",
            escape(&self.summary()),
            self.accel,
            escape(&self.accel_reason),
        );
        page.push_str("<h2>What each kernel measures rightly</h2>\n");
        page.push_str(&legend());
        page.push_str(&self.heat_map());
        self.foretold_html(&mut page);
        page.push_str("<h2>Cases</h2>\n");
        let (wrong, right): (Vec<_>, Vec<_>) =
            self.results.iter().partition(|r| !r.class.is_right());
        for result in wrong.into_iter().chain(right) {
            self.case_details(&mut page, result);
        }
        page.push_str("</body></html>\n");
        page
    }

    fn heat_map(&self) -> String {
        let metrics = grid::metrics(self);
        let mut table =
            String::from("<div class=\"scroll\"><table class=\"map\"><thead><tr><th>kernel</th>");
        for metric in &metrics {
            let short = metric
                .name
                .strip_prefix("bluetooth_")
                .unwrap_or(metric.name);
            let _ = write!(
                table,
                "<th title=\"{}\">{}</th>",
                escape(metric.help),
                breakable(short)
            );
        }
        table.push_str("</tr></thead><tbody>\n");
        for kernel in self.kernel_names() {
            let release = escape(self.release(&kernel));
            let _ = write!(
                table,
                "<tr><th>{}<small>{release}</small></th>",
                escape(&kernel)
            );
            for metric in &metrics {
                let cell = grid::cell(self, &kernel, metric);
                table.push_str(&map_cell(&kernel, metric, &cell));
            }
            table.push_str("</tr>\n");
        }
        table.push_str("</tbody></table></div>\n");
        table
    }

    fn case_details(&self, page: &mut String, result: &CaseResult) {
        let right = result.class.is_right();
        let state = if right { "good" } else { "bad" };
        let _ = writeln!(
            page,
            "<details class=\"case {state}\" id=\"{}\"><summary>{} {} × {} <span class=\"faint\">{}</span></summary><div>",
            anchor(result),
            tag(result.class),
            escape(&result.kernel.to_string()),
            escape(&result.scenario),
            escape(&result.outcome.detail()),
        );
        let happened = what_happened(result);
        if !happened.is_empty() {
            let _ = writeln!(page, "<pre>{}</pre>", escape(&happened.join("\n")));
        }
        if !right {
            let _ = writeln!(
                page,
                "<p>Again:</p><pre>{}</pre>",
                escape(&self.again(result))
            );
        }
        if let Some(bundle) = &result.bundle {
            let replay = format!("cargo xtask replay {bundle}");
            let _ = writeln!(page, "<p>Replay bundle:</p><pre>{}</pre>", escape(&replay));
        }
        evidence(page, result);
        page.push_str("</div></details>\n");
    }
}

fn legend() -> String {
    let item = |verdict: &Verdict| {
        format!(
            "<li><b class=\"{}\">{}</b> {}</li>",
            style(*verdict),
            verdict.sign(),
            verdict.as_str()
        )
    };
    let items: String = Verdict::ALL.iter().map(item).collect();
    format!("<ul class=\"legend\">{items}</ul>\n")
}

fn style(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Untouched => "none",
        Verdict::Exact => "exact",
        Verdict::Absent => "absent",
        Verdict::Unknown => "unknown",
        Verdict::Wrong => "wrong",
    }
}

fn tag(class: Class) -> String {
    let style = match class {
        Class::Exact => "exact",
        Class::Absent => "absent",
        Class::NotApplicable | Class::Cancelled => "none",
        Class::Infrastructure | Class::LostVm => "unknown",
        _ => "wrong",
    };
    format!(
        "<span class=\"tag {style}\">{} {class}</span>",
        class.sign()
    )
}

fn map_cell(kernel: &str, metric: &Metric, cell: &Cell) -> String {
    let style = style(cell.verdict);
    if cell.verdict == Verdict::Untouched && cell.reasons.is_empty() {
        return format!(
            "<td class=\"{style}\" title=\"untouched\">{}</td>",
            cell.verdict.sign()
        );
    }
    let mut sheet = format!(
        "<h3>{} on {}: {}</h3>",
        escape(metric.name),
        escape(kernel),
        cell.verdict.as_str()
    );
    for reason in &cell.reasons {
        let _ = write!(sheet, "<p>{}</p>", escape(reason));
    }
    if !cell.lines.is_empty() {
        sheet.push_str(&values(kernel, cell));
    }
    let _ = write!(sheet, "<p class=\"faint\">{}</p>", escape(metric.meaning));
    // One name for all: opening a cell closes the one before.
    format!(
        "<td class=\"{style}\"><details name=\"cell\"><summary aria-label=\"{} on {}: {}\">{}</summary><div class=\"sheet\">{sheet}</div></details></td>",
        escape(metric.name),
        escape(kernel),
        cell.verdict.as_str(),
        cell.verdict.sign(),
    )
}

fn values(kernel: &str, cell: &Cell) -> String {
    let mut table = String::from(
        "<table class=\"values\"><thead><tr><th>scenario</th><th>series</th><th>expected</th><th>observed</th></tr></thead><tbody>",
    );
    let mut lines: Vec<_> = cell.lines.iter().collect();
    lines.sort_by_key(|line| line.exact);
    for line in lines {
        let class = if line.exact { "" } else { " class=\"bad\"" };
        let _ = write!(
            table,
            "<tr{class}><td><a href=\"#{}\">{}</a></td><td class=\"mono\">{}</td><td data-name=\"expected\">{}</td><td data-name=\"observed\">{}</td></tr>",
            identifier(kernel, &line.scenario),
            escape(&line.scenario),
            escape(&line.labels),
            escape(&line.expected),
            escape(&line.observed),
        );
    }
    table.push_str("</tbody></table>");
    table
}

/// What came home, most telling first, each part folded.
fn evidence(page: &mut String, result: &CaseResult) {
    let evidence = &result.evidence;
    let kmsg = evidence.kmsg.iter().map(|(level, time_us, text)| {
        format!(
            "<{level}> {}.{:06} {text}",
            time_us / 1_000_000,
            time_us % 1_000_000
        )
    });
    let probes = evidence.probes.iter().map(|probe| {
        let mut text = format!("{} {} {}", probe.state.as_str(), probe.attach, probe.prog);
        if let Some(reason) = &probe.reason {
            let _ = write!(text, ": {reason}");
        }
        if let Some(log) = &probe.log {
            let _ = write!(text, "\n{log}");
        }
        text
    });
    let timeline = evidence
        .timeline
        .iter()
        .map(|(at_ms, phase)| format!("{at_ms:>7} ms  {phase}"));
    let calls = evidence.calls.iter().map(|call| {
        format!(
            "{} {} {}: {} calls, {} bytes",
            call.protocol.label(),
            call.direction.label(),
            call.result,
            call.calls,
            call.bytes
        )
    });
    fold(page, "Console", evidence.console.iter().cloned());
    fold(page, "Kernel log, warnings and worse", kmsg);
    fold(page, "Programs, with the verifier's words", probes);
    fold(page, "Timeline", timeline);
    fold(page, "Socket calls", calls);
    // A right case shows what was counted; how it came about is in the JSON.
    if !result.class.is_right() {
        let entries = evidence.ledgers.iter().flat_map(|(hci, entries)| {
            entries.iter().map(move |entry| {
                let entry = serde_json::to_string(entry).unwrap_or_default();
                format!("hci{hci} {entry}")
            })
        });
        fold(page, "Controllers' ledgers", entries.take(LEDGER_LINES));
    }
}

fn fold(page: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    if !lines.is_empty() {
        let _ = writeln!(
            page,
            "<details><summary>{title} ({})</summary><pre>{}</pre></details>",
            lines.len(),
            escape(&lines.join("\n"))
        );
    }
}

fn anchor(result: &CaseResult) -> String {
    identifier(&result.kernel.to_string(), &result.scenario)
}

/// A name for links, made of letters, digits and dashes.
fn identifier(kernel: &str, scenario: &str) -> String {
    let word = format!("{kernel}--{scenario}");
    word.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        })
        .collect()
}

/// Lets a long name break after each of its words.
fn breakable(name: &str) -> String {
    escape(name).replace('_', "_<wbr>")
}

/// Guests may say anything: nothing of it is to become markup.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // Control characters have no place in HTML.
            c if c.is_control() && !matches!(c, '\n' | '\t') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::samples::{died, differs, report};
    use proptest::prelude::{prop_assert, proptest};

    /// Check that the page holds a cell for each kernel and metric with its evidence, and needs
    /// neither script nor network.
    #[test]
    fn page_has_every_cell_and_needs_nothing() {
        let page = report(vec![Outcome::Passed, differs(), died()]).to_html();
        assert_eq!(page.matches("<details name=\"cell\">").count(), 6);
        assert_eq!(page.matches("<td class=\"wrong\">").count(), 1);
        assert_eq!(page.matches("<td class=\"unknown\">").count(), 2);
        assert!(page.contains("expected\">23</td><td data-name=\"observed\">24"));
        for outside in ["<script", "src=", "http:", "https:", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
    }

    /// Check that every link of the page leads somewhere in it.
    #[test]
    fn page_links_lead_to_cases() {
        let page = report(vec![Outcome::Passed, differs(), died()]).to_html();
        let links: Vec<&str> = page
            .split("href=\"#")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert!(!links.is_empty());
        for link in links {
            assert!(page.contains(&format!("id=\"{link}\"")), "{link}");
        }
    }

    proptest! {
        /// Check that no text of a guest becomes markup.
        #[test]
        fn escaped_text_holds_no_markup(text in "\\PC{0,200}") {
            prop_assert!(!escape(&text).contains(['<', '>', '"', '\'']));
        }
    }
}
