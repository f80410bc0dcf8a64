//! RPM packages: a lead, two headers, and a compressed `cpio` archive with the files.
//!
//! ```text
//! lead              96 bytes
//! signature header  8 bytes of magic, counts, index, store; padded to a multiple of 8
//! header            the same, not padded
//! payload           cpio (new ASCII format), compressed as its first bytes tell
//! ```
//!
//! Numbers are in big-endian order. The headers are passed over: the files are all that is wanted, and each says how long it is.
//!
//! Spec: RPM documentation, Package format version 4; cpio(5), New ASCII Format.

use std::io::{self, Read};
use std::path::Path;

use crate::compress::Compression;
use crate::package::{MOST_UNPACKED_BYTES, PackageError, Sink, drain};

/// The first bytes of a package.
pub(crate) const MAGIC: &[u8] = &[0xed, 0xab, 0xee, 0xdb];
const LEAD_BYTES: u64 = 96;
const HEADER_MAGIC: [u8; 4] = [0x8e, 0xad, 0xe8, 0x01];
const INDEX_ENTRY_BYTES: u64 = 16;
/// Longer names are not those of files that a kernel has.
const MOST_NAME_BYTES: u64 = 4096;
/// The name that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

pub(crate) fn read<E, W, V>(mut file: impl Read, mut sink: Sink<'_, W, V>) -> Result<(), E>
where
    E: From<PackageError>,
    W: Fn(&Path) -> bool,
    V: FnMut(&Path, Vec<u8>) -> Result<(), E>,
{
    let start = pass_headers(&mut file).map_err(|source| sink.damaged(source))?;
    let compression = Compression::of(&start);
    let payload = start.as_slice().chain(file);
    let mut data: Box<dyn Read> = match compression {
        Some(compression) => compression
            .decoder(payload)
            .map_err(|source| sink.damaged(source))?,
        None if start.starts_with(b"07070") => Box::new(payload),
        None => {
            return Err(sink
                .no_data("its payload is neither a cpio archive nor compressed in a known way")
                .into());
        }
    };
    let mut data = data.by_ref().take(MOST_UNPACKED_BYTES);
    read_cpio(&mut data, &mut sink)?;
    Ok(drain(&mut data).map_err(|source| sink.damaged(source))?)
}

/// Reads up to the payload, and returns its first bytes.
fn pass_headers(file: &mut impl Read) -> io::Result<Vec<u8>> {
    pass(file, LEAD_BYTES)?;
    let signature_bytes = pass_header(file)?;
    pass(file, signature_bytes.next_multiple_of(8) - signature_bytes)?;
    pass_header(file)?;
    let mut start = Vec::new();
    file.take(8).read_to_end(&mut start)?;
    if start.len() < 8 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(start)
}

/// Reads a header and returns its size.
fn pass_header(file: &mut impl Read) -> io::Result<u64> {
    let mut intro = [0; 16];
    file.read_exact(&mut intro)?;
    let [a, b, c, d, _, _, _, _, rest @ ..] = intro;
    let [e0, e1, e2, e3, s0, s1, s2, s3] = rest;
    if [a, b, c, d] != HEADER_MAGIC {
        return Err(invalid("no header where one should be"));
    }
    let entries = u64::from(u32::from_be_bytes([e0, e1, e2, e3]));
    let store_bytes = u64::from(u32::from_be_bytes([s0, s1, s2, s3]));
    let bytes = entries * INDEX_ENTRY_BYTES + store_bytes;
    pass(file, bytes)?;
    Ok(bytes)
}

/// Reads `bytes` bytes and forgets them.
fn pass(file: &mut impl Read, bytes: u64) -> io::Result<()> {
    if io::copy(&mut file.take(bytes), &mut io::sink())? < bytes {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(())
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn read_cpio<E, W, V>(data: &mut impl Read, sink: &mut Sink<'_, W, V>) -> Result<(), E>
where
    E: From<PackageError>,
    W: Fn(&Path) -> bool,
    V: FnMut(&Path, Vec<u8>) -> Result<(), E>,
{
    loop {
        let entry = Entry::read(data).map_err(|source| sink.damaged(source))?;
        if entry.name == TRAILER {
            return Ok(());
        }
        let Entry {
            name,
            is_file,
            size,
        } = entry;
        let mut content = data.by_ref().take(size);
        if let (true, Ok(name)) = (is_file, str::from_utf8(&name)) {
            sink.offer(Path::new(name), size, &mut content)?;
        }
        let left = content.limit();
        pass(data, left + padding(size)).map_err(|source| sink.damaged(source))?;
    }
}

/// What precedes the content of a file in the archive.
struct Entry {
    name: Vec<u8>,
    is_file: bool,
    size: u64,
}

impl Entry {
    const HEADER_BYTES: u64 = 110;

    fn read(data: &mut impl Read) -> io::Result<Self> {
        let mut magic = [0; 6];
        data.read_exact(&mut magic)?;
        // 070702 has checksums; rpm's own 07070X is for files of 4 GB and leaves the sizes to the header.
        if !matches!(&magic, b"070701" | b"070702") {
            return Err(invalid("an entry of another format"));
        }
        let mut fields = [0; 13];
        for field in &mut fields {
            *field = hexadecimal(data)?;
        }
        let [
            _inode,
            mode,
            _,
            _,
            _,
            _,
            size,
            _,
            _,
            _,
            _,
            name_size,
            _check,
        ] = fields;
        if !(1..=MOST_NAME_BYTES).contains(&name_size) {
            return Err(invalid("a name of a length that cannot be"));
        }
        let mut name = Vec::new();
        data.take(name_size).read_to_end(&mut name)?;
        if name.len() as u64 != name_size || name.pop() != Some(0) {
            return Err(invalid("a name without an end"));
        }
        pass(data, padding(Self::HEADER_BYTES + name_size))?;
        let is_file = mode & 0o170_000 == 0o100_000;
        Ok(Self {
            name,
            is_file,
            size,
        })
    }
}

/// Eight hexadecimal digits.
fn hexadecimal(data: &mut impl Read) -> io::Result<u64> {
    let mut digits = [0; 8];
    data.read_exact(&mut digits)?;
    digits.iter().try_fold(0, |number, digit| {
        let digit = char::from(*digit).to_digit(16);
        let digit = digit.ok_or_else(|| invalid("a field that is no number"))?;
        Ok(number << 4 | u64::from(digit))
    })
}

/// Bytes from `size` to the next multiple of four.
fn padding(size: u64) -> u64 {
    size.next_multiple_of(4) - size
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compress::tests::compress;
    use crate::package::for_each_file;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::path::PathBuf;

    const FILE: u32 = 0o100_644;
    const LINK: u32 = 0o120_777;

    fn cpio(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        let trailer = ("TRAILER!!!", 0, b"".as_slice());
        for (name, mode, content) in entries.iter().chain([&trailer]) {
            archive.extend(b"070701");
            let mut fields = [0; 13];
            fields[1] = *mode;
            fields[6] = u32::try_from(content.len()).unwrap();
            fields[11] = u32::try_from(name.len() + 1).unwrap();
            for field in fields {
                archive.extend(format!("{field:08x}").as_bytes());
            }
            archive.extend(name.as_bytes());
            archive.push(0);
            archive.resize(archive.len().next_multiple_of(4), 0);
            archive.extend(*content);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive
    }

    fn header(entries: u32, store: &[u8]) -> Vec<u8> {
        let mut header = HEADER_MAGIC.to_vec();
        header.extend([0; 4]);
        header.extend(entries.to_be_bytes());
        header.extend(u32::try_from(store.len()).unwrap().to_be_bytes());
        header.extend(vec![7; usize::try_from(entries).unwrap() * 16]);
        header.extend(store);
        header
    }

    fn package(payload: &[u8]) -> Vec<u8> {
        let mut package = MAGIC.to_vec();
        package.resize(96, 0);
        package.extend(header(2, b"sigs!"));
        package.resize(package.len().next_multiple_of(8), 0);
        package.extend(header(3, b"a store of odd length"));
        package.extend(payload);
        package
    }

    /// Makes a package of `files`, as the tools of Fedora do.
    pub(crate) fn rpm(compression: Option<Compression>, files: &[(&str, &[u8])]) -> Vec<u8> {
        let names: Vec<String> = files.iter().map(|(name, _)| format!("./{name}")).collect();
        let entries: Vec<(&str, u32, &[u8])> = names
            .iter()
            .zip(files)
            .map(|(name, (_, content))| (name.as_str(), FILE, *content))
            .collect();
        let archive = cpio(&entries);
        package(&compression.map_or(archive.clone(), |kind| compress(kind, &archive)))
    }

    fn names(package: &[u8]) -> Result<Vec<PathBuf>, PackageError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), package).unwrap();
        let mut names = Vec::new();
        for_each_file(
            file.path(),
            |_| true,
            |name, _| {
                names.push(name.to_owned());
                Ok::<(), PackageError>(())
            },
        )?;
        Ok(names)
    }

    /// Check that links and names that lead out of the root are passed over, and what follows them is read.
    #[test]
    fn package_with_links_yields_files_only() {
        let archive = cpio(&[
            ("./lib/modules/1/build", LINK, b"/usr/src"),
            ("/etc/x", FILE, b"odd"),
            ("../x", FILE, b""),
            ("./lib/modules/1/vmlinuz", FILE, b"kernel"),
        ]);
        let found = names(&package(&archive)).unwrap();
        assert_eq!(found, [PathBuf::from("lib/modules/1/vmlinuz")]);
    }

    /// Check that a payload of an unknown kind, and an entry of one, are told.
    #[rstest]
    #[case::payload(b"not an archive", "no files")]
    #[case::entry(b"07070X0000000000", "damaged")]
    #[case::name(&cpio(&[(&"x".repeat(5000), FILE, b"")]), "damaged")]
    fn payload_of_unknown_kind_is_refused(#[case] payload: &[u8], #[case] reason: &str) {
        let message = names(&package(payload)).unwrap_err().to_string();
        assert!(message.contains(reason), "{message}");
    }

    proptest! {
        /// Check that no archive makes the reader panic or read on without end.
        #[test]
        fn archive_with_changed_bytes_does_not_panic(changes in proptest::collection::vec((0usize..500, any::<u8>()), 1..5)) {
            let mut archive = cpio(&[("a", FILE, b"content"), ("b", FILE, b"")]);
            for (at, value) in changes {
                let at = at % archive.len();
                archive[at] = value;
            }
            if let Ok(names) = names(&package(&archive)) {
                prop_assert!(names.len() <= 2);
            }
        }
    }
}
