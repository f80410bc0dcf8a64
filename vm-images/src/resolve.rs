//! From a kernel of `kernels.toml` to the packages that stand for it now.

use std::collections::BTreeSet;

use kernels::{Archive, DebianName, KernelId, LockedKernel, LockedPackage, Proof};

use crate::index::{Binary, Index, Signature};

const ARCHITECTURE: &str = "amd64";
/// The packages that hold a kernel's files since 6.19. The image package of 6.18 depends on the last one too, and still holds all files.
const PARTS: [&str; 3] = ["linux-binary-", "linux-modules-", "linux-base-"];

/// Why no packages stand for a kernel.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ResolveError {
    /// Only kernels of Debian's archive can be resolved.
    #[error("{id} does not come from an archive")]
    NotInArchive {
        /// The kernel.
        id: KernelId,
    },
    /// The suite has no such kernel.
    #[error("{suite} has no kernel {id}; it has {}", list(.series))]
    NoSuchKernel {
        /// The kernel.
        id: KernelId,
        /// The suite.
        suite: String,
        /// The series, of the same flavour, that it has.
        series: BTreeSet<String>,
    },
    /// The suite has the kernel's image, and not all packages that its files are in.
    #[error("{suite} has {id} as {image}, but not {}", missing.join(", "))]
    Incomplete {
        /// The kernel.
        id: KernelId,
        /// The suite.
        suite: String,
        /// The newest image package.
        image: String,
        /// What it depends on and is not there.
        missing: Vec<String>,
    },
}

fn list(series: &BTreeSet<String>) -> String {
    if series.is_empty() {
        "none".to_owned()
    } else {
        series.iter().cloned().collect::<Vec<_>>().join(", ")
    }
}

/// Finds the newest complete kernel that `id` names in `index`.
pub(crate) fn resolve(id: &KernelId, index: &Index) -> Result<LockedKernel, ResolveError> {
    let Some(debian) = id.debian() else {
        return Err(ResolveError::NotInArchive { id: id.clone() });
    };
    let images = images(debian, index);
    let mut newest_incomplete = None;
    for (image, release) in wanted(debian, &images) {
        let Parts { found, missing } = parts(image, release, index);
        if missing.is_empty() {
            return Ok(locked(id, index, image, release, &found));
        }
        newest_incomplete = newest_incomplete.or(Some((image.name.clone(), missing)));
    }
    let (id, suite) = (id.clone(), index.suite.clone());
    Err(match newest_incomplete {
        Some((image, missing)) => ResolveError::Incomplete {
            id,
            suite,
            image,
            missing,
        },
        None => {
            let series = images
                .iter()
                .map(|(image, _)| series(&image.version.upstream_version))
                .collect();
            ResolveError::NoSuchKernel { id, suite, series }
        }
    })
}

/// The series of the generic kernel that `index` has an image of.
pub(crate) fn series_of_generic(index: &Index) -> BTreeSet<String> {
    let generic = DebianName {
        version: "",
        flavour: None,
    };
    images(generic, index)
        .iter()
        .map(|(image, _)| series(&image.version.upstream_version))
        .collect()
}

/// A kernel some of whose packages are not in the index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partial {
    /// The kernel with the packages that are, the one with its image among them.
    pub(crate) kernel: LockedKernel,
    /// Where the other ones would be in the pool.
    pub(crate) missing: Vec<PoolPlace>,
}

/// A package as the pool would name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PoolPlace {
    pub(crate) name: String,
    pub(crate) path: String,
}

/// Finds the newest kernel that `id` names in `index` and whose image is there, whatever else is not.
pub(crate) fn resolve_partly(id: &KernelId, index: &Index) -> Option<Partial> {
    let debian = id.debian()?;
    wanted(debian, &images(debian, index)).find_map(|(image, release)| {
        let Parts { found, missing } = parts(image, release, index);
        let binary = found
            .first()
            .filter(|binary| binary.name.starts_with(PARTS[0]))?;
        let place = |name: String| {
            let path = pool_path(binary, &name)?;
            Some(PoolPlace { name, path })
        };
        Some(Partial {
            kernel: locked(id, index, image, release, &found),
            missing: missing.into_iter().map(place).collect::<Option<_>>()?,
        })
    })
}

