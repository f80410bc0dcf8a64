//! The scenarios, as data. Every count is a prime of its own, so that swapped, doubled or added
//! counters cannot pass.

mod audio;
mod build;
mod delay;
mod l2cap;
mod stall;
mod usb;

use evidence::Scenario;

/// Every scenario, in the order of the report.
#[must_use]
pub fn all() -> Vec<Scenario> {
    vec![
        l2cap::seqpacket(),
        l2cap::stream_and_ertm(),
        l2cap::fragmented(),
        l2cap::threads(),
        l2cap::peek(),
        l2cap::disconnect(),
        stall::stalled_controller(),
        stall::small_sndbuf(),
        delay::delayed_acks(),
        delay::waiting_packets(),
        delay::slow_command(),
        audio::sco_cvsd(),
        audio::rfcomm(),
        usb::l2cap_over_bulk(),
        usb::two_dongles(),
        usb::sco_cvsd(),
        usb::sco_faults(),
        usb::stall(),
        usb::retry(),
        usb::held(),
        usb::errors_in(),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Check that names, by which people and reports find scenarios, are distinct.
    #[test]
    fn scenarios_have_distinct_names() {
        let all = super::all();
        let names: BTreeSet<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
    }
}
