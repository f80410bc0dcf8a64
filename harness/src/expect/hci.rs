//! The HCI family: the ledgers say what crossed, byte by byte of its head.

use super::{command_credits, nanoseconds};
use crate::evidence::Evidence;
use controller::{Direction, Entry, PacketKind};
use evidence::{Period, Scenario};
use metrics::Snapshot;
use metrics::catalogue::{
    ANSWERS_UNMATCHED, BYTES, COMMAND_FAILURES, COMMAND_TIME, COMMANDS, COMMANDS_PENDING,
    COMMANDS_UNANSWERED, ERRORS, EVENTS, LE_EVENTS, PACKETS,
};

/// Spec: Core 5.4, Vol 4, Part E, 7.7.
const COMMAND_COMPLETE: u8 = 0x0e;
const COMMAND_STATUS: u8 = 0x0f;
const HARDWARE_ERROR: u8 = 0x10;
const LE_META: u8 = 0x3e;

/// Adds the family's series.
pub(super) fn expect(snapshot: &mut Snapshot, scenario: &Scenario, evidence: &Evidence) {
    for (hci, entries) in &evidence.ledgers {
        let timeouts = command_credits::timeouts(scenario, evidence, *hci);
        let hci = format!("hci{hci}");
        for entry in entries {
            expect_packet(snapshot, &hci, entry);
        }
        for _ in 0..timeouts {
            expect_credit_timeout(snapshot, &hci);
        }
        if !entries.is_empty() {
            let mut commands = Commands::of(evidence.observed_in, entries);
            if scenario.is_outside() {
                commands.forget_limits(evidence.observed_in);
            }
            commands.expect(snapshot, &hci);
        }
    }
}

fn expect_packet(snapshot: &mut Snapshot, hci: &str, entry: &Entry) {
    let Some(kind) = entry.kind else { return };
    let (kind_name, direction) = (kind_name(kind), direction_name(entry.direction));
    let labels = [("hci", hci), ("kind", kind_name), ("direction", direction)];
    let length = u64::try_from(entry.length_bytes).expect("a length fits");
    snapshot.add(&PACKETS, &labels, 1);
    snapshot.add(&BYTES, &labels, length);
    match (kind, entry.head.bytes()) {
        (PacketKind::Command, [low, high, ..]) => {
            let opcode = opcode_name(u16::from_le_bytes([*low, *high]));
            snapshot.add(&COMMANDS, &[("hci", hci), ("opcode", &opcode)], 1);
        }
        (PacketKind::Event, [code, rest @ ..]) => {
            expect_event(snapshot, hci, *code);
            if let (LE_META, [_, subevent, ..]) = (*code, rest) {
                let subevent = byte_name(*subevent);
                snapshot.add(&LE_EVENTS, &[("hci", hci), ("subevent", &subevent)], 1);
            }
        }
        _ => {}
    }
}

fn expect_event(snapshot: &mut Snapshot, hci: &str, code: u8) {
    snapshot.add(&EVENTS, &[("hci", hci), ("event", &byte_name(code))], 1);
    if code == HARDWARE_ERROR {
        // Kernel: hci_hardware_error_evt() has the device taken down and up again.
        for error in ["hardware_error", "reset"] {
            snapshot.add(&ERRORS, &[("hci", hci), ("error", error)], 1);
        }
    }
}

/// The host makes up an event, as if the controller had reported a hardware error.
fn expect_credit_timeout(snapshot: &mut Snapshot, hci: &str) {
    let [code, ..] = command_credits::MADE_UP;
    let length = u64::try_from(command_credits::MADE_UP.len()).expect("a length fits");
    let labels = [("hci", hci), ("kind", "event"), ("direction", "received")];
    snapshot.add(
        &ERRORS,
        &[("hci", hci), ("error", "command_credit_timeout")],
        1,
    );
    snapshot.add(&PACKETS, &labels, 1);
    snapshot.add(&BYTES, &labels, length);
    expect_event(snapshot, hci, code);
}

fn kind_name(kind: PacketKind) -> &'static str {
    match kind {
        PacketKind::Command => "command",
        PacketKind::Acl => "acl",
        PacketKind::Sco => "sco",
        PacketKind::Event => "event",
        PacketKind::Iso => "iso",
    }
}

fn direction_name(direction: Direction) -> &'static str {
    match direction {
        Direction::HostToController => "sent",
        Direction::ControllerToHost => "received",
    }
}

fn byte_name(byte: u8) -> String {
    format!("{byte:#04x}")
}

/// Group 0x3f is the vendor's.
fn opcode_name(opcode: u16) -> String {
    if opcode >> 10 == 0x3f {
        "vendor".to_owned()
    } else {
        format!("{opcode:#06x}")
    }
}

/// An answer to a command: Command Complete or Command Status.
struct Answer {
    opcode: u16,
    status: u8,
}

