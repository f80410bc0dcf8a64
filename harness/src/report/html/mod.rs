//! The report as one page: no script, nothing to fetch.
//!
//! First what needs to be looked at, then two maps: kernels × metrics, each of whose cells is a
//! `<details>` that opens over the lower part of the screen, and kernels × scenarios. Below, one
//! `<details>` for each case holds what came home from it.

mod evidence;
mod maps;

use super::Report;
use super::grid::{self, Verdict};
use crate::case::CaseResult;
use crate::class::Class;
use std::fmt::Write as _;
use std::time::Duration;

const STYLE: &str = include_str!("page.css");

impl Report {
    /// One self-contained HTML page.
    #[must_use]
    pub fn to_html(&self) -> String {
        let right = self.results.iter().all(|r| r.class.is_right()) && self.is_foretold();
        let (mood, verdict) = match (right, self.not_started) {
            (true, 0) => ("good", "Every metric is right"),
            (true, _) => ("unsure", "What ran is right"),
            (false, _) => ("bad", "Something is wrong"),
        };
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <title>{verdict}: Bluetooth metrics × kernels</title>\n<style>{STYLE}</style></head>\n<body>\n\
             <header class=\"{mood}\"><p>Bluetooth metrics × kernels</p><h1>{verdict}</h1>\
             <p>{}</p></header>\n",
            escape(&self.summary()),
        );
        page.push_str(&self.tiles());
        page.push_str(&self.trouble());
        page.push_str("<h2 id=\"metrics\">Metrics</h2>\n");
        page.push_str(&legend());
        page.push_str(&maps::metrics(self));
        page.push_str("<h2 id=\"scenarios\">Scenarios</h2>\n");
        page.push_str(&maps::scenarios(self));
        self.foretold_html(&mut page);
        page.push_str("<h2 id=\"cases\">Cases</h2>\n");
        let (wrong, right): (Vec<_>, Vec<_>) =
            self.results.iter().partition(|r| !r.class.is_right());
        for result in wrong.into_iter().chain(right) {
            evidence::case(self, &mut page, result);
        }
        page.push_str("</body></html>\n");
        page
    }

    /// The run in numbers.
    fn tiles(&self) -> String {
        let right = self.results.iter().filter(|r| r.class.is_right()).count();
        let cases = self.results.len() + self.not_started;
        let values: usize = self.results.iter().map(|r| r.expected.iter().count()).sum();
        let took = Duration::from_millis(self.total_ms).as_secs();
        let tiles = [
            (format!("{right}<small> of {cases}</small>"), "cases right"),
            (self.kernel_names().len().to_string(), "kernels"),
            (self.scenarios().count().to_string(), "scenarios"),
            (grid::metrics(self).len().to_string(), "metrics"),
            (values.to_string(), "values compared"),
            (
                format!(
                    "{}<small> min</small> {:02}<small> s</small>",
                    took / 60,
                    took % 60
                ),
                "in all",
            ),
            (self.median(|r| r.timings.restore_ms), "restore, median"),
            (self.median(|r| r.timings.scenario_ms), "scenario, median"),
        ];
        let mut list = String::from("<dl class=\"tiles\">");
        for (number, name) in tiles {
            let _ = write!(list, "<div><dt>{name}</dt><dd>{number}</dd></div>");
        }
        let _ = writeln!(
            list,
            "</dl>\n<p class=\"faint\">Guests ran under {}: {}.</p>",
            self.accel,
            escape(&self.accel_reason)
        );
        list
    }

    fn median(&self, time: impl Fn(&CaseResult) -> Option<u64>) -> String {
        let mut times: Vec<u64> = self.results.iter().filter_map(time).collect();
        times.sort_unstable();
        let median = times.get(times.len() / 2);
        median.map_or_else(|| "–".to_owned(), |ms| format!("{ms}<small> ms</small>"))
    }

    /// What is wrong, each with a link to its evidence.
    fn trouble(&self) -> String {
        let wrong: Vec<&CaseResult> = self
            .results
            .iter()
            .filter(|result| !result.class.is_right())
            .collect();
        if wrong.is_empty() {
            return String::new();
        }
        let mut list = String::from("<h2>To look at</h2>\n<ul class=\"trouble\">\n");
        for result in wrong {
            let _ = writeln!(
                list,
                "<li><a href=\"#{}\">{} <b>{} × {}</b> <span>{}</span></a></li>",
                anchor(result),
                tag(result.class),
                escape(&result.kernel.to_string()),
                escape(&result.scenario),
                escape(&result.outcome.detail()),
            );
        }
        list.push_str("</ul>\n");
        list
    }
}

fn legend() -> String {
    let item = |verdict: &Verdict| {
        format!(
            "<li><b class=\"{}\">{}</b> {}</li>",
            maps::style(*verdict),
            verdict.sign(),
            verdict.as_str()
        )
    };
    let items: String = Verdict::ALL.iter().map(item).collect();
    format!("<ul class=\"legend\">{items}</ul>\n")
}

/// The color of a class.
fn shade(class: Class) -> &'static str {
    match class {
        Class::Exact => "exact",
        Class::Absent => "absent",
        Class::NotApplicable | Class::Cancelled => "none",
        Class::Infrastructure | Class::LostVm => "unknown",
        _ => "wrong",
    }
}

fn tag(class: Class) -> String {
    let (shade, sign) = (shade(class), class.sign());
    format!("<span class=\"tag {shade}\">{sign} {class}</span>")
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
    use crate::case::Capture;
    use crate::outcome::Outcome;
    use crate::report::samples::{died, differs, report};
    use proptest::prelude::{prop_assert, proptest};

    /// Check that the page holds a cell for each kernel and metric with its evidence, and needs
    /// neither script nor network.
    #[test]
    fn page_has_every_cell_and_needs_nothing() {
        let page = report(vec![Outcome::Passed, differs(), died()]).to_html();
        assert_eq!(page.matches("<details name=\"cell\">").count(), 6);
        assert_eq!(page.matches("<td class=\"wrong\"><details").count(), 1);
        assert_eq!(page.matches("<td class=\"unknown\"><details").count(), 2);
        assert_eq!(page.matches("<td class=\"wrong\"><a href").count(), 2);
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

    /// Check that what is wrong stands first, and that a run in which nothing is says so instead.
    #[test]
    fn page_begins_with_what_is_wrong() {
        let page = report(vec![Outcome::Passed, differs()]).to_html();
        let place = |words: &str| page.find(words).unwrap();
        assert!(place("To look at") < place("id=\"metrics\""));
        assert!(page.contains("Something is wrong"));
        let page = report(vec![Outcome::Passed]).to_html();
        assert!(page.contains("Every metric is right") && !page.contains("To look at"));
    }

    /// Check that captures are linked where the bundle has them, and nowhere without one.
    #[test]
    fn page_links_to_captures_of_the_bundle() {
        let mut report = report(vec![differs()]);
        report.results[0].captures = vec![Capture {
            name: "hci0.btsnoop".to_owned(),
            bytes: Vec::new(),
        }];
        assert!(!report.to_html().contains("btsnoop"));
        report.results[0].bundle = Some("bundles/x".to_owned());
        let page = report.to_html();
        assert!(page.contains("href=\"bundles/x/hci0.btsnoop\""));
    }

    proptest! {
        /// Check that no text of a guest becomes markup.
        #[test]
        fn escaped_text_holds_no_markup(text in "\\PC{0,200}") {
            prop_assert!(!escape(&text).contains(['<', '>', '"', '\'']));
        }
    }
}
