//! The usbredir protocol: messages, and their way to and from bytes.
//!
//! Source: usb-redirection-protocol.txt of the SPICE project, version 0.7. A message is a header (type, length of what follows, id) and
//! what follows. All integers are little-endian. The id is 32 bits wide until both ends have said hello with [`CAP_64BIT_IDS`].

use crate::hci::wire::{Reader, Rest, Wire, wire_struct};

/// Capability bits: everything but bulk streams (bit 0) and buffered bulk (bit 7).
pub(super) const CAPABILITIES: u32 = 0x7e;
/// Ids are 64 bits wide.
pub(super) const CAP_64BIT_IDS: u32 = 1 << 5;
/// The longest message that is taken, bytes after the header. QEMU's longest is a control transfer of 4 KiB, or a bulk transfer of 64 KiB.
const MAX_MESSAGE_BYTES: usize = 1 << 17;
const NARROW_HEADER_BYTES: usize = 12;
const WIDE_HEADER_BYTES: usize = 16;

/// How a transfer ended.
pub(super) mod status {
    pub(in super::super) const SUCCESS: u8 = 0;
    pub(in super::super) const CANCELLED: u8 = 1;
    pub(in super::super) const INVALID: u8 = 2;
    pub(in super::super) const IO_ERROR: u8 = 3;
    pub(in super::super) const STALL: u8 = 4;
    pub(in super::super) const BABBLE: u8 = 6;
}

/// Why the other end cannot be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// No message is that long.
    #[error(
        "a usbredir message of type {kind} announces {length} bytes, more than {MAX_MESSAGE_BYTES}"
    )]
    TooLong {
        /// The message's type.
        kind: u32,
        /// What it announces.
        length: u32,
    },
    /// What follows the header is not what its type says.
    #[error("a usbredir message of type {kind} has {length} bytes, which do not make one")]
    Malformed {
        /// The message's type.
        kind: u32,
        /// How many bytes it has.
        length: u32,
    },
    /// The first message was another.
    #[error("a usbredir message of type {kind} came before the hello")]
    NoHello {
        /// The message's type.
        kind: u32,
    },
}

/// A message and its id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) id: u64,
    pub(super) message: Message,
}

macro_rules! messages {
    (empty { $($empty_kind:literal $empty:ident)* } $($kind:literal $name:ident { $($field:ident: $t:ty),+ $(,)? })*) => {
        wire_struct! { $(struct $name { $($field: $t),+ })* }

        /// What a message says.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(super) enum Message {
            $($empty,)*
            $($name($name),)*
            /// Of a type that is not known; it is skipped.
            Unknown(u32),
        }

        impl Message {
            fn kind(&self) -> u32 {
                match self {
                    $(Self::$empty => $empty_kind,)*
                    $(Self::$name(_) => $kind,)*
                    Self::Unknown(kind) => *kind,
                }
            }

            fn decode(kind: u32, bytes: &[u8]) -> Option<Self> {
                let reader = Reader::new(bytes);
                match kind {
                    $($empty_kind => <()>::decode_all(reader).ok().map(|()| Self::$empty),)*
                    $($kind => $name::decode_all(reader).ok().map(Self::$name),)*
                    _ => Some(Self::Unknown(kind)),
                }
            }

            fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$empty => {})*
                    $(Self::$name(fields) => fields.encode(out),)*
                    Self::Unknown(_) => {}
                }
            }
        }
    };
}

