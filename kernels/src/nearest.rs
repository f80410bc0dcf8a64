//! "Did you mean": the known names that look most like a wrong one.

use std::fmt::{self, Display, Formatter};

const MOST_NAMES: usize = 3;
const LEAST_LIKENESS: f64 = 0.5;

/// Returns up to three of `known` that resemble `wanted`, best first.
///
/// A name matches by itself or by what follows its `source:` prefix, so `6.1` finds `debian:6.1`.
pub(crate) fn nearest<'a>(wanted: &str, known: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut scored: Vec<(f64, &str)> = known
        .map(|name| (likeness(wanted, name), name))
        .filter(|(score, _)| *score >= LEAST_LIKENESS)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    scored
        .iter()
        .take(MOST_NAMES)
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

fn likeness(wanted: &str, name: &str) -> f64 {
    let bare = name.split_once(':').map_or(name, |(_, bare)| bare);
    strsim::normalized_damerau_levenshtein(wanted, name)
        .max(strsim::normalized_damerau_levenshtein(wanted, bare))
}

/// Ends an error message: `, did you mean a or b?`, or nothing.
pub(crate) struct DidYouMean<'a>(pub(crate) &'a [String]);

impl Display for DidYouMean<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            [] => Ok(()),
            [only] => write!(f, ", did you mean {only}?"),
            [most @ .., last] => write!(f, ", did you mean {} or {last}?", most.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const KNOWN: [&str; 4] = ["debian:5.10", "debian:6.1", "debian:6.12", "debian:6.12-rt"];

    /// Check that slips of the pen find the name that was meant.
    #[rstest]
    #[case::without_source("6.1", "debian:6.1")]
    #[case::wrong_source("debain:6.12", "debian:6.12")]
    #[case::flavour("debian:6.12-rtt", "debian:6.12-rt")]
    fn nearest_of_typo_is_the_name_meant(#[case] wanted: &str, #[case] meant: &str) {
        assert_eq!(
            nearest(wanted, KNOWN.into_iter())
                .first()
                .map(String::as_str),
            Some(meant)
        );
    }

    /// Check that a name like none of the known ones gets no suggestion.
    #[test]
    fn nearest_of_nonsense_is_nothing() {
        let none = nearest("zzzzzzzz", KNOWN.into_iter());
        assert_eq!(none, Vec::<String>::new());
        assert_eq!(DidYouMean(&none).to_string(), "");
    }

    /// Check that suggestions read as a question.
    #[test]
    fn did_you_mean_of_several_names_joins_them() {
        let names = ["a", "b", "c"].map(str::to_owned);
        assert_eq!(DidYouMean(&names).to_string(), ", did you mean a, b or c?");
    }
}
