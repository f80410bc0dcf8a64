//! Voice that a driver on USB refuses: it is in no ledger, and the kernel's USB monitor does not see it either. What was written says how much it
//! was, and the kernel's log.

use crate::evidence::Evidence;
use controller::transport::usbredir::UsbFaultAction;
use evidence::{Scenario, Step};
use metrics::Snapshot;
use metrics::catalogue::{BYTES, PACKETS, QUEUE_TIME, SEND_FAILURES, URB_REFUSED, URB_SUBMITTED};
use std::collections::BTreeMap;

/// Connection handle and length. Spec: Core 5.4, Vol 4, Part E, 5.4.3.
const SCO_HEADER_BYTES: u64 = 3;

/// A frame that was refused: N of hciN, and how long it was.
struct Refused {
    hci: usize,
    bytes: u64,
}

/// Adds the frames to every family that sees them on their way.
pub(super) fn expect(snapshot: &mut Snapshot, scenario: &Scenario, evidence: &Evidence) {
    let period = evidence.observed_in;
    let length_ns = u64::try_from(period.ended_ns - period.began_ns).unwrap_or(0);
    for frame in refused(scenario) {
        let hci = format!("hci{}", frame.hci);
        let (hci, kind) = (("hci", hci.as_str()), ("kind", "sco"));
        let sent = [hci, kind, ("direction", "sent")];
        snapshot.add(&PACKETS, &sent, 1);
        snapshot.add(&BYTES, &sent, SCO_HEADER_BYTES + frame.bytes);
        snapshot.observe_between(&QUEUE_TIME, &[hci, kind], 0, length_ns);
        snapshot.add(&SEND_FAILURES, &[hci, kind], 1);
        let isoc = [hci, ("endpoint", "isoc")];
        snapshot.add(&URB_SUBMITTED, &isoc, 1);
        snapshot.add(&URB_REFUSED, &isoc, 1);
    }
}

/// How many frames of a device are refused.
pub(super) fn number(scenario: &Scenario, hci: u16) -> u32 {
    let own = |frame: &&Refused| frame.hci == usize::from(hci);
    let refused = refused(scenario);
    u32::try_from(refused.iter().filter(own).count()).expect("a scenario is short")
}

/// How many frames of a scenario are to be refused.
pub(crate) fn refused_frames(scenario: &Scenario) -> u64 {
    u64::try_from(refused(scenario).len()).expect("a scenario is short")
}

/// The frames that are written to links for whose voice the device had no room.
fn refused(scenario: &Scenario) -> Vec<Refused> {
    let mut without_room: BTreeMap<usize, u64> = BTreeMap::new();
    let mut mute: BTreeMap<&str, usize> = BTreeMap::new();
    let mut refused = Vec::new();
    for step in &scenario.steps {
        match step {
            Step::UsbFault { fault } if fault.action == UsbFaultAction::NoRoom => {
                *without_room.entry(fault.controller.index()).or_default() += fault.times;
            }
            Step::Connect { socket, from, .. } => {
                let left = without_room.get_mut(from).filter(|left| **left > 0);
                if let Some(left) = left {
                    *left -= 1;
                    mute.insert(socket, *from);
                }
            }
            Step::Write { socket, bytes } => {
                refused.extend(mute.get(socket.as_str()).map(|hci| Refused {
                    hci: *hci,
                    bytes: u64::try_from(*bytes).expect("a length fits"),
                }));
            }
            _ => {}
        }
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;

    /// Check that the frames of the link without room are refused, those of links before and after it not, and none of other scenarios.
    #[test]
    fn frames_of_links_without_room_are_refused() {
        let refused: BTreeMap<String, u32> = scenarios::all()
            .into_iter()
            .map(|scenario| (scenario.name.clone(), number(&scenario, 0)))
            .filter(|(_, refused)| *refused > 0)
            .collect();
        assert_eq!(
            refused,
            BTreeMap::from([("usb-sco-refused".to_owned(), 41)])
        );
    }
}
