//! `kernels.toml`: which kernels the project is tested on. A person edits it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::id::{KernelId, ParseKernelIdError, Source};
use crate::nearest::{DidYouMean, nearest};

/// The group that every kernel is in.
const EVERY_KERNEL: &str = "all";

/// The kernels of `kernels.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    kernels: BTreeMap<KernelId, Entry>,
}

/// One kernel of `kernels.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The suite of Debian's archive that carries the kernel, such as `bookworm-security`; none for kernels of other sources.
    pub suite: Option<String>,
    /// Whether packages that the suite's index does not list any more may be taken from the pool, where their modules prove by their
    /// signatures that they belong to a kernel image that it does list.
    #[serde(default)]
    pub pool: bool,
    /// The groups that it belongs to, besides `all`.
    #[serde(default)]
    pub groups: BTreeSet<String>,
}

/// Why `kernels.toml` could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// The file could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The text is not a manifest.
    #[error("{} is not a list of kernels", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A suite name that cannot be part of a path.
    #[error("{}: {id} cannot come from suite {suite:?}", path.display())]
    Suite {
        /// The file.
        path: PathBuf,
        /// The kernel.
        id: KernelId,
        /// Its suite.
        suite: String,
    },
    /// A kernel of Debian's archive without a suite.
    #[error("{}: {id} needs a suite, such as trixie-backports", path.display())]
    NoSuite {
        /// The file.
        path: PathBuf,
        /// The kernel.
        id: KernelId,
    },
    /// A kernel of another source with what only Debian's archive has.
    #[error("{}: {id} does not come from an archive, and has neither suite nor pool", path.display())]
    NotInArchive {
        /// The file.
        path: PathBuf,
        /// The kernel.
        id: KernelId,
    },
    /// A path that means something else in every working directory.
    #[error("{}: {id} has a path that starts neither with / nor with ~/", path.display())]
    Relative {
        /// The file.
        path: PathBuf,
        /// The kernel.
        id: KernelId,
    },
}

