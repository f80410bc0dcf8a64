//! The older format of LZ4 files, which kernel images use: a magic number, then blocks, each with its size before it.
//!
//! Nothing marks the end. Every block but the last unpacks to 8 MiB, so that a smaller one is the last; after one of 8 MiB the end is where
//! no block can follow.
//!
//! Spec: lz4_Frame_format.md, Legacy frame. Kernel: v6.12 lib/decompress_unlz4.c unlz4().

use std::io::{self, Read};

use crate::compress::Compression;

/// What a block unpacks to, but the last.
const BLOCK_BYTES: usize = 8 << 20;
/// The most that a block of that size is ever packed to: LZ4_COMPRESSBOUND of the reference implementation.
const MOST_PACKED_BYTES: usize = BLOCK_BYTES + BLOCK_BYTES / 255 + 16;

/// A decoder of one stream.
pub(crate) struct Decoder<R> {
    input: R,
    block: Vec<u8>,
    /// How much of `block` has been read.
    at: usize,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first block has to be there.
    Start,
    /// A block may follow.
    Between,
    Ended,
}

impl<R: Read> Decoder<R> {
    /// Reads the magic number.
    pub(crate) fn new(mut input: R) -> io::Result<Self> {
        let mut magic = [0; 4];
        input.read_exact(&mut magic)?;
        if magic != *Compression::Lz4Legacy.magic() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        Ok(Self {
            input,
            block: Vec::new(),
            at: 0,
            state: State::Start,
        })
    }

    fn next_block(&mut self) -> io::Result<()> {
        let first = self.state == State::Start;
        self.state = State::Ended;
        self.block.clear();
        self.at = 0;
        let mut size = Vec::new();
        self.input.by_ref().take(4).read_to_end(&mut size)?;
        let Ok(size) = <[u8; 4]>::try_from(size.as_slice()) else {
            return if first {
                Err(io::ErrorKind::UnexpectedEof.into())
            } else {
                Ok(())
            };
        };
        let size = usize::try_from(u32::from_le_bytes(size)).unwrap_or(usize::MAX);
        if size == 0 || size > MOST_PACKED_BYTES {
            return if first {
                Err(io::ErrorKind::InvalidData.into())
            } else {
                Ok(())
            };
        }
        let mut packed = Vec::new();
        self.input
            .by_ref()
            .take(size as u64)
            .read_to_end(&mut packed)?;
        if packed.len() < size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.block.resize(BLOCK_BYTES, 0);
        let unpacked = lz4_flex::block::decompress_into(&packed, &mut self.block)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        self.block.truncate(unpacked);
        if unpacked == BLOCK_BYTES {
            self.state = State::Between;
        }
        Ok(())
    }
}

impl<R: Read> Read for Decoder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() && self.state != State::Ended {
            self.next_block()?;
        }
        let rest = &self.block[self.at..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn compress(bytes: &[u8]) -> Vec<u8> {
        let mut packed = Compression::Lz4Legacy.magic().to_vec();
        for block in bytes.chunks(BLOCK_BYTES) {
            let block = lz4_flex::block::compress(block);
            packed.extend(u32::try_from(block.len()).unwrap().to_le_bytes());
            packed.extend(block);
        }
        packed
    }

    fn decompress(packed: &[u8]) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        Decoder::new(packed)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Check that blocks are put together, with and without a smaller one at the end, and with the size that a kernel's build appends.
    #[test]
    fn stream_of_several_blocks_decompresses() {
        for length in [BLOCK_BYTES * 2 + 7, BLOCK_BYTES * 2] {
            let bytes: Vec<u8> = (0..length)
                .map(|at| u8::try_from(at / 1000 % 251).unwrap())
                .collect();
            let mut packed = compress(&bytes);
            assert!(decompress(&packed).unwrap() == bytes, "{length}");
            packed.extend(u32::try_from(length).unwrap().to_le_bytes());
            assert!(decompress(&packed).unwrap() == bytes, "{length}");
        }
    }

    /// Check that a second block that is cut is an error and not an end.
    #[test]
    fn stream_cut_in_a_later_block_is_refused() {
        let packed = compress(&vec![7; BLOCK_BYTES + 1]);
        assert!(decompress(&packed[..packed.len() - 1]).is_err());
    }
}
