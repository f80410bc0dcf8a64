//! The signed index of a suite: `InRelease`, whose signature covers the hash of `Packages.xz`, which holds those of the packages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;

use debversion::Version;
use kernels::{Archive, Sha256};
use liblzma::read::XzDecoder;

use crate::cache::CacheError;
use crate::child::command;
use crate::deb822::{Stanza, stanzas};
use crate::download::{Content, DownloadError, Wanted, download};
use crate::fetch::Context;
use crate::mirror::Mirror;

/// Debian's largest `InRelease` has 0.3 MB, its largest `Packages` 60 MB.
const MOST_RELEASE_BYTES: u64 = 16 << 20;
const MOST_PACKAGES_BYTES: u64 = 1 << 30;

/// Whether an index was signed by Debian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signature {
    /// A key of Debian's keyring signed it.
    Good,
    /// It could not be checked, for this reason.
    Unchecked(String),
}

/// Why the index of a suite could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// It could not be downloaded.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// No key of Debian's keyring signed it.
    #[error("the index of {suite} is not signed by a key of {}: {said}", keyring.display())]
    BadSignature {
        /// The suite.
        suite: String,
        /// The keys that could have.
        keyring: PathBuf,
        /// What gpgv said.
        said: String,
    },
    /// It is the index of another suite.
    #[error("the index of {suite} says that it is that of {found}")]
    OtherSuite {
        /// The suite.
        suite: String,
        /// What the index says.
        found: String,
    },
    /// It does not list what it should.
    #[error("the index of {suite} has no {what}")]
    Incomplete {
        /// The suite.
        suite: String,
        /// What is missing.
        what: &'static str,
    },
    /// The scratch directory could not be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// The kernel packages of a suite.
#[derive(Debug, Clone)]
pub(crate) struct Index {
    pub(crate) suite: String,
    pub(crate) signature: Signature,
    packages: BTreeMap<String, Vec<Binary>>,
}

/// One binary package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binary {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) depends: Vec<String>,
    pub(crate) path: String,
    pub(crate) size: u64,
    pub(crate) sha256: Sha256,
}

impl Index {
    /// Downloads and checks the index of `suite`.
    pub(crate) fn fetch(
        context: &Context<'_>,
        mirror: &Mirror,
        suite: &str,
    ) -> Result<Self, IndexError> {
        let Context {
            cache,
            mirrors,
            progress,
        } = *context;
        let scratch = cache.scratch()?;
        let archive = Archive::of_suite(suite);
        let get = |what: &str, content, file: &str| -> Result<PathBuf, DownloadError> {
            let uri = mirror.uri(archive, &format!("dists/{suite}/{what}"));
            let dest = scratch.path().join(file);
            download(
                &Wanted {
                    name: &format!("{suite} {file}"),
                    uri: &uri,
                    content,
                    retries: mirrors.retries(),
                },
                &dest,
                progress,
            )?;
            Ok(dest)
        };
        let release = get(
            "InRelease",
            Content::AtMost(MOST_RELEASE_BYTES),
            "InRelease",
        )?;
        let (release, signature) = verified(suite, &release, mirrors.keyring())?;
        let listed = listed_packages(suite, &release)?;
        let content = Content::Exactly {
            size: listed.size,
            sha256: listed.sha256,
        };
        let by_hash = format!("main/binary-amd64/by-hash/SHA256/{}", listed.sha256);
        let packages = match get(&by_hash, content, "Packages.xz") {
            Err(DownloadError::NotFound { .. }) => get(LISTED_PATH, content, "Packages.xz")?,
            other => other?,
        };
        let text = unpack(&packages)?;
        Ok(Self {
            suite: suite.to_owned(),
            signature,
            packages: parse_packages(&text),
        })
    }

    /// The versions of the package `name`.
    pub(crate) fn versions(&self, name: &str) -> &[Binary] {
        self.packages.get(name).map_or(&[], Vec::as_slice)
    }

    /// All packages.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Binary> {
        self.packages.values().flatten()
    }

    /// The index with these packages, for tests of what is done with one.
    #[cfg(test)]
    pub(crate) fn of_text(suite: &str, text: &str) -> Self {
        Self {
            suite: suite.to_owned(),
            signature: Signature::Good,
            packages: parse_packages(text),
        }
    }
}

