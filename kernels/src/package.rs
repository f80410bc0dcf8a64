//! Debian packages: an `ar` archive whose member `data.tar.*` holds the files.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Component, Path, PathBuf};

use crate::compress::Compression;

/// The most that the files of one package may unpack to together. Debian's largest kernel package unpacks to 0.6 GB.
const MOST_UNPACKED_BYTES: u64 = 8 << 30;
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
    /// The file is not a Debian package, or one whose files are compressed in a way that is not known.
    #[error("{} is not a Debian package: it has no member data.tar, .gz, .xz or .zst", path.display())]
    NoData {
        /// The package.
        path: PathBuf,
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
    mut visit: impl FnMut(&Path, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let damaged = |source| PackageError::Damaged {
        path: package.to_owned(),
        source,
    };
    let file = File::open(package).map_err(|source| PackageError::Open {
        path: package.to_owned(),
        source,
    })?;
    let mut archive = ar::Archive::new(BufReader::new(file));
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(damaged)?;
        let Some(compression) = data_compression(member.header().identifier()) else {
            continue;
        };
        let size = member.header().size();
        let member = Exactly {
            inner: member,
            left: size,
        };
        let data: Box<dyn Read> = match compression {
            Some(compression) => compression.decoder(member).map_err(damaged)?,
            None => Box::new(member),
        };
        return visit_tar(package, data.take(MOST_UNPACKED_BYTES), &wanted, &mut visit);
    }
    Err(PackageError::NoData {
        path: package.to_owned(),
    }
    .into())
}

/// What `identifier` says of the compression, if it is the member with the files.
fn data_compression(identifier: &[u8]) -> Option<Option<Compression>> {
    let extension = identifier.strip_prefix(b"data.tar")?;
    if extension.is_empty() {
        return Some(None);
    }
    let extension = std::str::from_utf8(extension.strip_prefix(b".")?).ok()?;
    Compression::of_extension(extension).map(Some)
}

fn visit_tar<E: From<PackageError>>(
    package: &Path,
    mut data: impl Read,
    wanted: &impl Fn(&Path) -> bool,
    visit: &mut impl FnMut(&Path, Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let damaged = |source| PackageError::Damaged {
        path: package.to_owned(),
        source,
    };
    let mut archive = tar::Archive::new(&mut data);
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let Some(name) = relative(&entry.path().map_err(damaged)?) else {
            continue;
        };
        if !entry.header().entry_type().is_file() || !wanted(&name) {
            continue;
        }
        let size = entry.size();
        if size > MOST_FILE_BYTES {
            return Err(PackageError::FileTooLarge {
                path: package.to_owned(),
                name,
            }
            .into());
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() as u64 != size {
            return Err(damaged(io::ErrorKind::UnexpectedEof.into()).into());
        }
        visit(&name, bytes)?;
    }
    io::copy(&mut data, &mut io::sink()).map_err(damaged)?;
    Ok(())
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

/// A reader for which an early end is an error.
struct Exactly<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Exactly<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        if count == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left = self.left.saturating_sub(count as u64);
        Ok(count)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compress::tests::compress;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::io::Write;

    /// Makes a package of `files`.
    pub(crate) fn deb(compression: Option<Compression>, files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, Path::new(".").join(name), *bytes)
                .unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let (name, data) = match compression {
            None => ("data.tar", tar),
            Some(Compression::Gzip) => ("data.tar.gz", compress(Compression::Gzip, &tar)),
            Some(Compression::Xz) => ("data.tar.xz", compress(Compression::Xz, &tar)),
            Some(Compression::Zstd) => ("data.tar.zst", compress(Compression::Zstd, &tar)),
        };
        let mut archive = ar::Builder::new(Vec::new());
        for (name, bytes) in [
            ("debian-binary", b"2.0\n".as_slice()),
            ("control.tar.xz", b""),
            (name, &data),
        ] {
            archive
                .append(&ar::Header::new(name.into(), bytes.len() as u64), bytes)
                .unwrap();
        }
        archive.into_inner().unwrap()
    }

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
        #[values(
            None,
            Some(Compression::Gzip),
            Some(Compression::Xz),
            Some(Compression::Zstd)
        )]
        compression: Option<Compression>,
    ) {
        let found = read(&deb(compression, FILES)).unwrap();
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
        #[values(
            None,
            Some(Compression::Gzip),
            Some(Compression::Xz),
            Some(Compression::Zstd)
        )]
        compression: Option<Compression>,
    ) {
        let package = deb(compression, FILES);
        // The newline that pads a member to an even length holds nothing.
        let end = package.len() - usize::from(package.ends_with(b"\n"));
        for length in 0..end {
            let error = read(&package[..length]).unwrap_err();
            let known = matches!(
                error,
                PackageError::Damaged { .. } | PackageError::NoData { .. }
            );
            assert!(
                known && error.to_string().contains("/"),
                "{length}: {error}"
            );
        }
    }

    /// Check that a file that is no package says so.
    #[test]
    fn package_without_data_member_is_refused() {
        let mut archive = ar::Builder::new(Vec::new());
        archive
            .append(
                &ar::Header::new(b"debian-binary".to_vec(), 4),
                b"2.0\n".as_slice(),
            )
            .unwrap();
        let error = read(&archive.into_inner().unwrap()).unwrap_err();
        assert!(matches!(error, PackageError::NoData { .. }), "{error}");
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
            let mut package = deb(None, FILES);
            let at = at % package.len();
            package[at] = value;
            let _ = read(&package);
        }
    }
}
