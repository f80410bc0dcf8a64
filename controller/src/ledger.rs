//! What crossed the boundary between hosts and controllers, packet by packet.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::buffers::Pool;
use crate::types::{ConnHandle, ControllerId, LinkKind, Opcode, PacketKind};

/// Which way a packet goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The kernel's transmit direction.
    HostToController,
    /// The kernel's receive direction.
    ControllerToHost,
}

/// What became of a data packet from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Fate {
    /// It was passed on to the peer.
    Forwarded,
    /// There is no such link; it took no buffer.
    NoLink,
    /// It is longer than the buffers; it took none.
    TooLong,
    /// No buffer was free: the host sent more than it may.
    Overflow,
    /// The link's other end is gone; it stays in its buffer.
    PeerGone,
    /// A fault took it.
    Dropped,
    /// A fault passes it on, this much later.
    Delayed(Duration),
    /// A fault passed it on twice.
    Duplicated,
    /// It was passed on, and a fault acknowledged it this many times more than once.
    OverAcknowledged(u16),
    /// It was lost on its way from the host; the host goes on counting it as one that holds a buffer.
    LostOnTheWay,
    /// Isochronous data without a data path at one of the two ends.
    NoDataPath,
}

/// Packets of one handle that a Number Of Completed Packets event acknowledges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompletedLink {
    /// The link.
    pub handle: ConnHandle,
    /// The buffers that became free.
    pub pool: Pool,
    /// How many packets.
    pub packets: u16,
    /// Free buffers of the pool after the whole event.
    pub slots_after: u16,
}

/// The basic L2CAP header. Spec: Core 5.4, Vol 3, Part A, 3.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct L2capHeader {
    /// Channel identifier.
    pub cid: u16,
    /// Bytes of the PDU after this header.
    pub length: u16,
}

/// What the packet was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "what")]
#[non_exhaustive]
pub enum Detail {
    /// A command.
    Command {
        /// Its number.
        opcode: Opcode,
        /// Whether the controller has it; if not it was answered with Unknown HCI Command.
        known: bool,
        /// Whether a fault took it, so that it was not even looked at.
        dropped: bool,
    },
    /// A data packet from the host.
    DataFromHost {
        /// The link.
        handle: ConnHandle,
        /// The link's kind, if there is such a link.
        link: Option<LinkKind>,
        /// Bytes after the packet's header.
        payload_bytes: u16,
        /// Free buffers of the link's pool after this packet, before anything that it sets off; `None` without a link, and where
        /// packets are not counted (SCO, unless the host has turned flow control on).
        slots_after: Option<u16>,
        /// The L2CAP header, if an L2CAP PDU begins here; `None` for a later fragment, and for other links.
        l2cap: Option<L2capHeader>,
        /// What became of it.
        fate: Fate,
    },
    /// A data packet to the host.
    DataToHost {
        /// The link.
        handle: ConnHandle,
        /// The link's kind.
        link: LinkKind,
        /// Bytes after the packet's header.
        payload_bytes: u16,
    },
    /// A Number Of Completed Packets event.
    Completed {
        /// What it acknowledges.
        links: Vec<CompletedLink>,
    },
    /// Any other event.
    Event {
        /// Its code.
        code: u8,
        /// The LE subevent.
        subevent: Option<u8>,
        /// The command it answers.
        opcode: Option<Opcode>,
        /// Disconnection Complete: the packets of the link that had a buffer still. The host takes them as flushed (Core 5.4, Vol 4,
        /// Part E, 4.3), so their buffers are free for both.
        flushed: Option<CompletedLink>,
    },
    /// A packet to the host that was made up on demand.
    Injected,
    /// Bytes from the host that are no packet; ignored.
    Malformed,
}

