//! Which programs measure which events, best first.
//!
//! A program's name is `<event>_<attach kind>`; its object is its family's.

mod buffer;
mod credits;
mod hci;
mod latency;
mod socket;
mod urb;

use metrics::catalogue::{IN_SOFTIRQ, SOMETIMES_VOID};
use metrics::{Family, Metric};

use metrics::AttachKind::{self, Fentry, Fexit, Kprobe, Kretprobe};

/// One event in the kernel and the ways to see it.
#[derive(Debug)]
pub(crate) struct Hook {
    /// First part of the programs' names.
    pub(crate) event: &'static str,
    /// Module that holds the symbol, unless it is built in.
    pub(crate) module: &'static str,
    /// Function to attach to, or datum to read.
    pub(crate) symbol: &'static str,
    /// Sets of programs, each of which does the whole job; the best first.
    pub(crate) variants: &'static [&'static [AttachKind]],
    /// Structures of the module whose fields are read.
    pub(crate) structs: &'static [&'static str],
    /// Series that have no other source.
    pub(crate) feeds: &'static [Feed],
}

/// Series that an event feeds: those of a metric that have these labels.
#[derive(Debug)]
pub(crate) struct Feed {
    /// The metric.
    pub(crate) metric: &'static Metric,
    /// The labels.
    pub(crate) labels: &'static [(&'static str, &'static str)],
}

/// Series that need a member of a structure which some kernels do not have.
#[derive(Debug)]
pub(crate) struct Partial {
    /// The event that feeds them, by its structure's owner.
    pub(crate) family: Family,
    /// The event.
    pub(crate) event: &'static str,
    /// The structure.
    pub(crate) structure: &'static str,
    /// The member.
    pub(crate) member: &'static str,
    /// The series.
    pub(crate) feed: Feed,
}

/// All of them.
pub(crate) const PARTIAL: &[Partial] = credits::PARTIAL;

impl Hook {
    /// Name of the program of this kind.
    pub(crate) fn prog(&self, kind: AttachKind) -> String {
        format!("{}_{kind}", self.event)
    }

    /// Does the event come in softirq context?
    pub(crate) fn is_in_softirq(&self) -> bool {
        IN_SOFTIRQ.contains(&self.function().as_str())
    }

    /// Does the function return nothing in some kernels?
    pub(crate) fn is_sometimes_void(&self) -> bool {
        SOMETIMES_VOID.contains(&self.function().as_str())
    }

    /// The function's name in the catalogue.
    fn function(&self) -> String {
        format!("{}:{}", self.module, self.symbol)
    }
}

/// Events whose programs are passed over harmlessly. URBs towards the host are submitted again in softirq context, now and then in the middle
/// of another submission; these programs do not count them. URBs from the host are submitted by tasks, and miss nothing.
pub(crate) const MISSES_NOTHING: &[&str] =
    &["usb_submit_urb", "usb_anchor_urb", "usb_unanchor_urb"];

const ENTRY: &[&[AttachKind]] = &[&[Fentry], &[Kprobe]];
/// For programs that need the result alone.
const RETURN: &[&[AttachKind]] = &[&[Fexit], &[Kretprobe]];

pub(crate) use urb::GIVEBACK;

/// Head of the list of all devices.
pub(crate) const DEVICE_LIST: &str = "hci_dev_list";

/// Every structure whose fields some program reads: all that `bpf/compat.bpf.h` describes.
pub(crate) const STRUCTS: &[&str] = &[
    "bt_skb_cb",
    "delayed_work",
    "device",
    "file",
    "hci_chan",
    "hci_conn",
    "hci_conn_hash",
    "hci_dev",
    "list_head",
    "msghdr",
    "pt_regs",
    "sk_buff",
    "sock",
    "sock_common",
    "socket",
    "task_struct",
    "urb",
    "usb_device",
    "usb_iso_packet_descriptor",
    "user_pt_regs",
    "work_struct",
];

/// Flag of a device whose SCO packets take slots: an enumerator whose number differs between kernels.
pub(crate) const SCO_FLOWCTL: &str = "HCI_SCO_FLOWCTL";
/// Flag of a device that goes. Its number differs too.
pub(crate) const UNREGISTER: &str = "HCI_UNREGISTER";
/// Flag of a device that a process drives.
pub(crate) const USER_CHANNEL: &str = "HCI_USER_CHANNEL";

