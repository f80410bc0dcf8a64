//! The urb family: the guest's USB monitor saw every URB, begin and end.

use crate::evidence::{Evidence, USB_MONITOR};
use crate::usbmon::{CaptureError, Urb, UrbEnd, UrbKind, urbs};
use controller::transport::usbredir::{UsbEndpoint, UsbFaultAction};
use evidence::{Period, Scenario, Step, UsbPlace};
use metrics::catalogue::{
    URB_BYTES, URB_COMPLETED, URB_DEFERRED, URB_IN_FLIGHT, URB_ISOC_PACKETS, URB_LATENCY,
    URB_REFUSED, URB_SUBMITTED,
};
use metrics::{Snapshot, errno_name};
use std::collections::{BTreeMap, BTreeSet};

/// Bits 5 and 6 of a request type: 0 is a standard request, which usbcore makes by itself.
const REQUEST_TYPE_MASK: u8 = 0x60;
/// The monitor's stamps are whole microseconds.
const GRAIN_US: u64 = 1;

/// Adds the family's series.
pub(super) fn expect(snapshot: &mut Snapshot, scenario: &Scenario, evidence: &Evidence) {
    let mut in_flight: BTreeMap<(String, &str), i64> = BTreeMap::new();
    let urbs = at_places(evidence, &evidence.usb_places).unwrap_or_default();
    expect_latency(snapshot, scenario, evidence, &urbs);
    expect_deferred(snapshot, scenario);
    for (hci, urb) in urbs {
        let endpoint = endpoint(urb.place.kind);
        if !urb.place.is_in {
            let number = in_flight.entry((hci.clone(), endpoint)).or_default();
            *number += i64::from(urb.end.is_none());
            snapshot.add(&URB_SUBMITTED, &[("hci", &hci), ("endpoint", endpoint)], 1);
        }
        expect_end(snapshot, &hci, endpoint, &urb);
    }
    for ((hci, endpoint), number) in in_flight {
        snapshot.set(
            &URB_IN_FLIGHT,
            &[("hci", &hci), ("endpoint", endpoint)],
            number,
        );
    }
}

fn expect_end(snapshot: &mut Snapshot, hci: &str, endpoint: &'static str, urb: &Urb) {
    let (hci, endpoint) = (("hci", hci), ("endpoint", endpoint));
    let direction = ("direction", if urb.place.is_in { "in" } else { "out" });
    let (status, bytes, packets) = match &urb.end {
        None => return,
        Some(UrbEnd::Refused) if urb.place.is_in => return,
        Some(UrbEnd::Refused) => return snapshot.add(&URB_REFUSED, &[hci, endpoint], 1),
        Some(UrbEnd::Completed {
            status,
            bytes,
            packets,
            ..
        }) => (*status, *bytes, packets),
    };
    let named = [hci, endpoint, direction, ("status", status_name(status))];
    snapshot.add(&URB_COMPLETED, &named, 1);
    snapshot.add(&URB_BYTES, &[hci, endpoint, direction], bytes.into());
    for status in packets {
        let named = [hci, direction, ("status", status_name(*status))];
        snapshot.add(&URB_ISOC_PACKETS, &named, 1);
    }
}

/// Adds what each URB from the host took, within limits. Those that took longest are at least those that the dongle held.
fn expect_latency(
    snapshot: &mut Snapshot,
    scenario: &Scenario,
    evidence: &Evidence,
    urbs: &[(String, Urb)],
) {
    let held = held(scenario);
    for ((hci, kind), mut times) in times(evidence.observed_in, urbs) {
        times.sort_unstable_by_key(|times| std::cmp::Reverse(times.seen_ns));
        let mut holds = held
            .iter()
            .filter(|(on, ..)| on == hci && kind == UrbKind::Bulk);
        let (count, hold_ns) = holds.next().map_or((0, 0), |(_, count, ns)| (*count, *ns));
        for (rank, times) in (0..).zip(times) {
            let hold_ns = if rank < count { hold_ns + 1 } else { 0 };
            let low = times.low_ns.max(hold_ns);
            let labels = [("hci", hci), ("endpoint", endpoint(kind))];
            snapshot.observe_between(&URB_LATENCY, &labels, low, times.high_ns);
        }
    }
}

/// What the monitor says of the time that a URB took.
struct Times {
    /// Between its own stamps.
    seen_ns: u64,
    low_ns: u64,
    high_ns: u64,
}

/// The probes' stamps are taken right before the monitor's, but a guest may be held up just there. What orders them is that a device's driver
/// submits one URB after the other (in one ordered work queue), and that the kernel gives back one after the other: so a URB was not submitted
/// before the monitor saw the submission of the one before, nor given back before it saw the end of the one before.
/// Kernel: drivers/usb/core/hcd.c `usb_hcd_giveback_urb()`, which keeps two queues of its own.
fn times(observed_in: Period, urbs: &[(String, Urb)]) -> BTreeMap<(&str, UrbKind), Vec<Times>> {
    let mut ends: BTreeMap<bool, Vec<u64>> = BTreeMap::new();
    for (_, urb) in urbs {
        if let Some(UrbEnd::Completed { at_us, .. }) = urb.end {
            ends.entry(is_periodic(urb)).or_default().push(at_us);
        }
    }
    ends.values_mut().for_each(|ends| ends.sort_unstable());
    let length_us = u64::try_from(observed_in.ended_ns - observed_in.began_ns).unwrap_or(0) / 1000;
    let mut submitted_before: BTreeMap<&str, u64> = BTreeMap::new();
    let mut times: BTreeMap<_, Vec<Times>> = BTreeMap::new();
    for (hci, urb) in urbs.iter().filter(|(_, urb)| !urb.place.is_in) {
        let before = submitted_before.insert(hci, urb.submitted_us);
        let Some(UrbEnd::Completed { at_us, .. }) = urb.end else {
            continue;
        };
        let ended = &ends[&is_periodic(urb)];
        let ended = ended.partition_point(|ended| *ended < at_us);
        let ended = ended.checked_sub(1).map(|at| ends[&is_periodic(urb)][at]);
        let low_us = ended
            .unwrap_or(0)
            .saturating_sub(urb.submitted_us + GRAIN_US);
        let high_us = before.map_or(length_us, |before| at_us.saturating_sub(before));
        times
            .entry((hci.as_str(), urb.place.kind))
            .or_default()
            .push(Times {
                seen_ns: at_us.saturating_sub(urb.submitted_us) * 1000,
                low_ns: low_us * 1000,
                high_ns: (high_us + GRAIN_US) * 1000,
            });
    }
    times
}

