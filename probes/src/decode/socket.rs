//! The socket family's map, `socket_counts`.

use metrics::catalogue::{SOCKET_BYTES, SOCKET_CALLS};
use metrics::{Snapshot, errno_name};

use super::{DecodeError, Entry, field, name_of, sum_at};

/// In the order of `enum direction` in `bpf/socket.bpf.c`.
const DIRECTIONS: [&str; 4] = ["read", "write", "peek", "errqueue"];

/// Adds the calls and bytes of `socket_counts`.
pub(crate) fn socket(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let error = i32::from_ne_bytes(field(key, 0)?);
        let [proto, direction, kernel, _] = field(key, 4)?;
        let proto = proto_name(proto)?;
        let direction = name_of(&DIRECTIONS, direction, "direction")?;
        let origin = name_of(&["user", "kernel"], kernel, "kernel")?;
        let result = if error == 0 {
            "ok"
        } else {
            errno_name(error.unsigned_abs())
        };
        let (calls, bytes) = (sum_at(values, 0)?, sum_at(values, 8)?);
        let labels = [
            ("proto", proto),
            ("direction", direction),
            ("result", result),
            ("origin", origin),
        ];
        snapshot.add(&SOCKET_CALLS, &labels, calls);
        if error == 0 && matches!(direction, "read" | "write") {
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

    fn entry(error: i32, rest: [u8; 4], counts: &[(u64, u64)]) -> Entry {
        let key = [error.to_ne_bytes(), rest].concat();
        let value =
            |(calls, bytes): &(u64, u64)| [calls.to_ne_bytes(), bytes.to_ne_bytes()].concat();
        (key, counts.iter().map(value).collect())
    }

    /// Check that counts of all CPUs add up, and that errors and peeks move no bytes.
    #[test]
    fn socket_entries_of_several_cpus_add_up() {
        let entries = [
            entry(0, [0, 1, 0, 0], &[(20, 2000), (3, 323)]),
            entry(-11, [2, 0, 1, 0], &[(5, 0), (0, 0)]),
            entry(0, [8, 2, 0, 0], &[(0, 0), (7, 70)]),
        ];
        let mut snapshot = Snapshot::new();
        socket(&entries, &mut snapshot).unwrap();
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
        let entries = [entry(0, rest, &[(1, 1)])];
        assert_eq!(socket(&entries, &mut Snapshot::new()), Err(error));
    }

    proptest! {
        /// Check that arbitrary bytes never make decoding panic.
        #[test]
        fn socket_of_arbitrary_bytes_never_panics(
            key in prop::collection::vec(any::<u8>(), 0..12),
            value in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let _ = socket(&[(key, vec![value])], &mut Snapshot::new());
        }
    }
}
