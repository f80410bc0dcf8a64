//! Packages: archives of files with a kernel's among them. What kind of package a file is, its first bytes tell.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::path::{Component, Path, PathBuf};

use crate::{deb, rpm};

/// The most that the files of one package may unpack to together. Debian's largest kernel package unpacks to 0.6 GB.
pub(crate) const MOST_UNPACKED_BYTES: u64 = 8 << 30;
/// The most that one file that is asked for may hold.
const MOST_FILE_BYTES: u64 = 1 << 30;

/// Why a package could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The file could not be opened.
    #[error("failed to open package {}", path.display())]
    Open {
        /// The package.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no package of a known kind.
    #[error("{} is neither a Debian package nor an RPM package", path.display())]
    NotAPackage {
        /// The file.
        path: PathBuf,
    },
    /// The file is a package without files, or one whose files are stored in a way that is not known.
    #[error("package {} has no files: {why}", path.display())]
    NoData {
        /// The package.
        path: PathBuf,
        /// What is missing.
        why: &'static str,
    },
    /// The package is damaged or cut short.
    #[error("package {} is damaged or truncated", path.display())]
    Damaged {
        /// The package.
        path: PathBuf,
        /// What the decoder said.
        source: io::Error,
    },
    /// A file in the package is larger than any file of a kernel is.
    #[error("{} in package {} is larger than {MOST_FILE_BYTES} bytes", name.display(), path.display())]
    FileTooLarge {
        /// The package.
        path: PathBuf,
        /// The file in it.
        name: PathBuf,
    },
}

/// Reads the regular files of a package in the order in which they are stored, and hands those that `wanted` names to `visit`.
///
/// Names are relative, without `./`; entries whose names lead out of the root are passed over. The package is read to its end, so that a
/// truncated one is an error even if all that is wanted came before.
///
/// # Errors
///
/// The package is damaged, or `visit` failed.
pub fn for_each_file<E: From<PackageError>>(
    package: &Path,
    wanted: impl Fn(&Path) -> bool,
    visit: impl FnMut(&Path, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let open = |source| PackageError::Open {
        path: package.to_owned(),
        source,
    };
    let mut file = BufReader::new(File::open(package).map_err(open)?);
    let mut magic = Vec::new();
    file.by_ref()
        .take(8)
        .read_to_end(&mut magic)
        .map_err(open)?;
    file.rewind().map_err(open)?;
    let sink = Sink {
        package,
        wanted,
        visit,
    };
    if magic.starts_with(deb::MAGIC) {
        deb::read(file, sink)
    } else if magic.starts_with(rpm::MAGIC) {
        rpm::read(file, sink)
    } else {
        Err(PackageError::NotAPackage {
            path: package.to_owned(),
        }
        .into())
    }
}

/// Who takes the files of a package.
pub(crate) struct Sink<'a, W, V> {
    package: &'a Path,
    wanted: W,
    visit: V,
}

impl<W: Fn(&Path) -> bool, V> Sink<'_, W, V> {
    pub(crate) fn damaged(&self, source: io::Error) -> PackageError {
        PackageError::Damaged {
            path: self.package.to_owned(),
            source,
        }
    }

    pub(crate) fn no_data(&self, why: &'static str) -> PackageError {
        PackageError::NoData {
            path: self.package.to_owned(),
            why,
        }
    }

    /// Takes the regular file `name`, which holds `size` bytes, if it is wanted; else `content` is not read.
    pub(crate) fn offer<E: From<PackageError>>(
        &mut self,
        name: &Path,
        size: u64,
        content: &mut dyn Read,
    ) -> Result<(), E>
    where
        V: FnMut(&Path, Vec<u8>) -> Result<(), E>,
    {
        let Some(name) = relative(name).filter(|name| (self.wanted)(name)) else {
            return Ok(());
        };
        if size > MOST_FILE_BYTES {
            return Err(PackageError::FileTooLarge {
                path: self.package.to_owned(),
                name,
            }
            .into());
        }
        let mut bytes = Vec::new();
        content
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(|source| self.damaged(source))?;
        if bytes.len() as u64 != size {
            return Err(self.damaged(io::ErrorKind::UnexpectedEof.into()).into());
        }
        (self.visit)(&name, bytes)
    }
}