messages! {
    empty {
        2 DeviceDisconnect
        3 Reset
        7 GetConfiguration
        21 CancelDataPacket
        22 FilterReject
        24 DeviceDisconnectAck
    }
    0 Hello { version: [u8; 64], capabilities: Rest }
    1 DeviceConnect {
        speed: u8, class: u8, subclass: u8, protocol: u8, vendor: u16, product: u16, version: u16,
    }
    4 InterfaceInfo {
        count: u32, number: [u8; 32], class: [u8; 32], subclass: [u8; 32], protocol: [u8; 32],
    }
    5 EpInfo { kind: [u8; 32], interval: [u8; 32], interface: [u8; 32], max_packet: Rest }
    6 SetConfiguration { configuration: u8 }
    8 ConfigurationStatus { status: u8, configuration: u8 }
    9 SetAltSetting { interface: u8, alt: u8 }
    10 GetAltSetting { interface: u8 }
    11 AltSettingStatus { status: u8, interface: u8, alt: u8 }
    12 StartIsoStream { endpoint: u8, packets_per_urb: u8, urbs: u8 }
    13 StopIsoStream { endpoint: u8 }
    14 IsoStreamStatus { status: u8, endpoint: u8 }
    15 StartInterruptReceiving { endpoint: u8 }
    16 StopInterruptReceiving { endpoint: u8 }
    17 InterruptReceivingStatus { status: u8, endpoint: u8 }
    100 Control {
        endpoint: u8, request: u8, request_type: u8, status: u8, value: u16, index: u16, length: u16, data: Rest,
    }
    101 Bulk { endpoint: u8, status: u8, length: u16, stream: u32, length_high: u16, data: Rest }
    102 Iso { endpoint: u8, status: u8, length: u16, data: Rest }
    103 Interrupt { endpoint: u8, status: u8, length: u16, data: Rest }
}

impl Hello {
    /// The first word of the capabilities; what follows is for versions to come.
    pub(super) fn capability_bits(&self) -> u32 {
        let word = self.capabilities.0.first_chunk::<4>();
        word.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    }
}

impl Packet {
    /// Appends the message's bytes.
    pub(super) fn encode(&self, wide_ids: bool, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        self.message.encode(&mut body);
        self.message.kind().encode(out);
        u32::try_from(body.len()).unwrap_or(u32::MAX).encode(out);
        match wide_ids {
            true => self.id.encode(out),
            false => u32::try_from(self.id & 0xffff_ffff)
                .unwrap_or(u32::MAX)
                .encode(out),
        }
        out.append(&mut body);
    }
}

/// Cuts a stream of bytes into messages.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    buffer: Vec<u8>,
    /// Whether ids are 64 bits wide.
    wide_ids: bool,
    greeted: bool,
}

impl Decoder {
    /// Takes more bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether ids are 64 bits wide, which the other end's hello decides.
    pub(super) fn wide_ids(&self) -> bool {
        self.wide_ids
    }

    /// Takes the next message out, if it is whole.
    pub(super) fn next(&mut self) -> Result<Option<Packet>, ProtocolError> {
        let mut reader = Reader::new(&self.buffer);
        let header_bytes = match self.wide_ids {
            true => WIDE_HEADER_BYTES,
            false => NARROW_HEADER_BYTES,
        };
        let (Ok(kind), Ok(length)) = (u32::decode(&mut reader), u32::decode(&mut reader)) else {
            return Ok(None);
        };
        let body_bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if body_bytes > MAX_MESSAGE_BYTES {
            return Err(ProtocolError::TooLong { kind, length });
        }
        let id = match self.wide_ids {
            true => u64::decode(&mut reader),
            false => u32::decode(&mut reader).map(u64::from),
        };
        let (Ok(id), Some(body)) = (id, self.buffer.get(header_bytes..header_bytes + body_bytes))
        else {
            return Ok(None);
        };
        let message = Message::decode(kind, body);
        let message = message.ok_or(ProtocolError::Malformed { kind, length })?;
        self.buffer.drain(..header_bytes + body_bytes);
        self.greet(kind, &message)?;
        Ok(Some(Packet { id, message }))
    }

