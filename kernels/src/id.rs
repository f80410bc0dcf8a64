//! The name of a kernel: `debian:6.1`, `debian:6.12-rt`, `path:/usr/src/linux`, `host`.

use std::cmp::Ordering;
use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::nearest::{DidYouMean, nearest};
use crate::sha256::Sha256;

/// Where a kernel comes from: the part of a [`KernelId`] before the colon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// A package of Debian's archive.
    Debian,
    /// A directory: a build tree or an unpacked kernel.
    Path,
    /// One or more `.deb` files, with commas between them.
    Deb,
    /// One or more `.rpm` files, with commas between them.
    Rpm,
    /// One or more packages to download, each as `ADDRESS#sha256=HASH`, with commas between them.
    Url,
    /// The running kernel. It has no name after the colon.
    Host,
}

impl Source {
    pub(crate) const ALL: [Self; 6] = [
        Self::Debian,
        Self::Path,
        Self::Deb,
        Self::Rpm,
        Self::Url,
        Self::Host,
    ];

    /// The word before the colon.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Path => "path",
            Self::Deb => "deb",
            Self::Rpm => "rpm",
            Self::Url => "url",
            Self::Host => "host",
        }
    }
}

/// The name of a kernel, as the keys of `kernels.toml` and the command line spell it.
///
/// Ids are ordered by source, then by version number (5.10 before 6.1 before 6.12), then by flavour.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KernelId {
    source: Source,
    name: String,
}

/// A package to download.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlName<'a> {
    /// Where it is: an `http:`, `https:` or `file:` address.
    pub uri: &'a str,
    /// What it hashes to.
    pub sha256: Sha256,
}

/// What a `debian:` id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DebianName<'a> {
    /// `6.12`: the newest of a series; `6.12.43`: this upstream version.
    pub version: &'a str,
    /// `rt` for `6.12-rt`; none for the generic kernel.
    pub flavour: Option<&'a str>,
}

/// Why a text is not a [`KernelId`].
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseKernelIdError {
    /// There is no `source:` in front.
    #[error("kernel id {text:?} has no source; write it as source:name, for example debian:6.12")]
    NoSource {
        /// The text.
        text: String,
    },
    /// The word before the colon is not a source.
    #[error("unknown source {source_name:?} in kernel id {text:?}{}", DidYouMean(.nearest))]
    UnknownSource {
        /// The text.
        text: String,
        /// The word before the colon.
        source_name: String,
        /// Sources that resemble it.
        nearest: Vec<String>,
    },
    /// The part after the colon is empty, has white space at an end or control characters, or follows `host`.
    #[error("kernel id {text:?} has no usable name after its source")]
    BadName {
        /// The text.
        text: String,
    },
    /// A `url:` id with a part that is not an address with a hash.
    #[error(
        "kernel id {text:?} is not url:ADDRESS#sha256=HASH, with an address of http:, https: or file: and a hash of 64 hexadecimal digits; several packages have commas between them"
    )]
    BadUrl {
        /// The text.
        text: String,
    },
    /// A `debian:` id that is not a version, or a version and a flavour.
    #[error(
        "kernel id {text:?} is not debian:MAJOR.MINOR[.PATCH][-FLAVOUR], for example debian:6.12-rt"
    )]
    BadDebian {
        /// The text.
        text: String,
    },
}

impl KernelId {
    /// Where the kernel comes from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// What follows the colon; empty for `host`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parts of a `debian:` id; none for other sources.
    #[must_use]
    pub fn debian(&self) -> Option<DebianName<'_>> {
        (self.source == Source::Debian).then(|| split_debian(&self.name))
    }

    /// The files of a `deb:` or `rpm:` id, the directory of a `path:` id; none for other sources.
    #[must_use]
    pub fn paths(&self) -> Vec<&Path> {
        match self.source {
            Source::Deb | Source::Rpm => self.name.split(',').map(Path::new).collect(),
            Source::Path => vec![Path::new(&self.name)],
            Source::Debian | Source::Url | Source::Host => Vec::new(),
        }
    }

    /// The packages of a `url:` id; none for other sources.
    #[must_use]
    pub fn urls(&self) -> Vec<UrlName<'_>> {
        if self.source != Source::Url {
            return Vec::new();
        }
        self.name.split(',').filter_map(parse_url).collect()
    }

    /// The id as part of a file name: `debian-6.12-rt`.
    #[must_use]
    pub fn file_stem(&self) -> String {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') {
                c
            } else {
                '-'
            }
        };
        self.to_string().chars().map(safe).collect()
    }
}

