//! The witnesses of USB against each other: the guest's USB monitor, QEMU's captures, the dongles, the driver's counters. None has to do
//! with the probes.

use super::urb::{at_places, endpoint, is_standard, status_name};
use crate::evidence::Evidence;
use crate::outcome::Deviation;
use crate::usbmon::{Urb, UrbEnd, UrbKind, urbs};
use controller::transport::usbredir::{UsbEndpoint, UsbFaultAction, UsbStatus, UsbTransfers};
use evidence::{DeviceAction, Scenario, Step};
use std::collections::{BTreeMap, BTreeSet};

/// Where the witnesses of USB disagree.
#[must_use]
pub fn check_usb(scenario: &Scenario, evidence: &Evidence) -> Vec<Deviation> {
    if evidence.usb.is_empty() {
        return Vec::new();
    }
    let mut deviations = check_monitor(scenario, evidence);
    deviations.extend(check_captures(scenario, evidence));
    deviations
}

/// Where the guest's USB monitor and the dongles disagree.
fn check_monitor(scenario: &Scenario, evidence: &Evidence) -> Vec<Deviation> {
    let seen = at_places(evidence, &evidence.usb_places)
        .and_then(|urbs| Ok((urbs, at_places(evidence, &evidence.usb_gone)?)));
    let (urbs, gone) = match seen {
        Ok((urbs, _)) if urbs.is_empty() => return vec![deviation("usbmon", "", "URBs", "none")],
        Ok(seen) => seen,
        Err(error) => return vec![deviation("usbmon", "", "a capture", &error.to_string())],
    };
    let planted = Planted::by(scenario);
    let mut deviations = differences("usbmon errors", &planted.present, &errors_of(&urbs));
    let of_gone = "usbmon errors of devices that are gone";
    deviations.extend(differences(of_gone, &planted.gone, &errors_of(&gone)));
    deviations.extend(check_ended(&gone));
    for (hci, transfers) in &evidence.usb {
        deviations.extend(check_errors(*hci, transfers, &planted, evidence));
        let name = format!("hci{hci}");
        let own = urbs.iter().filter(|(of, _)| *of == name);
        let own: Vec<&Urb> = own.map(|(_, urb)| urb).collect();
        deviations.extend(check_bytes("usbmon bytes", &name, transfers, &own, moved));
    }
    deviations
}

/// Where QEMU's captures of the buses and the dongles disagree. A capture goes on when its dongle is put in again, and the dongle counts anew.
fn check_captures(scenario: &Scenario, evidence: &Evidence) -> Vec<Deviation> {
    let unplugs = |step: &Step| matches!(step, Step::Unplug { .. } | Step::UnplugUnderWrite { .. });
    if scenario.steps.iter().any(unplugs) {
        return Vec::new();
    }
    let check = |(number, transfers): (&usize, &Vec<UsbTransfers>)| {
        let name = format!("usb{number}.pcap");
        let capture = evidence.usb_captures.get(&name);
        match capture.map(|capture| urbs(capture)) {
            None => vec![deviation("QEMU's capture", &name, "one", "none")],
            Some(Err(error)) => {
                vec![deviation(
                    "QEMU's capture",
                    &name,
                    "one",
                    &error.to_string(),
                )]
            }
            Some(Ok(urbs)) => {
                let own: Vec<&Urb> = urbs.iter().filter(|urb| !is_standard(urb)).collect();
                check_bytes("QEMU's capture bytes", &name, transfers, &own, captured)
            }
        }
    };
    evidence.usb_captured.iter().flat_map(check).collect()
}

