//! The other end of an H4 stream: a host that is a program, and has to find where packets end.

use super::h4;
use crate::types::PacketKind;

/// What came is no packet of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no packet begins with {indicator:#04x}")]
pub struct NotH4 {
    /// The byte where an indicator should be.
    pub indicator: u8,
}

/// Cuts a stream into packets, with their H4 indicators.
#[derive(Debug, Default)]
pub struct H4Stream {
    bytes: Vec<u8>,
}

impl H4Stream {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes out the next packet, if all of it has come.
    ///
    /// # Errors
    /// [`NotH4`]: there will be no further packet.
    pub fn packet(&mut self) -> Result<Option<Vec<u8>>, NotH4> {
        match length(&self.bytes)? {
            Some(length) if length <= self.bytes.len() => {
                Ok(Some(self.bytes.drain(..length).collect()))
            }
            _ => Ok(None),
        }
    }
}

/// As [`h4::packet_length`], for both directions.
fn length(stream: &[u8]) -> Result<Option<usize>, NotH4> {
    const EVENT: u8 = PacketKind::Event.indicator();
    match stream {
        [EVENT, _, length, ..] => Ok(Some(3 + usize::from(*length))),
        [EVENT, ..] => Ok(None),
        [indicator, ..] => h4::packet_length(stream).map_err(|()| NotH4 {
            indicator: *indicator,
        }),
        [] => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Check that packets come out as they went in, wherever the stream was cut.
        #[test]
        fn stream_cut_anywhere_gives_the_same_packets(cut in 1usize..12) {
            let packets: [&[u8]; 4] = [&[4, 0x0e, 2, 7, 8], &[2, 1, 0, 1, 0, 9], &[4, 0x13, 0], &[3, 1, 0, 2, 5, 6]];
            let mut stream = H4Stream::default();
            let mut got = Vec::new();
            for piece in packets.concat().chunks(cut) {
                stream.push(piece);
                while let Some(packet) = stream.packet().unwrap() {
                    got.push(packet);
                }
            }
            prop_assert_eq!(got, packets);
        }

        /// Check that no bytes make it panic, and that it does not go on for ever.
        #[test]
        fn stream_of_any_bytes_ends(bytes in prop::collection::vec(any::<u8>(), 0..99)) {
            let mut stream = H4Stream::default();
            stream.push(&bytes);
            let mut packets = 0;
            while let Ok(Some(_)) = stream.packet() {
                packets += 1;
            }
            prop_assert!(packets <= bytes.len());
        }
    }
}