/// One packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, on the air's clock; in nanoseconds when serialized.
    #[serde(
        rename = "time_ns",
        serialize_with = "as_nanoseconds",
        deserialize_with = "from_nanoseconds"
    )]
    pub time: Duration,
    /// Whose boundary.
    pub controller: ControllerId,
    /// Which way.
    pub direction: Direction,
    /// The kind by its H4 indicator; `None` for a malformed packet.
    pub kind: Option<PacketKind>,
    /// The packet's bytes, header included, H4 indicator not.
    pub length_bytes: usize,
    /// How the packet begins.
    pub head: PacketHead,
    /// What it was.
    #[serde(flatten)]
    pub detail: Detail,
}

/// The first bytes of a packet, H4 indicator not counted, as they crossed; hexadecimal when
/// serialized. Enough for the code, status, opcode or handle of every event.
#[derive(Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PacketHead {
    bytes: [u8; Self::MAX],
    length: usize,
}

impl PacketHead {
    /// So many bytes are kept.
    pub const MAX: usize = 8;

    /// The head of a packet without its H4 indicator.
    pub fn of(packet: &[u8]) -> Self {
        let mut head = Self::default();
        for (to, from) in head.bytes.iter_mut().zip(packet) {
            *to = *from;
            head.length += 1;
        }
        head
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl std::fmt::Debug for PacketHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from(*self))
    }
}

impl From<PacketHead> for String {
    fn from(head: PacketHead) -> Self {
        let bytes = head.bytes().iter();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A text that is not up to eight bytes in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not the head of a packet: up to 8 bytes, two hexadecimal digits each")]
pub struct ParsePacketHeadError {
    text: String,
}

impl TryFrom<String> for PacketHead {
    type Error = ParsePacketHeadError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.as_bytes();
        let byte = |pair: &[u8]| {
            let digit = |at: usize| char::from(*pair.get(at)?).to_digit(16);
            u8::try_from(digit(0)? << 4 | digit(1)?).ok()
        };
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
        match bytes {
            Some(bytes) if bytes.len() <= Self::MAX => Ok(Self::of(&bytes)),
            _ => Err(ParsePacketHeadError { text }),
        }
    }
}

fn as_nanoseconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u64(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

fn from_nanoseconds<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    u64::deserialize(from).map(Duration::from_nanos)
}

impl Entry {
    /// The link of a data packet.
    pub fn handle(&self) -> Option<ConnHandle> {
        match &self.detail {
            Detail::DataFromHost { handle, .. } | Detail::DataToHost { handle, .. } => {
                Some(*handle)
            }
            _ => None,
        }
    }

    /// Free buffers after a data packet from the host.
    pub fn slots_after(&self) -> Option<u16> {
        match &self.detail {
            Detail::DataFromHost { slots_after, .. } => *slots_after,
            _ => None,
        }
    }

    /// What a Number Of Completed Packets event acknowledges; nothing for every other packet.
    pub fn completed(&self) -> &[CompletedLink] {
        match &self.detail {
            Detail::Completed { links } => links,
            _ => &[],
        }
    }

    fn payload_bytes(&self) -> u64 {
        match &self.detail {
            Detail::DataFromHost { payload_bytes, .. }
            | Detail::DataToHost { payload_bytes, .. } => u64::from(*payload_bytes),
            _ => 0,
        }
    }
}

/// Sums over packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Packets.
    pub packets: u64,
    /// Their bytes, headers included, H4 indicators not.
    pub bytes: u64,
    /// Their bytes without headers (data packets only).
    pub payload_bytes: u64,
}

impl Totals {
    fn add(&mut self, entry: &Entry) {
        self.packets += 1;
        self.bytes += u64::try_from(entry.length_bytes).unwrap_or(u64::MAX);
        self.payload_bytes += entry.payload_bytes();
    }
}

type TotalsKey = (ControllerId, PacketKind, Direction);

/// Every packet that crossed, in order, and their sums.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Ledger {
    entries: Vec<Entry>,
    #[serde(skip)]
    totals: BTreeMap<TotalsKey, Totals>,
    malformed: u64,
    unknown_commands: u64,
    #[serde(skip)]
    limit: Option<usize>,
    not_kept: u64,
}