/// Where the package `name` of the same kernel as `binary` would be: the signed image is built from the source package
/// `linux-signed-amd64`, all the rest from `linux`, and the pool has a folder for each source package.
fn pool_path(binary: &Binary, name: &str) -> Option<String> {
    let mut folders = binary.path.rsplit('/').skip(1);
    let _source = folders.next()?;
    let mut folders: Vec<&str> = folders.collect();
    folders.reverse();
    // File names lack the epoch.
    let version = binary.version.to_string();
    let version = version
        .split_once(':')
        .map_or(version.as_str(), |(_, version)| version);
    Some(format!(
        "{}/linux/{name}_{version}_{ARCHITECTURE}.deb",
        folders.join("/")
    ))
}

/// The images of a flavour in `index`, newest first, with their releases.
fn images<'a>(debian: DebianName<'_>, index: &'a Index) -> Vec<(&'a Binary, &'a str)> {
    let mut images: Vec<(&Binary, &str)> = index
        .iter()
        .filter_map(|binary| Some((binary, release_of(binary, debian.flavour)?)))
        .collect();
    images.sort_by(|(a, _), (b, _)| b.version.cmp(&a.version).then_with(|| a.name.cmp(&b.name)));
    images
}

/// Those of `images` that are of the wanted series or version.
fn wanted<'a>(
    debian: DebianName<'a>,
    images: &[(&'a Binary, &'a str)],
) -> impl Iterator<Item = (&'a Binary, &'a str)> {
    images
        .iter()
        .copied()
        .filter(move |(image, _)| is_of_version(&image.version.upstream_version, debian.version))
}

/// The release that `binary` is the image of, if it is one of this flavour.
///
/// Image packages are named `linux-image-<release>`; so are those that only depend on the newest image, but these depend on one.
fn release_of<'a>(binary: &'a Binary, flavour: Option<&str>) -> Option<&'a str> {
    let release = binary.name.strip_prefix("linux-image-")?;
    let abi = release.strip_suffix(ARCHITECTURE)?.strip_suffix('-')?;
    let (abi, found) = match abi.rsplit_once('-') {
        Some((abi, word)) if word.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            (abi, Some(word))
        }
        _ => (abi, None),
    };
    let image = abi.starts_with(|c: char| c.is_ascii_digit()) && found == flavour;
    let stands_for_another = binary
        .depends
        .iter()
        .any(|depend| depend.starts_with("linux-image-"));
    (image && !stands_for_another).then_some(release)
}

/// Whether `upstream`, such as `6.12.43` or `7.3~rc7`, is of the series or version `wanted`.
fn is_of_version(upstream: &str, wanted: &str) -> bool {
    upstream
        .strip_prefix(wanted)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '~', '+']))
}

fn series(upstream: &str) -> String {
    let numbers = upstream.split(['.', '~', '+']).take(2);
    numbers.collect::<Vec<_>>().join(".")
}

/// The packages that hold the files of a kernel.
struct Parts<'a> {
    found: Vec<&'a Binary>,
    /// The names of those that are not there.
    missing: Vec<String>,
}

fn parts<'a>(image: &'a Binary, release: &str, index: &'a Index) -> Parts<'a> {
    let names = PARTS.map(|prefix| format!("{prefix}{release}"));
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    if !image.depends.contains(&names[0]) {
        found.push(image);
        return Parts { found, missing };
    }
    for name in names {
        let versions = index.versions(&name).iter();
        match versions
            .into_iter()
            .find(|binary| binary.version == image.version)
        {
            Some(binary) => found.push(binary),
            None => missing.push(name),
        }
    }
    Parts { found, missing }
}

