//! The urb family's maps.

use std::collections::{BTreeMap, HashMap};

use metrics::Snapshot;
use metrics::catalogue::{
    URB_BYTES, URB_COMPLETED, URB_DEFERRED, URB_IN_FLIGHT, URB_ISOC_PACKETS, URB_LATENCY,
    URB_REFUSED, URB_SUBMITTED,
};

use super::times::{TIMES_BYTES, times};
use super::{DecodeError, Entry, field, name_of, sum_at, u16_at, u64_at};

/// In the order of `enum kind` in `bpf/urb.bpf.c`.
const KINDS: [&str; 4] = ["isoc", "interrupt", "control", "bulk"];

/// The controllers on USB: addresses of their devices, and the N of their hciN.
pub(crate) type Devices = HashMap<u64, u16>;

/// Reads `urb_devices`.
pub(crate) fn devices(entries: &[Entry]) -> Result<Devices, DecodeError> {
    let device = |(key, values): &Entry| {
        let value = values.first().map_or(&[][..], Vec::as_slice);
        Ok((u64_at(key, 0)?, u16_at(value, 8)?))
    };
    entries.iter().map(device).collect()
}

/// `struct urb_key` as labels.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Key {
    number: u16,
    hci: String,
    endpoint: &'static str,
    direction: &'static str,
}

impl Key {
    fn at(bytes: &[u8], at: usize) -> Result<Self, DecodeError> {
        let number = u16_at(bytes, at)?;
        let [kind, towards_host] = field(bytes, at.saturating_add(2))?;
        Ok(Self {
            number,
            hci: format!("hci{number}"),
            endpoint: name_of(&KINDS, kind, "kind")?,
            direction: name_of(&["out", "in"], towards_host, "direction")?,
        })
    }

    fn labels(&self) -> [(&str, &str); 3] {
        [
            ("hci", &self.hci),
            ("endpoint", self.endpoint),
            ("direction", self.direction),
        ]
    }

    /// Series of a device that is gone are not shown.
    fn exists(&self, devices: &Devices) -> bool {
        devices.values().any(|number| *number == self.number)
    }
}

/// In the order of `enum outcome`.
const OUTCOMES: [&str; 17] = [
    "ok",
    "ENOENT",
    "EXDEV",
    "ENODEV",
    "EINVAL",
    "EPIPE",
    "ETIME",
    "ENOSR",
    "ECOMM",
    "EPROTO",
    "EOVERFLOW",
    "EILSEQ",
    "ECONNRESET",
    "ESHUTDOWN",
    "ETIMEDOUT",
    "EREMOTEIO",
    "unknown",
];
/// Offsets in `struct urb_count`.
const COMPLETED: usize = 32;
const ISO_PACKETS: usize = COMPLETED + 8 * OUTCOMES.len();
const LATENCY: usize = ISO_PACKETS + 8 * OUTCOMES.len();

/// Adds what `urb_counts` holds; what it says of URBs that ended only if a program sees that.
pub(crate) fn counts(
    entries: &[Entry],
    devices: &Devices,
    sees_ends: bool,
    snapshot: &mut Snapshot,
) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let key = Key::at(key, 0)?;
        if !key.exists(devices) {
            continue;
        }
        if sees_ends {
            ends(&key, values, snapshot)?;
        }
        if key.direction == "out" {
            let [hci, endpoint, _] = key.labels();
            let labels = [hci, endpoint];
            snapshot.add(&URB_SUBMITTED, &labels, sum_at(values, 0)?);
            snapshot.add(&URB_REFUSED, &labels, sum_at(values, 8)?);
            snapshot.add(&URB_DEFERRED, &labels, sum_at(values, 16)?);
        }
    }
    Ok(())
}

/// What a `struct urb_count` says of URBs that ended.
fn ends(key: &Key, values: &[Vec<u8>], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    let [hci, endpoint, direction] = key.labels();
    let bytes = sum_at(values, 24)?;
    snapshot.add(&URB_BYTES, &[hci, endpoint, direction], bytes);
    for (status, number) in outcomes(values, COMPLETED)? {
        let labels = [hci, endpoint, direction, ("status", status)];
        snapshot.add(&URB_COMPLETED, &labels, number);
    }
    for (status, number) in outcomes(values, ISO_PACKETS)? {
        let labels = [hci, direction, ("status", status)];
        snapshot.add(&URB_ISOC_PACKETS, &labels, number);
    }
    if key.direction == "out" {
        let labels = [hci, endpoint];
        snapshot.set(&URB_IN_FLIGHT, &labels, 0);
        let sum = sum_of_words(values, LATENCY, TIMES_BYTES)?;
        if let Some(latency) = times(&URB_LATENCY, &sum, 0)? {
            snapshot.insert(&URB_LATENCY, &labels, latency);
        }
    }
    Ok(())
}

/// The same words of all processors, added up.
fn sum_of_words(values: &[Vec<u8>], at: usize, bytes: usize) -> Result<Vec<u8>, DecodeError> {
    let sum = |offset| Ok(sum_at(values, at + offset)?.to_ne_bytes());
    let words: Result<Vec<[u8; 8]>, _> = (0..bytes).step_by(8).map(sum).collect();
    Ok(words?.concat())
}

