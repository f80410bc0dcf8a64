//! Histograms of times: `struct times` in `bpf/times.bpf.h`.

use metrics::{Kind, Metric, Value};

use super::{DecodeError, u64_at};

/// Bytes of a `struct times` with as many buckets as the catalogue has.
pub(super) const TIMES_BYTES: usize = 8 * (2 + 19);

/// The histogram at a byte offset; `None` if it is empty.
pub(super) fn times(
    metric: &Metric,
    value: &[u8],
    at: usize,
) -> Result<Option<Value>, DecodeError> {
    let Kind::Histogram { bounds } = metric.kind else {
        unreachable!("the catalogue says that it is a histogram");
    };
    let count = u64_at(value, at)?;
    let bucket = |(n, bound): (usize, &u64)| Ok((*bound, u64_at(value, at + 16 + 8 * n)?));
    let buckets: Result<_, DecodeError> = bounds.iter().enumerate().map(bucket).collect();
    Ok((count > 0).then_some(Value::Histogram {
        buckets: buckets?,
        count,
        sum: u64_at(value, at + 8)?,
    }))
}

#[cfg(test)]
mod tests {
    use metrics::catalogue::{ACK_TIME, COMMAND_TIME, QUEUE_TIME};

    use super::*;

    /// Check that the programs sort times into the buckets that the catalogue has.
    #[test]
    fn bounds_are_those_of_the_programs() {
        let header = include_str!("../../bpf/times.bpf.h");
        let table = header.split("time_bounds[TIME_BOUNDS] = {").nth(1).unwrap();
        let table = table.split('}').next().unwrap();
        let numbers = table
            .split([',', '\n', '\t', ' '])
            .filter(|n| !n.is_empty());
        let written: Vec<u64> = numbers.map(|n| n.parse().unwrap()).collect();
        for metric in [&ACK_TIME, &COMMAND_TIME, &QUEUE_TIME] {
            assert_eq!(
                metric.kind,
                Kind::Histogram {
                    bounds: written.clone().leak()
                }
            );
        }
        assert_eq!(TIMES_BYTES, 8 * (2 + written.len()));
    }

    /// Check that count, sum and buckets come from their places, and that an empty one gives nothing.
    #[test]
    fn times_come_from_their_places() {
        let mut words = vec![0_u64; 22];
        assert_eq!(times(&ACK_TIME, &bytes(&words), 8), Ok(None));
        (words[1], words[2], words[3], words[21]) = (5, 12_345, 2, 1);
        let Ok(Some(value)) = times(&ACK_TIME, &bytes(&words), 8) else {
            panic!("nothing");
        };
        assert_eq!(
            value.to_string(),
            "5 values, sum 12345 {≤10000: 2, ≤10000000000: 1}"
        );
        assert!(times(&ACK_TIME, &bytes(&words[..21]), 8).is_err());
    }

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }
}