/// The events of a family; none if it has no programs of its own.
pub(crate) fn hooks_of(family: Family) -> &'static [Hook] {
    match family {
        Family::Socket => socket::HOOKS,
        Family::Credits => credits::HOOKS,
        Family::Buffer => buffer::HOOKS,
        Family::Urb => urb::HOOKS,
        Family::Latency => latency::HOOKS,
        Family::Hci => hci::HOOKS,
        Family::Probe => &[],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use metrics::CATALOGUE;
    use metrics::catalogue::{members_of, needed_by};

    use super::*;
    use crate::FAMILIES;

    /// Check that every metric of a family with an object is fed by some event.
    #[test]
    fn metrics_of_families_with_objects_are_all_fed() {
        let hooks = FAMILIES.iter().flat_map(|family| hooks_of(*family));
        let fed: BTreeSet<_> = hooks
            .flat_map(|hook| hook.feeds)
            .map(|feed| feed.metric.name)
            .collect();
        let wanted: BTreeSet<_> = CATALOGUE
            .iter()
            .filter(|metric| FAMILIES.contains(&metric.family))
            .map(|metric| metric.name)
            .collect();
        assert_eq!(fed, wanted);
    }

    /// Check that the functions which a whole family stands or falls with are those of the events that feed all of its metrics, and that what
    /// comes in softirq context is an event.
    #[test]
    fn functions_that_a_family_needs_feed_all_of_it() {
        for family in FAMILIES {
            let metrics = CATALOGUE.iter().filter(|metric| metric.family == *family);
            let count = metrics.count();
            let feeds_all = |hook: &&Hook| {
                let whole = hook.feeds.iter().filter(|feed| feed.labels.is_empty());
                whole.count() == count
            };
            let hooks = hooks_of(*family)
                .iter()
                .filter(feeds_all)
                .map(Hook::function);
            let hooks: BTreeSet<_> = hooks.collect();
            let needed = needed_by(*family).iter().map(|name| (*name).to_owned());
            assert_eq!(hooks, needed.collect(), "{family}");
        }
        let hooks = FAMILIES.iter().flat_map(|family| hooks_of(*family));
        assert_eq!(
            hooks.filter(|hook| hook.is_in_softirq()).count(),
            IN_SOFTIRQ.len()
        );
    }

    /// Check that the members that series depend on are those which the catalogue names for their metrics.
    #[test]
    fn partial_series_are_those_of_the_catalogue() {
        let ours = PARTIAL
            .iter()
            .map(|p| (p.feed.metric.name, p.structure, p.member));
        let of_metric = |metric: &&'static Metric| {
            let members = members_of(metric).iter();
            members.map(|(structure, member)| (metric.name, *structure, *member))
        };
        let catalogued = CATALOGUE.iter().flat_map(of_metric);
        assert_eq!(
            ours.collect::<BTreeSet<_>>(),
            catalogued.collect::<BTreeSet<_>>()
        );
    }

    /// Check that the labels of each feed exist in the catalogue with that value.
    #[test]
    fn labels_of_feeds_are_in_the_catalogue() {
        for feed in FAMILIES
            .iter()
            .flat_map(|f| hooks_of(*f))
            .flat_map(|hook| hook.feeds)
        {
            for (name, value) in feed.labels {
                let label = feed.metric.labels.iter().find(|label| label.name == *name);
                assert!(
                    label.is_some_and(|label| label.values.allows(value)),
                    "{name}={value}"
                );
            }
        }
    }

    /// Check that the list of structures is what the programs' header describes: one that is not in
    /// it would be relocated against nothing.
    #[test]
    fn structs_are_those_of_the_header() {
        let header = include_str!("../../bpf/compat.bpf.h");
        let described: BTreeSet<_> = header
            .lines()
            .filter_map(|line| {
                let name = line.strip_prefix("struct ")?;
                Some(name.trim_end_matches([' ', '{', ';']))
            })
            .collect();
        assert_eq!(described, STRUCTS.iter().copied().collect());
    }
}
