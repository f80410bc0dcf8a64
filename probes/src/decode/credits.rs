//! The credits family's maps.

use metrics::catalogue::{
    COMPLETED_PACKETS, COMPLETED_PACKETS_EVENTS, SCO_FLOW_CONTROL, SLOTS_AT_SEND, SLOTS_CAPACITY,
    SLOTS_EXHAUSTED, SLOTS_FREE, SLOTS_MINIMUM, USER_CHANNEL,
};
use metrics::{Kind, Snapshot, Value};

use super::times::times;
use super::{DecodeError, Entry, field, hci_name, u32_at, u64_at};

/// In the order of `enum pool` in `bpf/credits.bpf.c`.
const POOLS: [&str; 4] = ["acl", "sco", "le", "iso"];
/// Elements of `credits_pools` for each device: one more, for what is of no pool.
const PLACES: usize = POOLS.len() + 1;

/// `MAX_EXACT_SLOTS`: one more counter follows, for all larger numbers.
const MAX_EXACT_SLOTS: usize = 256;
/// Offset of the first counter of packets in `struct sends`.
const PACKETS: usize = 16;
// Offsets in `struct pool_counts`.
const COMPLETED: usize = PACKETS + 8 * (MAX_EXACT_SLOTS + 2);
const EXHAUSTED: usize = COMPLETED + 16;
/// Offset of the histogram in `struct exhausted`.
const EXHAUSTED_TIMES: usize = 8;

/// Adds the elements of `credits_pools`.
pub(crate) fn pools(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let index = u32_at(key, 0)? as usize;
        let hci = hci_name(index / PLACES)?;
        let kind = POOLS.get(index % PLACES).copied();
        for value in values {
            completed(&hci, kind.unwrap_or("unknown"), value, snapshot)?;
            if let Some(kind) = kind {
                pool(&[("hci", &hci), ("kind", kind)], value, snapshot)?;
            }
        }
    }
    Ok(())
}

/// Adds what was sent to the slots of one pool, and how long none was free.
fn pool(labels: &[(&str, &str)], value: &[u8], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    // One more than it is: 0 says that no packet took a slot.
    if let Some(minimum) = u64_at(value, 8)?.checked_sub(1) {
        let minimum = i64::try_from(minimum).unwrap_or(i64::MAX);
        snapshot.set_minimum(&SLOTS_MINIMUM, labels, minimum);
        snapshot.insert(&SLOTS_AT_SEND, labels, histogram(value)?);
    }
    if let Some(times) = times(&SLOTS_EXHAUSTED, value, EXHAUSTED + EXHAUSTED_TIMES)? {
        snapshot.insert(&SLOTS_EXHAUSTED, labels, times);
    }
    Ok(())
}

/// Adds the packets that events say are completed, and these events.
fn completed(
    hci: &str,
    kind: &str,
    value: &[u8],
    snapshot: &mut Snapshot,
) -> Result<(), DecodeError> {
    let (events, packets) = (u64_at(value, COMPLETED)?, u64_at(value, COMPLETED + 8)?);
    if events > 0 {
        snapshot.add(&COMPLETED_PACKETS_EVENTS, &[("hci", hci)], events);
    }
    if packets > 0 {
        let labels = [("hci", hci), ("kind", kind)];
        snapshot.add(&COMPLETED_PACKETS, &labels, packets);
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

/// Sets the gauges of one device from an entry of `credits_slots`.
pub(crate) fn slots(value: &[u8], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    let hci = hci_name(u32_at(value, 0)? as usize)?;
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `_Static_assert` in the program has it.
    const BYTES_OF_POOL: usize = 2272;

    /// An element of `credits_pools` with these words at these offsets.
    fn element(hci: u32, place: u32, changes: &[(usize, u64)]) -> Entry {
        let mut value = vec![0; BYTES_OF_POOL];
        for (at, n) in changes {
            value[*at..at + 8].copy_from_slice(&n.to_ne_bytes());
        }
        let index = hci * u32::try_from(PLACES).unwrap() + place;
        (index.to_ne_bytes().to_vec(), vec![value])
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
        let mut changes = vec![(0, 2 + 2 * 9 + 300), (8, 1)];
        for (slots, packets) in [(0, 3), (2, 1), (9, 2), (257, 1)] {
            changes.push((PACKETS + 8 * slots, packets));
        }
        let mut snapshot = Snapshot::new();
        pools(&[element(1, 2, &changes)], &mut snapshot).unwrap();
        assert_eq!(
            render(&snapshot),
            [
                r#"bluetooth_hci_slots_at_send{hci="hci1",kind="le"} 7 values, sum 320 {≤0: 3, ≤2: 1, ≤10: 2}"#,
                r#"bluetooth_hci_slots_minimum{hci="hci1",kind="le"} 0"#,
            ]
        );
    }

    /// Check that a pool of which no packet took a slot gives no series, and one that was exhausted once does.
    #[test]
    fn pools_without_packets_give_no_series() {
        let mut snapshot = Snapshot::new();
        pools(&[element(0, 0, &[])], &mut snapshot).unwrap();
        assert!(snapshot.is_empty());
        let times = EXHAUSTED + EXHAUSTED_TIMES;
        let exhausted = element(2, 3, &[(times, 1), (times + 8, 7), (times + 16, 1)]);
        pools(&[exhausted], &mut snapshot).unwrap();
        assert_eq!(
            render(&snapshot),
            [
                r#"bluetooth_hci_slots_exhausted_seconds{hci="hci2",kind="iso"} 1 values, sum 7 {≤10000: 1}"#
            ]
        );
    }

    /// Check that events, packets of a pool and packets of no pool are told apart.
    #[test]
    fn completed_packets_tell_events_and_pools_apart() {
        let entries = [
            element(0, 0, &[(COMPLETED + 8, 23)]),
            element(0, 4, &[(COMPLETED, 7), (COMPLETED + 8, 2)]),
            element(1, 4, &[(COMPLETED, 5)]),
        ];
        let mut snapshot = Snapshot::new();
        pools(&entries, &mut snapshot).unwrap();
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
            value in prop::collection::vec(any::<u8>(), 0..BYTES_OF_POOL + 8),
        ) {
            let mut snapshot = Snapshot::new();
            let _ = slots(&value, &mut snapshot);
            let entries = [(key, vec![value])];
            let _ = pools(&entries, &mut snapshot);
        }
    }
}
