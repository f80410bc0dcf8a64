//! The buffer family's maps.

use metrics::catalogue::{BUFFER_FILL, BUFFER_FULL_TIME, BUFFER_OCCUPIED, BUFFER_WOULD_BLOCK};
use metrics::{Kind, Metric, Snapshot, Value};

use super::socket::proto_name;
use super::times::times;
use super::{DecodeError, Entry, sum_at, u32_at};

/// Offsets in `struct buffer`.
const FULL: usize = 24;
const SUSPENDED: usize = 32;
const BY_BYTES: usize = 40;
const BY_FILL: usize = BY_BYTES + 8 * 14;

/// Adds the histograms and counters of `buffer_counts`.
pub(crate) fn buffer(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let Some(proto) = proto(key)? else { continue };
        let labels = [("proto", proto)];
        let count = sum_at(values, 0)?;
        for (metric, sum, buckets) in [(&BUFFER_OCCUPIED, 8, BY_BYTES), (&BUFFER_FILL, 16, BY_FILL)]
        {
            if count > 0 {
                let value = histogram(metric, values, count, sum, buckets)?;
                snapshot.insert(metric, &labels, value);
            }
        }
        for (cause, at) in [("full", FULL), ("suspended", SUSPENDED)] {
            let turned_away = sum_at(values, at)?;
            if turned_away > 0 {
                let labels = [("proto", proto), ("cause", cause)];
                snapshot.add(&BUFFER_WOULD_BLOCK, &labels, turned_away);
            }
        }
    }
    Ok(())
}

/// Adds the times of `buffer_full_times`.
pub(crate) fn full_times(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let Some(proto) = proto(key)? else { continue };
        for value in values {
            if let Some(times) = times(&BUFFER_FULL_TIME, value, 0)? {
                snapshot.insert(&BUFFER_FULL_TIME, &[("proto", proto)], times);
            }
        }
    }
    Ok(())
}

/// The protocol of a place in the map; `None` for those that no program counts.
fn proto(key: &[u8]) -> Result<Option<&'static str>, DecodeError> {
    let number = u32_at(key, 0)?;
    Ok(u8::try_from(number)
        .ok()
        .and_then(|number| proto_name(number).ok()))
}

fn histogram(
    metric: &Metric,
    values: &[Vec<u8>],
    count: u64,
    sum: usize,
    at: usize,
) -> Result<Value, DecodeError> {
    let Kind::Histogram { bounds } = metric.kind else {
        unreachable!("the catalogue says that it is a histogram");
    };
    let bucket = |(n, bound): (usize, &u64)| Ok((*bound, sum_at(values, at + 8 * n)?));
    let buckets: Result<_, DecodeError> = bounds.iter().enumerate().map(bucket).collect();
    Ok(Value::Histogram {
        buckets: buckets?,
        count,
        sum: sum_at(values, sum)?,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    /// Check that the programs sort into the buckets that the catalogue has.
    #[test]
    fn bounds_are_those_of_the_programs() {
        let source = include_str!("../../bpf/buffer.bpf.c");
        for (table, metric) in [
            ("byte_bounds", &BUFFER_OCCUPIED),
            ("fill_bounds", &BUFFER_FILL),
        ] {
            let begin = source.split(&format!("{table}[")).nth(1).unwrap();
            let body = begin.split('{').nth(1).unwrap().split('}').next().unwrap();
            let numbers = body
                .split(|c: char| !c.is_ascii_digit())
                .filter(|n| !n.is_empty());
            let written: Vec<u64> = numbers.map(|n| n.parse().unwrap()).collect();
            let Kind::Histogram { bounds } = metric.kind else {
                panic!()
            };
            assert_eq!(written, bounds, "{table}");
        }
        assert_eq!(BY_FILL + 8 * 13, 256);
    }

    /// Check that counts of all CPUs add up, in their places.
    #[test]
    fn buffer_entries_of_several_cpus_add_up() {
        let mut first = vec![0; 32];
        // Two messages of 900 and 1800 bytes in 2000, 3 turned away.
        first[..5].copy_from_slice(&[2, 2700, 135, 3, 0]);
        (first[5 + 1], first[5 + 2]) = (1, 1);
        (first[5 + 14 + 5], first[5 + 14 + 9]) = (1, 1);
        let mut second = vec![0; 32];
        second[..5].copy_from_slice(&[1, 300, 15, 0, 5]);
        (second[5], second[5 + 14 + 2]) = (1, 1);
        let entry = |proto: u32, values| (proto.to_ne_bytes().to_vec(), values);
        let entries = [
            entry(0, vec![words(&first), words(&second)]),
            entry(7, vec![words(&[0; 32])]),
        ];
        let mut snapshot = Snapshot::new();
        buffer(&entries, &mut snapshot).unwrap();
        let text: Vec<_> = snapshot
            .iter()
            .map(|(s, v)| format!("{}{} {v}", s.metric, s.labels))
            .collect();
        assert_eq!(
            text,
            [
                r#"bluetooth_socket_buffer_fill_ratio{proto="l2cap"} 3 values, sum 150 {≤20: 1, ≤50: 1, ≤90: 1}"#,
                r#"bluetooth_socket_buffer_occupied_bytes{proto="l2cap"} 3 values, sum 3000 {≤512: 1, ≤1024: 1, ≤2048: 1}"#,
                r#"bluetooth_socket_would_block_total{cause="full",proto="l2cap"} 3"#,
                r#"bluetooth_socket_would_block_total{cause="suspended",proto="l2cap"} 5"#,
            ]
        );
    }

    proptest! {
        /// Check that arbitrary bytes never make decoding panic.
        #[test]
        fn buffer_of_arbitrary_bytes_never_panics(
            key in prop::collection::vec(any::<u8>(), 0..6),
            value in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let mut snapshot = Snapshot::new();
            let entries = [(key, vec![value])];
            let _ = buffer(&entries, &mut snapshot);
            let _ = full_times(&entries, &mut snapshot);
        }
    }
}
