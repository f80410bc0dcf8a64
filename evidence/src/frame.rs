//! Frames: how bytes travel over the serial port between the guest and the outer machine.
//!
//! A frame is a 20-byte header and a payload. All integers are little-endian.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic, `BTEV` |
//! | 4 | 1 | kind: 1 a JSON record, 2 a chunk of a file |
//! | 5 | 1 | sender: 0 outer machine, 1 stage 0, 2 agent, 3 outer machine when it answers the agent |
//! | 6 | 2 | reserved, zero |
//! | 8 | 4 | sequence number, counted per sender from 0 |
//! | 12 | 4 | length of the payload, bytes, at most [`MAX_PAYLOAD_BYTES`] |
//! | 16 | 4 | CRC-32 (IEEE) of the first 16 header bytes and the payload |
//!
//! A serial port neither loses nor reorders, so a gap in the sequence, a wrong checksum or a
//! strange magic means that somebody else wrote to the port or that memory was corrupted: the
//! reader reports it and does not try to find the next frame.

use std::io::{self, Read, Write};

/// First four bytes of each frame.
const MAGIC: [u8; 4] = *b"BTEV";
/// Bytes before the payload.
const HEADER_BYTES: usize = 20;
/// The most that one frame may carry, bytes.
pub const MAX_PAYLOAD_BYTES: usize = 4 << 20;

/// What a frame's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// A JSON record: an [`Order`](crate::Order) to the guest, a [`Record`](crate::Record) from it.
    Record,
    /// The next bytes of the file that the last order announced.
    Chunk,
}

/// Who wrote a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// The harness on the outer machine.
    Harness,
    /// PID 1 of the guest.
    Stage0,
    /// The agent that stage 0 started.
    Agent,
    /// The harness again, to the agent: stage 0 counts the orders to itself and sees none of these.
    Answers,
}

impl Sender {
    const ALL: [Self; 4] = [Self::Harness, Self::Stage0, Self::Agent, Self::Answers];

    const fn code(self) -> u8 {
        match self {
            Self::Harness => 0,
            Self::Stage0 => 1,
            Self::Agent => 2,
            Self::Answers => 3,
        }
    }
}

/// One frame, header checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: FrameKind,
    /// Who wrote it.
    pub sender: Sender,
    /// The payload.
    pub payload: Vec<u8>,
}

/// Why the next frame could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The port itself failed.
    #[error("failed to read from the port")]
    Io(#[source] io::Error),
    /// The stream ended inside a frame.
    #[error("the stream ended after {got} of {wanted} bytes of a frame")]
    Truncated {
        /// Bytes that arrived.
        got: usize,
        /// Bytes that the frame has.
        wanted: usize,
    },
    /// The bytes at a frame's start are not its magic.
    #[error("not a frame: starts with {0:02x?}")]
    Magic([u8; 4]),
    /// A header field has a value that no sender writes.
    #[error("frame header has {field} {value}")]
    Header {
        /// The field's name.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// The payload or the header changed on the way.
    #[error("checksum is {got:08x}, the frame says {wanted:08x}")]
    Checksum {
        /// Over the bytes that arrived.
        got: u32,
        /// As the header says.
        wanted: u32,
    },
    /// A frame is missing, or one came twice.
    #[error("frame {got} of {sender:?} came where {wanted} was next")]
    Sequence {
        /// Who counts.
        sender: Sender,
        /// The number in the frame.
        got: u32,
        /// The number that was due.
        wanted: u32,
    },
}

/// Writes frames of one sender, numbering them.
#[derive(Debug)]
pub struct FrameWriter<W> {
    port: W,
    sender: Sender,
    next_seq: u32,
}

impl<W: Write> FrameWriter<W> {
    /// A writer whose first frame has number 0.
    pub const fn new(port: W, sender: Sender) -> Self {
        Self {
            port,
            sender,
            next_seq: 0,
        }
    }

    /// A writer that goes on where another stopped, whose next frame would have had this number.
    pub const fn resume(port: W, sender: Sender, next_seq: u32) -> Self {
        Self {
            port,
            sender,
            next_seq,
        }
    }

    /// The number of the next frame.
    #[must_use]
    pub const fn next_seq(&self) -> u32 {
        self.next_seq
    }

    /// The port itself, for writing what is no frame.
    pub fn port_mut(&mut self) -> &mut W {
        &mut self.port
    }

    /// Writes one frame and flushes the port.
    ///
    /// # Errors
    /// What the port says; `InvalidInput` if the payload is longer than [`MAX_PAYLOAD_BYTES`].
    pub fn write(&mut self, kind: FrameKind, payload: &[u8]) -> io::Result<()> {
        let header = encode_header(kind, self.sender, self.next_seq, payload)?;
        self.port.write_all(&header)?;
        self.port.write_all(payload)?;
        self.port.flush()?;
        self.next_seq = self.next_seq.wrapping_add(1);
        Ok(())
    }
}

fn encode_header(
    kind: FrameKind,
    sender: Sender,
    seq: u32,
    payload: &[u8],
) -> io::Result<[u8; HEADER_BYTES]> {
    if payload.len() > MAX_PAYLOAD_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "a frame of {} bytes is over {MAX_PAYLOAD_BYTES}",
                payload.len()
            ),
        ));
    }
    let length = u32::try_from(payload.len()).expect("MAX_PAYLOAD_BYTES fits 32 bits");
    let kind_code = match kind {
        FrameKind::Record => 1,
        FrameKind::Chunk => 2,
    };
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&MAGIC);
    header[4] = kind_code;
    header[5] = sender.code();
    header[8..12].copy_from_slice(&seq.to_le_bytes());
    header[12..16].copy_from_slice(&length.to_le_bytes());
    let crc = checksum(&header, payload);
    header[16..].copy_from_slice(&crc.to_le_bytes());
    Ok(header)
}