impl Ledger {
    /// A ledger that keeps the first `limit` entries (all, if `None`). Sums and counts are always complete.
    pub(crate) fn with_limit(limit: Option<usize>) -> Self {
        Self {
            limit,
            ..Self::default()
        }
    }

    /// An empty ledger with the same limit, in exchange for this one.
    pub(crate) fn take(&mut self) -> Self {
        let empty = Self::with_limit(self.limit);
        std::mem::replace(self, empty)
    }

    pub(crate) fn write(&mut self, entry: Entry) {
        match (&entry.detail, entry.kind) {
            (Detail::Malformed, _) | (_, None) => self.malformed += 1,
            (_, Some(kind)) => {
                let key = (entry.controller, kind, entry.direction);
                self.totals.entry(key).or_default().add(&entry);
            }
        }
        if let Detail::Command { known: false, .. } = entry.detail {
            self.unknown_commands += 1;
        }
        if self.limit.is_none_or(|limit| self.entries.len() < limit) {
            self.entries.push(entry);
        } else {
            self.not_kept += 1;
        }
    }

    /// The entries that were kept, in the order the packets crossed.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entries of one controller.
    pub fn of(&self, controller: ControllerId) -> impl Iterator<Item = &Entry> {
        self.entries
            .iter()
            .filter(move |entry| entry.controller == controller)
    }

    /// The entries of one controller, kind and direction.
    pub fn select(
        &self,
        controller: ControllerId,
        kind: PacketKind,
        direction: Direction,
    ) -> impl Iterator<Item = &Entry> {
        self.of(controller)
            .filter(move |entry| entry.kind == Some(kind) && entry.direction == direction)
    }

    /// The sums of one controller, kind and direction; malformed packets are in none.
    pub fn totals(
        &self,
        controller: ControllerId,
        kind: PacketKind,
        direction: Direction,
    ) -> Totals {
        self.totals
            .get(&(controller, kind, direction))
            .copied()
            .unwrap_or_default()
    }

    /// All sums that are not zero.
    pub fn all_totals(
        &self,
    ) -> impl Iterator<Item = (ControllerId, PacketKind, Direction, Totals)> {
        self.totals
            .iter()
            .map(|((id, kind, direction), sums)| (*id, *kind, *direction, *sums))
    }

    /// The commands that one controller got, in order.
    pub fn commands(&self, controller: ControllerId) -> impl Iterator<Item = Opcode> {
        self.of(controller).filter_map(|entry| match entry.detail {
            Detail::Command { opcode, .. } => Some(opcode),
            _ => None,
        })
    }

    /// Bytes from hosts that were no packet.
    pub const fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Commands that were answered with Unknown HCI Command.
    pub const fn unknown_commands(&self) -> u64 {
        self.unknown_commands
    }

    /// Entries beyond the limit, which are in the sums but not among the entries.
    pub const fn not_kept(&self) -> u64 {
        self.not_kept
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Check that a head keeps the first bytes, and survives a round trip through text.
    #[rstest]
    #[case::empty(&[], "")]
    #[case::short(&[0x0e, 0x04], "0e04")]
    #[case::long(&[1, 2, 3, 4, 5, 6, 7, 8, 9], "0102030405060708")]
    fn packet_head_text_round_trips(#[case] packet: &[u8], #[case] text: &str) {
        let head = PacketHead::of(packet);
        assert_eq!(String::from(head), text);
        assert_eq!(PacketHead::try_from(text.to_owned()), Ok(head));
        assert_eq!(head.bytes(), &packet[..packet.len().min(8)]);
    }

    /// Check that a text that is no head is refused, and named in the error.
    #[rstest]
    #[case::odd("0e0")]
    #[case::long("010203040506070809")]
    #[case::letters("0x")]
    #[case::wide("\u{e9}0")]
    fn packet_head_bad_text_is_refused(#[case] text: &str) {
        let error = PacketHead::try_from(text.to_owned()).unwrap_err();
        assert!(error.to_string().contains(&format!("{text:?}")));
    }
}
