//! The HCI family's map, `hci_devices`.

use metrics::catalogue::{
    ANSWERS_UNMATCHED, BYTES, COMMAND_FAILURES, COMMAND_TIME, COMMANDS, COMMANDS_PENDING,
    COMMANDS_UNANSWERED, ERRORS, EVENTS, LE_EVENTS, PACKETS, SEND_FAILURES,
};
use metrics::{Metric, Snapshot};

use super::times::{TIMES_BYTES, times};
use super::{DecodeError, Entry, hci_name, u32_at, u64_at};

/// In the order of `enum packet_way` in `bpf/hci.bpf.c`.
const WAYS: [&str; 2] = ["sent", "received"];
/// By packet indicator; what has none is 0.
const KINDS: [&str; 6] = ["other", "command", "acl", "sco", "event", "iso"];
/// In the order of `enum hci_error`.
const ERROR_NAMES: [&str; 4] = [
    "hardware_error",
    "command_timeout",
    "command_credit_timeout",
    "reset",
];
/// Groups of commands: number of the group, and how many commands of it are told apart.
const GROUPS: [(u16, u16); 7] = [
    (0x01, 80),
    (0x02, 32),
    (0x03, 144),
    (0x04, 16),
    (0x05, 16),
    (0x06, 16),
    (0x08, 176),
];

// Offsets in `struct device_counts`.
const REFUSED: usize = 16 * WAYS.len() * KINDS.len();
const ERROR: usize = REFUSED + 8 * KINDS.len();
const UNANSWERED: usize = ERROR + 8 * ERROR_NAMES.len();
const UNMATCHED: usize = UNANSWERED + 8;
const PENDING: usize = UNMATCHED + 8;
const MAX_PENDING: usize = 4;
const ANSWERED: usize = PENDING + 16 * MAX_PENDING;
const FAILURES: usize = ANSWERED + TIMES_BYTES;
const EVENT: usize = FAILURES + 8 * 256;
const SUBEVENT: usize = EVENT + 8 * 256;
const COMMAND: usize = SUBEVENT + 8 * 256;

/// Adds the elements of `hci_devices`: devices that have moved a packet.
pub(crate) fn hci(entries: &[Entry], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    for (key, values) in entries {
        let hci = hci_name(u32_at(key, 0)? as usize)?;
        for value in values {
            device(&hci, value, snapshot)?;
        }
    }
    Ok(())
}

fn device(hci: &str, value: &[u8], snapshot: &mut Snapshot) -> Result<(), DecodeError> {
    let hci = ("hci", hci);
    let used = moved(hci, value, snapshot)?;
    let mut add = |metric, at, label: Option<(&str, &str)>| -> Result<(), DecodeError> {
        add(snapshot, metric, u64_at(value, at)?, hci, label);
        Ok(())
    };
    for (place, kind) in KINDS.into_iter().enumerate() {
        add(&SEND_FAILURES, REFUSED + 8 * place, Some(("kind", kind)))?;
    }
    for (place, error) in ERROR_NAMES.into_iter().enumerate() {
        add(&ERRORS, ERROR + 8 * place, Some(("error", error)))?;
    }
    add(&COMMANDS_UNANSWERED, UNANSWERED, None)?;
    add(&ANSWERS_UNMATCHED, UNMATCHED, None)?;
    for code in 0..256 {
        let name = format!("{code:#04x}");
        add(
            &COMMAND_FAILURES,
            FAILURES + 8 * code,
            Some(("status", &name)),
        )?;
        add(&EVENTS, EVENT + 8 * code, Some(("event", &name)))?;
        add(&LE_EVENTS, SUBEVENT + 8 * code, Some(("subevent", &name)))?;
    }
    for (place, name) in command_names().enumerate() {
        add(&COMMANDS, COMMAND + 8 * place, Some(("opcode", &name)))?;
    }
    if let Some(histogram) = times(&COMMAND_TIME, value, ANSWERED)? {
        snapshot.insert(&COMMAND_TIME, &[hci], histogram);
    }
    if used {
        snapshot.set(&COMMANDS_PENDING, &[hci], pending(value)?);
    }
    Ok(())
}

/// Adds packets and bytes; says whether there are any.
fn moved(hci: (&str, &str), value: &[u8], snapshot: &mut Snapshot) -> Result<bool, DecodeError> {
    let mut used = false;
    for (way, direction) in WAYS.into_iter().enumerate() {
        for (place, kind) in KINDS.into_iter().enumerate() {
            let at = 16 * (KINDS.len() * way + place);
            let packets = u64_at(value, at)?;
            if packets > 0 {
                let labels = [hci, ("kind", kind), ("direction", direction)];
                snapshot.add(&PACKETS, &labels, packets);
                snapshot.add(&BYTES, &labels, u64_at(value, at + 8)?);
                used = true;
            }
        }
    }
    Ok(used)
}

/// Adds to a counter, unless it is 0.
fn add(
    snapshot: &mut Snapshot,
    metric: &'static Metric,
    count: u64,
    hci: (&str, &str),
    label: Option<(&str, &str)>,
) {
    if count > 0 {
        let labels: Vec<_> = [Some(hci), label].into_iter().flatten().collect();
        snapshot.add(metric, &labels, count);
    }
}