fn checksum(header: &[u8; HEADER_BYTES], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[..16]);
    hasher.update(payload);
    hasher.finalize()
}

/// Reads frames, checking checksum and sequence.
#[derive(Debug)]
pub struct FrameReader<R> {
    port: R,
    next_seq: [u32; 4],
}

impl<R: Read> FrameReader<R> {
    /// A reader that expects each sender's number 0 first.
    pub const fn new(port: R) -> Self {
        Self {
            port,
            next_seq: [0; 4],
        }
    }

    /// A reader of a guest's frames that goes on where another stopped, after this many of stage 0
    /// and of the agent.
    pub const fn resume(port: R, stage0_next_seq: u32, agent_next_seq: u32) -> Self {
        Self {
            port,
            next_seq: [0, stage0_next_seq, agent_next_seq, 0],
        }
    }

    /// The next frame; `None` at the end of the stream between two frames.
    ///
    /// # Errors
    /// See [`FrameError`]. After an error the stream's position is undefined: read no further.
    pub fn read(&mut self) -> Result<Option<Frame>, FrameError> {
        let mut header = [0; HEADER_BYTES];
        match fill(&mut self.port, &mut header)? {
            0 => return Ok(None),
            HEADER_BYTES => {}
            got => {
                return Err(FrameError::Truncated {
                    got,
                    wanted: HEADER_BYTES,
                });
            }
        }
        let Header {
            kind,
            sender,
            seq,
            length,
            crc,
        } = decode_header(&header)?;
        let mut payload = vec![0; length];
        let got = fill(&mut self.port, &mut payload)?;
        if got < length {
            return Err(FrameError::Truncated {
                got: HEADER_BYTES + got,
                wanted: HEADER_BYTES + length,
            });
        }
        let computed = checksum(&header, &payload);
        if computed != crc {
            return Err(FrameError::Checksum {
                got: computed,
                wanted: crc,
            });
        }
        self.check_sequence(sender, seq)?;
        Ok(Some(Frame {
            kind,
            sender,
            payload,
        }))
    }

    fn check_sequence(&mut self, sender: Sender, seq: u32) -> Result<(), FrameError> {
        let next = &mut self.next_seq[usize::from(sender.code())];
        if seq != *next {
            return Err(FrameError::Sequence {
                sender,
                got: seq,
                wanted: *next,
            });
        }
        *next = next.wrapping_add(1);
        Ok(())
    }
}

struct Header {
    kind: FrameKind,
    sender: Sender,
    seq: u32,
    length: usize,
    crc: u32,
}

