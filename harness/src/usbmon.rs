//! Reading captures of the guest's USB monitor: a witness of URBs that is the kernel's own.
//!
//! Format: pcap with link type 220; Kernel: v6.12 Documentation/usb/usbmon.rst, `struct usbmon_packet`.

use std::collections::HashMap;

/// Why a capture cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CaptureError {
    /// It is not of this format.
    #[error("not a capture of USB events")]
    Format,
    /// It ends in the middle.
    #[error("the capture of USB events ends after {at} bytes, in the middle of an event")]
    Truncated {
        /// Where.
        at: usize,
    },
}

/// How URBs go over the bus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum UrbKind {
    /// With guaranteed time and no repetition.
    Isochronous,
    /// With guaranteed time.
    Interrupt,
    /// Requests.
    Control,
    /// When there is time.
    Bulk,
}

/// Where a URB goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct UrbPlace {
    /// Bus number.
    pub bus: u16,
    /// Device number on the bus.
    pub device: u8,
    /// Kind of the endpoint.
    pub kind: UrbKind,
    /// Towards the host?
    pub is_in: bool,
}

/// One URB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Urb {
    /// Where it goes.
    pub place: UrbPlace,
    /// The setup packet's request type, of a control URB.
    pub request_type: Option<u8>,
    /// Bytes that were to be moved; of a control URB, those of the request's data.
    pub asked_bytes: u32,
    /// When it was submitted, microseconds.
    pub submitted_us: u64,
    /// What became of it; `None`: it is under way.
    pub end: Option<UrbEnd>,
}

/// How a URB ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrbEnd {
    /// The host controller's driver refused it.
    Refused,
    /// It was given back.
    Completed {
        /// When, microseconds.
        at_us: u64,
        /// 0, or the negative error number.
        status: i32,
        /// Bytes that it moved.
        bytes: u32,
        /// The status of each isochronous packet.
        packets: Vec<i32>,
    },
}

const FILE_HEADER_BYTES: usize = 24;
const RECORD_HEADER_BYTES: usize = 16;
const EVENT_HEADER_BYTES: usize = 64;
const MAGIC: [u8; 4] = [0xd4, 0xc3, 0xb2, 0xa1];
const LINK_TYPE: u32 = 220;
const DIRECTION_IN: u8 = 0x80;

/// All URBs of a capture, in the order of their submission. Those that were under way when it began are left out.
///
/// # Errors
/// See [`CaptureError`].
pub fn urbs(capture: &[u8]) -> Result<Vec<Urb>, CaptureError> {
    if !capture.starts_with(&MAGIC) || word(capture, 20) != Some(LINK_TYPE) {
        return Err(CaptureError::Format);
    }
    let mut urbs = Vec::new();
    let mut under_way = HashMap::new();
    let mut at = FILE_HEADER_BYTES;
    while at < capture.len() {
        let truncated = CaptureError::Truncated { at };
        let length = word(capture, at + 8).and_then(|length| usize::try_from(length).ok());
        let begin = at + RECORD_HEADER_BYTES;
        let end = length.and_then(|length| begin.checked_add(length));
        let event = end.and_then(|end| capture.get(begin..end));
        let event = event.ok_or_else(|| truncated.clone())?;
        take(event, &mut urbs, &mut under_way).ok_or(truncated)?;
        at = begin + event.len();
    }
    Ok(urbs)
}

/// Takes one event into account; `None` if it is cut short.
fn take(event: &[u8], urbs: &mut Vec<Urb>, under_way: &mut HashMap<u64, usize>) -> Option<()> {
    let id = u64::from_le_bytes(*event.first_chunk()?);
    let [kind, transfer, endpoint, device] = *event.get(8..)?.first_chunk()?;
    let [bus_low, bus_high, has_no_setup] = *event.get(12..)?.first_chunk()?;
    let (seconds, microseconds) = (u64::from(word(event, 16)?), u64::from(word(event, 24)?));
    let at_us = seconds * 1_000_000 + microseconds;
    let setup = event.get(40..48)?;
    match kind {
        b'S' => {
            let place = UrbPlace {
                bus: u16::from_le_bytes([bus_low, bus_high]),
                device,
                kind: transfer_kind(transfer)?,
                is_in: endpoint & DIRECTION_IN != 0,
            };
            under_way.insert(id, urbs.len());
            urbs.push(Urb {
                place,
                request_type: (has_no_setup == 0).then(|| setup[0]),
                asked_bytes: match (transfer_kind(transfer)?, setup) {
                    (UrbKind::Control, &[.., low, high]) => u16::from_le_bytes([low, high]).into(),
                    _ => word(event, 32)?,
                },
                submitted_us: at_us,
                end: None,
            });
        }
        b'E' => {
            if let Some(urb) = under_way.remove(&id).and_then(|at| urbs.get_mut(at)) {
                urb.end = Some(UrbEnd::Refused);
            }
        }
        b'C' => {
            let end = UrbEnd::Completed {
                at_us,
                status: signed(word(event, 28)?),
                bytes: word(event, 32)?,
                packets: packets(event)?,
            };
            if let Some(urb) = under_way.remove(&id).and_then(|at| urbs.get_mut(at)) {
                urb.end = Some(end);
            }
        }
        _ => {}
    }
    Some(())
}