/// As [`moved`], in QEMU's captures: those have no end of a request, and say at the end of a transfer from the host that nothing moved.
fn captured(urb: &Urb) -> u64 {
    match urb.end {
        Some(UrbEnd::Completed { status: 0, .. }) if urb.place.is_in => moved(urb),
        Some(UrbEnd::Completed { status: 0, .. }) => urb.asked_bytes.into(),
        _ if urb.place.kind == UrbKind::Control => urb.asked_bytes.into(),
        _ => 0,
    }
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

fn check_bytes(
    witness: &str,
    hci: &str,
    transfers: &[UsbTransfers],
    urbs: &[&Urb],
    bytes: impl Fn(&Urb) -> u64,
) -> Vec<Deviation> {
    let mut deviations = Vec::new();
    for (endpoint, kind, is_in) in COMPARED {
        let crossed = transfers
            .iter()
            .filter(|sum| sum.endpoint == endpoint && sum.status == UsbStatus::Success);
        let crossed: u64 = crossed.map(|sum| sum.bytes).sum();
        let own = urbs
            .iter()
            .filter(|urb| urb.place.kind == kind && urb.place.is_in == is_in);
        let seen: u64 = own.map(|urb| bytes(urb)).sum();
        if crossed != seen {
            let labels = format!("{{hci=\"{hci}\",endpoint=\"{endpoint:?}\"}}");
            let (crossed, seen) = (crossed.to_string(), seen.to_string());
            deviations.push(deviation(witness, &labels, &crossed, &seen));
        }
    }
    deviations
}

/// Bytes that a URB moved; those of one that failed were lost on the way.
fn moved(urb: &Urb) -> u64 {
    match urb.end {
        Some(UrbEnd::Completed {
            status: 0, bytes, ..
        }) => bytes.into(),
        _ => 0,
    }
}

/// The driver counts each URB from the host that failed as an error: those that the dongle did not take, and those that the kernel took back.
fn check_errors(
    hci: u16,
    transfers: &[UsbTransfers],
    planted: &Planted,
    evidence: &Evidence,
) -> Option<Deviation> {
    let refused = transfers.iter().filter(|sum| {
        let from_host = matches!(sum.endpoint, UsbEndpoint::Commands | UsbEndpoint::AclOut);
        from_host && matches!(sum.status, UsbStatus::Stall | UsbStatus::Babble)
    });
    let refused: u64 = refused.map(|sum| sum.transfers).sum();
    let taken_back = (format!("hci{hci}"), UrbKind::Bulk, false, TAKEN_BACK);
    let expected = refused + count(&planted.present, &taken_back);
    let counted = u64::from(evidence.devices.get(&hci)?.errors_sent);
    let labels = format!("{{hci=\"hci{hci}\"}}");
    let (metric, expected, observed) = (
        "HCIGETDEVINFO err_tx",
        expected.to_string(),
        counted.to_string(),
    );
    (expected != observed).then(|| deviation(metric, &labels, &expected, &observed))
}

/// Errors that URBs, or packets of isochronous ones, ended with: by device, endpoint, direction and status.
type Errors = BTreeMap<ErrorKey, u64>;
type ErrorKey = (String, UrbKind, bool, &'static str);

/// What ends a URB that the driver takes back, and one whose device is gone. Kernel: usb_kill_urb(), usb_hcd_flush_endpoint().
const TAKEN_BACK: &str = "ENOENT";
const GONE: &str = "ESHUTDOWN";

/// What was made to go wrong, as the driver is to see it. What the host controller mends, it does not see.
#[derive(Debug, Default)]
struct Planted {
    /// On devices that are there at the end.
    present: Errors,
    /// On devices that were pulled out; towards the host it is as chance has it.
    gone: Errors,
}

impl Planted {
    fn by(scenario: &Scenario) -> Self {
        let mut planted = Self::default();
        // By controller: URBs that are submitted and never taken.
        let mut stuck: BTreeMap<usize, u64> = BTreeMap::new();
        for step in &scenario.steps {
            let (number, errors, status) = match step {
                Step::UsbFault { fault } if fault.action == UsbFaultAction::Never => {
                    // The host hands over as many packets as the controller has room for.
                    let number = fault.controller.index();
                    let slots = scenario.controllers.get(number).map(|c| c.acl.packets);
                    stuck.insert(number, slots.unwrap_or(0).into());
                    continue;
                }
                Step::UsbFault { fault } => {
                    let status = match (fault.action, fault.endpoint) {
                        (UsbFaultAction::Stall, _) => "EPIPE",
                        (UsbFaultAction::Babble, _) => "EOVERFLOW",
                        (UsbFaultAction::IoError, UsbEndpoint::ScoIn) => "EPROTO",
                        _ => continue,
                    };
                    let (_, kind, is_in) = COMPARED[fault.endpoint as usize];
                    let hci = format!("hci{}", fault.controller.index());
                    let key = (hci, kind, is_in, status);
                    *planted.present.entry(key).or_default() += fault.times;
                    continue;
                }
                Step::Device {
                    controller,
                    action: DeviceAction::Reset | DeviceAction::Down,
                } => (controller, &mut planted.present, TAKEN_BACK),
                Step::Unplug { controller } | Step::UnplugUnderWrite { controller, .. } => {
                    (controller, &mut planted.gone, GONE)
                }
                _ => continue,
            };
            if let Some(urbs) = stuck.remove(number) {
                let key = (format!("hci{number}"), UrbKind::Bulk, false, status);
                *errors.entry(key).or_default() += urbs;
            }
        }
        planted
    }
}

/// What the monitor saw go wrong. Requests towards the host are always under way: that the host takes them back at the end is no error.
fn errors_of(urbs: &[(String, Urb)]) -> Errors {
    const NO_ERROR_IN: [&str; 4] = ["ENOENT", "ECONNRESET", "ESHUTDOWN", "EXDEV"];
    let mut seen = Errors::new();
    for (hci, urb) in urbs {
        let Some(UrbEnd::Completed {
            status, packets, ..
        }) = &urb.end
        else {
            continue;
        };
        let (kind, is_in) = (urb.place.kind, urb.place.is_in);
        let excused =
            |name: &str| (is_in || kind == UrbKind::Isochronous) && NO_ERROR_IN.contains(&name);
        let statuses = packets.iter().chain([status]).map(|s| status_name(*s));
        for name in statuses.filter(|name| *name != "ok" && !excused(name)) {
            *seen.entry((hci.clone(), kind, is_in, name)).or_default() += 1;
        }
    }
    seen
}

/// Nothing is under way to a device that is gone.
fn check_ended(gone: &[(String, Urb)]) -> Option<Deviation> {
    let open = gone.iter().filter(|(_, urb)| urb.end.is_none()).count();
    let metric = "usbmon URBs under way to devices that are gone";
    (open > 0).then(|| deviation(metric, "", "0", &open.to_string()))
}

fn count(errors: &Errors, key: &ErrorKey) -> u64 {
    errors.get(key).copied().unwrap_or(0)
}

fn differences(metric: &str, planted: &Errors, seen: &Errors) -> Vec<Deviation> {
    let keys: BTreeSet<_> = planted.keys().chain(seen.keys()).collect();
    let differing = keys
        .into_iter()
        .filter(|key| count(planted, key) != count(seen, key));
    let say = |key: &ErrorKey| {
        let (hci, kind, is_in, status) = key;
        let direction = if *is_in { "in" } else { "out" };
        let endpoint = endpoint(*kind);
        let labels = format!(
            "{{hci=\"{hci}\",endpoint=\"{endpoint}\",direction=\"{direction}\",status=\"{status}\"}}"
        );
        let (planted, seen) = (count(planted, key), count(seen, key));
        deviation(metric, &labels, &planted.to_string(), &seen.to_string())
    };
    differing.map(say).collect()
}

fn deviation(metric: &str, labels: &str, expected: &str, observed: &str) -> Deviation {
    Deviation {
        metric: metric.to_owned(),
        labels: labels.to_owned(),
        expected: expected.to_owned(),
        observed: observed.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;
    use crate::usbmon::UrbPlace;

    fn planted(scenario: &str) -> Planted {
        let all = scenarios::all();
        Planted::by(all.iter().find(|s| s.name == scenario).unwrap())
    }

    fn urb(is_in: bool, asked_bytes: u32, end: Option<(i32, u32)>) -> Urb {
        Urb {
            place: UrbPlace {
                bus: 1,
                device: 2,
                kind: UrbKind::Bulk,
                is_in,
            },
            request_type: None,
            asked_bytes,
            submitted_us: 0,
            end: end.map(|(status, bytes)| UrbEnd::Completed {
                at_us: 0,
                status,
                bytes,
                packets: Vec::new(),
            }),
        }
    }

    fn errors(hci: &str, status: &'static str) -> Errors {
        let key = (hci.to_owned(), UrbKind::Bulk, false, status);
        Errors::from([(key, 7)])
    }

    /// Check that as many URBs as the controller has room for are expected to fail, with what became of the device.
    #[test]
    fn stuck_urbs_end_with_the_device_or_without() {
        let reset = planted("usb-reset-in-flight");
        assert_eq!(reset.present, errors("hci0", "ENOENT"));
        assert!(reset.gone.is_empty());
        let unplugged = planted("usb-unplug-mid-traffic");
        assert_eq!(unplugged.gone, errors("hci0", "ESHUTDOWN"));
        assert!(unplugged.present.is_empty());
    }

    /// Check that a URB more or fewer, or with another status, is found, and that what the host takes back towards itself is not taken for an
    /// error.
    #[test]
    fn urb_that_failed_otherwise_is_found() {
        let gone: Vec<(String, Urb)> = (0..7)
            .map(|_| ("hci0".to_owned(), urb(false, 9, Some((-108, 0)))))
            .chain([("hci0".to_owned(), urb(true, 9, Some((-108, 0))))])
            .collect();
        let wanted = errors("hci0", "ESHUTDOWN");
        assert_eq!(differences("m", &wanted, &errors_of(&gone)), []);
        let fewer = differences("m", &wanted, &errors_of(&gone[1..]));
        assert_eq!(
            (fewer[0].expected.as_str(), fewer[0].observed.as_str()),
            ("7", "6")
        );
        let otherwise = differences("m", &errors("hci0", "ENOENT"), &errors_of(&gone));
        assert_eq!(otherwise.len(), 2);
        assert!(check_ended(&gone).is_none());
        let open = [("hci0".to_owned(), urb(false, 9, None))];
        assert_eq!(check_ended(&open).unwrap().observed, "1");
    }

    /// Check that each witness's bytes are counted as it writes them down, and that a byte too many is found.
    #[test]
    fn bytes_of_the_witnesses_are_compared() {
        let transfers = [(UsbEndpoint::AclIn, 5), (UsbEndpoint::AclOut, 9)];
        let transfers = transfers.map(|(endpoint, bytes)| UsbTransfers {
            endpoint,
            status: UsbStatus::Success,
            transfers: 1,
            bytes,
        });
        let (from_dongle, taken_back) = (urb(true, 64, Some((0, 5))), urb(true, 64, Some((-2, 0))));
        let (monitor, qemu) = (urb(false, 9, Some((0, 9))), urb(false, 9, Some((0, 0))));
        let check = |urbs: &[&Urb], bytes: fn(&Urb) -> u64| {
            check_bytes("m", "hci0", &transfers, urbs, bytes).len()
        };
        assert_eq!(check(&[&from_dongle, &taken_back, &monitor], moved), 0);
        assert_eq!(check(&[&from_dongle, &taken_back, &qemu], captured), 0);
        assert_eq!(check(&[&from_dongle, &monitor, &monitor], moved), 1);
        assert_eq!(check(&[&qemu], captured), 1);
    }
}
