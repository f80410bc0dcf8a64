//! The nouns of HCI that everything else is written in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A Bluetooth device address, octets as on the wire (least significant first); printed most significant first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct BdAddr([u8; 6]);

impl BdAddr {
    /// The address with these octets, least significant first.
    pub const fn from_wire(octets: [u8; 6]) -> Self {
        Self(octets)
    }

    /// The octets, least significant first.
    pub const fn to_wire(self) -> [u8; 6] {
        self.0
    }
}

impl fmt::Display for BdAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{g:02X}:{e:02X}:{d:02X}:{c:02X}:{b:02X}:{a:02X}")
    }
}

impl fmt::Debug for BdAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not six colon-separated hexadecimal octets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a Bluetooth address like 00:00:5E:00:53:01")]
pub struct ParseBdAddrError {
    text: String,
}

impl FromStr for BdAddr {
    type Err = ParseBdAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseBdAddrError {
            text: text.to_owned(),
        };
        let octet = |part: &str| match part.len() {
            2 if part.bytes().all(|b| b.is_ascii_hexdigit()) => u8::from_str_radix(part, 16).ok(),
            _ => None,
        };
        let octets: Option<Vec<u8>> = text.split(':').rev().map(octet).collect();
        let octets = octets.and_then(|octets| <[u8; 6]>::try_from(octets).ok());
        octets.map(Self).ok_or_else(error)
    }
}

impl TryFrom<String> for BdAddr {
    type Error = ParseBdAddrError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<BdAddr> for String {
    fn from(addr: BdAddr) -> Self {
        addr.to_string()
    }
}

/// A controller of one [`Air`](crate::Air), in the order they were added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ControllerId(pub(crate) usize);

impl ControllerId {
    /// The controller at this position, for naming one before its air exists.
    pub const fn from_index(index: usize) -> Self {
        Self(index)
    }

    /// The position among the controllers of the air, from 0.
    pub const fn index(self) -> usize {
        self.0
    }
}

/// A connection handle: 12 bits, 0x0000–0x0EFF.
///
/// Spec: Core 5.4, Vol 4, Part E, 5.4.2.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ConnHandle(pub(crate) u16);

impl ConnHandle {
    /// The largest handle that a connection may have.
    pub const MAX: Self = Self(0x0eff);

    /// The handle in the lower 12 bits of `raw`.
    pub const fn from_low_bits(raw: u16) -> Self {
        Self(raw & 0x0fff)
    }

    /// The number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// A command's number: group (6 bits) and command (10 bits).
///
/// Spec: Core 5.4, Vol 4, Part E, 5.4.1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Opcode(pub u16);

impl Opcode {
    /// The group (OGF).
    pub const fn group(self) -> u16 {
        self.0 >> 10
    }

    /// The command within its group (OCF).
    pub const fn command(self) -> u16 {
        self.0 & 0x03ff
    }

    /// The command's name in the specification, if this controller knows it.
    pub fn name(self) -> Option<&'static str> {
        crate::cmd::find(self).map(|command| command.name)
    }
}

impl fmt::Debug for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x}", self.0)
    }
}

impl fmt::Display for Opcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#06x} {}", self.0, self.name().unwrap_or("unknown"))
    }
}

/// A kind of HCI packet; the number is the H4 indicator.
///
/// Spec: Core 5.4, Vol 4, Part A, 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum PacketKind {
    /// Host to controller.
    Command = 1,
    /// ACL data of BR/EDR and LE, both ways.
    Acl = 2,
    /// SCO and eSCO data, both ways.
    Sco = 3,
    /// Controller to host.
    Event = 4,
    /// Isochronous data, both ways.
    Iso = 5,
}

impl PacketKind {
    /// Every kind, in the order of the indicators.
    pub const ALL: [Self; 5] = [Self::Command, Self::Acl, Self::Sco, Self::Event, Self::Iso];

    /// The byte in front of the packet.
    pub const fn indicator(self) -> u8 {
        self as u8
    }

    /// The kind with this indicator.
    pub fn from_indicator(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.indicator() == byte)
    }
}

/// A kind of data link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// BR/EDR asynchronous.
    Acl,
    /// LE asynchronous.
    Le,
    /// BR/EDR synchronous, reserved slots.
    Sco,
    /// BR/EDR synchronous with retransmission.
    Esco,
    /// LE connected isochronous.
    Cis,
    /// LE broadcast isochronous.
    Bis,
}

impl LinkKind {
    /// The kind of packet that carries its data.
    pub const fn packet_kind(self) -> PacketKind {
        match self {
            Self::Acl | Self::Le => PacketKind::Acl,
            Self::Sco | Self::Esco => PacketKind::Sco,
            Self::Cis | Self::Bis => PacketKind::Iso,
        }
    }
}

/// A device's role on a link; the number is the one of the Role Change event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum Role {
    /// Paged or initiated.
    Central = 0,
    /// Was paged or advertised.
    Peripheral = 1,
}

impl Role {
    /// The role of the device at the other end.
    pub const fn other(self) -> Self {
        match self {
            Self::Central => Self::Peripheral,
            Self::Peripheral => Self::Central,
        }
    }
}

/// An HCI status or error code.
///
/// Spec: Core 5.4, Vol 1, Part F, 1.3.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Status(pub u8);

macro_rules! status_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $text:literal;)*) => {
        impl Status {
            $($(#[$doc])* pub const $name: Self = Self($code);)*

            /// The name in the specification.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                    _ => "other error",
                }
            }
        }
    };
}