const LISTED_PATH: &str = "main/binary-amd64/Packages.xz";

struct Listed {
    size: u64,
    sha256: Sha256,
}

/// Where `Packages.xz` stands in `InRelease`, a list of lines `hash size path`.
fn listed_packages(suite: &str, release: &str) -> Result<Listed, IndexError> {
    let names = || {
        [
            release_field(release, "Codename"),
            release_field(release, "Suite"),
        ]
        .into_iter()
        .flatten()
    };
    if names().all(|name| name != suite) {
        let found = names().collect::<Vec<_>>().join(" or ");
        return Err(IndexError::OtherSuite {
            suite: suite.to_owned(),
            found,
        });
    }
    let listed = Stanza::of(release).continued("SHA256").find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let (sha256, size, path) = (words.next()?, words.next()?, words.next()?);
        (path == LISTED_PATH).then_some(Listed {
            size: size.parse().ok()?,
            sha256: sha256.parse().ok()?,
        })
    });
    let listed = listed.filter(|listed| listed.size <= MOST_PACKAGES_BYTES);
    listed.ok_or_else(|| IndexError::Incomplete {
        suite: suite.to_owned(),
        what: LISTED_PATH,
    })
}

fn release_field<'a>(release: &'a str, name: &str) -> Option<&'a str> {
    Stanza::of(release).get(name)
}

/// The signed part of `InRelease`.
fn verified(suite: &str, file: &Path, keyring: &Path) -> Result<(String, Signature), IndexError> {
    if !keyring.exists() {
        return unverified(
            suite,
            file,
            format!(
                "{} is not there; install debian-archive-keyring",
                keyring.display()
            ),
        );
    }
    let signed = file.with_extension("signed");
    let output = command("gpgv")
        .args(["--status-fd", "1", "--keyring"])
        .arg(keyring)
        .arg("--output")
        .args([&signed, file])
        .stdin(Stdio::null())
        .output();
    let output = match output {
        Ok(output) if output.status.code() != Some(127) => output,
        Ok(_) => return unverified(suite, file, "gpgv is not installed".to_owned()),
        Err(error) => return unverified(suite, file, format!("gpgv: {error}")),
    };
    // A release is signed with several keys, old and new; the keyring may lack some of them, and gpgv then fails as a whole.
    let status = String::from_utf8_lossy(&output.stdout);
    let told = |word: &str| {
        status.lines().any(|line| {
            line.strip_prefix("[GNUPG:] ")
                .is_some_and(|line| line.starts_with(word))
        })
    };
    if !told("GOODSIG ") || told("BADSIG ") {
        let said = String::from_utf8_lossy(&output.stderr)
            .trim()
            .replace('\n', "; ");
        return Err(IndexError::BadSignature {
            suite: suite.to_owned(),
            keyring: keyring.to_owned(),
            said,
        });
    }
    Ok((read(&signed)?, Signature::Good))
}

fn unverified(suite: &str, file: &Path, why: String) -> Result<(String, Signature), IndexError> {
    tracing::warn!(
        suite,
        why,
        "NOBODY CHECKED THE SIGNATURE of this index; what is pinned from it is only as good as the network, and marked so in kernels.lock"
    );
    let text = read(file)?;
    let body = text
        .split_once("\n\n")
        .map_or(text.as_str(), |(_, body)| body);
    let body = body
        .split("-----BEGIN PGP SIGNATURE-----")
        .next()
        .unwrap_or_default();
    Ok((body.to_owned(), Signature::Unchecked(why)))
}

