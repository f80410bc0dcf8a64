//! Decompression of one stream that its first bytes identify.

use std::io::{self, Read};

/// The compressions that kernels, modules and packages use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Xz,
    Zstd,
    Bzip2,
    /// The format of `lzma`, older than xz.
    Lzma,
    /// The format of `lz4 -l`, which kernel images use.
    Lz4Legacy,
    /// The format of `lzop`. It is known and cannot be unpacked: the crates that could are not free to use here, or not looked after.
    Lzo,
}

/// Why a stream could not be decompressed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecompressError {
    /// The stream is damaged or cut short.
    #[error("damaged or truncated {compression} stream")]
    Damaged {
        /// The compression's name.
        compression: &'static str,
        /// What the decoder said.
        source: io::Error,
    },
    /// The stream unpacks to more than it may.
    #[error("{compression} stream unpacks to more than {limit_bytes} bytes")]
    TooLarge {
        /// The compression's name.
        compression: &'static str,
        /// The limit.
        limit_bytes: u64,
    },
    /// The compression is one that this program cannot undo.
    #[error(
        "{compression} compression is not supported; use a kernel whose image is compressed with gzip, xz, zstd, bzip2, lzma or lz4"
    )]
    Unsupported {
        /// The compression's name.
        compression: &'static str,
    },
}

/// The most memory that a stream may ask an LZMA decoder for. The kernel's build uses a dictionary of 32 MB.
const MOST_LZMA_BYTES: u64 = 256 << 20;

impl Compression {
    pub(crate) const ALL: [Self; 7] = [
        Self::Gzip,
        Self::Xz,
        Self::Zstd,
        Self::Bzip2,
        Self::Lzma,
        Self::Lz4Legacy,
        Self::Lzo,
    ];

    /// The bytes that a stream starts with. Kernel: v6.12 lib/decompress.c compressed_formats.
    pub(crate) fn magic(self) -> &'static [u8] {
        match self {
            Self::Gzip => &[0x1f, 0x8b, 0x08],
            Self::Xz => &[0xfd, b'7', b'z', b'X', b'Z', 0],
            Self::Zstd => &[0x28, 0xb5, 0x2f, 0xfd],
            Self::Bzip2 => b"BZh",
            // No magic number: properties 0x5d, as every encoder sets them, and a dictionary of whole 64 KiB.
            Self::Lzma => &[0x5d, 0, 0],
            Self::Lz4Legacy => &[0x02, 0x21, 0x4c, 0x18],
            Self::Lzo => b"\x89LZO\0\r\n\x1a\n",
        }
    }

    /// Whether the first bytes of a stream tell it from anything else, so that it can be searched for.
    pub(crate) fn is_distinct(self) -> bool {
        !matches!(self, Self::Bzip2 | Self::Lzma)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Lzma => "lzma",
            Self::Lz4Legacy => "lz4",
            Self::Lzo => "lzo",
        }
    }

    /// The compression that `bytes` start with.
    pub(crate) fn of(bytes: &[u8]) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|compression| bytes.starts_with(compression.magic()))
    }

    /// The compression that a file name ends in: `.gz`, `.xz` or `.zst`, without the dot.
    pub(crate) fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "gz" => Some(Self::Gzip),
            "xz" => Some(Self::Xz),
            "zst" => Some(Self::Zstd),
            _ => None,
        }
    }

    /// Wraps `input` in a decoder of one stream; what follows the stream is not looked at.
    pub(crate) fn decoder<'a>(self, input: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
        Ok(match self {
            Self::Gzip => Box::new(flate2::read::GzDecoder::new(input)),
            Self::Xz => Box::new(liblzma::read::XzDecoder::new(input)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::new(input)?.single_frame()),
            Self::Bzip2 => Box::new(bzip2::read::BzDecoder::new(input)),
            Self::Lzma => {
                let stream = liblzma::stream::Stream::new_lzma_decoder(MOST_LZMA_BYTES)?;
                Box::new(liblzma::read::XzDecoder::new_stream(input, stream))
            }
            Self::Lz4Legacy => Box::new(crate::lz4::Decoder::new(input)?),
            Self::Lzo => return Err(io::ErrorKind::Unsupported.into()),
        })
    }

    /// Decompresses the stream that `bytes` start with, to at most `limit_bytes`.
    pub(crate) fn decompress(
        self,
        bytes: &[u8],
        limit_bytes: u64,
    ) -> Result<Vec<u8>, DecompressError> {
        let compression = self.name();
        let damaged = |source| DecompressError::Damaged {
            compression,
            source,
        };
        if self == Self::Lzo {
            return Err(DecompressError::Unsupported { compression });
        }
        let decoder = self.decoder(bytes).map_err(damaged)?;
        let mut unpacked = Vec::new();
        decoder
            .take(limit_bytes.saturating_add(1))
            .read_to_end(&mut unpacked)
            .map_err(damaged)?;
        if unpacked.len() as u64 > limit_bytes {
            return Err(DecompressError::TooLarge {
                compression,
                limit_bytes,
            });
        }
        Ok(unpacked)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use std::io::Write;

    /// Compresses `bytes`.
    pub(crate) fn compress(compression: Compression, bytes: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Gzip => {
                let mut encoder =
                    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => zstd::stream::encode_all(bytes, 1).unwrap(),
            Compression::Bzip2 => {
                let mut encoder =
                    bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Lzma => {
                let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
                let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Lz4Legacy => crate::lz4::tests::compress(bytes),
            Compression::Lzo => [compression.magic(), bytes].concat(),
        }
    }

    /// Check that each compression is recognised and undone, whatever follows the stream.
    #[rstest]
    fn stream_with_trailing_bytes_decompresses(
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
        let mut packed = compress(kind, b"some text, some text");
        packed.extend_from_slice(b"trailing bytes");
        assert_eq!(Compression::of(&packed), Some(kind));
        assert_eq!(
            kind.decompress(&packed, 20).unwrap(),
            b"some text, some text"
        );
    }

    /// Check that a stream that unpacks to too much is refused.
    #[rstest]
    fn stream_larger_than_limit_is_refused(
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
        let packed = compress(kind, &[0; 1 << 20]);
        assert!(matches!(
            kind.decompress(&packed, 1000),
            Err(DecompressError::TooLarge {
                limit_bytes: 1000,
                ..
            })
        ));
    }

    /// Check that a stream without its end is refused.
    #[rstest]
    fn stream_cut_short_is_refused(
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
        let packed = compress(kind, b"some text that is long enough to be cut");
        for length in 0..packed.len() {
            assert!(
                matches!(
                    kind.decompress(&packed[..length], 1000),
                    Err(DecompressError::Damaged { .. })
                ),
                "{length}"
            );
        }
    }

    /// Check that the one compression that cannot be undone is told by name.
    #[test]
    fn stream_of_unsupported_compression_is_told_by_name() {
        let packed = compress(Compression::Lzo, b"text");
        let kind = Compression::of(&packed).unwrap();
        let message = kind.decompress(&packed, 1000).unwrap_err().to_string();
        assert!(
            message.starts_with("lzo compression is not supported"),
            "{message}"
        );
    }

    proptest! {
        /// Check that no bytes make a decoder panic or pass its limit.
        #[test]
        fn stream_of_any_bytes_stays_within_limit(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            for kind in Compression::ALL {
                let mut stream = kind.magic().to_vec();
                stream.extend_from_slice(&bytes);
                if let Ok(unpacked) = kind.decompress(&stream, 1000) {
                    prop_assert!(unpacked.len() <= 1000);
                }
            }
        }
    }
}
