//! The commands that each kernel gave to its controllers, from the ledgers of a report.

use super::Report;
use crate::case::CaseResult;
use comfy_table::{CellAlignment, Table, presets};
use controller::{Detail, Opcode};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The commands of one kernel: how often each was given, and those that a controller did not have.
#[derive(Debug, Default)]
struct Seen {
    given: BTreeMap<Opcode, usize>,
    unknown: BTreeSet<Opcode>,
}

impl Report {
    /// A table of commands × kernels: how often each was given, over all cases; and the commands that no controller had.
    #[must_use]
    pub fn commands(&self) -> String {
        let kernels: Vec<(String, Seen)> = self
            .kernel_names()
            .into_iter()
            .map(|kernel| {
                let own = |result: &&CaseResult| result.kernel.to_string() == kernel;
                let seen = Seen::of(self.results.iter().filter(own));
                (kernel, seen)
            })
            .collect();
        let opcodes: BTreeSet<Opcode> = kernels
            .iter()
            .flat_map(|(_, seen)| seen.given.keys().copied())
            .collect();
        let mut text = format!("{}\n\n", table(&kernels, &opcodes));
        let unknown: BTreeSet<&Opcode> = kernels.iter().flat_map(|(_, s)| &s.unknown).collect();
        let _ = writeln!(
            text,
            "{} commands on {} kernels, {} of them unknown to the controllers",
            opcodes.len(),
            kernels.len(),
            unknown.len()
        );
        text
    }
}

impl Seen {
    fn of<'a>(results: impl Iterator<Item = &'a CaseResult>) -> Self {
        let mut seen = Self::default();
        for entry in results.flat_map(|result| result.evidence.ledgers.values().flatten()) {
            if let Detail::Command { opcode, known, .. } = entry.detail {
                *seen.given.entry(opcode).or_default() += 1;
                if !known {
                    seen.unknown.insert(opcode);
                }
            }
        }
        seen
    }

    fn cell(&self, opcode: Opcode) -> String {
        let sign = if self.unknown.contains(&opcode) {
            "!"
        } else {
            ""
        };
        let number = self.given.get(&opcode);
        number.map_or_else(String::new, |number| format!("{sign}{number}"))
    }
}

fn table(kernels: &[(String, Seen)], opcodes: &BTreeSet<Opcode>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let names = kernels.iter().map(|(name, _)| name.clone());
    table.set_header(["command".to_owned()].into_iter().chain(names));
    for opcode in opcodes {
        let cells = kernels.iter().map(|(_, seen)| seen.cell(*opcode));
        table.add_row([opcode.to_string()].into_iter().chain(cells));
    }
    let sums = |of: fn(&Seen) -> usize| kernels.iter().map(move |(_, seen)| of(seen).to_string());
    let row = |name: &str| [name.to_owned()].into_iter();
    table.add_row(row("distinct").chain(sums(|seen| seen.given.len())));
    table.add_row(row("unknown").chain(sums(|seen| seen.unknown.len())));
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::samples::report;
    use controller::{ControllerId, Direction, Entry, PacketHead, PacketKind};
    use std::time::Duration;

    fn command(opcode: u16, known: bool) -> Entry {
        let [low, high] = opcode.to_le_bytes();
        Entry {
            time: Duration::ZERO,
            controller: ControllerId::from_index(0),
            direction: Direction::HostToController,
            kind: Some(PacketKind::Command),
            length_bytes: 3,
            head: PacketHead::of(&[low, high, 0]),
            detail: Detail::Command {
                opcode: Opcode(opcode),
                known,
                dropped: false,
            },
        }
    }

    /// Check that each kernel's commands are counted, and that one that no controller has stands out.
    #[test]
    fn commands_are_counted_by_kernel() {
        let mut report = report(vec![Outcome::Passed, Outcome::Passed]);
        let ledger = |entries: &[(u16, bool)]| {
            let entries = entries
                .iter()
                .map(|(opcode, known)| command(*opcode, *known));
            BTreeMap::from([(0, entries.collect())])
        };
        report.results[0].evidence.ledgers = ledger(&[(0x0c03, true), (0x0c03, true)]);
        report.results[1].evidence.ledgers = ledger(&[(0x0c03, true), (0xfc01, false)]);
        insta::assert_snapshot!(report.commands());
    }
}
