//! From a compressed kernel image to the ELF file inside it.

use crate::compress::{Compression, DecompressError};
use crate::elf;

/// The most that a kernel may unpack to. Debian's largest unpacks to 90 MB, one with debugging options to 400 MB.
const MOST_VMLINUX_BYTES: u64 = 1 << 30;

/// The most places at which decompression is tried. A magic number occurs by chance a few times in a file of this size.
const MOST_TRIES: usize = 64;

/// Why no ELF kernel came out of an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmlinuzError {
    /// The image is compressed in a way that this program cannot undo.
    #[error(transparent)]
    Unsupported(DecompressError),
    /// No stream in the image unpacks to an ELF file.
    #[error("no stream in the kernel image unpacks to an ELF file ({tries} places tried)")]
    NoElf {
        /// At how many places a stream seemed to start.
        tries: usize,
        /// Why the stream at the place that the header names, or else the first one, could not be unpacked.
        source: Option<DecompressError>,
    },
}

/// Unpacks the kernel in `image`: the ELF file in a bzImage, in another self-extracting image or a compressed file, or as it is; for arm64 the
/// `Image`, which holds no ELF file, alone, compressed, or in an EFI image that extracts itself.
///
/// # Errors
///
/// There is none, or it is damaged.
pub fn extract_vmlinux(image: &[u8]) -> Result<Vec<u8>, VmlinuzError> {
    if is_kernel(image) {
        return Ok(image.to_vec());
    }
    let mut tries = 0;
    let mut first_error = None;
    for stream in payload(image)
        .into_iter()
        .chain(streams(image))
        .take(MOST_TRIES)
    {
        tries += 1;
        let Some(compression) = Compression::of(stream) else {
            continue;
        };
        match compression.decompress(stream, MOST_VMLINUX_BYTES) {
            Ok(unpacked) if is_kernel(&unpacked) => return Ok(unpacked),
            Ok(_) => {}
            Err(error @ DecompressError::Unsupported { .. }) => {
                return Err(VmlinuzError::Unsupported(error));
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    Err(VmlinuzError::NoElf {
        tries,
        source: first_error,
    })
}

fn is_kernel(image: &[u8]) -> bool {
    image.starts_with(elf::MAGIC) || is_arm64_image(image)
}

/// Whether these are the bytes of an uncompressed arm64 kernel.
///
/// Kernel: v6.12 Documentation/arch/arm64/booting.rst, field magic.
#[must_use]
pub fn is_arm64_image(image: &[u8]) -> bool {
    field(image, 0x38) == Some(*b"ARM\x64")
}

/// The payload of a bzImage, where its header says that it is.
///
/// Kernel: v6.12 Documentation/arch/x86/boot.rst, fields setup_sects, header, version, payload_offset (protocol 2.08).
fn payload(image: &[u8]) -> Option<&[u8]> {
    const SECTOR_BYTES: usize = 512;
    let version = u16::from_le_bytes(field(image, 0x206)?);
    if field(image, 0x202)? != *b"HdrS" || version < 0x208 {
        return None;
    }
    // Zero stands for four: the field is older than its meaning.
    let [setup_sectors] = field(image, 0x1f1)?;
    let setup_sectors = if setup_sectors == 0 {
        4
    } else {
        usize::from(setup_sectors)
    };
    let offset = usize::try_from(u32::from_le_bytes(field(image, 0x248)?)).ok()?;
    image.get(((setup_sectors + 1) * SECTOR_BYTES).checked_add(offset)?..)
}

/// The release that a bzImage names.
///
/// Kernel: v6.12 Documentation/arch/x86/boot.rst, field kernel_version; arch/x86/boot/version.c.
pub(crate) fn release_of_bzimage(image: &[u8]) -> Option<&str> {
    if field(image, 0x202)? != *b"HdrS" {
        return None;
    }
    let offset = usize::from(u16::from_le_bytes(field(image, 0x20e)?)) + 0x200;
    let text = image.get(offset..)?;
    let text = text.get(..text.len().min(256))?;
    let end = text.iter().position(|byte| matches!(byte, 0 | b' '))?;
    std::str::from_utf8(&text[..end]).ok()
}

fn field<const N: usize>(image: &[u8], offset: usize) -> Option<[u8; N]> {
    image.get(offset..)?.first_chunk().copied()
}

/// Every place in `image` at which a stream seems to start.
fn streams(image: &[u8]) -> impl Iterator<Item = &[u8]> {
    (0..image.len())
        .map(|offset| &image[offset..])
        .filter(|rest| Compression::of(rest).is_some_and(Compression::is_distinct))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::compress::tests::compress;
    use crate::elf::tests::elf_with_note;
    use proptest::prelude::*;
    use rstest::rstest;

    const SETUP_BYTES: usize = 5 * 512;

    /// A bzImage whose payload is `payload`, with `decoy` in its setup code.
    fn bzimage(payload: &[u8], decoy: &[u8]) -> Vec<u8> {
        let mut image = vec![0; SETUP_BYTES];
        image[0x400..0x400 + decoy.len()].copy_from_slice(decoy);
        image[0x1f1] = 4;
        image[0x202..0x208].copy_from_slice(b"HdrS\x0f\x02");
        image[0x248] = 16;
        image.extend([0x90; 16]);
        image.extend(payload);
        image.extend(1234_u32.to_le_bytes());
        image
    }

    /// A bzImage that names its release.
    pub(crate) fn bzimage_of_release(payload: &[u8], release: &str) -> Vec<u8> {
        let mut image = bzimage(payload, b"");
        let version = format!("{release} (somebody@somewhere) #1\0");
        image[0x500..0x500 + version.len()].copy_from_slice(version.as_bytes());
        image[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
        image
    }

    /// Check that the release is read from the header.
    #[test]
    fn bzimage_names_its_release() {
        assert_eq!(
            release_of_bzimage(&bzimage_of_release(b"", "6.12.1+")),
            Some("6.12.1+")
        );
        assert_eq!(release_of_bzimage(b"\x7fELF"), None);
    }

    /// Check that the kernel comes out of a bzImage in each compression.
    #[rstest]
    fn bzimage_of_each_compression_unpacks(
        #[values(
            Compression::Gzip,
            Compression::Xz,
            Compression::Zstd,
            Compression::Bzip2,
            Compression::Lzma,
            Compression::Lz4Legacy
        )]
        kind: Compression,
    ) {
        let elf = elf_with_note(b"Xen", 18);
        assert_eq!(
            extract_vmlinux(&bzimage(&compress(kind, &elf), b"")).unwrap(),
            elf
        );
    }

    /// Check that a compression that cannot be undone is told by name.
    #[test]
    fn bzimage_of_unsupported_compression_is_told_by_name() {
        let image = bzimage(&compress(Compression::Lzo, b""), b"");
        let message = extract_vmlinux(&image).unwrap_err().to_string();
        assert!(message.contains("lzo"), "{message}");
    }

    /// Check that a stream that is no kernel, before the real one, does not mislead, with or without a header.
    #[rstest]
    #[case::header(true)]
    #[case::no_header(false)]
    fn image_with_decoy_stream_unpacks_the_kernel(#[case] header: bool) {
        let elf = elf_with_note(b"Xen", 18);
        let decoy = compress(Compression::Gzip, b"not a kernel");
        let mut image = bzimage(&compress(Compression::Zstd, &elf), &decoy);
        if !header {
            image[0x202] = b'?';
        }
        assert_eq!(extract_vmlinux(&image).unwrap(), elf);
    }

    /// Check that an ELF file is returned as it is.
    #[test]
    fn image_that_is_elf_is_returned() {
        let elf = elf_with_note(b"Xen", 18);
        assert_eq!(extract_vmlinux(&elf).unwrap(), elf);
    }

    /// Check that an arm64 image comes out as it is, packed or not, and that a stream within it does not mislead.
    #[test]
    fn arm64_image_is_returned() {
        let mut image = vec![0; 4096];
        image[..2].copy_from_slice(b"MZ");
        image[0x38..0x3c].copy_from_slice(b"ARM\x64");
        image.extend(compress(Compression::Gzip, &elf_with_note(b"Xen", 18)));
        assert_eq!(extract_vmlinux(&image).unwrap(), image);
        let packed = compress(Compression::Gzip, &image);
        assert_eq!(extract_vmlinux(&packed).unwrap(), image);
        let extracting = [b"MZ\0\0zimg".as_slice(), &[0; 64], &packed].concat();
        assert_eq!(extract_vmlinux(&extracting).unwrap(), image);
        image[0x38] = b'?';
        assert_ne!(extract_vmlinux(&image).unwrap(), image);
    }

    /// Check that an image without a kernel, and one cut short, are errors.
    #[test]
    fn image_without_kernel_is_refused() {
        assert!(matches!(
            extract_vmlinux(&bzimage(b"", b"")),
            Err(VmlinuzError::NoElf {
                tries: 1,
                source: None
            })
        ));
        let packed = compress(Compression::Xz, &elf_with_note(b"Xen", 18));
        let cut = bzimage(&packed[..packed.len() / 2], b"");
        assert!(matches!(
            extract_vmlinux(&cut),
            Err(VmlinuzError::NoElf {
                source: Some(_),
                ..
            })
        ));
    }

    proptest! {
        /// Check that no image makes the search panic.
        #[test]
        fn image_of_any_bytes_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..700), offset: u32, sectors: u8) {
            let mut image = bzimage(&bytes, b"");
            image[0x248..0x24c].copy_from_slice(&offset.to_le_bytes());
            image[0x1f1] = sectors;
            let _ = extract_vmlinux(&image);
            image[0x20e..0x210].copy_from_slice(&offset.to_le_bytes()[..2]);
            prop_assert!(release_of_bzimage(&image).is_none_or(|release| release.len() < 256));
        }
    }
}