    /// The first message is the hello, and says how wide later ids are.
    fn greet(&mut self, kind: u32, message: &Message) -> Result<(), ProtocolError> {
        if self.greeted {
            return Ok(());
        }
        let Message::Hello(hello) = message else {
            return Err(ProtocolError::NoHello { kind });
        };
        self.greeted = true;
        self.wide_ids = hello.capability_bits() & CAP_64BIT_IDS != 0;
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    pub(in super::super) fn hello(capabilities: u32) -> Message {
        let mut version = [0; 64];
        version[..4].copy_from_slice(b"test");
        Message::Hello(Hello {
            version,
            capabilities: Rest(capabilities.to_le_bytes().to_vec()),
        })
    }

    fn encoded(id: u64, message: Message, wide_ids: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        Packet { id, message }.encode(wide_ids, &mut bytes);
        bytes
    }

    /// Check that messages are as long as the protocol says, ids of both widths included.
    #[rstest]
    #[case::hello(hello(CAPABILITIES), 68)]
    #[case::reset(Message::Reset, 0)]
    #[case::start_iso(Message::StartIsoStream(StartIsoStream { endpoint: 3, packets_per_urb: 10, urbs: 6 }), 3)]
    #[case::connect(
        Message::DeviceConnect(DeviceConnect {
            speed: 1, class: 0xe0, subclass: 1, protocol: 1, vendor: 0x1209, product: 1, version: 0x100,
        }),
        10
    )]
    #[case::bulk(
        Message::Bulk(Bulk { endpoint: 2, status: 0, length: 2, stream: 0, length_high: 0, data: Rest(vec![1, 2]) }),
        12
    )]
    fn message_written_then_read_is_the_same(#[case] message: Message, #[case] length: usize) {
        for wide_ids in [false, true] {
            let bytes = encoded(7, message.clone(), wide_ids);
            let header = if wide_ids { 16 } else { 12 };
            assert_eq!(bytes.len(), header + length);
            let mut decoder = Decoder {
                wide_ids,
                greeted: true,
                ..Decoder::default()
            };
            decoder.push(&bytes[..bytes.len() - 1]);
            assert_eq!(decoder.next(), Ok(None));
            decoder.push(&bytes[bytes.len() - 1..]);
            let message = message.clone();
            assert_eq!(decoder.next(), Ok(Some(Packet { id: 7, message })));
        }
    }

    /// Check that ids become wide with the hello, and that nothing may come before it.
    #[test]
    fn decoder_takes_the_width_of_ids_from_the_hello() {
        let mut decoder = Decoder::default();
        decoder.push(&encoded(0, hello(CAP_64BIT_IDS), false));
        assert!(matches!(decoder.next(), Ok(Some(_))) && decoder.wide_ids());
        let mut decoder = Decoder::default();
        decoder.push(&encoded(0, Message::Reset, false));
        assert_eq!(decoder.next(), Err(ProtocolError::NoHello { kind: 3 }));
    }

    /// Check that what is too long or cut short is refused, and that an unknown message is skipped whole.
    #[test]
    fn decoder_refuses_what_is_no_message() {
        let header = |kind: u32, length: u32| {
            [kind, length, 0]
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect::<Vec<u8>>()
        };
        let mut decoder = Decoder {
            greeted: true,
            ..Decoder::default()
        };
        decoder.push(&[header(55, 3), vec![1, 2, 3]].concat());
        let unknown = Packet {
            id: 0,
            message: Message::Unknown(55),
        };
        assert_eq!(decoder.next(), Ok(Some(unknown)));
        decoder.push(&[header(6, 2), vec![1, 2]].concat());
        let error = ProtocolError::Malformed { kind: 6, length: 2 };
        assert_eq!(decoder.next(), Err(error));
        let mut decoder = Decoder::default();
        decoder.push(&header(0, u32::MAX));
        assert!(matches!(decoder.next(), Err(ProtocolError::TooLong { .. })));
    }

    proptest! {
        /// Check that no bytes make the decoder panic or loop.
        #[test]
        fn decoder_of_any_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), greeted: bool) {
            let mut decoder = Decoder { greeted, ..Decoder::default() };
            decoder.push(&bytes);
            while let Ok(Some(_)) = decoder.next() {}
        }
    }
}
