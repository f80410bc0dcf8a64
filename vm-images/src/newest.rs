//! Series of kernels that the archive has and `kernels.toml` does not list yet.

use std::collections::{BTreeMap, BTreeSet};

use kernels::{KernelId, Manifest};

use crate::fetch::Context;
use crate::index::{Index, IndexError};
use crate::mirror::MirrorError;
use crate::resolve::{resolve, series_of_generic};

/// A series that is newer than all that are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSeries {
    /// The kernel, such as `debian:7.4`.
    pub id: KernelId,
    /// The suite that has it.
    pub suite: String,
}

/// What a search for new series has found.
#[derive(Debug, Default)]
pub struct Newest {
    /// The series, oldest first.
    pub series: Vec<NewSeries>,
    /// The suites whose index could not be used, and why.
    pub failures: Vec<(String, IndexError)>,
}

/// Looks in the suites that `manifest` names for complete generic kernels of series that are newer than every one that it lists.
///
/// # Errors
///
/// There is no mirror.
pub fn new_series(context: &Context<'_>, manifest: &Manifest) -> Result<Newest, MirrorError> {
    let mirror = context.mirrors.get()?;
    let suites: BTreeSet<&String> = manifest
        .iter()
        .filter_map(|(_, e)| e.suite.as_ref())
        .collect();
    let mut newest = Newest::default();
    let mut indices = Vec::new();
    for suite in suites {
        match Index::fetch(context, mirror, suite) {
            Ok(index) => indices.push(index),
            Err(error) => newest.failures.push((suite.clone(), error)),
        }
    }
    newest.series = newer_than_all(manifest, &indices);
    Ok(newest)
}

fn newer_than_all(manifest: &Manifest, indices: &[Index]) -> Vec<NewSeries> {
    let listed = manifest.iter().filter_map(|(id, _)| id.debian());
    let newest_listed = listed.filter_map(|name| numbers(name.version)).max();
    let mut found: BTreeMap<(u32, u32), NewSeries> = BTreeMap::new();
    for index in indices {
        for series in series_of_generic(index) {
            let Some(key) = numbers(&series).filter(|key| Some(*key) > newest_listed) else {
                continue;
            };
            let Ok(id) = format!("debian:{series}").parse::<KernelId>() else {
                continue;
            };
            if resolve(&id, index).is_ok() {
                let suite = index.suite.clone();
                found.entry(key).or_insert(NewSeries { id, suite });
            }
        }
    }
    found.into_values().collect()
}

/// `6.12` and `6.12.43` as (6, 12).
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version.split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::tests::stanza;
    use std::path::Path;

    fn index(suite: &str, images: &[(&str, &str)]) -> Index {
        let stanzas = images
            .iter()
            .map(|(release, version)| stanza(&format!("linux-image-{release}"), version, ""));
        Index::of_text(suite, &stanzas.collect::<Vec<_>>().join("\n"))
    }

    /// Check that only generic kernels count that are newer than every listed one, and that the first suite that has a series is taken.
    #[test]
    fn new_series_are_those_above_the_newest_listed() {
        let text =
            "[kernels]\n\"debian:6.12\" = { suite = \"a\" }\n\"debian:7.3\" = { suite = \"b\" }\n";
        let manifest = Manifest::parse(text, Path::new("kernels.toml")).unwrap();
        let indices = [
            index(
                "a",
                &[("6.12.1-amd64", "6.12.1-1"), ("7.10.2-amd64", "7.10.2-1")],
            ),
            index(
                "b",
                &[
                    ("7.2.9-amd64", "7.2.9-1"),
                    ("7.3.4-amd64", "7.3.4-1"),
                    ("7.4.1-amd64", "7.4.1-1"),
                    ("7.5.1-rt-amd64", "7.5.1-1"),
                    ("7.10.1-amd64", "7.10.1-1"),
                ],
            ),
        ];
        let found: Vec<(String, String)> = newer_than_all(&manifest, &indices)
            .into_iter()
            .map(|new| (new.id.to_string(), new.suite))
            .collect();
        let wanted = [("debian:7.4", "b"), ("debian:7.10", "a")];
        assert_eq!(
            found,
            wanted.map(|(id, suite)| (id.to_owned(), suite.to_owned()))
        );
    }
}
