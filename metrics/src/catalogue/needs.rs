//! What metrics need of a kernel besides that their functions exist: the rules that the loader chooses by, and that a prediction has to know.

use super::{
    COMPLETED_PACKETS, Family, Metric, SLOTS_AT_SEND, SLOTS_CAPACITY, SLOTS_EXHAUSTED, SLOTS_FREE,
    SLOTS_MINIMUM,
};

/// Functions that run in softirq context, which nothing preempts but on real-time kernels: programs at trampolines miss no call of them. Programs at
/// kprobes do, if the interrupt came in the middle of another program, and nothing counts that.
pub static IN_SOFTIRQ: &[&str] = &["usbcore:__usb_hcd_giveback_urb"];

/// Functions that return nothing in some kernels; only BTF tells which.
pub static SOMETIMES_VOID: &[&str] = &["bluetooth:hci_send_frame"];

/// Functions without which no metric of a family is right, whatever else the metric is taken from.
#[must_use]
pub fn needed_by(family: Family) -> &'static [&'static str] {
    match family {
        Family::Urb => &["usbcore:usb_submit_urb", "bluetooth:hci_sock_dev_event"],
        _ => &[],
    }
}

/// Members without which a metric lacks some of its series: structure, member. Kernels before 6.0 have no pool for ISO.
#[must_use]
pub fn members_of(metric: &Metric) -> &'static [(&'static str, &'static str)] {
    const WITH_ISO: [&Metric; 6] = [
        &SLOTS_AT_SEND,
        &SLOTS_MINIMUM,
        &COMPLETED_PACKETS,
        &SLOTS_EXHAUSTED,
        &SLOTS_FREE,
        &SLOTS_CAPACITY,
    ];
    if WITH_ISO.iter().any(|with| with.name == metric.name) {
        &[("hci_dev", "iso_pkts")]
    } else {
        &[]
    }
}