/// Why what a person wrote names no kernel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChooseError {
    /// It is a kernel of the archive that `kernels.toml` does not list.
    #[error(transparent)]
    Unknown(#[from] UnknownKernel),
    /// It starts like a kernel of another source, and is not one.
    #[error(transparent)]
    Id(#[from] ParseKernelIdError),
}

/// A kernel that `kernels.toml` does not list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown kernel {wanted:?}{}", DidYouMean(.nearest))]
pub struct UnknownKernel {
    /// What was asked for.
    pub wanted: String,
    /// Listed kernels that resemble it, best first.
    pub nearest: Vec<String>,
}

/// A group that no kernel of `kernels.toml` is in.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown group {wanted:?}{}", DidYouMean(.nearest))]
pub struct UnknownGroup {
    /// What was asked for.
    pub wanted: String,
    /// Groups that resemble it, best first.
    pub nearest: Vec<String>,
}

impl Manifest {
    /// Reads a `kernels.toml`.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or is not a manifest.
    pub fn load(path: &Path) -> Result<Self, ManifestError> {
        let text = std::fs::read_to_string(path).map_err(|source| ManifestError::Read {
            path: path.to_owned(),
            source,
        })?;
        Self::parse(&text, path)
    }

    /// Parses the text of a `kernels.toml`; `path` is for messages.
    ///
    /// # Errors
    ///
    /// The text is not a manifest.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ManifestError> {
        let manifest: Self = toml::from_str(text).map_err(|source| ManifestError::Parse {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        for (id, entry) in &manifest.kernels {
            check(id, entry, path)?;
        }
        Ok(manifest)
    }

    /// All kernels, oldest series first.
    pub fn iter(&self) -> impl Iterator<Item = (&KernelId, &Entry)> {
        self.kernels.iter()
    }

    /// Finds the kernel that a person named.
    ///
    /// # Errors
    ///
    /// It is not listed; the error carries the names that come nearest.
    pub fn find(&self, wanted: &str) -> Result<(&KernelId, &Entry), UnknownKernel> {
        let found = wanted
            .parse()
            .ok()
            .and_then(|id: KernelId| self.kernels.get_key_value(&id));
        found.ok_or_else(|| {
            let known: Vec<String> = self.kernels.keys().map(ToString::to_string).collect();
            UnknownKernel {
                wanted: wanted.to_owned(),
                nearest: nearest(wanted, known.iter().map(String::as_str)),
            }
        })
    }

    /// The kernel that a person named on a command line. One of Debian's archive has to be listed; any other need not be.
    ///
    /// # Errors
    ///
    /// There is no such kernel.
    pub fn choose(&self, wanted: &str) -> Result<KernelId, ChooseError> {
        let source = wanted.split_once(':').map_or(wanted, |(source, _)| source);
        let elsewhere = Source::ALL
            .iter()
            .any(|known| *known != Source::Debian && known.as_str() == source);
        if elsewhere {
            return Ok(wanted.parse()?);
        }
        Ok(self.find(wanted)?.0.clone())
    }

    /// The kernels of a group, oldest series first. `all` is every kernel.
    ///
    /// # Errors
    ///
    /// No kernel is in such a group.
    pub fn group(&self, wanted: &str) -> Result<Vec<&KernelId>, UnknownGroup> {
        let within = |entry: &Entry| wanted == EVERY_KERNEL || entry.groups.contains(wanted);
        let ids: Vec<&KernelId> = self
            .iter()
            .filter(|(_, entry)| within(entry))
            .map(|(id, _)| id)
            .collect();
        if ids.is_empty() {
            let groups = self.groups();
            return Err(UnknownGroup {
                wanted: wanted.to_owned(),
                nearest: nearest(wanted, groups.into_iter()),
            });
        }
        Ok(ids)
    }

    /// The names of all groups, `all` among them.
    #[must_use]
    pub fn groups(&self) -> BTreeSet<&str> {
        let named = self
            .kernels
            .values()
            .flat_map(|entry| entry.groups.iter().map(String::as_str));
        named.chain([EVERY_KERNEL]).collect()
    }
}

/// Checks that an entry has what its source needs, and no more.
fn check(id: &KernelId, entry: &Entry, path: &Path) -> Result<(), ManifestError> {
    let (path, id) = (path.to_owned(), id.clone());
    let Entry {
        suite,
        pool,
        groups: _,
    } = entry;
    let anchored = |path: &&Path| path.is_absolute() || path.starts_with("~");
    match (id.source(), suite) {
        (Source::Debian, Some(suite)) if is_suite(suite) => Ok(()),
        (Source::Debian, Some(suite)) => Err(ManifestError::Suite {
            path,
            id,
            suite: suite.clone(),
        }),
        (Source::Debian, None) => Err(ManifestError::NoSuite { path, id }),
        (_, Some(_)) => Err(ManifestError::NotInArchive { path, id }),
        (_, None) if *pool => Err(ManifestError::NotInArchive { path, id }),
        (_, None) if !id.paths().iter().all(anchored) => Err(ManifestError::Relative { path, id }),
        (_, None) => Ok(()),
    }
}

/// Whether `suite` can stand in a path of an archive.
fn is_suite(suite: &str) -> bool {
    suite.starts_with(|c: char| c.is_ascii_lowercase())
        && suite
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const TEXT: &str = r#"
        [kernels]
        "debian:6.12" = { suite = "trixie-security", groups = ["smoke", "lts"] }
        "debian:6.1" = { suite = "bookworm-security", groups = ["lts"] }
        "debian:7.3" = { suite = "trixie-backports" }
    "#;

    fn parse(text: &str) -> Result<Manifest, ManifestError> {
        Manifest::parse(text, Path::new("kernels.toml"))
    }

    /// Check that a group holds its kernels, oldest first, and that `all` holds every one.
    #[rstest]
    #[case("smoke", &["debian:6.12"])]
    #[case("lts", &["debian:6.1", "debian:6.12"])]
    #[case("all", &["debian:6.1", "debian:6.12", "debian:7.3"])]
    fn group_of_manifest_lists_its_kernels_in_order(
        #[case] group: &str,
        #[case] expected: &[&str],
    ) {
        let manifest = parse(TEXT).unwrap();
        let ids: Vec<String> = manifest
            .group(group)
            .unwrap()
            .into_iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(ids, expected);
    }

    /// Check that a wrong group name suggests the right one.
    #[test]
    fn group_unknown_suggests_the_nearest() {
        let error = parse(TEXT).unwrap().group("smoek").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown group \"smoek\", did you mean smoke?"
        );
    }

    /// Check that a wrong kernel name suggests the nearest ones, with or without a source.
    #[rstest]
    #[case::no_source("6.12")]
    #[case::typo("debian:6.13")]
    fn find_unknown_kernel_suggests_the_nearest(#[case] wanted: &str) {
        let error = parse(TEXT).unwrap().find(wanted).unwrap_err();
        assert!(error.nearest.contains(&"debian:6.12".to_owned()), "{error}");
    }

    /// Check that kernels of other sources can be listed, and be in groups.
    #[test]
    fn manifest_lists_kernels_of_other_sources() {
        let text = "[kernels]\nhost = {}\n\"path:~/linux\" = { groups = [\"mine\"] }\n";
        let manifest = parse(text).unwrap();
        let mine = manifest.group("mine").unwrap();
        assert_eq!(mine, [&"path:~/linux".parse().unwrap()]);
        assert_eq!(manifest.group("all").unwrap().len(), 2);
    }

    /// Check that a command line may name a listed kernel of the archive, and any kernel of other sources.
    #[rstest]
    #[case("debian:6.12")]
    #[case("path:../linux")]
    #[case("host")]
    fn choose_of_kernel_accepts_what_can_be_had(#[case] wanted: &str) {
        assert_eq!(
            parse(TEXT).unwrap().choose(wanted).unwrap().to_string(),
            wanted
        );
    }

    /// Check that what names no kernel is refused with the help that fits.
    #[rstest]
    #[case::not_listed("debian:6.13", "did you mean debian:6.1")]
    #[case::no_source("6.12", "did you mean debian:6.12")]
    #[case::no_hash("url:https://x.test/a.deb", "#sha256=HASH")]
    fn choose_of_no_kernel_is_refused(#[case] wanted: &str, #[case] help: &str) {
        let message = parse(TEXT).unwrap().choose(wanted).unwrap_err().to_string();
        assert!(message.contains(help), "{message}");
    }

    /// Check that mistakes in the file are refused with the place.
    #[rstest]
    #[case::bad_id(
        "[kernels]\n\"debian:six\" = { suite = \"sid\" }",
        "debian:MAJOR.MINOR"
    )]
    #[case::unknown_key(
        "[kernels]\n\"debian:6.1\" = { suite = \"sid\", gruops = [] }",
        "gruops"
    )]
    #[case::path_as_suite("[kernels]\n\"debian:6.1\" = { suite = \"../sid\" }", "../sid")]
    #[case::no_suite("[kernels]\n\"debian:6.1\" = {}", "needs a suite")]
    #[case::suite_elsewhere(
        "[kernels]\nhost = { suite = \"sid\" }",
        "does not come from an archive"
    )]
    #[case::pool_elsewhere("[kernels]\nhost = { pool = true }", "does not come from an archive")]
    #[case::relative("[kernels]\n\"deb:/a.deb,b.deb\" = {}", "neither with / nor with ~/")]
    fn manifest_with_mistake_is_refused(#[case] text: &str, #[case] reason: &str) {
        let error = parse(text).unwrap_err();
        let source = std::error::Error::source(&error)
            .map(ToString::to_string)
            .unwrap_or_default();
        assert!(
            format!("{error}: {source}").contains(reason),
            "{error}: {source}"
        );
    }

    /// Check that the project's own file can be read, and that its groups are those that the documentation names.
    #[test]
    fn manifest_of_the_project_has_the_documented_groups() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernels.toml");
        let manifest = Manifest::load(&path).unwrap();
        assert_eq!(manifest.groups(), BTreeSet::from(["all", "lts", "smoke"]));
    }

    proptest! {
        /// Check that no text makes the parser panic.
        #[test]
        fn manifest_from_any_text_does_not_panic(text in ".{0,200}") {
            let _ = parse(&text);
        }
    }
}
