//! Why metrics cannot be had: each reason once, with everything that it concerns.

use btcompat::verdict::{MetricVerdict, Missing};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// So many functions are named.
pub(crate) const NAMED: usize = 4;

/// One reason and what it concerns, each once and in order.
#[derive(Default)]
struct Concerned<'a> {
    functions: Vec<&'a str>,
    metrics: Vec<&'a str>,
    advice: &'a str,
}

/// Each reason once: what it is, the functions and metrics without it, what to do.
pub(crate) fn text(metrics: &[MetricVerdict]) -> String {
    let mut reasons: BTreeMap<String, Concerned> = BTreeMap::new();
    for metric in metrics {
        for missing in &metric.missing {
            let reason = reasons.entry(headline(missing)).or_default();
            add(&mut reason.functions, function(&missing.source));
            add(&mut reason.metrics, &metric.name);
            reason.advice = &missing.advice;
        }
    }
    let mut out = String::new();
    for (headline, reason) in reasons {
        let Concerned {
            functions,
            metrics,
            advice,
        } = reason;
        // Writing to a String cannot fail.
        let _ = writeln!(out, "    {headline}");
        let functions = listed(&functions);
        let _ = writeln!(out, "        {functions}without it: {}", metrics.join(", "));
        if !advice.is_empty() {
            let _ = writeln!(out, "        → {advice}");
        }
    }
    out
}

pub(crate) fn add<'a>(list: &mut Vec<&'a str>, item: &'a str) {
    if !item.is_empty() && !list.contains(&item) {
        list.push(item);
    }
}

/// `CODE subject (evidence)`, without a subject that is the function itself.
fn headline(missing: &Missing) -> String {
    let mut text = missing.code.clone();
    if missing.subject != function(&missing.source) {
        let _ = write!(text, " {}", missing.subject);
    }
    if !missing.evidence.is_empty() {
        let _ = write!(text, " ({})", missing.evidence);
    }
    text
}

fn function(source: &str) -> &str {
    source.rsplit(':').next().unwrap_or(source)
}

fn listed(functions: &[&str]) -> String {
    match functions {
        [] => String::new(),
        few if few.len() <= NAMED => format!("{}; ", few.join(", ")),
        many => {
            let named = many[..NAMED].join(", ");
            format!("{named} and {} more; ", many.len() - NAMED)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use btcompat::verdict::State;

    fn missing(source: &str, code: &str, subject: &str) -> Missing {
        Missing {
            source: source.to_owned(),
            code: code.to_owned(),
            subject: subject.to_owned(),
            evidence: "not set".to_owned(),
            advice: "set it".to_owned(),
        }
    }

    /// Check that a reason which many functions of two metrics have is said once, and names few.
    #[test]
    fn reason_of_many_functions_is_said_once() {
        let of = |name: &str| MetricVerdict {
            name: name.to_owned(),
            family: "socket".to_owned(),
            state: State::No,
            degraded: false,
            missing: (0..6)
                .map(|n| missing(&format!("bluetooth:f{n}"), "CONFIG-MISSING", "CONFIG_X"))
                .chain([missing("bluetooth:g", "FN-ABSENT", "g")])
                .collect(),
            programs: Vec::new(),
        };
        assert_eq!(
            text(&[of("a"), of("b")]),
            "    CONFIG-MISSING CONFIG_X (not set)\n        f0, f1, f2, f3 and 2 more; without it: a, b\n        → set it\n    \
             FN-ABSENT (not set)\n        g; without it: a, b\n        → set it\n"
        );
    }
}