fn answer(entry: &Entry) -> Option<Answer> {
    if entry.kind != Some(PacketKind::Event) {
        return None;
    }
    let (low, high, status) = match *entry.head.bytes() {
        [COMMAND_COMPLETE, _, _, low, high] => (low, high, 0),
        [COMMAND_COMPLETE, _, _, low, high, status, ..] => (low, high, status),
        [COMMAND_STATUS, _, status, _, low, high, ..] => (low, high, status),
        _ => return None,
    };
    let opcode = u16::from_le_bytes([low, high]);
    Some(Answer { opcode, status })
}

/// A command that waits for its answer.
struct Waiting {
    opcode: u16,
    sent_ns: i64,
    /// The host cannot have sent it before.
    not_before_ns: i64,
    /// Others waited with it, so that what comes after its answer need not have awaited it.
    alone: bool,
}

/// A command with its answer: both as the controller saw them, and the limits of what the host saw.
struct Answered {
    low_ns: i64,
    not_before_ns: i64,
    /// The host had processed the answer by then.
    not_after_ns: i64,
}

/// The commands of one controller.
///
/// The host sends one command at a time: it awaits the answer, or gives up after 2 s. So it sent each
/// after the answer to the one before had come, and had processed the answer when it sent the next.
/// What the host saw lies around what the controller saw: the command was sent before it came here,
/// and the answer processed after it left.
/// Kernel: net/bluetooth/hci_core.c `hci_cmd_work()`.
#[derive(Default)]
struct Commands {
    waiting: Vec<Waiting>,
    answered: Vec<Answered>,
    unmatched: u64,
    failures: Vec<u8>,
    timeouts: u64,
    unanswered: u64,
}

/// Half of the 2 s after which the host gives up: a gap in the ledger is shorter than the host's by as
/// much as the controller was late to look.
const GIVEN_UP_NS: i64 = 1_000_000_000;

impl Commands {
    fn of(period: Period, entries: &[Entry]) -> Self {
        let mut commands = Self::default();
        let mut last_answer_ns = period.began_ns;
        for entry in entries {
            let at_ns = nanoseconds(entry);
            if let (Some(PacketKind::Command), [low, high, ..]) = (entry.kind, entry.head.bytes()) {
                let opcode = u16::from_le_bytes([*low, *high]);
                commands.sent(opcode, at_ns, last_answer_ns);
            } else if answer(entry).is_some_and(|a| commands.answered(&a, at_ns, period)) {
                last_answer_ns = at_ns;
            }
        }
        commands
    }

    fn sent(&mut self, opcode: u16, sent_ns: i64, not_before_ns: i64) {
        let given_up = |w: &Waiting| sent_ns - w.sent_ns >= GIVEN_UP_NS;
        if !self.waiting.is_empty() && self.waiting.iter().all(given_up) {
            self.timeouts += 1;
            self.unanswered += u64::try_from(self.waiting.len()).expect("a count fits");
            self.waiting.clear();
        }
        if let Some(last) = self.answered.last_mut() {
            last.not_after_ns = last.not_after_ns.min(sent_ns);
        }
        let alone = self.waiting.is_empty();
        self.waiting
            .iter_mut()
            .for_each(|other| other.alone = false);
        self.waiting.push(Waiting {
            opcode,
            sent_ns,
            not_before_ns,
            alone,
        });
    }

    /// Says whether a command waited for this answer.
    fn answered(&mut self, answer: &Answer, at_ns: i64, period: Period) -> bool {
        if answer.status != 0 {
            self.failures.push(answer.status);
        }
        if answer.opcode == 0 {
            return false;
        }
        let waits = |waiting: &Waiting| waiting.opcode == answer.opcode;
        let Some(place) = self.waiting.iter().position(waits) else {
            self.unmatched += 1;
            return false;
        };
        let waiting = self.waiting.remove(place);
        let not_before_ns = if waiting.alone {
            waiting.not_before_ns
        } else {
            period.began_ns
        };
        self.answered.push(Answered {
            low_ns: at_ns - waiting.sent_ns,
            not_before_ns,
            not_after_ns: period.ended_ns,
        });
        true
    }

    /// The ledger is stamped by another machine's clock, which need not run as fast.
    fn forget_limits(&mut self, period: Period) {
        for answered in &mut self.answered {
            *answered = Answered {
                low_ns: 0,
                not_before_ns: period.began_ns,
                not_after_ns: period.ended_ns,
            };
        }
    }

