//! Captures as others read them: btmon and Wireshark.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::{Command, Output};

use controller::{BtsnoopFiles, ControllerId, Direction, Ledger, PacketKind};

use super::Pair;

/// Packets of a capture: sent by the host or not, H4 indicator, and how many.
type Counts = BTreeMap<(bool, u8), usize>;

/// Has what crosses from now on captured into a folder, while `traffic` goes on. Then every reader on this machine has to count what the
/// ledger says, of both controllers; of the first, packets of so many kinds and directions.
pub(crate) fn check_captures(mut pair: Pair, kinds: usize, traffic: impl Fn(&mut Pair)) {
    let folder = tempfile::tempdir().unwrap();
    pair.sent();
    pair.air.take_ledger();
    let files = BtsnoopFiles::new(folder.path(), "hci");
    pair.air.set_tap(Box::new(files));
    traffic(&mut pair);
    pair.sent();
    let ledger = pair.air.take_ledger();
    pair.air.take_tap().unwrap().finish().unwrap();
    for number in [0, 1] {
        let expected = in_ledger(&ledger, ControllerId::from_index(number));
        assert!(number == 1 || expected.len() == kinds, "{expected:?}");
        let capture = folder.path().join(format!("hci{number}.btsnoop"));
        for (reader, found) in read_back(&capture) {
            let mut expected = expected.clone();
            // BlueZ 5.66 passes over the isochronous packets of an H4 capture: all of them, or none.
            if reader == "btmon" && !found.keys().any(is_iso) {
                expected.retain(|key, _| !is_iso(key));
            }
            assert_eq!(found, expected, "{reader} of {}", capture.display());
        }
    }
}

const fn is_iso((_, indicator): &(bool, u8)) -> bool {
    *indicator == PacketKind::Iso.indicator()
}

fn in_ledger(ledger: &Ledger, id: ControllerId) -> Counts {
    let mut counts = Counts::new();
    let own = ledger.entries().iter().filter(|e| e.controller == id);
    for entry in own {
        let sent = entry.direction == Direction::HostToController;
        let kind = entry.kind.unwrap().indicator();
        *counts.entry((sent, kind)).or_default() += 1;
    }
    counts
}

/// What each reader on this machine counts in a capture. One that is not installed says so, and counts nothing.
fn read_back(capture: &Path) -> Vec<(&'static str, Counts)> {
    let btmon = output("btmon", "bluez", |c| c.arg("-r").arg(capture));
    let tshark = output("tshark", "tshark", |c| {
        c.arg("-r").arg(capture).args(FIELDS.split(' '))
    });
    let btmon = btmon.map(|said| ("btmon", count(&said, btmon_line)));
    let tshark = tshark.map(|said| ("tshark", count(&said, tshark_line)));
    btmon.into_iter().chain(tshark).collect()
}

const FIELDS: &str = "-T fields -e hci_h4.direction -e hci_h4.type";

#[expect(clippy::print_stderr, reason = "what a test could not determine")]
fn output(
    program: &str,
    package: &str,
    arguments: impl Fn(&mut Command) -> &mut Command,
) -> Option<String> {
    match arguments(&mut Command::new(program)).output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            eprintln!("not determined: this machine has no {program} (Debian: package {package})");
            None
        }
        said => {
            let Output {
                status,
                stdout,
                stderr,
            } = said.unwrap();
            assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
            Some(String::from_utf8(stdout).unwrap())
        }
    }
}

fn count(said: &str, line: impl Fn(&str) -> Option<(bool, u8)>) -> Counts {
    let mut counts = Counts::new();
    for packet in said.lines().filter_map(line) {
        *counts.entry(packet).or_default() += 1;
    }
    counts
}

/// `< HCI Command: Reset (0x03|0x0003) plen 0`, `> ACL Data RX: Handle 1 …`; other lines are indented, or say what btmon does.
fn btmon_line(line: &str) -> Option<(bool, u8)> {
    let (sent, rest) = match line.split_at_checked(2)? {
        ("< ", rest) => (true, rest),
        ("> ", rest) => (false, rest),
        _ => return None,
    };
    let names = [
        "HCI Command",
        "ACL Data",
        "SCO Data",
        "HCI Event",
        "ISO Data",
    ];
    let kind = (1..).zip(names).find(|(_, name)| rest.starts_with(name));
    let (indicator, _) = kind.unwrap_or_else(|| panic!("btmon says {line:?}"));
    Some((sent, indicator))
}

/// Direction (0 is sent) and indicator, both hexadecimal.
fn tshark_line(line: &str) -> Option<(bool, u8)> {
    let (direction, kind) = line.split_once('\t')?;
    let number = |text: &str| u8::from_str_radix(text.trim_start_matches("0x"), 16);
    Some((number(direction).unwrap() == 0, number(kind).unwrap()))
}