/// The statuses in front of an isochronous event's data: 16 bytes a packet.
fn packets(event: &[u8]) -> Option<Vec<i32>> {
    let count = usize::try_from(word(event, 60)?).ok()?;
    let descriptors = event.get(EVENT_HEADER_BYTES..)?;
    let statuses = descriptors.chunks_exact(16).take(count);
    let statuses: Vec<i32> = statuses
        .filter_map(|packet| word(packet, 0).map(signed))
        .collect();
    (statuses.len() == count).then_some(statuses)
}

fn transfer_kind(code: u8) -> Option<UrbKind> {
    let kinds = [
        UrbKind::Isochronous,
        UrbKind::Interrupt,
        UrbKind::Control,
        UrbKind::Bulk,
    ];
    kinds.get(usize::from(code)).copied()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

fn signed(word: u32) -> i32 {
    i32::from_le_bytes(word.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(events: &[Vec<u8>]) -> Vec<u8> {
        let mut capture = [&MAGIC[..], &[0; 16], &LINK_TYPE.to_le_bytes()].concat();
        for event in events {
            let length = u32::try_from(event.len()).unwrap().to_le_bytes();
            capture.extend([[0; 4], [0; 4], length, length].concat());
            capture.extend(event);
        }
        capture
    }

    fn event(kind: u8, id: u8, transfer: u8, status: i32, packets: &[i32]) -> Vec<u8> {
        let mut event = vec![0; EVENT_HEADER_BYTES];
        event[0] = id;
        event[8..12].copy_from_slice(&[kind, transfer, 0x83, 4]);
        event[12] = 1;
        event[28..32].copy_from_slice(&status.to_le_bytes());
        event[32] = 51;
        event[60] = u8::try_from(packets.len()).unwrap();
        for status in packets {
            event.extend(status.to_le_bytes());
            event.extend([0; 12]);
        }
        event
    }

    /// Check that an id that is used again is another URB, and that ends find their beginnings.
    #[test]
    fn urbs_of_events_are_matched_by_id_in_order() {
        let capture = file(&[
            event(b'C', 7, 1, 0, &[]),
            event(b'S', 7, 1, -115, &[]),
            event(b'S', 8, 0, -115, &[0, 0]),
            event(b'C', 7, 1, -32, &[]),
            event(b'C', 8, 0, 0, &[0, -71]),
            event(b'S', 7, 1, -115, &[]),
            event(b'S', 9, 3, -115, &[]),
            event(b'E', 9, 3, -19, &[]),
        ]);
        let urbs = urbs(&capture).unwrap();
        let ends: Vec<Option<UrbEnd>> = urbs.iter().map(|urb| urb.end.clone()).collect();
        let completed = |status, packets: &[i32]| {
            Some(UrbEnd::Completed {
                at_us: 0,
                status,
                bytes: 51,
                packets: packets.to_vec(),
            })
        };
        let wanted = [
            completed(-32, &[]),
            completed(0, &[0, -71]),
            None,
            Some(UrbEnd::Refused),
        ];
        assert_eq!(ends, wanted);
        assert_eq!((urbs[1].place.bus, urbs[1].place.device), (1, 4));
        assert!(urbs[1].place.is_in && urbs[1].place.kind == UrbKind::Isochronous);
    }

    /// Check that what is cut short is refused.
    #[test]
    fn urbs_of_truncated_capture_are_an_error() {
        let capture = file(&[event(b'S', 7, 1, -115, &[])]);
        let cut = &capture[..capture.len() - 1];
        assert_eq!(urbs(cut), Err(CaptureError::Truncated { at: 24 }));
        assert_eq!(urbs(b"btsnoop\0"), Err(CaptureError::Format));
    }

    proptest! {
        /// Check that no bytes make reading panic.
        #[test]
        fn urbs_of_any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = urbs(&bytes);
            let _ = urbs(&file(&[bytes]));
        }
    }
}
