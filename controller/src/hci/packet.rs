//! The packets of an H4 stream.
//!
//! Spec: Core 5.4, Vol 4, Part E, 5.4.

use super::wire::{Malformed, Reader, Wire};
use crate::types::{ConnHandle, Opcode, PacketKind};

/// A packet from a host, indicator taken off, lengths checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostPacket<'a> {
    Command {
        opcode: Opcode,
        parameters: &'a [u8],
    },
    Acl(DataPacket<'a>),
    Sco(DataPacket<'a>),
    Iso(DataPacket<'a>),
}

/// A data packet of any kind: handle, four flag bits above it, payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DataPacket<'a> {
    pub(crate) handle: ConnHandle,
    /// Bits 12–15 of the first field: packet boundary and broadcast (ACL), packet status (SCO), boundary and time stamp (ISO).
    pub(crate) flags: u8,
    pub(crate) payload: &'a [u8],
}

impl<'a> HostPacket<'a> {
    /// The one packet in `bytes`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut r = Reader::new(bytes);
        let kind = PacketKind::from_indicator(u8::decode(&mut r)?).ok_or(Malformed)?;
        match kind {
            PacketKind::Command => {
                let opcode = Opcode::decode(&mut r)?;
                let length = u8::decode(&mut r)?;
                let parameters = exactly(r, length.into())?;
                Ok(Self::Command { opcode, parameters })
            }
            PacketKind::Acl => DataPacket::parse(r, u16::decode).map(Self::Acl),
            PacketKind::Sco => {
                DataPacket::parse(r, |r| u8::decode(r).map(u16::from)).map(Self::Sco)
            }
            PacketKind::Iso => {
                DataPacket::parse(r, |r| u16::decode(r).map(|length| length & 0x3fff))
                    .map(Self::Iso)
            }
            PacketKind::Event => Err(Malformed),
        }
    }
}

impl<'a> DataPacket<'a> {
    fn parse(
        mut r: Reader<'a>,
        length: impl FnOnce(&mut Reader<'a>) -> Result<u16, Malformed>,
    ) -> Result<Self, Malformed> {
        let field = u16::decode(&mut r)?;
        let length = length(&mut r)?;
        let [_, high] = field.to_le_bytes();
        Ok(Self {
            handle: ConnHandle::from_low_bits(field),
            flags: high >> 4,
            payload: exactly(r, length.into())?,
        })
    }
}

/// All that is left of `r`, if that is `length` bytes.
fn exactly<'a>(mut r: Reader<'a>, length: usize) -> Result<&'a [u8], Malformed> {
    let rest = r.rest();
    if rest.len() == length {
        Ok(rest)
    } else {
        Err(Malformed)
    }
}

/// An event packet with its indicator; parameters beyond 255 bytes are cut off.
pub(crate) fn event_packet(code: u8, parameters: &[u8]) -> Vec<u8> {
    let length = u8::try_from(parameters.len()).unwrap_or(u8::MAX);
    let mut packet = vec![PacketKind::Event.indicator(), code, length];
    packet.extend(parameters.iter().take(length.into()));
    packet
}

/// A data packet with its indicator. The payload is one that came in a packet of that kind, so its length fits.
pub(crate) fn data_packet(
    kind: PacketKind,
    handle: ConnHandle,
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let longest = match kind {
        PacketKind::Sco => u8::MAX.into(),
        PacketKind::Iso => 0x3fff,
        _ => u16::MAX,
    };
    let length = u16::try_from(payload.len())
        .unwrap_or(u16::MAX)
        .min(longest);
    let mut packet = vec![kind.indicator()];
    (handle.get() | u16::from(flags & 0x0f) << 12).encode(&mut packet);
    match (kind, u8::try_from(length)) {
        (PacketKind::Sco, Ok(length)) => length.encode(&mut packet),
        _ => length.encode(&mut packet),
    }
    packet.extend(payload.iter().take(length.into()));
    packet
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    /// Check that a data packet has the layout of its kind, and parses to the handle, flags and payload it was made of.
    #[rstest]
    #[case::acl(PacketKind::Acl, &[2, 0x23, 0x21, 3, 0, 1, 2, 3])]
    #[case::sco(PacketKind::Sco, &[3, 0x23, 0x21, 3, 1, 2, 3])]
    #[case::iso(PacketKind::Iso, &[5, 0x23, 0x21, 3, 0, 1, 2, 3])]
    fn data_packet_parses_back(#[case] kind: PacketKind, #[case] bytes: &[u8]) {
        let packet = data_packet(kind, ConnHandle(0x123), 0x2, &[1, 2, 3]);
        assert_eq!(packet, bytes);
        let parsed = HostPacket::parse(&packet).unwrap();
        let (HostPacket::Acl(data) | HostPacket::Sco(data) | HostPacket::Iso(data)) = parsed else {
            panic!("not data")
        };
        assert_eq!(
            (data.handle, data.flags, data.payload),
            (ConnHandle(0x123), 2, &[1u8, 2, 3][..])
        );
    }

    /// Check that a length field that disagrees with the packet is malformed, for each kind.
    #[test]
    fn host_packet_wrong_length_is_malformed() {
        for packet in [
            &[1u8, 3, 12, 1][..],
            &[1, 3, 12, 0, 0],
            &[2, 1, 0, 2, 0, 9],
            &[3, 1, 0, 0, 9],
            &[5, 1, 0, 1, 0],
            &[4, 0x0e, 0],
            &[],
        ] {
            assert_eq!(HostPacket::parse(packet), Err(Malformed), "{packet:?}");
        }
    }

    proptest! {
        /// Check that any bytes are parsed or refused, and never panic.
        #[test]
        fn host_packet_any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = HostPacket::parse(&bytes);
        }
    }
}
