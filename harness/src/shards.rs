//! A matrix split for the machines of a CI.

use crate::select::Partition;
use serde::Serialize;

/// One machine's part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shard {
    /// Its number, from 1: fit for names of files.
    pub number: usize,
    /// What to give as `--partition`.
    pub partition: String,
    /// The kernels that it needs, in order.
    pub kernels: Vec<String>,
    /// How many cases it has.
    pub cases: usize,
}

/// Splits cells, named by their kernels, into at most `parts` parts, none of them empty.
#[must_use]
pub fn split(cells: &[String], parts: usize) -> Vec<Shard> {
    let parts = parts.min(cells.len());
    let shard = |number: usize| {
        let partition = Partition::new(number, parts)?;
        let cells = cells.get(partition.range(cells.len()))?;
        let mut kernels = cells.to_vec();
        kernels.dedup();
        Some(Shard {
            number,
            partition: partition.to_string(),
            kernels,
            cases: cells.len(),
        })
    };
    (1..=parts).filter_map(shard).collect()
}

/// As GitHub's `strategy.matrix` takes it from `fromJSON`: one line.
#[must_use]
pub fn to_github(shards: &[Shard]) -> String {
    let include: Vec<serde_json::Value> = shards
        .iter()
        .map(|shard| {
            serde_json::json!({
                "number": shard.number,
                "partition": shard.partition,
                "kernels": shard.kernels.join(" "),
            })
        })
        .collect();
    serde_json::json!({ "include": include }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(kernels: &[(&str, usize)]) -> Vec<String> {
        let cells = kernels.iter().map(|(name, n)| vec![(*name).to_owned(); *n]);
        cells.flatten().collect()
    }

    /// Check that the parts are the whole, that none is empty, and that each says what it needs.
    #[test]
    fn split_parts_are_the_whole() {
        let cells = cells(&[("a", 3), ("b", 3), ("c", 3)]);
        for parts in 1..12 {
            let shards = split(&cells, parts);
            assert_eq!(shards.len(), parts.min(9));
            assert_eq!(shards.iter().map(|shard| shard.cases).sum::<usize>(), 9);
            assert!(shards.iter().all(|shard| !shard.kernels.is_empty()));
        }
        assert_eq!(split(&cells, 2)[1].kernels, ["b", "c"]);
        assert!(split(&[], 3).is_empty());
    }

    /// Check the line that a workflow reads.
    #[test]
    fn github_matrix_is_one_line_of_json() {
        let line = to_github(&split(&cells(&[("a", 1), ("b", 1)]), 1));
        assert_eq!(
            line,
            r#"{"include":[{"kernels":"a b","number":1,"partition":"1/1"}]}"#
        );
    }
}