fn read(path: &Path) -> Result<String, CacheError> {
    let bytes = std::fs::read(path).map_err(|source| CacheError::new("read", path, source))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn unpack(packages: &Path) -> Result<String, CacheError> {
    let failed = |source| CacheError::new("unpack", packages, source);
    let file = std::fs::File::open(packages).map_err(failed)?;
    let mut text = Vec::new();
    std::io::Read::read_to_end(
        &mut std::io::Read::take(XzDecoder::new(file), MOST_PACKAGES_BYTES),
        &mut text,
    )
    .map_err(failed)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn is_in_pool(path: &str) -> bool {
    path.starts_with("pool/") && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

/// The packages whose names start with `linux-`. A stanza that lacks a field is passed over.
fn parse_packages(text: &str) -> BTreeMap<String, Vec<Binary>> {
    let mut packages: BTreeMap<String, Vec<Binary>> = BTreeMap::new();
    for stanza in stanzas(text) {
        if let Some(binary) = parse_binary(stanza) {
            packages
                .entry(binary.name.clone())
                .or_default()
                .push(binary);
        }
    }
    packages
}

fn parse_binary(stanza: Stanza<'_>) -> Option<Binary> {
    let name = stanza
        .get("Package")
        .filter(|name| name.starts_with("linux-"))?;
    let depends = stanza.get("Depends").unwrap_or_default().split([',', '|']);
    let depends = depends.filter_map(|depend| depend.split_ascii_whitespace().next());
    Some(Binary {
        name: name.to_owned(),
        version: Version::from_str(stanza.get("Version")?).ok()?,
        depends: depends.map(str::to_owned).collect(),
        path: stanza
            .get("Filename")
            .filter(|path| is_in_pool(path))?
            .to_owned(),
        size: stanza.get("Size")?.parse().ok()?,
        sha256: stanza.get("SHA256")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn release(lines: &str) -> String {
        format!(
            "Origin: Debian\nSuite: unstable\nCodename: sid\nMD5Sum:\n 0 7 {LISTED_PATH}\nSHA256:\n{lines}"
        )
    }

    /// Check that the size and hash come from the list of SHA-256 hashes, for a suite called by either of its names.
    #[rstest]
    #[case("sid")]
    #[case("unstable")]
    fn release_lists_packages_by_sha256(#[case] suite: &str) {
        let text = release(&format!(
            " {HASH} 5 contrib/binary-amd64/Packages.xz\n {HASH} 42 {LISTED_PATH}\n"
        ));
        let listed = listed_packages(suite, &text).unwrap();
        assert_eq!(
            (listed.size, listed.sha256.to_string()),
            (42, HASH.to_owned())
        );
    }

    /// Check that a release without the list, with a senseless one, or with one too large is refused.
    #[rstest]
    #[case::none(String::new())]
    #[case::short_hash(format!(" abc 42 {LISTED_PATH}\n"))]
    #[case::no_size(format!(" {HASH} x {LISTED_PATH}\n"))]
    #[case::too_large(format!(" {HASH} 99999999999 {LISTED_PATH}\n"))]
    fn release_without_sound_list_is_refused(#[case] lines: String) {
        assert!(matches!(
            listed_packages("sid", &release(&lines)),
            Err(IndexError::Incomplete { .. })
        ));
    }

    /// Check that kernel packages are read with the names that they depend on, and others and damaged ones are passed over.
    #[test]
    fn packages_of_index_are_read() {
        let stanza = |name: &str, size: &str| {
            format!(
                "Package: {name}\nVersion: 1-1\nDepends: a (= 1), b | c\nFilename: pool/x.deb\nSize: {size}\nSHA256: {HASH}\n\n"
            )
        };
        let text = [
            stanza("linux-image-1", "7"),
            stanza("bash", "7"),
            stanza("linux-image-2", "seven"),
        ]
        .concat();
        let index = Index::of_text("sid", &text);
        let names: Vec<&str> = index.iter().map(|binary| binary.name.as_str()).collect();
        assert_eq!(names, ["linux-image-1"]);
        let [binary] = index.versions("linux-image-1") else {
            panic!("{index:?}")
        };
        assert_eq!(
            (binary.size, binary.depends.join(" ")),
            (7, "a b c".to_owned())
        );
    }

    /// Check that a path that leads out of the pool is not taken from an index.
    #[rstest]
    #[case("../x.deb")]
    #[case("/etc/x.deb")]
    #[case("pool/../../x.deb")]
    fn package_outside_the_pool_is_passed_over(#[case] path: &str) {
        let text = format!(
            "Package: linux-image-1\nVersion: 1\nFilename: {path}\nSize: 7\nSHA256: {HASH}\n"
        );
        assert_eq!(Index::of_text("sid", &text).iter().count(), 0);
    }

    proptest! {
        /// Check that no index makes the readers panic.
        #[test]
        fn index_of_any_text_does_not_panic(text in "(Package|Version|SHA256|Codename|[a-z0-9.~+-]|[: \n]){0,40}") {
            let _ = listed_packages("sid", &text);
            prop_assert!(Index::of_text("sid", &text).iter().count() <= text.len());
        }
    }
}
