//! The urb family: the guest's USB monitor saw every URB, begin and end.

use crate::evidence::{Evidence, USB_MONITOR};
use crate::outcome::Deviation;
use crate::usbmon::{CaptureError, Urb, UrbEnd, UrbKind, urbs};
use controller::transport::usbredir::{UsbEndpoint, UsbFaultAction, UsbStatus, UsbTransfers};
use evidence::{Scenario, Step};
use metrics::catalogue::{
    URB_BYTES, URB_COMPLETED, URB_IN_FLIGHT, URB_ISOC_PACKETS, URB_LATENCY, URB_REFUSED,
    URB_SUBMITTED,
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
    let urbs = of_controllers(evidence).unwrap_or_default();
    expect_latency(snapshot, scenario, &urbs);
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

const fn endpoint(kind: UrbKind) -> &'static str {
    match kind {
        UrbKind::Isochronous => "isoc",
        UrbKind::Interrupt => "interrupt",
        UrbKind::Control => "control",
        UrbKind::Bulk => "bulk",
    }
}

fn status_name(status: i32) -> &'static str {
    match status {
        0 => "ok",
        _ => errno_name(status.unsigned_abs()),
    }
}

/// The URBs of the devices that there are, each with its device's name.
fn of_controllers(evidence: &Evidence) -> Result<Vec<(String, Urb)>, CaptureError> {
    let Some(capture) = evidence.usb_captures.get(USB_MONITOR) else {
        return Ok(Vec::new());
    };
    let standard = |urb: &Urb| {
        let request = urb
            .request_type
            .filter(|_| urb.place.kind == UrbKind::Control);
        request.is_some_and(|request| request & REQUEST_TYPE_MASK == 0)
    };
    let named = |urb: Urb| {
        let at = (urb.place.bus, urb.place.device);
        let mut places = evidence.usb_places.iter();
        let place = places.find(|place| (place.bus, place.device) == at)?;
        (!standard(&urb)).then(|| (format!("hci{}", place.hci), urb))
    };
    Ok(urbs(capture)?.into_iter().filter_map(named).collect())
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

/// Where the guest's USB monitor and the dongles themselves disagree. Neither has to do with the probes.
#[must_use]
pub fn check_monitor(scenario: &Scenario, evidence: &Evidence) -> Vec<Deviation> {
    if evidence.usb.is_empty() {
        return Vec::new();
    }
    let urbs = match of_controllers(evidence) {
        Ok(urbs) if urbs.is_empty() => return vec![deviation("", "URBs", "none")],
        Ok(urbs) => urbs,
        Err(error) => return vec![deviation("", "a capture", &error.to_string())],
    };
    let mut deviations = check_planted(scenario, &urbs);
    for (hci, transfers) in &evidence.usb {
        deviations.extend(check_errors(*hci, transfers, evidence));
        let hci = format!("hci{hci}");
        for (endpoint, kind, is_in) in COMPARED {
            let crossed = transfers
                .iter()
                .filter(|sum| sum.endpoint == endpoint && sum.status == UsbStatus::Success);
            let crossed: u64 = crossed.map(|sum| sum.bytes).sum();
            let own = urbs.iter().filter(|(name, urb)| {
                *name == hci && urb.place.kind == kind && urb.place.is_in == is_in
            });
            let seen: u64 = own.map(|(_, urb)| moved(urb)).sum();
            if crossed != seen {
                let labels = format!("{{hci=\"{hci}\",endpoint=\"{endpoint:?}\"}}");
                deviations.push(deviation(&labels, &crossed.to_string(), &seen.to_string()));
            }
        }
    }
    deviations
}

/// The driver counts each URB from the host that failed as an error, and the dongle each that it did not take.
fn check_errors(hci: u16, transfers: &[UsbTransfers], evidence: &Evidence) -> Option<Deviation> {
    let refused = transfers.iter().filter(|sum| {
        let from_host = matches!(sum.endpoint, UsbEndpoint::Commands | UsbEndpoint::AclOut);
        from_host && matches!(sum.status, UsbStatus::Stall | UsbStatus::Babble)
    });
    let refused: u64 = refused.map(|sum| sum.transfers).sum();
    let counted = evidence.devices.get(&hci)?.errors_sent;
    (u64::from(counted) != refused).then(|| Deviation {
        metric: "HCIGETDEVINFO err_tx".to_owned(),
        labels: format!("{{hci=\"hci{hci}\"}}"),
        expected: refused.to_string(),
        observed: counted.to_string(),
    })
}

/// Errors that URBs, or packets of isochronous ones, ended with: by device, endpoint and status.
type Errors = BTreeMap<(String, UrbKind, bool, &'static str), u64>;

/// What was made to go wrong, as the driver is to see it. What the host controller mends, it does not see.
fn planted_errors(scenario: &Scenario) -> Errors {
    let mut planted = Errors::new();
    for step in &scenario.steps {
        let Step::UsbFault { fault } = step else {
            continue;
        };
        let status = match (fault.action, fault.endpoint) {
            (UsbFaultAction::Stall, _) => "EPIPE",
            (UsbFaultAction::Babble, _) => "EOVERFLOW",
            (UsbFaultAction::IoError, UsbEndpoint::ScoIn) => "EPROTO",
            _ => continue,
        };
        let (_, kind, is_in) = COMPARED[fault.endpoint as usize];
        let hci = format!("hci{}", fault.controller.index());
        *planted.entry((hci, kind, is_in, status)).or_default() += fault.times;
    }
    planted
}

/// What the monitor saw go wrong. What the host took back is no error.
fn seen_errors(urbs: &[(String, Urb)]) -> Errors {
    const TAKEN_BACK: [&str; 4] = ["ENOENT", "ECONNRESET", "ESHUTDOWN", "EXDEV"];
    let mut seen = Errors::new();
    for (hci, urb) in urbs {
        let Some(UrbEnd::Completed {
            status, packets, ..
        }) = &urb.end
        else {
            continue;
        };
        let names = packets
            .iter()
            .chain([status])
            .map(|status| status_name(*status));
        for name in names.filter(|name| *name != "ok" && !TAKEN_BACK.contains(name)) {
            let key = (hci.clone(), urb.place.kind, urb.place.is_in, name);
            *seen.entry(key).or_default() += 1;
        }
    }
    seen
}

fn count(errors: &Errors, key: &(String, UrbKind, bool, &'static str)) -> u64 {
    errors.get(key).copied().unwrap_or(0)
}

fn check_planted(scenario: &Scenario, urbs: &[(String, Urb)]) -> Vec<Deviation> {
    let (planted, seen) = (planted_errors(scenario), seen_errors(urbs));
    let keys: BTreeSet<_> = planted.keys().chain(seen.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|key| count(&planted, key) != count(&seen, key));
    let say = |key: &(String, UrbKind, bool, &'static str)| {
        let (hci, kind, is_in, status) = key;
        let direction = if *is_in { "in" } else { "out" };
        let endpoint = endpoint(*kind);
        Deviation {
            metric: "usbmon errors".to_owned(),
            labels: format!(
                "{{hci=\"{hci}\",endpoint=\"{endpoint}\",direction=\"{direction}\",status=\"{status}\"}}"
            ),
            expected: count(&planted, key).to_string(),
            observed: count(&seen, key).to_string(),
        }
    };
    differing.map(say).collect()
}

/// What can be told from both ends, in the order of [`UsbEndpoint`].
const COMPARED: [(UsbEndpoint, UrbKind, bool); 6] = [
    (UsbEndpoint::Commands, UrbKind::Control, false),
    (UsbEndpoint::Events, UrbKind::Interrupt, true),
    (UsbEndpoint::AclIn, UrbKind::Bulk, true),
    (UsbEndpoint::AclOut, UrbKind::Bulk, false),
    (UsbEndpoint::ScoIn, UrbKind::Isochronous, true),
    (UsbEndpoint::ScoOut, UrbKind::Isochronous, false),
];

/// Bytes that a URB moved; those of one that failed were lost on the way.
fn moved(urb: &Urb) -> u64 {
    match urb.end {
        Some(UrbEnd::Completed {
            status: 0, bytes, ..
        }) => bytes.into(),
        _ => 0,
    }
}

fn deviation(labels: &str, expected: &str, observed: &str) -> Deviation {
    Deviation {
        metric: "usbmon bytes".to_owned(),
        labels: labels.to_owned(),
        expected: expected.to_owned(),
        observed: observed.to_owned(),
    }
}