    fn expect(&self, snapshot: &mut Snapshot, hci: &str) {
        let labels = [("hci", hci)];
        for answered in &self.answered {
            let low = u64::try_from(answered.low_ns).unwrap_or(0);
            let high = u64::try_from(answered.not_after_ns - answered.not_before_ns).unwrap_or(0);
            snapshot.observe_between(&COMMAND_TIME, &labels, low, high);
        }
        for status in &self.failures {
            let status = byte_name(*status);
            snapshot.add(&COMMAND_FAILURES, &[labels[0], ("status", &status)], 1);
        }
        snapshot.add(&ANSWERS_UNMATCHED, &labels, self.unmatched);
        snapshot.add(&COMMANDS_UNANSWERED, &labels, self.unanswered);
        let timeouts = [labels[0], ("error", "command_timeout")];
        snapshot.add(&ERRORS, &timeouts, self.timeouts);
        let waiting = i64::try_from(self.waiting.len()).expect("a count fits");
        snapshot.set(&COMMANDS_PENDING, &labels, waiting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::{ControllerId, Detail, PacketHead};
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn entry(milliseconds: u64, kind: PacketKind, bytes: &[u8]) -> Entry {
        let direction = match kind {
            PacketKind::Command => Direction::HostToController,
            _ => Direction::ControllerToHost,
        };
        Entry {
            time: Duration::from_millis(milliseconds),
            controller: ControllerId::from_index(0),
            direction,
            kind: Some(kind),
            length_bytes: bytes.len(),
            head: PacketHead::of(bytes),
            detail: Detail::Injected,
        }
    }

    fn expected(entries: Vec<Entry>) -> Vec<String> {
        let evidence = Evidence {
            ledgers: BTreeMap::from([(0, entries)]),
            observed_in: Period {
                began_ns: -1_000_000_000,
                ended_ns: 9_000_000_000,
            },
            ..Evidence::default()
        };
        let scenario = Scenario {
            name: String::new(),
            about: String::new(),
            controllers: Vec::new(),
            transports: Vec::new(),
            steps: Vec::new(),
        };
        let mut snapshot = Snapshot::new();
        expect(&mut snapshot, &scenario, &evidence);
        let touched = snapshot.iter().filter(|(_, value)| !value.is_untouched());
        touched
            .map(|(series, value)| format!("{}{} {value}", series.metric, series.labels))
            .filter(|line| line.contains("command") || line.contains("answers"))
            .filter(|line| !line.contains("kind="))
            .collect()
    }

    /// Check that the limits of an answered command come from its neighbors, and that a failure, a second
    /// answer and a command that waits are told apart.
    #[test]
    fn commands_and_answers_are_matched() {
        let reset = [0x03, 0x0c, 0];
        let answer = [0x0e, 4, 1, 0x03, 0x0c, 0x0c];
        let (command, event) = (PacketKind::Command, PacketKind::Event);
        let lines = expected(vec![
            entry(10, command, &reset),
            entry(30, event, &answer),
            entry(40, event, &answer),
            entry(100, command, &reset),
            entry(103, event, &[0x0f, 4, 0, 1, 0x03, 0x0c]),
            entry(120, command, &[0x05, 0x04, 0]),
        ]);
        assert_eq!(
            lines,
            [
                r#"bluetooth_hci_answers_unmatched_total{hci="hci0"} 1"#,
                r#"bluetooth_hci_command_failures_total{hci="hci0",status="0x0c"} 2"#,
                // 20 ms to 1.1 s (from the begin to the next command), 3 ms to 90 ms (from the answer before).
                "bluetooth_hci_command_seconds{hci=\"hci0\"} 2 values, sum 23000000 to 1190000000 \
                 {up to 10000: 0 to 0, up to 20000: 0 to 0, up to 50000: 0 to 0, up to 100000: 0 to 0, \
                 up to 200000: 0 to 0, up to 500000: 0 to 0, up to 1000000: 0 to 0, up to 2000000: 0 to 0, \
                 up to 5000000: 0 to 1, up to 10000000: 0 to 1, up to 100000000: 1 to 2, \
                 up to 200000000: 1 to 2, up to 500000000: 1 to 2, up to 1000000000: 1 to 2}",
                r#"bluetooth_hci_commands_pending{hci="hci0"} 1"#,
                r#"bluetooth_hci_commands_total{hci="hci0",opcode="0x0405"} 1"#,
                r#"bluetooth_hci_commands_total{hci="hci0",opcode="0x0c03"} 2"#,
            ]
        );
    }

    /// Check that a command that is followed by the next only seconds later was given up.
    #[test]
    fn command_without_answer_is_given_up() {
        let lines = expected(vec![
            entry(10, PacketKind::Command, &[0x03, 0x0c, 0]),
            entry(2005, PacketKind::Command, &[0x01, 0x10, 0]),
            entry(2006, PacketKind::Event, &[0x0e, 12, 1, 0x01, 0x10, 0]),
        ]);
        let of = |name: &str| lines.iter().filter(|line| line.contains(name)).count();
        assert_eq!(of("commands_unanswered_total{hci=\"hci0\"} 1"), 1);
        assert_eq!(
            of("errors_total{error=\"command_timeout\",hci=\"hci0\"} 1"),
            1
        );
        assert_eq!(of("command_seconds{hci=\"hci0\"} 1 values"), 1);
        assert_eq!(of("commands_pending{hci=\"hci0\"} 0"), 1);
    }
}