fn decode_header(bytes: &[u8; HEADER_BYTES]) -> Result<Header, FrameError> {
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let magic = [bytes[0], bytes[1], bytes[2], bytes[3]];
    if magic != MAGIC {
        return Err(FrameError::Magic(magic));
    }
    let kind = match bytes[4] {
        1 => FrameKind::Record,
        2 => FrameKind::Chunk,
        other => {
            return Err(FrameError::Header {
                field: "kind",
                value: u32::from(other),
            });
        }
    };
    let sender = *Sender::ALL
        .get(usize::from(bytes[5]))
        .ok_or(FrameError::Header {
            field: "sender",
            value: u32::from(bytes[5]),
        })?;
    let length = usize::try_from(word(12)).unwrap_or(usize::MAX);
    if length > MAX_PAYLOAD_BYTES {
        return Err(FrameError::Header {
            field: "length",
            value: word(12),
        });
    }
    Ok(Header {
        kind,
        sender,
        seq: word(8),
        length,
        crc: word(16),
    })
}

/// Reads until `buffer` is full or the stream ends; says how many bytes came.
fn fill(port: &mut impl Read, buffer: &mut [u8]) -> Result<usize, FrameError> {
    let mut got = 0;
    while got < buffer.len() {
        match port.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(FrameError::Io(error)),
        }
    }
    Ok(got)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};
    use rstest::rstest;

    fn written(frames: &[(FrameKind, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes, Sender::Agent);
        for (kind, payload) in frames {
            writer.write(*kind, payload).unwrap();
        }
        bytes
    }

    /// Check that what is written is read back, and that the end between frames is an end.
    #[test]
    fn frames_written_then_read_are_the_same() {
        let bytes = written(&[(FrameKind::Record, b"{}"), (FrameKind::Chunk, b"")]);
        let mut reader = FrameReader::new(bytes.as_slice());
        let first = reader.read().unwrap().unwrap();
        assert_eq!(
            (first.kind, first.payload.as_slice()),
            (FrameKind::Record, &b"{}"[..])
        );
        assert_eq!(reader.read().unwrap().unwrap().kind, FrameKind::Chunk);
        assert!(reader.read().unwrap().is_none());
    }

    /// Check that each kind of damage is reported as itself.
    #[rstest]
    #[case::magic(0, 0xff, "not a frame")]
    #[case::kind(4, 0xff, "kind")]
    #[case::sender(5, 0xff, "sender")]
    #[case::length(15, 0xff, "length")]
    #[case::reserved(6, 1, "checksum")]
    #[case::payload(20, 1, "checksum")]
    fn frame_damaged_is_refused(#[case] at: usize, #[case] flip: u8, #[case] says: &str) {
        let mut bytes = written(&[(FrameKind::Record, b"abc")]);
        bytes[at] ^= flip;
        let error = FrameReader::new(bytes.as_slice())
            .read()
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }

    /// Check that a lost frame is noticed.
    #[test]
    fn frame_lost_is_a_gap_in_the_sequence() {
        let bytes = written(&[(FrameKind::Record, b"a"), (FrameKind::Record, b"b")]);
        let second = &bytes[HEADER_BYTES + 1..];
        let error = FrameReader::new(second).read().unwrap_err();
        assert!(
            matches!(
                error,
                FrameError::Sequence {
                    got: 1,
                    wanted: 0,
                    ..
                }
            ),
            "{error}"
        );
    }

    /// Check that an over-long payload is refused by the writer, not by the far end.
    #[test]
    fn frame_over_the_limit_is_not_written() {
        let mut bytes = Vec::new();
        let payload = vec![0; MAX_PAYLOAD_BYTES + 1];
        assert!(
            FrameWriter::new(&mut bytes, Sender::Agent)
                .write(FrameKind::Chunk, &payload)
                .is_err()
        );
        assert!(bytes.is_empty());
    }

    proptest! {
        /// Check that no bytes make the reader panic or run on, and that a cut is seen.
        #[test]
        fn reader_any_bytes_ends(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut reader = FrameReader::new(bytes.as_slice());
            while let Ok(Some(_)) = reader.read() {}
        }

        /// Check that a frame cut anywhere is an error, never a shorter frame.
        #[test]
        fn frame_cut_anywhere_is_an_error(cut in 1_usize..23) {
            let bytes = written(&[(FrameKind::Record, b"abc")]);
            let cut_bytes = &bytes[..cut];
            assert!(FrameReader::new(cut_bytes).read().is_err());
        }
    }
}