/// `name` without `./`, if it stays below the root.
fn relative(name: &Path) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for part in name.components() {
        match part {
            Component::Normal(part) => relative.push(part),
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => return None,
        }
    }
    Some(relative)
}

/// Reads to the end of what a package holds, so that one that ends early is noticed.
pub(crate) fn drain(data: &mut dyn Read) -> io::Result<()> {
    io::copy(data, &mut io::sink()).map(drop)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compress::Compression;
    use crate::deb::tests::deb;
    use crate::rpm::tests::rpm;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::io::Write;

    /// Makes a package of files.
    type Make = fn(Option<Compression>, &[(&str, &[u8])]) -> Vec<u8>;

    fn read(package: &[u8]) -> Result<Vec<(PathBuf, Vec<u8>)>, PackageError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(package).unwrap();
        let mut found = Vec::new();
        for_each_file(
            file.path(),
            |name| name.starts_with("boot"),
            |name, bytes| {
                found.push((name.to_owned(), bytes));
                Ok::<(), PackageError>(())
            },
        )?;
        Ok(found)
    }

    const FILES: &[(&str, &[u8])] = &[
        ("usr/share/doc/x", b"doc"),
        ("boot/vmlinuz-1", b"kernel"),
        ("boot/empty", b""),
    ];

    /// Check that the wanted files of a package come out, however it is compressed.
    #[rstest]
    fn package_of_each_compression_yields_wanted_files(
        #[values(deb, rpm)] make: Make,
        #[values(
            None,
            Some(Compression::Gzip),
            Some(Compression::Xz),
            Some(Compression::Zstd)
        )]
        compression: Option<Compression>,
    ) {
        let found = read(&make(compression, FILES)).unwrap();
        assert_eq!(
            found,
            [
                ("boot/vmlinuz-1".into(), b"kernel".to_vec()),
                ("boot/empty".into(), Vec::new())
            ]
        );
    }

    /// Check that a package cut anywhere is an error that names the file, and never a shorter list.
    #[rstest]
    fn package_cut_anywhere_is_damaged(
        #[values(deb, rpm)] make: Make,
        #[values(
            None,
            Some(Compression::Gzip),
            Some(Compression::Xz),
            Some(Compression::Zstd)
        )]
        compression: Option<Compression>,
    ) {
        let package = make(compression, FILES);
        // The newline that pads a member to an even length holds nothing.
        let end = package.len() - usize::from(package.ends_with(b"\n"));
        for length in 0..end {
            let error = read(&package[..length]).unwrap_err();
            let known = matches!(
                error,
                PackageError::Damaged { .. }
                    | PackageError::NoData { .. }
                    | PackageError::NotAPackage { .. }
            );
            assert!(
                known && error.to_string().contains('/'),
                "{length}: {error}"
            );
        }
    }

    /// Check that a file that is no package says so.
    #[test]
    fn package_of_unknown_kind_is_refused() {
        let error = read(b"no package").unwrap_err();
        assert!(matches!(error, PackageError::NotAPackage { .. }), "{error}");
    }

    /// Check that names that lead out of the root are passed over.
    #[rstest]
    #[case("./boot/x", Some("boot/x"))]
    #[case("boot/../../x", None)]
    #[case("/boot/x", None)]
    fn name_outside_root_is_not_relative(#[case] name: &str, #[case] expected: Option<&str>) {
        assert_eq!(relative(Path::new(name)), expected.map(PathBuf::from));
    }

    proptest! {
        /// Check that a package with a changed byte gives files or an error, and never a panic.
        #[test]
        fn package_with_changed_byte_does_not_panic(at in 0usize..4000, value: u8) {
            for make in [deb, rpm] {
                let mut package = make(None, FILES);
                let at = at % package.len();
                package[at] = value;
                let _ = read(&package);
            }
        }
    }
}
