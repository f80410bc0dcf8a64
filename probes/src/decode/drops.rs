//! The `drops` map that every object has.

use metrics::catalogue::PROBE_DROPS;
use metrics::{Family, Snapshot};

use super::{DecodeError, Entry, sum_at, u32_at};

/// In the order of `enum drop_reason` in `bpf/drops.bpf.h`.
const REASONS: [&str; 6] = [
    "map_full",
    "read_failed",
    "no_entry",
    "malformed",
    "truncated",
    "unexpected",
];

/// Adds what a family's programs saw and could not count; reasons that never occurred are 0.
pub(crate) fn drops(
    family: Family,
    entries: &[Entry],
    snapshot: &mut Snapshot,
) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let index = u32_at(key, 0)?;
        let reason = REASONS.get(index as usize).ok_or(DecodeError::Value {
            field: "reason",
            value: index.into(),
        })?;
        let labels = [("family", family.as_str()), ("reason", reason)];
        snapshot.add(&PROBE_DROPS, &labels, sum_at(values, 0)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that drops add up over CPUs under the name of their reason.
    #[test]
    fn drops_of_several_cpus_add_up() {
        let entry = |index: u32, counts: [u64; 2]| {
            (
                index.to_ne_bytes().to_vec(),
                counts.map(|n| n.to_ne_bytes().to_vec()).to_vec(),
            )
        };
        let mut snapshot = Snapshot::new();
        drops(
            Family::Socket,
            &[entry(0, [0, 0]), entry(3, [2, 5])],
            &mut snapshot,
        )
        .unwrap();
        let malformed = [("family", "socket"), ("reason", "malformed")];
        assert_eq!(snapshot.counter(&PROBE_DROPS, &malformed), 7);
        assert_eq!(snapshot.len(), 2);
        let foreign = drops(Family::Socket, &[entry(6, [0, 0])], &mut snapshot);
        assert_eq!(
            foreign,
            Err(DecodeError::Value {
                field: "reason",
                value: 6
            })
        );
    }
}
