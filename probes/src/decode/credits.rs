//! The credits family's maps.

use metrics::catalogue::{
    COMPLETED_PACKETS, COMPLETED_PACKETS_EVENTS, SCO_FLOW_CONTROL, SLOTS_AT_SEND, SLOTS_CAPACITY,
    SLOTS_EXHAUSTED, SLOTS_FREE, SLOTS_MINIMUM, USER_CHANNEL,
};
use metrics::{Kind, Snapshot, Value};

use super::times::times;
use super::{DecodeError, Entry, field, name_of, sum_at, u16_at, u32_at, u64_at};

/// In the order of `enum pool` in `bpf/credits.bpf.c`.
const POOLS: [&str; 4] = ["acl", "sco", "le", "iso"];
/// What stands for no pool in a key.
const NO_POOL: u8 = 4;

/// `MAX_EXACT_SLOTS`: one more counter follows, for all larger numbers.
const MAX_EXACT_SLOTS: usize = 256;
/// Offset of the first counter of packets in `struct sends`.
const PACKETS: usize = 16;

/// Adds the histograms and minima of `credits_sends`.
pub(crate) fn sends(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let hci = hci(u16_at(key, 0)?);
        let [pool, _] = field(key, 2)?;
        let labels = [
            ("hci", hci.as_str()),
            ("kind", name_of(&POOLS, pool, "pool")?),
        ];
        for value in values {
            let histogram = histogram(value)?;
            if histogram.is_untouched() {
                continue;
            }
            let minimum = i64::try_from(u64_at(value, 8)?).unwrap_or(i64::MAX);
            snapshot.set_minimum(&SLOTS_MINIMUM, &labels, minimum);
            snapshot.insert(&SLOTS_AT_SEND, &labels, histogram);
        }
    }
    Ok(())
}

/// Sorts the exact counters of a `struct sends` into the catalogue's buckets.
fn histogram(value: &[u8]) -> Result<Value, DecodeError> {
    let Kind::Histogram { bounds } = SLOTS_AT_SEND.kind else {
        unreachable!("the catalogue says that it is a histogram");
    };
    let mut buckets: Vec<_> = bounds.iter().map(|bound| (*bound, 0)).collect();
    let mut count = 0_u64;
    for slots in 0..=MAX_EXACT_SLOTS + 1 {
        let packets = u64_at(value, PACKETS + 8 * slots)?;
        count = count.saturating_add(packets);
        if let Some((_, n)) = buckets.iter_mut().find(|(bound, _)| slots as u64 <= *bound) {
            *n += packets;
        }
    }
    Ok(Value::Histogram {
        buckets,
        count,
        sum: u64_at(value, 0)?,
    })
}

/// Adds the packets and events of `credits_completed`.
pub(crate) fn completed(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let hci = hci(u16_at(key, 0)?);
        let [pool, _] = field(key, 2)?;
        let kind = if pool == NO_POOL {
            "unknown"
        } else {
            name_of(&POOLS, pool, "pool")?
        };
        let (events, packets) = (sum_at(values, 0)?, sum_at(values, 8)?);
        if events > 0 {
            snapshot.add(&COMPLETED_PACKETS_EVENTS, &[("hci", &hci)], events);
        }
        if packets > 0 {
            snapshot.add(
                &COMPLETED_PACKETS,
                &[("hci", &hci), ("kind", kind)],
                packets,
            );
        }
    }
    Ok(())
}

/// Adds the histograms of `credits_exhausted`.
pub(crate) fn exhausted(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let hci = hci(u16_at(key, 0)?);
        let [pool, _] = field(key, 2)?;
        let labels = [
            ("hci", hci.as_str()),
            ("kind", name_of(&POOLS, pool, "pool")?),
        ];
        for value in values {
            if let Some(times) = times(&SLOTS_EXHAUSTED, value, 8)? {
                snapshot.insert(&SLOTS_EXHAUSTED, &labels, times);
            }
        }
    }
    Ok(())
}

/// Sets the gauges of one device from an entry of `credits_slots`.
pub(crate) fn slots(value: &[u8], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    let index = u32_at(value, 0)?;
    let hci = u16::try_from(index).map(hci).or(Err(DecodeError::Value {
        field: "hci",
        value: index.into(),
    }))?;
    let [sco_flow_control, user_channel] = field(value, 36)?;
    let of_device = [("hci", hci.as_str())];
    snapshot.set(&SCO_FLOW_CONTROL, &of_device, sco_flow_control.into());
    snapshot.set(&USER_CHANNEL, &of_device, user_channel.into());
    for (index, kind) in POOLS.into_iter().enumerate() {
        let free = u32_at(value, 4 + 4 * index)?;
        let capacity = u32_at(value, 20 + 4 * index)?;
        if capacity > 0 {
            let labels = [("hci", hci.as_str()), ("kind", kind)];
            snapshot.set(&SLOTS_FREE, &labels, free.into());
            snapshot.set(&SLOTS_CAPACITY, &labels, capacity.into());
        }
    }
    Ok(())
}

