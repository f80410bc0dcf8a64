//! The cpio format that the kernel unpacks as its first root file system.
//!
//! Source: Linux v6.12 Documentation/driver-api/early-userspace/buffer-format.rst, the `newc` format.

const ALIGNMENT: usize = 4;

/// An archive in the making.
#[derive(Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

/// The kind and the permissions of an entry.
#[derive(Debug, Clone, Copy)]
struct Mode(u32);

impl Mode {
    const DIRECTORY: Self = Self(0o040_755);
    const FILE: Self = Self(0o100_644);
    const PROGRAM: Self = Self(0o100_755);
    const CHARACTER_DEVICE: Self = Self(0o020_600);
}

impl Archive {
    /// Adds a directory. Its parents have to be there.
    pub(crate) fn directory(&mut self, path: &str) {
        self.entry(path, Mode::DIRECTORY, (0, 0), b"");
    }

    /// Adds a file.
    pub(crate) fn file(&mut self, path: &str, bytes: &[u8]) {
        self.entry(path, Mode::FILE, (0, 0), bytes);
    }

    /// Adds a file that can be executed.
    pub(crate) fn program(&mut self, path: &str, bytes: &[u8]) {
        self.entry(path, Mode::PROGRAM, (0, 0), bytes);
    }

    /// Adds a character device, readable and writable by root.
    pub(crate) fn character_device(&mut self, path: &str, major: u32, minor: u32) {
        self.entry(path, Mode::CHARACTER_DEVICE, (major, minor), b"");
    }

    /// Ends the archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", Mode(0), (0, 0), b"");
        self.bytes
    }

    fn entry(&mut self, path: &str, mode: Mode, (major, minor): (u32, u32), content: &[u8]) {
        self.entries += 1;
        let links = if mode.0 == Mode::DIRECTORY.0 { 2 } else { 1 };
        let size = u32::try_from(content.len()).expect("a module or a program has less than 4 GiB");
        let name_size = u32::try_from(path.len() + 1).expect("a path has less than 4 GiB");
        // inode, mode, uid, gid, links, mtime, size, device of the file (2), device it is (2), size of the name, checksum
        let fields = [
            self.entries,
            mode.0,
            0,
            0,
            links,
            0,
            size,
            0,
            0,
            major,
            minor,
            name_size,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes
            .resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An entry as a reader sees it.
    #[derive(Debug, PartialEq, Eq)]
    pub(crate) struct Read {
        pub(crate) path: String,
        pub(crate) mode: u32,
        pub(crate) device: (u32, u32),
        pub(crate) content: Vec<u8>,
    }

    /// Reads an archive the way the format's description says.
    pub(crate) fn read(mut bytes: &[u8]) -> Vec<Read> {
        let mut entries = Vec::new();
        loop {
            let field = |number: usize| {
                let digits = &bytes[6 + number * 8..14 + number * 8];
                u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            assert_eq!(&bytes[..6], b"070701");
            let [size, name_size] =
                [field(6), field(11)].map(|size| usize::try_from(size).unwrap());
            let content = (110 + name_size).next_multiple_of(4);
            let path = std::str::from_utf8(&bytes[110..110 + name_size - 1])
                .unwrap()
                .to_owned();
            assert_eq!(bytes[110 + name_size - 1], 0);
            if path == "TRAILER!!!" {
                assert_eq!(bytes.len(), content);
                return entries;
            }
            let (mode, device) = (field(1), (field(9), field(10)));
            entries.push(Read {
                path,
                mode,
                device,
                content: bytes[content..content + size].to_vec(),
            });
            bytes = &bytes[(content + size).next_multiple_of(4)..];
        }
    }

    /// Check that each kind of entry is read as it was written.
    #[test]
    fn archive_of_each_kind_is_read_back() {
        let mut archive = Archive::default();
        archive.directory("dev");
        archive.character_device("dev/console", 5, 1);
        archive.program("init", b"program");
        archive.file("list", b"");
        let entry = |path: &str, mode, device, content: &[u8]| Read {
            path: path.to_owned(),
            mode,
            device,
            content: content.to_vec(),
        };
        let expected = [
            entry("dev", 0o040_755, (0, 0), b""),
            entry("dev/console", 0o020_600, (5, 1), b""),
            entry("init", 0o100_755, (0, 0), b"program"),
            entry("list", 0o100_644, (0, 0), b""),
        ];
        assert_eq!(read(&archive.finish()), expected);
    }

    proptest! {
        /// Check that names and contents of any length come back whole.
        #[test]
        fn archive_of_any_files_is_read_back(files in proptest::collection::vec(("[a-z]{1,12}", proptest::collection::vec(any::<u8>(), 0..20)), 0..6)) {
            let mut archive = Archive::default();
            for (path, content) in &files {
                archive.file(path, content);
            }
            let read: Vec<(String, Vec<u8>)> = read(&archive.finish()).into_iter().map(|entry| (entry.path, entry.content)).collect();
            prop_assert_eq!(read, files);
        }
    }
}