/// How many commands wait.
fn pending(value: &[u8]) -> Result<i64, DecodeError> {
    let mut pending = 0;
    for place in 0..MAX_PENDING {
        pending += i64::from(u64_at(value, PENDING + 16 * place)? != 0);
    }
    Ok(pending)
}

/// Values of the label `opcode`, in the order of the counters.
fn command_names() -> impl Iterator<Item = String> {
    let of_group = |(group, commands): (u16, u16)| {
        (0..commands).map(move |command| format!("{:#06x}", group << 10 | command))
    };
    let rest = ["vendor", "other"].map(ToOwned::to_owned);
    GROUPS.into_iter().flat_map(of_group).chain(rest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As `_Static_assert` in the program has it.
    const BYTES_OF_DEVICE: usize = 10_520;

    fn render(changes: &[(usize, u64)]) -> Vec<String> {
        let mut value = vec![0; BYTES_OF_DEVICE];
        for (at, n) in changes {
            value[*at..at + 8].copy_from_slice(&n.to_ne_bytes());
        }
        let mut snapshot = Snapshot::new();
        hci(&[(vec![3, 0, 0, 0], vec![value])], &mut snapshot).unwrap();
        let text = snapshot
            .iter()
            .map(|(s, v)| format!("{}{} {v}", s.metric, s.labels));
        text.collect()
    }

    /// Check that the table of commands is as long as the program's, and where some of it lie.
    #[test]
    fn commands_are_those_of_the_program() {
        let names: Vec<_> = command_names().collect();
        assert_eq!(COMMAND + 8 * names.len(), BYTES_OF_DEVICE);
        let of = |name: &str| names.iter().position(|known| known == name);
        assert_eq!(of("0x0405"), Some(5));
        assert_eq!(of("0x0c03"), Some(115));
        assert_eq!(of("0x2001"), Some(305));
        assert_eq!(of("vendor"), Some(480));
        let program = include_str!("../../bpf/hci.bpf.c");
        let mut first = 0;
        for (group, count) in GROUPS {
            let case = program
                .split(&format!("case {group:#04x}:"))
                .nth(1)
                .unwrap();
            let case = case.split("break").next().unwrap();
            assert!(case.contains(&format!("first = {first};")), "{group}");
            assert!(case.contains(&format!("count = {count};")), "{group}");
            first += count;
        }
    }

    /// Check that every counter comes from its place, and that a device that is not used has no series.
    #[test]
    fn device_counters_come_from_their_places() {
        assert_eq!(render(&[]), [""; 0]);
        let text = render(&[
            (16, 23),
            (24, 92),
            (16 * (6 + 4), 29),
            (16 * (6 + 4) + 8, 174),
            (REFUSED + 16, 2),
            (ERROR + 8, 1),
            (UNANSWERED, 3),
            (UNMATCHED, 5),
            (PENDING + 16, 999),
            (FAILURES + 8 * 0x0c, 7),
            (EVENT + 8 * 0x0e, 11),
            (SUBEVENT + 8, 13),
            (COMMAND + 8 * 115, 17),
            (BYTES_OF_DEVICE - 8, 19),
        ]);
        assert_eq!(
            text,
            [
                r#"bluetooth_hci_answers_unmatched_total{hci="hci3"} 5"#,
                r#"bluetooth_hci_bytes_total{direction="received",hci="hci3",kind="event"} 174"#,
                r#"bluetooth_hci_bytes_total{direction="sent",hci="hci3",kind="command"} 92"#,
                r#"bluetooth_hci_command_failures_total{hci="hci3",status="0x0c"} 7"#,
                r#"bluetooth_hci_commands_pending{hci="hci3"} 1"#,
                r#"bluetooth_hci_commands_total{hci="hci3",opcode="0x0c03"} 17"#,
                r#"bluetooth_hci_commands_total{hci="hci3",opcode="other"} 19"#,
                r#"bluetooth_hci_commands_unanswered_total{hci="hci3"} 3"#,
                r#"bluetooth_hci_errors_total{error="command_timeout",hci="hci3"} 1"#,
                r#"bluetooth_hci_events_total{event="0x0e",hci="hci3"} 11"#,
                r#"bluetooth_hci_le_events_total{hci="hci3",subevent="0x01"} 13"#,
                r#"bluetooth_hci_packets_total{direction="received",hci="hci3",kind="event"} 29"#,
                r#"bluetooth_hci_packets_total{direction="sent",hci="hci3",kind="command"} 23"#,
                r#"bluetooth_hci_send_failures_total{hci="hci3",kind="acl"} 2"#,
            ]
        );
    }

    proptest! {
        /// Check that arbitrary bytes never make decoding panic.
        #[test]
        fn hci_of_arbitrary_bytes_never_panics(
            key in prop::collection::vec(any::<u8>(), 0..6),
            value in prop::collection::vec(any::<u8>(), 0..11_000),
        ) {
            let _ = hci(&[(key, vec![value])], &mut Snapshot::new());
        }
    }
}