impl FromStr for KernelId {
    type Err = ParseKernelIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == Source::Host.as_str() {
            return Ok(Self {
                source: Source::Host,
                name: String::new(),
            });
        }
        let Some((source, name)) = text.split_once(':') else {
            return Err(ParseKernelIdError::NoSource {
                text: text.to_owned(),
            });
        };
        let source = parse_source(text, source)?;
        let clean = !name.is_empty() && name.trim() == name && !name.contains(char::is_control);
        if !clean || source == Source::Host {
            return Err(ParseKernelIdError::BadName {
                text: text.to_owned(),
            });
        }
        if source == Source::Debian && !is_debian_name(name) {
            return Err(ParseKernelIdError::BadDebian {
                text: text.to_owned(),
            });
        }
        if source == Source::Url && !name.split(',').all(|part| parse_url(part).is_some()) {
            return Err(ParseKernelIdError::BadUrl {
                text: text.to_owned(),
            });
        }
        let files = matches!(source, Source::Deb | Source::Rpm);
        if files && name.split(',').any(str::is_empty) {
            return Err(ParseKernelIdError::BadName {
                text: text.to_owned(),
            });
        }
        Ok(Self {
            source,
            name: name.to_owned(),
        })
    }
}

fn parse_source(text: &str, word: &str) -> Result<Source, ParseKernelIdError> {
    Source::ALL
        .into_iter()
        .find(|source| source.as_str() == word)
        .ok_or_else(|| ParseKernelIdError::UnknownSource {
            text: text.to_owned(),
            source_name: word.to_owned(),
            nearest: nearest(word, Source::ALL.iter().map(|source| source.as_str())),
        })
}

fn parse_url(part: &str) -> Option<UrlName<'_>> {
    let (uri, hash) = part.rsplit_once("#sha256=")?;
    let known = ["http://", "https://", "file:/"]
        .iter()
        .any(|scheme| uri.starts_with(scheme));
    let clean = known && !uri.contains(|c: char| c.is_whitespace() || c == '#');
    clean.then_some(())?;
    let sha256 = hash.parse().ok()?;
    Some(UrlName { uri, sha256 })
}

fn split_debian(name: &str) -> DebianName<'_> {
    match name.split_once('-') {
        Some((version, flavour)) => DebianName {
            version,
            flavour: Some(flavour),
        },
        None => DebianName {
            version: name,
            flavour: None,
        },
    }
}

fn is_debian_name(name: &str) -> bool {
    let DebianName { version, flavour } = split_debian(name);
    let parts: Vec<&str> = version.split('.').collect();
    let number =
        |part: &&str| (1..=5).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    let word = |flavour: &str| {
        !flavour.is_empty()
            && flavour
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    (2..=3).contains(&parts.len()) && parts.iter().all(number) && flavour.is_none_or(word)
}

impl Display for KernelId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Host => f.write_str(self.source.as_str()),
            source => write!(f, "{}:{}", source.as_str(), self.name),
        }
    }
}

impl Ord for KernelId {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |id: &Self| {
            let numbers: Vec<u32> = id.debian().map_or_else(Vec::new, |debian| {
                debian
                    .version
                    .split('.')
                    .map(|part| part.parse().unwrap_or(u32::MAX))
                    .collect()
            });
            (id.source, numbers, id.name.clone())
        };
        key(self).cmp(&key(other))
    }
}

