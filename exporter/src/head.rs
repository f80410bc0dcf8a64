//! The head of an HTTP request, as far as a server of one page needs it.

use metrics::text::Format;

/// What a client asks for.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// The metrics, in this format; without them if only the head is wanted.
    Metrics { format: Format, head_only: bool },
    /// The page that says where the metrics are.
    Index { head_only: bool },
    /// Something that there is not.
    NotFound,
    /// Another method than GET and HEAD.
    Method,
    /// No HTTP request at all.
    Garbage,
}

/// Reads a request's head: everything up to the empty line.
pub(crate) fn read(head: &[u8]) -> Asked {
    let Ok(text) = str::from_utf8(head) else {
        return Asked::Garbage;
    };
    let mut lines = text.split("\r\n");
    let words: Vec<&str> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = words[..] else {
        return Asked::Garbage;
    };
    if !version.starts_with("HTTP/1.") {
        return Asked::Garbage;
    }
    let head_only = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Asked::Method,
    };
    match target.split('?').next() {
        Some("/metrics") => Asked::Metrics {
            format: Format::accepted(&header(lines, "accept")),
            head_only,
        },
        Some("/") => Asked::Index { head_only },
        _ => Asked::NotFound,
    }
}

/// All values of a header, with commas between.
fn header<'a>(lines: impl Iterator<Item = &'a str>, name: &str) -> String {
    let values: Vec<&str> = lines
        .filter_map(|line| line.split_once(':'))
        .filter(|(known, _)| known.trim().eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
        .collect();
    values.join(",")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const METRICS: Asked = Asked::Metrics {
        format: Format::Prometheus,
        head_only: false,
    };

    /// Check what each request asks for.
    #[rstest]
    #[case::metrics("GET /metrics HTTP/1.1\r\nHost: x", METRICS)]
    #[case::query("GET /metrics?a=b HTTP/1.0", METRICS)]
    #[case::open_metrics(
        "GET /metrics HTTP/1.1\r\nACCEPT: application/openmetrics-text",
        Asked::Metrics { format: Format::OpenMetrics, head_only: false }
    )]
    #[case::head("HEAD / HTTP/1.1", Asked::Index { head_only: true })]
    #[case::elsewhere("GET /etc/passwd HTTP/1.1", Asked::NotFound)]
    #[case::method("POST /metrics HTTP/1.1", Asked::Method)]
    #[case::http_2("PRI * HTTP/2.0", Asked::Garbage)]
    #[case::words("hello", Asked::Garbage)]
    #[case::nothing("", Asked::Garbage)]
    fn read_of_head_says_what_is_asked_for(#[case] head: &str, #[case] asked: Asked) {
        assert_eq!(read(head.as_bytes()), asked);
    }

    proptest! {
        /// Check that no bytes make reading panic.
        #[test]
        fn read_of_arbitrary_bytes_never_panics(head in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&head);
        }
    }
}
