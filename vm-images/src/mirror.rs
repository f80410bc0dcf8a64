//! Where packages come from. No file of the project names a host: the machine's own apt knows one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use kernels::Archive;

const VARIABLE: &str = "BT_MIRROR";
/// As often as apt asks again by itself.
const RETRIES: u32 = 3;
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The places of Debian's archives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    debian: String,
    security: String,
}

/// A [`Mirror`] that is looked for when it is first needed, so that work on a full cache needs none.
#[derive(Debug)]
pub struct Mirrors {
    choice: Choice,
    keyring: PathBuf,
    retries: u32,
    found: OnceLock<Mirror>,
}

#[derive(Debug)]
enum Choice {
    Apt,
    Uri(String),
    Offline,
}

/// Why there is no mirror.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// The network is not to be used.
    #[error("not in the cache, and the network is not to be used; run once without --offline")]
    Offline,
    /// apt is not installed or has no Debian archive configured.
    #[error(
        "apt has no Debian archive configured ({reason}); name a mirror with --mirror or {VARIABLE}: a URI that has debian/ and debian-security/ below it"
    )]
    NotConfigured {
        /// What was tried.
        reason: String,
    },
    /// A URI of a kind that is not known.
    #[error(
        "{uri:?} is not a mirror: a URI that starts with http:, https: or file: is wanted, with debian/ and debian-security/ below it"
    )]
    BadUri {
        /// The URI.
        uri: String,
    },
}

impl Mirrors {
    /// The mirror at `uri` (`--mirror`), else the one that `BT_MIRROR` names, else the one that apt uses.
    #[must_use]
    pub fn new(uri: Option<&str>) -> Self {
        let uri = uri
            .map(str::to_owned)
            .or_else(|| std::env::var(VARIABLE).ok().filter(|uri| !uri.is_empty()));
        Self::choose(uri.map_or(Choice::Apt, Choice::Uri))
    }

    /// No mirror: what is not in the cache is an error.
    #[must_use]
    pub fn offline() -> Self {
        Self::choose(Choice::Offline)
    }

    fn choose(choice: Choice) -> Self {
        Self {
            choice,
            keyring: PathBuf::from(KEYRING),
            retries: RETRIES,
            found: OnceLock::new(),
        }
    }

    /// Takes the keys that may sign an index from another file than that of Debian's package `debian-archive-keyring`.
    #[must_use]
    pub fn with_keyring(self, keyring: &Path) -> Self {
        Self {
            keyring: keyring.to_owned(),
            ..self
        }
    }

    /// Asks a server that fails only so many times again.
    #[must_use]
    pub fn with_retries(self, retries: u32) -> Self {
        Self { retries, ..self }
    }

    pub(crate) fn retries(&self) -> u32 {
        self.retries
    }

    /// The file with the keys that may sign an index.
    pub(crate) fn keyring(&self) -> &Path {
        &self.keyring
    }

    /// Whether the network may be used at all.
    pub(crate) fn allow_network(&self) -> Result<(), MirrorError> {
        match self.choice {
            Choice::Offline => Err(MirrorError::Offline),
            Choice::Apt | Choice::Uri(_) => Ok(()),
        }
    }

    /// Looks for the mirror, the first time.
    ///
    /// # Errors
    ///
    /// There is none.
    pub fn get(&self) -> Result<&Mirror, MirrorError> {
        if let Some(mirror) = self.found.get() {
            return Ok(mirror);
        }
        let mirror = match &self.choice {
            Choice::Offline => return Err(MirrorError::Offline),
            Choice::Uri(uri) => Mirror::at(uri)?,
            Choice::Apt => Mirror::of_apt()?,
        };
        Ok(self.found.get_or_init(|| mirror))
    }
}

impl Mirror {
    /// The mirror with `debian/` and `debian-security/` below `uri`. A URI of `debian/` itself is understood too.
    ///
    /// # Errors
    ///
    /// The URI is of a kind that is not known.
    pub fn at(uri: &str) -> Result<Self, MirrorError> {
        if !is_usable(uri) {
            return Err(MirrorError::BadUri {
                uri: uri.to_owned(),
            });
        }
        let root = uri.trim_end_matches('/');
        let root = root.strip_suffix("/debian").unwrap_or(root);
        Ok(Self {
            debian: format!("{root}/debian/"),
            security: format!("{root}/debian-security/"),
        })
    }