/// The numbers by outcome that are not 0.
fn outcomes(values: &[Vec<u8>], at: usize) -> Result<Vec<(&'static str, u64)>, DecodeError> {
    let number =
        |(index, name): (usize, &&'static str)| Ok((*name, sum_at(values, at + 8 * index)?));
    let all: Result<Vec<_>, _> = OUTCOMES.iter().enumerate().map(number).collect();
    Ok(all?.into_iter().filter(|(_, number)| *number > 0).collect())
}

/// Sets the gauge to the number of entries of `urb_flights`.
pub(crate) fn flights(
    entries: &[Entry],
    devices: &Devices,
    snapshot: &mut Snapshot,
) -> Result<(), DecodeError> {
    let mut numbers: BTreeMap<Key, i64> = BTreeMap::new();
    for (_, values) in entries {
        let value = values.first().map_or(&[][..], Vec::as_slice);
        if devices.contains_key(&u64_at(value, 8)?) {
            *numbers.entry(Key::at(value, 16)?).or_default() += 1;
        }
    }
    for (key, number) in numbers {
        let [hci, endpoint, _] = key.labels();
        snapshot.set(&URB_IN_FLIGHT, &[hci, endpoint], number);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn key(hci: u16, kind: u8, towards_host: u8) -> Vec<u8> {
        [&hci.to_ne_bytes()[..], &[kind, towards_host]].concat()
    }

    /// A `struct urb_count` with these first fields, one kind of completion, and a latency of 30 ms.
    fn value(first: [u64; 4], outcome: usize, completed: u64) -> Vec<u8> {
        let mut all = vec![0; 59];
        all[..4].copy_from_slice(&first);
        all[4 + outcome] = completed;
        (all[38], all[39], all[40 + 11]) = (1, 30_000_000, 1);
        words(&all)
    }

    fn render(snapshot: &Snapshot) -> Vec<String> {
        let line =
            |(s, v): (&metrics::Series, &metrics::Value)| format!("{}{} {v}", s.metric, s.labels);
        snapshot.iter().map(line).collect()
    }

    /// Check that sums over processors, names of statuses and the gauge come out right, and that a device that is gone has no series.
    #[test]
    fn maps_of_two_devices_show_the_one_that_exists() {
        let devices: Devices = [(0x1000, 1)].into();
        let mut snapshot = Snapshot::new();
        let counted = vec![value([5, 1, 0, 70], 5, 3), value([2, 0, 3, 30], 5, 1)];
        let entries = [(key(1, 3, 0), counted.clone()), (key(2, 3, 0), counted)];
        counts(&entries, &devices, true, &mut snapshot).unwrap();
        let flight = [words(&[9, 0x1000]), key(1, 3, 0)].concat();
        let gone = [words(&[9, 0x2000]), key(1, 3, 0)].concat();
        let flying = [(words(&[1]), vec![flight]), (words(&[2]), vec![gone])];
        flights(&flying, &devices, &mut snapshot).unwrap();
        assert_eq!(
            render(&snapshot),
            [
                r#"bluetooth_urb_bytes_total{direction="out",endpoint="bulk",hci="hci1"} 100"#,
                r#"bluetooth_urb_completed_total{direction="out",endpoint="bulk",hci="hci1",status="EPIPE"} 4"#,
                r#"bluetooth_urb_deferred_total{endpoint="bulk",hci="hci1"} 3"#,
                r#"bluetooth_urb_in_flight{endpoint="bulk",hci="hci1"} 1"#,
                r#"bluetooth_urb_latency_seconds{endpoint="bulk",hci="hci1"} 2 values, sum 60000000 {≤50000000: 2}"#,
                r#"bluetooth_urb_refused_total{endpoint="bulk",hci="hci1"} 1"#,
                r#"bluetooth_urb_submitted_total{endpoint="bulk",hci="hci1"} 7"#,
            ]
        );
    }

    /// Check that a kernel that shows no ends has what is known of beginnings, and nothing else.
    #[test]
    fn counts_without_ends_are_those_of_beginnings() {
        let devices: Devices = [(0x1000, 1)].into();
        let mut snapshot = Snapshot::new();
        let entries = [(key(1, 0, 0), vec![value([5, 2, 1, 0], 0, 0)])];
        counts(&entries, &devices, false, &mut snapshot).unwrap();
        assert_eq!(
            render(&snapshot),
            [
                r#"bluetooth_urb_deferred_total{endpoint="isoc",hci="hci1"} 1"#,
                r#"bluetooth_urb_refused_total{endpoint="isoc",hci="hci1"} 2"#,
                r#"bluetooth_urb_submitted_total{endpoint="isoc",hci="hci1"} 5"#,
            ]
        );
    }

    proptest! {
        /// Check that no bytes make decoding panic.
        #[test]
        fn urb_maps_of_any_bytes_never_panic(
            key in prop::collection::vec(any::<u8>(), 0..12),
            value in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let entries = [(key, vec![value])];
            let mut snapshot = Snapshot::new();
            let devices: Devices = (0..300).map(|n| (u64::from(n), n)).collect();
            let _ = super::devices(&entries);
            let _ = counts(&entries, &devices, true, &mut snapshot);
            let _ = flights(&entries, &devices, &mut snapshot);
        }
    }
}
