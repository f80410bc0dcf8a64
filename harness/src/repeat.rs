//! Cases that are run more than once: whether they always come out the same.

use crate::case::CaseResult;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How often a case was run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Repeats {
    /// In all.
    pub runs: usize,
    /// How many of them were right.
    pub right: usize,
}

impl fmt::Display for Repeats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.right, self.runs)
    }
}

/// One result for each case: the worst of its runs, and how many there were.
#[must_use]
pub fn fold(results: Vec<CaseResult>) -> Vec<CaseResult> {
    let mut folded: Vec<CaseResult> = Vec::new();
    for result in results {
        let same = |other: &&mut CaseResult| {
            (&other.kernel, &other.scenario) == (&result.kernel, &result.scenario)
        };
        match folded.iter_mut().find(same) {
            None => folded.push(result),
            Some(first) => join(first, result),
        }
    }
    folded
}

fn join(first: &mut CaseResult, next: CaseResult) {
    let count = |result: &CaseResult| {
        let one = Repeats {
            runs: 1,
            right: usize::from(result.class.is_right()),
        };
        result.repeats.unwrap_or(one)
    };
    let (so_far, more) = (count(first), count(&next));
    if next.class > first.class {
        *first = next;
    }
    first.repeats = Some(Repeats {
        runs: so_far.runs + more.runs,
        right: so_far.right + more.right,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::class::Class;
    use crate::outcome::Outcome;

    fn result(kernel: &str, outcome: Outcome) -> CaseResult {
        CaseResult::bare(&kernel.parse().unwrap(), "x", outcome)
    }

    /// Check that one wrong run among many makes its case wrong, and that all are counted.
    #[test]
    fn fold_keeps_the_worst_and_counts_all() {
        let wrong = Outcome::Failed {
            step: "s".to_owned(),
            error: "e".to_owned(),
        };
        let folded = fold(vec![
            result("debian:6.1", Outcome::Passed),
            result("debian:6.1", wrong.clone()),
            result("debian:6.12", Outcome::Passed),
            result("debian:6.1", Outcome::Passed),
        ]);
        let seen: Vec<_> = folded.iter().map(|r| (r.class, r.repeats)).collect();
        let repeats = Some(Repeats { runs: 3, right: 2 });
        assert_eq!(seen, [(Class::Step, repeats), (Class::Exact, None)]);
        assert_eq!(folded[0].outcome, wrong);
    }
}
