//! Controllers that take no commands any more, and hosts that lose patience with them.

use crate::evidence::Evidence;
use controller::{Entry, PacketKind};
use evidence::{Scenario, Step};

/// Spec: Core 5.4, Vol 4, Part E, 7.7.14, 7.7.15.
const COMMAND_COMPLETE: u8 = 0x0e;
const COMMAND_STATUS: u8 = 0x0f;

/// After so long a host gives a controller up that takes no commands, less a tick of its clock on either side.
/// Kernel: include/net/bluetooth/hci.h `HCI_NCMD_TIMEOUT`.
const PATIENCE_NS: i64 = 3_990_000_000;

/// The event that the kernel makes up then, as if the controller had reported a hardware error: its bytes, without the indicator.
/// Kernel: net/bluetooth/hci_core.c `hci_reset_dev()`.
pub(super) const MADE_UP: [u8; 3] = [0x10, 1, 0];

/// How often the host of hciN lost patience. While a controller takes no commands, a host sends none, unless it has reset the device itself: so a
/// command that comes all the same, after 4 s and with no step that would make the host send it, tells. Hosts that do not watch for it send none.
pub(super) fn timeouts(scenario: &Scenario, evidence: &Evidence, hci: u16) -> u64 {
    let entries = evidence.ledgers.get(&hci).into_iter().flatten();
    let mut withheld_ns = None;
    let mut timeouts = 0;
    for entry in entries {
        let at_ns = super::nanoseconds(entry);
        if entry.kind == Some(PacketKind::Command) {
            let waited = withheld_ns
                .take()
                .is_some_and(|since| at_ns - since >= PATIENCE_NS);
            timeouts += u64::from(waited && !is_asked_for(scenario, evidence, at_ns));
        }
        match credits(entry) {
            Some(0) => withheld_ns = Some(at_ns),
            Some(_) => withheld_ns = None,
            None => {}
        }
    }
    timeouts
}

/// How many more commands the controller takes, if this event says so.
fn credits(entry: &Entry) -> Option<u8> {
    match (entry.kind, entry.head.bytes()) {
        (Some(PacketKind::Event), [COMMAND_COMPLETE, _, credits, ..])
        | (Some(PacketKind::Event), [COMMAND_STATUS, _, _, credits, ..]) => Some(*credits),
        _ => None,
    }
}

/// Did a step have the host take the device down or up at that time?
fn is_asked_for(scenario: &Scenario, evidence: &Evidence, at_ns: i64) -> bool {
    let mut steps = scenario.steps.iter().zip(&evidence.steps);
    steps.any(|(step, period)| {
        matches!(step, Step::Device { .. }) && (period.began_ns..=period.ended_ns).contains(&at_ns)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::{ControllerId, Detail, Direction, PacketHead};
    use evidence::{DeviceAction, Period};
    use rstest::rstest;
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn entry(milliseconds: u64, kind: PacketKind, bytes: &[u8]) -> Entry {
        Entry {
            time: Duration::from_millis(milliseconds),
            controller: ControllerId::from_index(0),
            direction: Direction::ControllerToHost,
            kind: Some(kind),
            length_bytes: bytes.len(),
            head: PacketHead::of(bytes),
            detail: Detail::Injected,
        }
    }

    /// Check that a command after 4 s without credits tells of a time-out, and that one after less time, after credits or in a step that asks
    /// for it does not.
    #[rstest]
    #[case::late(&[], 5000, 1)]
    #[case::soon(&[], 1200, 0)]
    #[case::credits_again(&[0x0f, 4, 0, 1, 0, 0], 5000, 0)]
    #[case::still_none(&[0x0f, 4, 0, 0, 0, 0], 5600, 1)]
    #[case::asked_for(&[], 9000, 0)]
    fn command_without_credits_tells_of_a_timeout(
        #[case] meanwhile: &[u8],
        #[case] at_ms: u64,
        #[case] wanted: u64,
    ) {
        let withheld = [0x0e, 4, 0, 0x01, 0x10, 0];
        let mut entries = vec![entry(100, PacketKind::Event, &withheld)];
        if !meanwhile.is_empty() {
            entries.push(entry(1500, PacketKind::Event, meanwhile));
        }
        entries.push(entry(at_ms, PacketKind::Command, &[0x03, 0x0c, 0]));
        let mut scenario = crate::scenarios::all().remove(0);
        scenario.steps = vec![Step::Device {
            controller: 0,
            action: DeviceAction::Down,
        }];
        let evidence = Evidence {
            ledgers: BTreeMap::from([(0, entries)]),
            steps: vec![Period {
                began_ns: 8_000_000_000,
                ended_ns: 9_500_000_000,
            }],
            ..Evidence::default()
        };
        assert_eq!(timeouts(&scenario, &evidence, 0), wanted);
        assert_eq!(timeouts(&scenario, &evidence, 1), 0);
    }
}
