//! What cannot be measured, in words.

use std::collections::BTreeMap;

use exporter::Collector;
use metrics::{Lost, ProbeReport, State};

use super::complain;

/// Says on stderr which series are missing and why.
pub(super) fn say_what_is_missing(collector: &Collector) {
    let (reports, lost) = collector.state();
    let attached = reports
        .iter()
        .filter(|report| report.state == State::Attached);
    let text = missing(attached.count(), reports.len(), &lost);
    if !text.is_empty() {
        complain(&text);
    }
}

/// Is any program attached?
pub(super) fn measures_anything(reports: &[ProbeReport]) -> bool {
    reports.iter().any(|report| report.state == State::Attached)
}

/// One line for each reason, with the metrics that it costs.
fn missing(attached: usize, programs: usize, lost: &[Lost]) -> String {
    let mut by_reason: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for one in lost {
        let labels: Vec<String> = one
            .labels
            .iter()
            .map(|(n, v)| format!("{n}={v:?}"))
            .collect();
        let labels = if labels.is_empty() {
            String::new()
        } else {
            format!("{{{}}}", labels.join(","))
        };
        by_reason
            .entry(&one.reason)
            .or_default()
            .push(format!("{}{labels}", one.metric));
    }
    if by_reason.is_empty() {
        return String::new();
    }
    let lines = by_reason
        .iter()
        .map(|(reason, series)| format!("  {reason}:\n    {}", series.join("\n    ")));
    let lines: Vec<String> = lines.collect();
    format!(
        "{attached} of {programs} programs are attached; these series are missing:\n{}",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that series are listed below the reason that they share.
    #[test]
    fn missing_series_are_listed_by_reason() {
        let lost = |metric: &str, labels: &[(&str, &str)]| Lost {
            metric: metric.to_owned(),
            labels: labels
                .iter()
                .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
                .collect(),
            reason: "module rfcomm is not loaded".to_owned(),
        };
        let text = missing(3, 5, &[lost("a", &[("proto", "rfcomm")]), lost("b", &[])]);
        assert_eq!(
            text,
            "3 of 5 programs are attached; these series are missing:\n  \
             module rfcomm is not loaded:\n    a{proto=\"rfcomm\"}\n    b"
        );
        assert_eq!(missing(5, 5, &[]), "");
    }
}
