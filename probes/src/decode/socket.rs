//! The socket family's maps, `socket_successes` and `socket_failures`.

use metrics::catalogue::{SOCKET_BYTES, SOCKET_CALLS};
use metrics::{Snapshot, errno_name};

use super::{DecodeError, Entry, field, name_of, sum_at, u32_at};

/// In the order of `enum direction` in `bpf/socket.bpf.c`.
const DIRECTIONS: [&str; 4] = ["read", "write", "peek", "errqueue"];
const ORIGINS: [&str; 2] = ["user", "kernel"];

/// Adds the calls and bytes of `socket_successes`.
pub(crate) fn successes(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let (calls, bytes) = (sum_at(values, 0)?, sum_at(values, 8)?);
        if calls == 0 {
            continue;
        }
        let index = u32_at(key, 0)? as usize;
        let origin = ORIGINS[index % ORIGINS.len()];
        let index = index / ORIGINS.len();
        let direction = DIRECTIONS[index % DIRECTIONS.len()];
        let proto = proto_name(u8::try_from(index / DIRECTIONS.len()).unwrap_or(u8::MAX))?;
        add_calls(snapshot, [proto, direction, "ok", origin], calls);
        if matches!(direction, "read" | "write") {
            let labels = [
                ("proto", proto),
                ("direction", direction),
                ("origin", origin),
            ];
            snapshot.add(&SOCKET_BYTES, &labels, bytes);
        }
    }
    Ok(())
}

/// Adds the calls of `socket_failures`.
pub(crate) fn failures(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let error = i32::from_ne_bytes(field(key, 0)?);
        let [proto, direction, kernel, _] = field(key, 4)?;
        let proto = proto_name(proto)?;
        let direction = name_of(&DIRECTIONS, direction, "direction")?;
        let origin = name_of(&ORIGINS, kernel, "kernel")?;
        let result = errno_name(error.unsigned_abs());
        let calls = sum_at(values, 0)?;
        add_calls(snapshot, [proto, direction, result, origin], calls);
    }
    Ok(())
}

fn add_calls(snapshot: &mut Snapshot, labels: [&str; 4], calls: u64) {
    let [proto, direction, result, origin] = labels;
    let labels = [
        ("proto", proto),
        ("direction", direction),
        ("result", result),
        ("origin", origin),
    ];
    snapshot.add(&SOCKET_CALLS, &labels, calls);
}

/// Kernel: v6.12 include/net/bluetooth/bluetooth.h `BTPROTO_*`.
pub(super) fn proto_name(proto: u8) -> Result<&'static str, DecodeError> {
    match proto {
        0 => Ok("l2cap"),
        1 => Ok("hci"),
        2 => Ok("sco"),
        3 => Ok("rfcomm"),
        8 => Ok("iso"),
        _ => Err(DecodeError::Value {
            field: "proto",
            value: proto.into(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn values(counts: &[(u64, u64)]) -> Vec<Vec<u8>> {
        let value =
            |(calls, bytes): &(u64, u64)| [calls.to_ne_bytes(), bytes.to_ne_bytes()].concat();
        counts.iter().map(value).collect()
    }

    fn success(index: u32, counts: &[(u64, u64)]) -> Entry {
        (index.to_ne_bytes().to_vec(), values(counts))
    }

    fn failure(error: i32, rest: [u8; 4], counts: &[(u64, u64)]) -> Entry {
        ([error.to_ne_bytes(), rest].concat(), values(counts))
    }

    /// Check that counts of all CPUs add up, and that errors and peeks move no bytes.
    #[test]
    fn socket_entries_of_several_cpus_add_up() {
        // Protocol 4 does not exist, and none of its calls was counted.
        let well = [
            success(2, &[(20, 2000), (3, 323)]),
            success(4 * 8, &[(0, 0)]),
            success(8 * 8 + 2 * 2, &[(0, 0), (7, 70)]),
        ];
        let badly = [failure(-11, [2, 0, 1, 0], &[(5, 0), (0, 0)])];
        let mut snapshot = Snapshot::new();
        successes(&well, &mut snapshot).unwrap();
        failures(&badly, &mut snapshot).unwrap();
        let text: Vec<_> = snapshot
            .iter()
            .map(|(s, v)| format!("{}{} {v}", s.metric, s.labels))
            .collect();
        assert_eq!(
            text,
            [
                r#"bluetooth_socket_bytes_total{direction="write",origin="user",proto="l2cap"} 2323"#,
                r#"bluetooth_socket_calls_total{direction="peek",origin="user",proto="iso",result="ok"} 7"#,
                r#"bluetooth_socket_calls_total{direction="read",origin="kernel",proto="sco",result="EAGAIN"} 5"#,
                r#"bluetooth_socket_calls_total{direction="write",origin="user",proto="l2cap",result="ok"} 23"#,
            ]
        );
    }

    /// Check that fields which no program writes are named.
    #[rstest]
    #[case::proto([4, 0, 0, 0], DecodeError::Value { field: "proto", value: 4 })]
    #[case::direction([0, 4, 0, 0], DecodeError::Value { field: "direction", value: 4 })]
    #[case::origin([0, 0, 2, 0], DecodeError::Value { field: "kernel", value: 2 })]
    fn socket_entry_with_foreign_field_is_named(#[case] rest: [u8; 4], #[case] error: DecodeError) {
        let entries = [failure(-1, rest, &[(1, 0)])];
        assert_eq!(failures(&entries, &mut Snapshot::new()), Err(error));
    }

    /// Check that calls of a protocol that does not exist are named.
    #[test]
    fn socket_calls_of_foreign_protocol_are_named() {
        let (field, value) = ("proto", 4);
        assert_eq!(
            successes(&[success(4 * 8, &[(1, 1)])], &mut Snapshot::new()),
            Err(DecodeError::Value { field, value })
        );
    }

    proptest! {
        /// Check that arbitrary bytes never make decoding panic.
        #[test]
        fn socket_of_arbitrary_bytes_never_panics(
            key in prop::collection::vec(any::<u8>(), 0..12),
            value in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let entries = [(key, vec![value])];
            let _ = successes(&entries, &mut Snapshot::new());
            let _ = failures(&entries, &mut Snapshot::new());
        }
    }
}