const fn is_periodic(urb: &Urb) -> bool {
    matches!(urb.place.kind, UrbKind::Isochronous | UrbKind::Interrupt)
}

/// Adds what had to wait for a suspended device: the first that is sent after each suspension. The kernel resumes the device for it.
fn expect_deferred(snapshot: &mut Snapshot, scenario: &Scenario) {
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    let mut suspended = BTreeSet::new();
    for step in &scenario.steps {
        let (socket, endpoint) = match step {
            Step::Listen {
                socket, controller, ..
            }
            | Step::OpenHci {
                socket, controller, ..
            } => {
                places.insert(socket, *controller);
                continue;
            }
            // Kernel: hci_connect_acl() sends the command.
            Step::Connect { socket, from, .. } => {
                places.insert(socket, *from);
                (socket, "control")
            }
            Step::Suspend { controller } => {
                suspended.insert(*controller);
                continue;
            }
            Step::Resume { controller } => {
                suspended.remove(controller);
                continue;
            }
            Step::HciCommands { socket, .. } => (socket, "control"),
            _ => continue,
        };
        let at = places.get(socket.as_str());
        if let Some(at) = at.filter(|at| suspended.remove(at)) {
            let hci = format!("hci{at}");
            let labels = [("hci", hci.as_str()), ("endpoint", endpoint)];
            snapshot.add(&URB_DEFERRED, &labels, 1);
        }
    }
}

pub(super) const fn endpoint(kind: UrbKind) -> &'static str {
    match kind {
        UrbKind::Isochronous => "isoc",
        UrbKind::Interrupt => "interrupt",
        UrbKind::Control => "control",
        UrbKind::Bulk => "bulk",
    }
}

pub(super) fn status_name(status: i32) -> &'static str {
    match status {
        0 => "ok",
        _ => errno_name(status.unsigned_abs()),
    }
}

/// The URBs of devices that are, or were, at these places, each with its device's name.
pub(super) fn at_places(
    evidence: &Evidence,
    places: &[UsbPlace],
) -> Result<Vec<(String, Urb)>, CaptureError> {
    let Some(capture) = evidence.usb_captures.get(USB_MONITOR) else {
        return Ok(Vec::new());
    };
    let named = |urb: Urb| {
        let at = (urb.place.bus, urb.place.device);
        let mut places = places.iter();
        let place = places.find(|place| (place.bus, place.device) == at)?;
        (!is_standard(&urb)).then(|| (format!("hci{}", place.hci), urb))
    };
    Ok(urbs(capture)?.into_iter().filter_map(named).collect())
}

pub(super) fn is_standard(urb: &Urb) -> bool {
    let request = urb
        .request_type
        .filter(|_| urb.place.kind == UrbKind::Control);
    request.is_some_and(|request| request & REQUEST_TYPE_MASK == 0)
}

/// For each device, how many transfers a fault held for how long, at least.
fn held(scenario: &Scenario) -> Vec<(String, u64, u64)> {
    let hold = |step: &Step| match step {
        Step::UsbFault { fault } => match fault.action {
            UsbFaultAction::Hold(time) if fault.endpoint == UsbEndpoint::AclOut => {
                let hci = format!("hci{}", fault.controller.index());
                Some((
                    hci,
                    fault.times,
                    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
                ))
            }
            _ => None,
        },
        _ => None,
    };
    scenario.steps.iter().filter_map(hold).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usbmon::UrbPlace;

    fn urb(kind: UrbKind, is_in: bool, submitted_us: u64, at_us: u64) -> (String, Urb) {
        let urb = Urb {
            place: UrbPlace {
                bus: 1,
                device: 2,
                kind,
                is_in,
            },
            request_type: None,
            asked_bytes: 0,
            submitted_us,
            end: Some(UrbEnd::Completed {
                at_us,
                status: 0,
                bytes: 0,
                packets: Vec::new(),
            }),
        };
        ("hci0".to_owned(), urb)
    }

    /// Check that limits come from what the monitor saw before: the submission of the URB before from the same driver, and the end of the one
    /// before in the same queue.
    #[test]
    fn times_have_limits_from_urbs_before() {
        let urbs = [
            urb(UrbKind::Control, false, 100, 140),
            urb(UrbKind::Bulk, true, 110, 210),
            urb(UrbKind::Interrupt, true, 120, 245),
            urb(UrbKind::Bulk, false, 200, 250),
        ];
        let observed_in = Period {
            began_ns: 0,
            ended_ns: 900_000,
        };
        let times = times(observed_in, &urbs);
        let limits = |kind| {
            let of = |times: &Times| (times.low_ns, times.seen_ns, times.high_ns);
            times[&("hci0", kind)].iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(limits(UrbKind::Control), [(0, 40_000, 901_000)]);
        assert_eq!(limits(UrbKind::Bulk), [(9_000, 50_000, 151_000)]);
    }
}