fn hci(index: u16) -> String {
    format!("hci{index}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(hci: u16, pool: u8) -> Vec<u8> {
        [&hci.to_ne_bytes()[..], &[pool, 0]].concat()
    }

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn render(snapshot: &Snapshot) -> Vec<String> {
        snapshot
            .iter()
            .map(|(s, v)| format!("{}{} {v}", s.metric, s.labels))
            .collect()
    }

    /// Check that exact counters land in the catalogue's buckets, and those beyond in the total alone.
    #[test]
    fn sends_sort_exact_counters_into_buckets() {
        let mut value = vec![0; 2 + MAX_EXACT_SLOTS + 2];
        value[0] = 2 + 2 * 9 + 300;
        value[1] = 0;
        for (slots, packets) in [(0, 3), (2, 1), (9, 2), (257, 1)] {
            value[2 + slots] = packets;
        }
        let mut snapshot = Snapshot::new();
        sends(&[(key(1, 2), vec![words(&value)])], &mut snapshot).unwrap();
        assert_eq!(
            render(&snapshot),
            [
                r#"bluetooth_hci_slots_at_send{hci="hci1",kind="le"} 7 values, sum 320 {≤0: 3, ≤2: 1, ≤10: 2}"#,
                r#"bluetooth_hci_slots_minimum{hci="hci1",kind="le"} 0"#,
            ]
        );
    }

    /// Check that an entry that was made and not yet filled gives no series.
    #[test]
    fn sends_without_packets_give_no_series() {
        let mut value = vec![0; 2 + MAX_EXACT_SLOTS + 2];
        value[1] = u64::MAX;
        let mut snapshot = Snapshot::new();
        sends(&[(key(0, 0), vec![words(&value)])], &mut snapshot).unwrap();
        assert!(snapshot.is_empty());
    }

    /// Check that events, packets of a pool and packets of no pool are told apart.
    #[test]
    fn completed_entries_tell_events_and_pools_apart() {
        let entries = [
            (key(0, 0), vec![words(&[0, 23])]),
            (key(0, 4), vec![words(&[7, 2])]),
            (key(1, 4), vec![words(&[5, 0])]),
        ];
        let mut snapshot = Snapshot::new();
        completed(&entries, &mut snapshot).unwrap();
        assert_eq!(
            render(&snapshot),
            [
                r#"bluetooth_hci_completed_packets_events_total{hci="hci0"} 7"#,
                r#"bluetooth_hci_completed_packets_events_total{hci="hci1"} 5"#,
                r#"bluetooth_hci_completed_packets_total{hci="hci0",kind="acl"} 23"#,
                r#"bluetooth_hci_completed_packets_total{hci="hci0",kind="unknown"} 2"#,
            ]
        );
    }

    /// Check that only pools that the controller has get series.
    #[test]
    fn slots_of_pools_without_capacity_give_no_series() {
        let value: Vec<u8> = [3_u32, 0, 8, 5, 0, 4, 8, 0, 0, 1]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let mut snapshot = Snapshot::new();
        slots(&value, &mut snapshot).unwrap();
        assert_eq!(
            render(&snapshot),
            [
                r#"bluetooth_hci_sco_flow_control{hci="hci3"} 1"#,
                r#"bluetooth_hci_slots_capacity{hci="hci3",kind="acl"} 4"#,
                r#"bluetooth_hci_slots_capacity{hci="hci3",kind="sco"} 8"#,
                r#"bluetooth_hci_slots_free{hci="hci3",kind="acl"} 0"#,
                r#"bluetooth_hci_slots_free{hci="hci3",kind="sco"} 8"#,
                r#"bluetooth_hci_user_channel{hci="hci3"} 0"#,
            ]
        );
    }

    /// Check that a device index that the kernel cannot give is named.
    #[test]
    fn slots_of_impossible_device_are_refused() {
        let value: Vec<u8> = [65536_u32, 0, 0, 0, 0, 1, 0, 0, 0, 0]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let refused = slots(&value, &mut Snapshot::new());
        assert_eq!(
            refused,
            Err(DecodeError::Value {
                field: "hci",
                value: 65536
            })
        );
    }

    proptest! {
        /// Check that arbitrary bytes never make decoding panic.
        #[test]
        fn credits_of_arbitrary_bytes_never_panics(
            key in prop::collection::vec(any::<u8>(), 0..6),
            value in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let mut snapshot = Snapshot::new();
            let _ = slots(&value, &mut snapshot);
            let entries = [(key, vec![value])];
            let _ = sends(&entries, &mut snapshot);
            let _ = completed(&entries, &mut snapshot);
            let _ = exhausted(&entries, &mut snapshot);
        }
    }
}
