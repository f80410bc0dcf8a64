//! The scenarios, as data. Every count is a prime of its own, so that swapped, doubled or added
//! counters cannot pass.

mod audio;
mod buffer;
mod build;
mod delay;
mod devices;
mod faults;
mod hosts;
mod l2cap;
mod le;
mod profiles;
mod stall;
mod usb;
mod usb_power;

use evidence::Scenario;

/// Every scenario, in the order of the report.
#[must_use]
pub fn all() -> Vec<Scenario> {
    vec![
        l2cap::seqpacket(),
        l2cap::stream_and_ertm(),
        l2cap::fragmented(),
        l2cap::threads(),
        l2cap::peek_and_errqueue(),
        l2cap::tx_timestamps(),
        l2cap::disconnect(),
        stall::stalled_controller(),
        stall::small_sndbuf(),
        stall::interrupted_calls(),
        buffer::full_buffer(),
        delay::delayed_acks(),
        delay::waiting_packets(),
        delay::slow_command(),
        le::l2cap_le_coc(),
        le::l2cap_le_coc_suspended(),
        le::link_loss(),
        le::iso_cis(),
        le::iso_stalled(),
        audio::sco_cvsd(),
        audio::sco_msbc(),
        audio::sco_stalled(),
        audio::rfcomm(),
        audio::rfcomm_stalled(),
        usb::l2cap_over_bulk(),
        usb::two_dongles(),
        usb::le_coc(),
        usb::sco_cvsd(),
        usb::sco_msbc(),
        usb::sco_faults(),
        usb::sco_refused(),
        usb::stall(),
        usb::retry(),
        usb::held(),
        usb::errors_in(),
        usb::refused(),
        usb_power::autosuspend(),
        usb_power::reset_in_flight(),
        usb_power::unplug_mid_traffic(),
        usb_power::driver_reload(),
        usb_power::beside_vhci(),
        devices::hci_raw_and_user_channel(),
        hosts::user_channel_links(),
        hosts::driver_packets(),
        devices::controller_reset(),
        devices::hardware_error(),
        devices::unplug_replug(),
        devices::unplug(),
        profiles::bredr_pairing(),
        profiles::le_legacy(),
        profiles::three_controllers(),
        profiles::ack_policies(),
        faults::completes_too_many(),
        faults::completes_one_too_many(),
        faults::unreliable_air(),
        faults::command_faults(),
        faults::command_never_answered(),
        faults::command_credits_withheld(),
        faults::completes_unknown_link(),
        faults::garbage_events(),
        faults::spoiled_events(),
        faults::link_loss(),
    ]
}

/// Are the probes to be detached at the end of this one, so that the kernel can complain? Each kernel does it once on each kind of machine.
#[must_use]
pub fn detaches(scenario: &Scenario) -> bool {
    DETACHING.contains(&scenario.name.as_str())
}

const DETACHING: [&str; 2] = ["rfcomm", "usb-two-dongles"];

/// Two sockets and one transfer between them, as the last step: for measuring, not for judging.
#[must_use]
pub fn throughput(messages: u32) -> Scenario {
    l2cap::throughput(messages)
}

/// The same between two USB dongles.
#[must_use]
pub fn bulk(messages: u32) -> Scenario {
    Scenario {
        name: "usb-bulk".to_owned(),
        ..build::on_usb(l2cap::throughput(messages))
    }
}

/// Length of the messages of [`throughput`] and [`bulk`], bytes.
pub const BULK_BYTES: usize = build::DEFAULT_MTU;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    /// Check that probes are detached once with USB and once without, by scenarios that exist.
    #[test]
    fn probes_are_detached_once_on_each_machine() {
        let all = super::all();
        let detaching = all.iter().filter(|scenario| super::detaches(scenario));
        let on_usb: Vec<bool> = detaching.map(evidence::Scenario::is_outside).collect();
        assert_eq!(on_usb, [false, true]);
    }

    /// Check that names, by which people and reports find scenarios, are distinct.
    #[test]
    fn scenarios_have_distinct_names() {
        let all = super::all();
        let names: BTreeSet<&str> = all.iter().map(|scenario| scenario.name.as_str()).collect();
        assert_eq!(names.len(), all.len());
    }
}
