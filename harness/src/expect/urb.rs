//! The urb family: the guest's USB monitor saw every URB, begin and end.

use crate::evidence::{Evidence, USB_MONITOR};
use crate::usbmon::{CaptureError, Urb, UrbEnd, UrbKind, urbs};
use controller::transport::usbredir::{UsbEndpoint, UsbFaultAction};
use evidence::{Scenario, Step, UsbPlace};
use metrics::catalogue::{
    URB_BYTES, URB_COMPLETED, URB_DEFERRED, URB_IN_FLIGHT, URB_ISOC_PACKETS, URB_LATENCY,
    URB_REFUSED, URB_SUBMITTED,
};
use metrics::{Snapshot, errno_name};
use std::collections::{BTreeMap, BTreeSet};

/// Bits 5 and 6 of a request type: 0 is a standard request, which usbcore makes by itself.
const REQUEST_TYPE_MASK: u8 = 0x60;
/// The monitor's stamps are taken right after the probes', so what it says of a URB's time differs by what lies between: microseconds, but
/// for a guest that is held up just there.
const STAMP_SLACK_NS: u64 = 10_000_000;

/// Adds the family's series.
pub(super) fn expect(snapshot: &mut Snapshot, scenario: &Scenario, evidence: &Evidence) {
    let mut in_flight: BTreeMap<(String, &str), i64> = BTreeMap::new();
    let urbs = at_places(evidence, &evidence.usb_places).unwrap_or_default();
    expect_latency(snapshot, scenario, &urbs);
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
fn expect_latency(snapshot: &mut Snapshot, scenario: &Scenario, urbs: &[(String, Urb)]) {
    let mut took: BTreeMap<(&str, UrbKind), Vec<u64>> = BTreeMap::new();
    for (hci, urb) in urbs.iter().filter(|(_, urb)| !urb.place.is_in) {
        if let Some(UrbEnd::Completed { at_us, .. }) = urb.end {
            let ns = at_us.saturating_sub(urb.submitted_us) * 1000;
            took.entry((hci, urb.place.kind)).or_default().push(ns);
        }
    }
    let held = held(scenario);
    for ((hci, kind), mut times) in took {
        times.sort_unstable_by_key(|ns| std::cmp::Reverse(*ns));
        let mut holds = held
            .iter()
            .filter(|(on, ..)| on == hci && kind == UrbKind::Bulk);
        let (count, hold_ns) = holds.next().map_or((0, 0), |(_, count, ns)| (*count, *ns));
        for (rank, ns) in (0..).zip(times) {
            let hold_ns = if rank < count { hold_ns + 1 } else { 0 };
            let low = ns.saturating_sub(STAMP_SLACK_NS).max(hold_ns);
            let labels = [("hci", hci), ("endpoint", endpoint(kind))];
            snapshot.observe_between(&URB_LATENCY, &labels, low, ns + STAMP_SLACK_NS);
        }
    }
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
