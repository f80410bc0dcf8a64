//! The latency family's map, `latency_times`.

use metrics::catalogue::{ACK_TIME, ACKS_UNMATCHED, IN_FLIGHT, QUEUE_TIME, UNACKNOWLEDGED};
use metrics::{Snapshot, Value};

use super::times::{TIMES_BYTES, times};
use super::{DecodeError, Entry, hci_name, u32_at, u64_at};

/// In the order of `enum link_kind` in `bpf/latency.bpf.c`.
const KINDS: [&str; 5] = ["acl", "le", "sco", "iso", "unknown"];
/// Offset of the first histogram in `struct latency`.
const QUEUE: usize = 32;

/// Adds the elements of `latency_times`.
pub(crate) fn latency(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let index = u32_at(key, 0)? as usize;
        let hci = hci_name(index / KINDS.len())?;
        let labels = [("hci", hci.as_str()), ("kind", KINDS[index % KINDS.len()])];
        for value in values {
            let word = |place: usize| u64_at(value, 8 * place);
            let (sent, completed, abandoned) = (word(0)?, word(1)?, word(2)?);
            let flying = sent.saturating_sub(completed).saturating_sub(abandoned);
            if sent > 0 {
                let flying = i64::try_from(flying).unwrap_or(i64::MAX);
                snapshot.set(&IN_FLIGHT, &labels, flying);
            }
            if abandoned > 0 {
                snapshot.add(&UNACKNOWLEDGED, &labels, abandoned);
            }
            let unmatched = word(3)?;
            if unmatched > 0 {
                snapshot.add(&ACKS_UNMATCHED, &labels[..1], unmatched);
            }
            let mut insert = |metric, histogram: Option<Value>| {
                histogram
                    .into_iter()
                    .for_each(|histogram| snapshot.insert(metric, &labels, histogram));
            };
            insert(&QUEUE_TIME, times(&QUEUE_TIME, value, QUEUE)?);
            insert(&ACK_TIME, times(&ACK_TIME, value, QUEUE + TIMES_BYTES)?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(index: u32, words: &[u64]) -> Entry {
        let bytes = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        (index.to_ne_bytes().to_vec(), vec![bytes])
    }

    /// Check that devices, kinds, counters and the two histograms are told apart.
    #[test]
    fn latency_tells_devices_kinds_and_histograms_apart() {
        let mut acl = vec![0; 46];
        (acl[0], acl[1], acl[2]) = (23, 17, 1);
        (acl[4], acl[5], acl[6]) = (3, 30, 3);
        (acl[25], acl[26], acl[28]) = (5, 75_000, 5);
        let mut unknown = vec![0; 46];
        unknown[3] = 7;
        let entries = [entry(0, &[0; 46]), entry(5, &acl), entry(5 + 4, &unknown)];
        let mut snapshot = Snapshot::new();
        latency(&entries, &mut snapshot).unwrap();
        let text: Vec<_> = snapshot
            .iter()
            .map(|(s, v)| format!("{}{} {v}", s.metric, s.labels))
            .collect();
        assert_eq!(
            text,
            [
                r#"bluetooth_hci_ack_seconds{hci="hci1",kind="acl"} 5 values, sum 75000 {≤20000: 5}"#,
                r#"bluetooth_hci_acks_unmatched_total{hci="hci1"} 7"#,
                r#"bluetooth_hci_packets_in_flight{hci="hci1",kind="acl"} 5"#,
                r#"bluetooth_hci_packets_unacknowledged_total{hci="hci1",kind="acl"} 1"#,
                r#"bluetooth_hci_queue_seconds{hci="hci1",kind="acl"} 3 values, sum 30 {≤10000: 3}"#,
            ]
        );
    }

    proptest! {
        /// Check that arbitrary bytes never make decoding panic.
        #[test]
        fn latency_of_arbitrary_bytes_never_panics(
            key in prop::collection::vec(any::<u8>(), 0..6),
            value in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let _ = latency(&[(key, vec![value])], &mut Snapshot::new());
        }
    }
}