status_codes! {
    /// It worked, or it has begun.
    SUCCESS = 0x00 "success";
    /// No such opcode here.
    UNKNOWN_COMMAND = 0x01 "unknown HCI command";
    /// No such handle or address.
    UNKNOWN_CONNECTION = 0x02 "unknown connection identifier";
    /// The peer did not answer a page.
    PAGE_TIMEOUT = 0x04 "page timeout";
    /// Wrong key.
    AUTHENTICATION_FAILURE = 0x05 "authentication failure";
    /// No key.
    KEY_MISSING = 0x06 "PIN or key missing";
    /// No room for another entry.
    MEMORY_EXCEEDED = 0x07 "memory capacity exceeded";
    /// The link was lost.
    CONNECTION_TIMEOUT = 0x08 "connection timeout";
    /// A link of that kind to that peer is there already.
    CONNECTION_EXISTS = 0x0b "connection already exists";
    /// Not in this state.
    COMMAND_DISALLOWED = 0x0c "command disallowed";
    /// The peer has no room.
    REJECTED_LIMITED_RESOURCES = 0x0d "connection rejected due to limited resources";
    /// The peer's host wants a secured peer.
    REJECTED_SECURITY = 0x0e "connection rejected due to security reasons";
    /// The peer's host does not want this address.
    REJECTED_ADDRESS = 0x0f "connection rejected due to unacceptable BD_ADDR";
    /// The peer's host did not answer the request.
    ACCEPT_TIMEOUT = 0x10 "connection accept timeout exceeded";
    /// A parameter asks for what this controller does not have.
    UNSUPPORTED = 0x11 "unsupported feature or parameter value";
    /// A parameter is out of its range, or the length is wrong.
    INVALID_PARAMETERS = 0x12 "invalid HCI command parameters";
    /// The other host hung up.
    REMOTE_USER_TERMINATED = 0x13 "remote user terminated connection";
    /// The other host is short of resources.
    REMOTE_LOW_RESOURCES = 0x14 "remote device terminated connection due to low resources";
    /// The other host powers off.
    REMOTE_POWER_OFF = 0x15 "remote device terminated connection due to power off";
    /// This host hung up.
    LOCAL_HOST_TERMINATED = 0x16 "connection terminated by local host";
    /// The host does not pair now.
    PAIRING_NOT_ALLOWED = 0x18 "pairing not allowed";
    /// The peer lacks the feature.
    UNSUPPORTED_REMOTE_FEATURE = 0x1a "unsupported remote feature";
    /// The peers want different air coding.
    SCO_AIR_MODE_REJECTED = 0x1d "SCO air mode rejected";
    /// The peer does not answer.
    LMP_TIMEOUT = 0x22 "LMP response timeout";
    /// Both ends have begun the same at once.
    LMP_COLLISION = 0x23 "LMP error transaction collision";
    /// Pairing with a unit key.
    UNIT_KEY_NOT_SUPPORTED = 0x29 "pairing with unit key not supported";
    /// The link is not encrypted.
    INSUFFICIENT_SECURITY = 0x2f "insufficient security";
    /// The host does not do Secure Simple Pairing.
    SIMPLE_PAIRING_NOT_SUPPORTED = 0x37 "simple pairing not supported by host";
    /// Connection parameters that the host refuses.
    UNACCEPTABLE_PARAMETERS = 0x3b "unacceptable connection parameters";
    /// Advertising has ended without a connection.
    ADVERTISING_TIMEOUT = 0x3c "advertising timeout";
    /// An encrypted packet could not be read: the keys differ.
    MIC_FAILURE = 0x3d "connection terminated due to MIC failure";
    /// No advertising set has this handle.
    UNKNOWN_ADVERTISING = 0x42 "unknown advertising identifier";
    /// As many advertising events as wanted have been sent.
    LIMIT_REACHED = 0x43 "limit reached";
}

impl Status {
    /// Whether this is [`Status::SUCCESS`].
    pub fn is_success(self) -> bool {
        self == Self::SUCCESS
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#04x} {}", self.0, self.name())
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Check that an address survives a round trip through text, and is reversed on the wire.
    #[test]
    fn bd_addr_text_round_trips() {
        let addr: BdAddr = "00:00:5E:00:53:01".parse().unwrap();
        assert_eq!(addr.to_wire(), [0x01, 0x53, 0x00, 0x5e, 0x00, 0x00]);
        assert_eq!(addr.to_string(), "00:00:5E:00:53:01");
    }

    /// Check that a text that is no address is refused, and named in the error.
    #[rstest]
    #[case::empty("")]
    #[case::short("00:00:5E:00:53")]
    #[case::long("00:00:5E:00:53:01:02")]
    #[case::sign("+0:00:5E:00:53:01")]
    #[case::wide("000:0:5E:00:53:01")]
    fn bd_addr_bad_text_is_refused(#[case] text: &str) {
        let error = text.parse::<BdAddr>().unwrap_err();
        assert!(error.to_string().contains(&format!("{text:?}")));
    }

    /// Check that an opcode splits into group and command.
    #[test]
    fn opcode_splits_into_group_and_command() {
        assert_eq!((Opcode(0x0c03).group(), Opcode(0x0c03).command()), (3, 3));
        assert_eq!((Opcode(0x2001).group(), Opcode(0x2001).command()), (8, 1));
    }
}
