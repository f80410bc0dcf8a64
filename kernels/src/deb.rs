//! Debian packages: an `ar` archive whose member `data.tar.*` holds the files.

use std::io::{self, Read};
use std::path::Path;

use crate::compress::Compression;
use crate::package::{MOST_UNPACKED_BYTES, PackageError, Sink, drain};

/// The first bytes of a package.
pub(crate) const MAGIC: &[u8] = b"!<arch>\n";

pub(crate) fn read<E, W, V>(file: impl Read, mut sink: Sink<'_, W, V>) -> Result<(), E>
where
    E: From<PackageError>,
    W: Fn(&Path) -> bool,
    V: FnMut(&Path, Vec<u8>) -> Result<(), E>,
{
    let mut archive = ar::Archive::new(file);
    while let Some(member) = archive.next_entry() {
        let member = member.map_err(|source| sink.damaged(source))?;
        let Some(compression) = data_compression(member.header().identifier()) else {
            continue;
        };
        let member = Exactly {
            left: member.header().size(),
            inner: member,
        };
        let data: Box<dyn Read> = match compression {
            Some(compression) => compression
                .decoder(member)
                .map_err(|source| sink.damaged(source))?,
            None => Box::new(member),
        };
        return read_tar(data.take(MOST_UNPACKED_BYTES), &mut sink);
    }
    Err(sink.no_data("no member data.tar, .gz, .xz or .zst").into())
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

fn read_tar<E, W, V>(mut data: impl Read, sink: &mut Sink<'_, W, V>) -> Result<(), E>
where
    E: From<PackageError>,
    W: Fn(&Path) -> bool,
    V: FnMut(&Path, Vec<u8>) -> Result<(), E>,
{
    let mut archive = tar::Archive::new(&mut data);
    for entry in archive.entries().map_err(|source| sink.damaged(source))? {
        let mut entry = entry.map_err(|source| sink.damaged(source))?;
        let name = entry.path().map_err(|source| sink.damaged(source))?;
        let name = name.into_owned();
        if entry.header().entry_type().is_file() {
            let size = entry.size();
            sink.offer(&name, size, &mut entry)?;
        }
    }
    Ok(drain(&mut data).map_err(|source| sink.damaged(source))?)
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
    use crate::package::for_each_file;

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
            Some(other) => panic!("no package is compressed with {other:?}"),
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

    /// Check that a package without files says so.
    #[test]
    fn package_without_data_member_is_refused() {
        let mut archive = ar::Builder::new(Vec::new());
        archive
            .append(
                &ar::Header::new(b"debian-binary".to_vec(), 4),
                b"2.0\n".as_slice(),
            )
            .unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), archive.into_inner().unwrap()).unwrap();
        let error =
            for_each_file(file.path(), |_| true, |_, _| Ok::<(), PackageError>(())).unwrap_err();
        assert!(matches!(error, PackageError::NoData { .. }), "{error}");
    }
}