fn locked(
    id: &KernelId,
    index: &Index,
    image: &Binary,
    release: &str,
    packages: &[&Binary],
) -> LockedKernel {
    let archive = Archive::of_suite(&index.suite);
    let package = |binary: &&Binary| LockedPackage {
        name: binary.name.clone(),
        archive,
        path: binary.path.clone(),
        size: binary.size,
        sha256: binary.sha256,
        proof: Proof::Index,
    };
    let unchecked = match &index.signature {
        Signature::Good => None,
        Signature::Unchecked(why) => Some(why.clone()),
    };
    LockedKernel {
        id: id.clone(),
        release: release.to_owned(),
        version: image.version.to_string(),
        suite: index.suite.clone(),
        unchecked,
        packages: packages.iter().map(package).collect(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rstest::rstest;

    /// The stanza of a package.
    pub(crate) fn stanza(name: &str, version: &str, depends: &str) -> String {
        let sha256 = "0".repeat(64);
        let path = format!("pool/main/l/linux/{name}_{version}_amd64.deb");
        format!(
            "Package: {name}\nVersion: {version}\nDepends: {depends}\nFilename: {path}\nSize: 7\nSHA256: {sha256}\n\n"
        )
    }

    fn index() -> Index {
        let split = "linux-base-7.3.4+deb13-amd64 (= 7.3.4-1), linux-binary-7.3.4+deb13-amd64 (= 7.3.4-1), linux-modules-7.3.4+deb13-amd64 (= 7.3.4-1)";
        let gone = split.replace("7.3.4", "7.1.13");
        let text = [
            stanza("linux-image-6.1.0-9-amd64", "6.1.27-1", "kmod"),
            stanza("linux-image-6.1.0-56-amd64", "6.1.192-2", "kmod"),
            stanza("linux-image-6.1.0-56-rt-amd64", "6.1.192-2", "kmod"),
            stanza("linux-image-6.1.0-57-cloud-amd64", "6.1.193-1", "kmod"),
            stanza(
                "linux-image-6.1.0-0.deb11.52-amd64",
                "6.1.180-1~deb11u1",
                "kmod",
            ),
            stanza(
                "linux-image-6.12.43+deb12-amd64",
                "6.12.43-1~bpo12+1",
                "kmod",
            ),
            stanza(
                "linux-image-6.12.95+deb12-amd64",
                "6.12.95-1~bpo12+1",
                "kmod",
            ),
            stanza(
                "linux-image-6.12-amd64",
                "6.12.99-1",
                "linux-image-6.12.95+deb12-amd64 (= 6.12.95-1)",
            ),
            stanza(
                "linux-image-amd64",
                "6.12.99-1",
                "linux-image-6.12.95+deb12-amd64",
            ),
            stanza("linux-image-7.3.4+deb13-amd64", "7.3.4-1", split),
            stanza("linux-base-7.3.4+deb13-amd64", "7.3.4-1", ""),
            stanza("linux-binary-7.3.4+deb13-amd64", "7.3.4-1", ""),
            stanza("linux-modules-7.3.4+deb13-amd64", "7.3.4-1", ""),
            stanza("linux-modules-7.3.4+deb13-amd64", "7.3.4-2", ""),
            stanza(
                "linux-image-6.18.15+deb13-amd64",
                "6.18.15-1",
                "linux-base-6.18.15+deb13-amd64 (= 6.18.15-1)",
            ),
            stanza("linux-image-7.1.13+deb13-amd64", "7.1.13-1", &gone),
            stanza("linux-binary-7.1.13+deb13-amd64", "7.1.13-1", "")
                .replace("/linux/", "/linux-signed-amd64/"),
            stanza(
                "linux-image-7.0.9+deb13-amd64",
                "7.0.9-1",
                &split.replace("7.3.4", "7.0.9"),
            ),
        ];
        Index::of_text("trixie-backports", &text.concat())
    }

    /// Check that an id finds the newest image of its series or version, and its flavour only.
    #[rstest]
    #[case::series("debian:6.1", "6.1.0-56-amd64")]
    #[case::flavour("debian:6.1-rt", "6.1.0-56-rt-amd64")]
    #[case::newest("debian:6.12", "6.12.95+deb12-amd64")]
    #[case::version("debian:6.12.43", "6.12.43+deb12-amd64")]
    #[case::before_the_split("debian:6.18", "6.18.15+deb13-amd64")]
    #[case::older_version("debian:6.1.27", "6.1.0-9-amd64")]
    fn resolve_of_id_finds_its_release(#[case] id: &str, #[case] release: &str) {
        let locked = resolve(&id.parse().unwrap(), &index()).unwrap();
        assert_eq!(locked.release, release);
        assert_eq!(locked.packages.len(), 1);
        assert_eq!(locked.packages[0].name, format!("linux-image-{release}"));
    }

    /// Check that a split kernel is its parts, each in the image's own version.
    #[test]
    fn resolve_of_split_kernel_lists_its_parts() {
        let locked = resolve(&"debian:7.3".parse().unwrap(), &index()).unwrap();
        let paths: Vec<&str> = locked
            .packages
            .iter()
            .map(|package| package.path.as_str())
            .collect();
        let expected = ["binary", "modules", "base"].map(|part| {
            format!("pool/main/l/linux/linux-{part}-7.3.4+deb13-amd64_7.3.4-1_amd64.deb")
        });
        assert_eq!(paths, expected);
        assert_eq!(
            (locked.version.as_str(), locked.suite.as_str()),
            ("7.3.4-1", "trixie-backports")
        );
    }

    /// Check that what is not there, or not all there, is told with what is.
    #[rstest]
    #[case::series(
        "debian:5.10",
        "trixie-backports has no kernel debian:5.10; it has 6.1, 6.12, 6.18, 7.0, 7.1, 7.3"
    )]
    #[case::flavour(
        "debian:6.12-rt",
        "trixie-backports has no kernel debian:6.12-rt; it has 6.1"
    )]
    #[case::parts(
        "debian:7.1",
        "trixie-backports has debian:7.1 as linux-image-7.1.13+deb13-amd64, \
         but not linux-modules-7.1.13+deb13-amd64, linux-base-7.1.13+deb13-amd64"
    )]
    #[case::source("host", "host does not come from an archive")]
    fn resolve_of_absent_kernel_tells_what_is_there(#[case] id: &str, #[case] message: &str) {
        assert_eq!(
            resolve(&id.parse().unwrap(), &index())
                .unwrap_err()
                .to_string(),
            message
        );
    }

    /// Check that for a kernel that lacks packages their places in the pool are worked out, if its image is there.
    #[test]
    fn resolve_of_partial_kernel_tells_where_the_rest_would_be() {
        let partial = resolve_partly(&"debian:7.1".parse().unwrap(), &index()).unwrap();
        let places: Vec<String> = partial
            .missing
            .into_iter()
            .map(|place| place.path)
            .collect();
        let expected = ["modules", "base"].map(|part| {
            format!("pool/main/l/linux/linux-{part}-7.1.13+deb13-amd64_7.1.13-1_amd64.deb")
        });
        assert_eq!(places, expected);
        let [binary] = partial.kernel.packages.as_slice() else {
            panic!("{:?}", partial.kernel)
        };
        assert_eq!(binary.name, "linux-binary-7.1.13+deb13-amd64");
        assert_eq!(
            resolve_partly(&"debian:7.0".parse().unwrap(), &index()),
            None
        );
    }

    /// Check that what hashes from an unchecked index are worth is told in the pin.
    #[test]
    fn resolve_in_unchecked_index_marks_the_pin() {
        let mut index = index();
        let id = "debian:6.1".parse().unwrap();
        assert_eq!(resolve(&id, &index).unwrap().unchecked, None);
        index.signature = Signature::Unchecked("no gpgv".to_owned());
        assert_eq!(
            resolve(&id, &index).unwrap().unchecked.as_deref(),
            Some("no gpgv")
        );
    }

    /// Check which upstream versions belong to a series.
    #[rstest]
    #[case("6.1.192", "6.1", true)]
    #[case("7.3~rc7", "7.3", true)]
    #[case("7.3", "7.3", true)]
    #[case("6.12.43", "6.1", false)]
    #[case("6.12.43", "6.12.4", false)]
    fn version_belongs_to_series_at_a_boundary(
        #[case] upstream: &str,
        #[case] wanted: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(is_of_version(upstream, wanted), expected);
    }
}
