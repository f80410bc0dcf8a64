//! What the exporter served, against what the probes said: the same values, in both formats.

use crate::evidence::Evidence;
use crate::outcome::Deviation;
use metrics::text::{Format, parse};
use metrics::{Snapshot, diff};

/// Where the exporter's text and the snapshot disagree. Every format must be there once.
#[must_use]
pub fn check_scrapes(evidence: &Evidence, observed: &Snapshot) -> Vec<Deviation> {
    let formats = [Format::Prometheus, Format::OpenMetrics];
    let check = |format: Format| check_format(evidence, format.content_type(), observed);
    formats.into_iter().flat_map(check).collect()
}

fn check_format(evidence: &Evidence, content_type: &str, observed: &Snapshot) -> Vec<Deviation> {
    let deviation = |expected: &str, observed: String| Deviation {
        metric: "scrape".to_owned(),
        labels: format!("{{content_type={content_type:?}}}"),
        expected: expected.to_owned(),
        observed,
    };
    let mut scrapes = evidence.scrapes.iter();
    let Some(scrape) = scrapes.find(|scrape| scrape.content_type == content_type) else {
        return vec![deviation("one", "none".to_owned())];
    };
    match parse(&scrape.text) {
        Ok(served) if served.len() == observed.len() => diff(observed, &served)
            .into_iter()
            .map(|difference| deviation(&text(&difference), "served otherwise".to_owned()))
            .collect(),
        Ok(served) => {
            let (expected, served) = (observed.len().to_string(), served.len().to_string());
            vec![deviation(&format!("{expected} series"), served)]
        }
        Err(error) => vec![deviation("text of the catalogue", error.to_string())],
    }
}

fn text(difference: &metrics::Difference) -> String {
    let metrics::Difference {
        metric,
        labels,
        expected,
        observed,
    } = difference;
    let show = |value: &Option<metrics::Value>| {
        value
            .as_ref()
            .map_or_else(|| "nothing".to_owned(), ToString::to_string)
    };
    format!(
        "{metric}{labels} {} (served: {})",
        show(expected),
        show(observed)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use evidence::Scrape;
    use metrics::catalogue::SLOTS_FREE;
    use metrics::text::encode;

    fn snapshot(free: i64) -> Snapshot {
        let mut snapshot = Snapshot::new();
        snapshot.set(&SLOTS_FREE, &[("hci", "hci0"), ("kind", "acl")], free);
        snapshot
    }

    fn served(snapshot: &Snapshot) -> Evidence {
        let scrape = |format: Format| Scrape {
            content_type: format.content_type().to_owned(),
            text: encode(snapshot, format),
        };
        Evidence {
            scrapes: [Format::Prometheus, Format::OpenMetrics].map(scrape).into(),
            ..Evidence::default()
        }
    }

    /// Check that the same values pass, and that other values, fewer series, cut text and no text
    /// at all are each a deviation in each format.
    #[test]
    fn check_scrapes_finds_what_was_served_otherwise() {
        let observed = snapshot(7);
        assert_eq!(check_scrapes(&served(&observed), &observed), []);
        let mut cut = served(&observed);
        for scrape in &mut cut.scrapes {
            scrape.text = scrape.text.replace("\"} 7", "\"} ");
        }
        let wrong = [
            served(&snapshot(8)),
            served(&Snapshot::new()),
            cut,
            Evidence::default(),
        ];
        for evidence in wrong {
            assert_eq!(check_scrapes(&evidence, &observed).len(), 2);
        }
    }
}
