//! A kernel image in memory: where its BTF is, what lies at an address.

use super::arm64;
use crate::bytes::Endian;
use object::read::elf::ElfFile64;
use object::{Object as _, ObjectSection as _, SectionKind};
use std::ops::Range;

/// Why a file is not a kernel image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// Nothing in the file unpacks to a kernel.
    #[error("no kernel image in the file")]
    Vmlinuz(#[source] kernels::VmlinuzError),
    /// The ELF file is broken.
    #[error("broken ELF file")]
    Elf(#[source] object::Error),
    /// A machine that is not known.
    #[error("kernel is for {machine:?}, not x86-64 or arm64")]
    Machine {
        /// The machine.
        machine: object::Architecture,
    },
}

/// Machine that a kernel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Arch {
    /// 64-bit x86.
    #[serde(rename = "x86_64")]
    X86_64,
    /// 64-bit Arm.
    #[serde(rename = "aarch64")]
    Aarch64,
}

impl Arch {
    /// What `uname -m` says.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        }
    }

    /// Prefix of the machine's system call entry points.
    #[must_use]
    pub fn syscall_prefix(self) -> &'static str {
        match self {
            Self::X86_64 => "__x64_sys_",
            Self::Aarch64 => "__arm64_sys_",
        }
    }
}

/// An uncompressed kernel.
#[derive(Debug)]
pub struct Image {
    data: Vec<u8>,
    /// Machine.
    pub arch: Arch,
    /// Address ranges and where they are in `data`.
    segments: Vec<(Range<u64>, usize)>,
    btf: Option<Range<usize>>,
    /// Part of `data` that holds read-only data.
    rodata: Range<usize>,
    /// Address of that part.
    rodata_address: u64,
}

impl Image {
    /// Unpacks `vmlinuz`, or takes `vmlinux` as it is.
    ///
    /// # Errors
    /// When there is no kernel in the file.
    pub fn unpack(file: &[u8]) -> Result<Self, ImageError> {
        let kernel = kernels::extract_vmlinux(file).map_err(ImageError::Vmlinuz)?;
        if kernels::is_arm64_image(&kernel) {
            return Ok(Self::raw(kernel));
        }
        Self::from_elf(kernel)
    }

    /// Takes an uncompressed ELF kernel.
    ///
    /// # Errors
    /// When it is broken or for another machine.
    pub fn from_elf(data: Vec<u8>) -> Result<Self, ImageError> {
        let elf = ElfFile64::<object::Endianness>::parse(&*data).map_err(ImageError::Elf)?;
        let arch = match elf.architecture() {
            object::Architecture::X86_64 => Arch::X86_64,
            object::Architecture::Aarch64 => Arch::Aarch64,
            machine => return Err(ImageError::Machine { machine }),
        };
        let mut segments = Vec::new();
        let mut btf = None;
        let mut rodata = (0..data.len(), 0);
        for section in elf.sections() {
            let Some((offset, size)) = section.file_range() else {
                continue;
            };
            let (Ok(start), Ok(len)) = (usize::try_from(offset), usize::try_from(size)) else {
                continue;
            };
            let Some(range) = start.checked_add(len).map(|end| start..end) else {
                continue;
            };
            if range.end > data.len() {
                continue;
            }
            let address = section.address();
            if address != 0 && section.kind() != SectionKind::UninitializedData {
                segments.push((address..address.saturating_add(size), start));
            }
            match section.name() {
                Ok(".BTF") => btf = Some(range),
                Ok(".rodata") => rodata = (range, address),
                _ => {}
            }
        }
        Ok(Self {
            arch,
            segments,
            btf,
            rodata: rodata.0,
            rodata_address: rodata.1,
            data,
        })
    }

    /// An arm64 `Image`.
    fn raw(mut data: Vec<u8>) -> Self {
        let base = arm64::relocate(&mut data);
        let end = base.saturating_add(data.len() as u64);
        Self {
            arch: Arch::Aarch64,
            segments: vec![(base..end, 0)],
            btf: find_btf(&data),
            rodata: 0..data.len(),
            rodata_address: base,
            data,
        }
    }

    /// The `.BTF` blob, if the kernel was built with one.
    #[must_use]
    pub fn btf(&self) -> Option<&[u8]> {
        self.data.get(self.btf.clone()?)
    }

    /// The whole image.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// The read-only data, or the whole image if that is not told apart.
    #[must_use]
    pub fn rodata(&self) -> &[u8] {
        &self.data[self.rodata.clone()]
    }

    /// Address of the first byte of [`Self::rodata`].
    #[must_use]
    pub fn rodata_address(&self) -> u64 {
        self.rodata_address
    }

    /// The bytes from an address on, as far as they lie together.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<&[u8]> {
        let (range, start) = self.segments.iter().find(|(r, _)| r.contains(&address))?;
        let offset = usize::try_from(address - range.start).ok()?;
        let len = usize::try_from(range.end - range.start).ok()?;
        self.data.get(start + offset..start + len)
    }

    /// Parts of the image that lie together: the address of the first byte, and the bytes.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let starts = self.segments.iter().map(|(range, _)| range.start);
        starts.filter_map(|start| Some((start, self.at(start)?)))
    }

    /// The version banner: `Linux version 6.1.0-56-amd64 (...) ... Debian 6.1.192-2 (...)`.
    #[must_use]
    pub fn banner(&self) -> Option<String> {
        const MARK: &[u8] = b"Linux version ";
        let data = self.rodata();
        let mut from = 0;
        loop {
            let at = from + memchr_window(data.get(from..)?, MARK)?;
            let text = data.get(at..)?;
            let end = text
                .iter()
                .take(1024)
                .position(|&b| matches!(b, 0 | b'\n'))?;
            let line = std::str::from_utf8(&text[..end]).unwrap_or("");
            // One of the strings in the image is a format: "%s".
            if line[MARK.len().min(line.len())..].starts_with(|c: char| c.is_ascii_digit()) {
                return Some(line.to_owned());
            }
            from = at + MARK.len();
        }
    }
}

/// Position of `needle` in `data`.
pub(super) fn memchr_window(data: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = data.get(from..)?.iter().position(|&b| b == first) {
        if data[from + at..].starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Looks for a BTF blob by its header, and for the largest if there are several.
fn find_btf(data: &[u8]) -> Option<Range<usize>> {
    let mut best: Option<Range<usize>> = None;
    let mut from = 0;
    while let Some(at) = memchr_window(data.get(from..)?, &[0x9f, 0xeb, 1, 0, 24, 0, 0, 0]) {
        let start = from + at;
        from = start + 8;
        let word = |i: usize| {
            let value = Endian::Little.u32(data, start + i)?;
            usize::try_from(value).ok()
        };
        let (Some(type_len), Some(str_off), Some(str_len)) = (word(12), word(16), word(20)) else {
            break;
        };
        let end = start + 24 + str_off.saturating_add(str_len);
        let larger = best.as_ref().is_none_or(|b| b.len() < end - start);
        if end <= data.len() && str_off >= type_len && larger {
            best = Some(start..end);
        }
    }
    best
}