    fn of_apt() -> Result<Self, MirrorError> {
        let not_configured = |reason: String| MirrorError::NotConfigured { reason };
        let output = Command::new("apt-get")
            .args([
                "indextargets",
                "--format",
                "$(LABEL)|$(REPO_URI)",
                "Created-By: Packages",
            ])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| not_configured(format!("apt-get: {error}")))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Self::of_index_targets(&text).ok_or_else(|| {
            not_configured(
                "no usable source of it in the output of apt-get indextargets".to_owned(),
            )
        })
    }

    /// Picks the archives out of lines `label|URI`. Before the first `apt-get update` apt knows no labels; then the path tells.
    fn of_index_targets(text: &str) -> Option<Self> {
        let lines = || {
            text.lines()
                .filter_map(|line| line.split_once('|'))
                .filter(|(_, uri)| is_usable(uri))
        };
        let find = |label: &str, folder: &str| {
            let named = lines().find(|(found, _)| *found == label);
            let by_path = || {
                lines().find(|(found, uri)| {
                    found.is_empty() && uri.trim_end_matches('/').ends_with(folder)
                })
            };
            named
                .or_else(by_path)
                .map(|(_, uri)| format!("{}/", uri.trim_end_matches('/')))
        };
        let debian = find("Debian", "/debian")?;
        let sibling = || format!("{}-security/", debian.trim_end_matches('/'));
        let security = find("Debian-Security", "/debian-security").unwrap_or_else(sibling);
        Some(Self { debian, security })
    }

    /// The URI of `path` below the root of `archive`.
    #[must_use]
    pub fn uri(&self, archive: Archive, path: &str) -> String {
        let base = match archive {
            Archive::Debian => &self.debian,
            Archive::DebianSecurity => &self.security,
        };
        // A pool path holds no character that needs escaping but these; servers take `+` and `~` as they are.
        format!("{base}{path}")
    }
}

fn is_usable(uri: &str) -> bool {
    ["http://", "https://", "file:/"]
        .iter()
        .any(|scheme| uri.starts_with(scheme))
        && !uri.contains(char::is_whitespace)
}

/// The path of a `file:` URI.
pub(crate) fn local_path(uri: &str) -> Option<&Path> {
    let path = uri.strip_prefix("file:")?;
    Some(Path::new(path.strip_prefix("//").unwrap_or(path)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Check that the archives are told apart by label, and by path where apt knows no label yet.
    #[rstest]
    #[case::labels(
        "Debian|http://a.test/x/\nDebian|http://b.test/y/\nDebian-Security|http://a.test/z/",
        "http://a.test/x/",
        "http://a.test/z/"
    )]
    #[case::paths(
        "|http://a.test/debian/\n|http://s.test/debian-security",
        "http://a.test/debian/",
        "http://s.test/debian-security/"
    )]
    #[case::no_security(
        "Debian|http://a.test/debian/\nnodistro|http://n.test/debian/",
        "http://a.test/debian/",
        "http://a.test/debian-security/"
    )]
    #[case::cdrom_first(
        "Debian|cdrom://x/\nDebian|https://a.test/debian/",
        "https://a.test/debian/",
        "https://a.test/debian-security/"
    )]
    fn index_targets_of_apt_name_the_archives(
        #[case] text: &str,
        #[case] debian: &str,
        #[case] security: &str,
    ) {
        let expected = Mirror {
            debian: debian.to_owned(),
            security: security.to_owned(),
        };
        assert_eq!(Mirror::of_index_targets(text), Some(expected));
    }

    /// Check that other distributions' archives are not taken for Debian's.
    #[rstest]
    #[case::nothing("")]
    #[case::ubuntu("Ubuntu|http://u.test/ubuntu/")]
    #[case::third_party("nodistro|http://n.test/debian/")]
    fn index_targets_without_debian_name_none(#[case] text: &str) {
        assert_eq!(Mirror::of_index_targets(text), None);
    }

    /// Check that a mirror is found by its root or by its debian folder, and other texts are refused.
    #[rstest]
    #[case("http://a.test")]
    #[case("http://a.test/")]
    #[case("http://a.test/debian/")]
    fn mirror_at_uri_holds_both_archives(#[case] uri: &str) {
        let mirror = Mirror::at(uri).unwrap();
        assert_eq!(
            mirror.uri(Archive::Debian, "pool/x"),
            "http://a.test/debian/pool/x"
        );
        assert_eq!(
            mirror.uri(Archive::DebianSecurity, "pool/x"),
            "http://a.test/debian-security/pool/x"
        );
        assert!(matches!(
            Mirror::at("a.test"),
            Err(MirrorError::BadUri { .. })
        ));
    }

    /// Check that without a network there is no mirror, and that the message says what to do.
    #[test]
    fn mirrors_offline_have_none() {
        let message = Mirrors::offline().get().unwrap_err().to_string();
        assert!(message.contains("--offline"), "{message}");
    }
}