impl PartialOrd for KernelId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for KernelId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for KernelId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn id(text: &str) -> KernelId {
        text.parse().unwrap()
    }

    /// Check that an id prints as it was written.
    #[rstest]
    #[case("debian:6.1")]
    #[case("debian:6.12-rt")]
    #[case("debian:6.12.43")]
    #[case("path:~/linux")]
    #[case("deb:a.deb,/b c/d.deb")]
    #[case(
        "url:https://example.org/a:b.rpm#sha256=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )]
    #[case("host")]
    fn id_printed_equals_its_source_text(#[case] text: &str) {
        assert_eq!(id(text).to_string(), text);
    }

    /// Check that version and flavour of a Debian id come apart.
    #[test]
    fn id_of_debian_flavour_splits_at_the_dash() {
        assert_eq!(
            id("debian:6.12-rt").debian(),
            Some(DebianName {
                version: "6.12",
                flavour: Some("rt")
            })
        );
        assert_eq!(
            id("debian:6.12.43").debian(),
            Some(DebianName {
                version: "6.12.43",
                flavour: None
            })
        );
        assert_eq!(id("path:6.12").debian(), None);
    }

    /// Check that the files and addresses of an id come apart, and other sources have none.
    #[test]
    fn id_of_several_packages_splits_at_commas() {
        let paths = |text: &str| -> Vec<String> {
            let id = id(text);
            let paths = id.paths().into_iter();
            paths.map(|path| path.display().to_string()).collect()
        };
        assert_eq!(paths("rpm:a.rpm,/b/c.rpm"), ["a.rpm", "/b/c.rpm"]);
        assert_eq!(paths("path:a,b"), ["a,b"]);
        assert_eq!(paths("host"), [""; 0]);

        let hash = Sha256::of(b"");
        let text = format!("url:file:///a#sha256={hash},https://x.test/b#sha256={hash}");
        let id = id(&text);
        let uris: Vec<&str> = id.urls().iter().map(|url| url.uri).collect();
        assert_eq!(uris, ["file:///a", "https://x.test/b"]);
        assert_eq!(id.urls()[1].sha256, hash);
    }

    /// Check that what is not an id is refused, with the reason.
    #[rstest]
    #[case::no_source("6.1", "has no source")]
    #[case::source_typo("debain:6.1", "did you mean debian or deb?")]
    #[case::empty_name("path:", "no usable name")]
    #[case::control_character("path:a\nb", "no usable name")]
    #[case::host_with_name("host:x", "no usable name")]
    #[case::empty_file("deb:a.deb,", "no usable name")]
    #[case::url_without_hash("url:https://x.test/a.deb", "is not url:ADDRESS#sha256=HASH")]
    #[case::url_with_short_hash("url:https://x.test/a.deb#sha256=ab", "is not url:")]
    #[case::url_of_other_scheme(&format!("url:ftp://x/a#sha256={}", Sha256::of(b"")), "is not url:")]
    #[case::only_major("debian:6", "is not debian:MAJOR.MINOR")]
    #[case::empty_flavour("debian:6.1-", "is not debian:MAJOR.MINOR")]
    #[case::letters("debian:six.one", "is not debian:MAJOR.MINOR")]
    fn id_from_other_text_is_refused(#[case] text: &str, #[case] reason: &str) {
        let message = text.parse::<KernelId>().unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }

    /// Check that ids sort by version number and not by text.
    #[test]
    fn ids_sorted_follow_version_numbers() {
        let mut ids = [
            "debian:6.12-rt",
            "host",
            "debian:6.12",
            "debian:7.3",
            "debian:5.10",
            "debian:6.12.43",
            "debian:6.1",
        ]
        .map(id);
        ids.sort();
        let sorted = ids.map(|id| id.to_string());
        assert_eq!(
            sorted,
            [
                "debian:5.10",
                "debian:6.1",
                "debian:6.12",
                "debian:6.12-rt",
                "debian:6.12.43",
                "debian:7.3",
                "host"
            ]
        );
    }

    /// Check that an id gives a file name without separators.
    #[test]
    fn id_as_file_stem_has_no_separator() {
        assert_eq!(id("path:/usr/src/linux").file_stem(), "path--usr-src-linux");
    }
}
