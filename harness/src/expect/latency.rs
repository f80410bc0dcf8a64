//! The latency family: each packet's times lie within limits that the ledgers and the steps give.

use super::process::Processes;
use super::{nanoseconds, reported_at_will};
use crate::evidence::Evidence;
use controller::{Detail, Entry, LinkKind, PacketKind, Pool};
use evidence::{HciChannel, Period, Scenario, Service, Stamp, Step};
use metrics::Snapshot;
use metrics::catalogue::{ACK_TIME, ACKS_UNMATCHED, IN_FLIGHT, QUEUE_TIME, UNACKNOWLEDGED};
use std::collections::{BTreeMap, VecDeque};

/// Adds the family's series.
pub(super) fn expect(snapshot: &mut Snapshot, scenario: &Scenario, evidence: &Evidence) {
    let silences = silences(scenario, evidence);
    for (hci, entries) in &evidence.ledgers {
        let mut host = Host {
            snapshot,
            hci: format!("hci{hci}"),
            length_ns: length_ns(evidence.observed_in),
            same_clock: !scenario.is_outside(),
            stamped: Stamped::of(scenario, evidence, *hci),
            silences: &silences,
            processes: Processes::of(scenario, evidence, *hci),
            links: BTreeMap::new(),
            acl_freed: Freed::default(),
        };
        entries.iter().for_each(|entry| host.see(entry));
        host.expect_in_flight();
    }
}

/// The periods in which no step hands anything to a socket, so that what the host sends then on a
/// channel of a socket has waited since before. There is none with RFCOMM, whose messages wait in its
/// own sockets before the kernel writes them to one of L2CAP.
fn silences(scenario: &Scenario, evidence: &Evidence) -> Vec<Period> {
    let mut silences = Vec::new();
    if scenario.steps.iter().any(is_rfcomm) {
        return silences;
    }
    let mut began_ns = None;
    for (step, period) in scenario.steps.iter().zip(&evidence.steps) {
        if is_silent(step) {
            continue;
        }
        silences.extend(began_ns.map(|began_ns| Period {
            began_ns,
            ended_ns: period.began_ns,
        }));
        began_ns = Some(period.ended_ns);
    }
    silences.extend(began_ns.map(|began_ns| Period {
        began_ns,
        ended_ns: evidence.observed_in.ended_ns,
    }));
    silences
}

fn is_rfcomm(step: &Step) -> bool {
    let service = match step {
        Step::Listen { service, .. } => service,
        _ => return false,
    };
    matches!(service, Service::Rfcomm { .. })
}

fn is_silent(step: &Step) -> bool {
    matches!(
        step,
        Step::Quiet { .. }
            | Step::Acks { .. }
            | Step::FlushAcks { .. }
            | Step::Inject { .. }
            | Step::Drain { .. }
            | Step::Read { .. }
            | Step::Peek { .. }
    )
}

/// One host, seen from its controller.
struct Host<'a> {
    snapshot: &'a mut Snapshot,
    hci: String,
    /// How long the probes were there: no time is longer.
    length_ns: u64,
    /// Is the ledger stamped by the host's clock? If not, it gives no lower limits.
    same_clock: bool,
    stamped: Stamped<'a>,
    silences: &'a [Period],
    /// Who sends what the kernel does not.
    processes: Processes,
    links: BTreeMap<u16, Link>,
    acl_freed: Freed,
}

/// The kernel's own stamps of what a socket wrote. They lie around what the probes see: the kernel stamps
/// a packet before it hands it to the driver, and again when it has processed the report of completion.
/// Kernel: v6.15 net/bluetooth/hci_conn.c `hci_conn_tx_queue()`, `hci_conn_tx_dequeue()`.
struct Stamped<'a> {
    /// From when on packets of sockets are stamped.
    since_ns: i64,
    stamps: std::slice::Iter<'a, Stamp>,
}

impl<'a> Stamped<'a> {
    fn of(scenario: &Scenario, evidence: &'a Evidence, hci: u16) -> Self {
        let begin = |step: &Step| matches!(step, Step::StampWrites { .. });
        let begin = scenario.steps.iter().position(begin);
        let begin = begin.and_then(|at| evidence.steps.get(at));
        Self {
            since_ns: begin.map_or(i64::MAX, |period| period.ended_ns),
            stamps: evidence.stamps.get(&hci).map_or([].iter(), |s| s.iter()),
        }
    }

    /// The longest time that the next packet of a socket can have been in the controller.
    fn limit(&mut self, at_ns: i64) -> Option<u64> {
        let stamp = (at_ns >= self.since_ns).then(|| self.stamps.next())??;
        u64::try_from(stamp.completed_ns - stamp.sent_ns).ok()
    }
}

/// A link with packets from the host.
struct Link {
    kind: &'static str,
    /// Whether the host has packets of such links acknowledged.
    counted: bool,
    /// Is the last packet part of what a socket sent, and not of the host's own signaling?
    of_socket: bool,
    /// The packets that are not acknowledged.
    in_flight: VecDeque<InFlight>,
}

/// A packet in the controller.
struct InFlight {
    came_ns: i64,
    /// It cannot be in there for longer.
    limit_ns: u64,
}

/// The buffers of one pool: when the host was last without any, and got some.
#[derive(Default)]
struct Freed {
    exhausted: bool,
    at_ns: Option<i64>,
}

impl Host<'_> {
    fn see(&mut self, entry: &Entry) {
        let at_ns = nanoseconds(entry);
        match &entry.detail {
            Detail::DataFromHost { .. } => self.see_data(entry, at_ns),
            Detail::Completed { links } => {
                for link in links {
                    self.see_completed(link.handle.get(), link.packets, at_ns);
                    if link.pool == Pool::Acl && std::mem::take(&mut self.acl_freed.exhausted) {
                        self.acl_freed.at_ns = Some(at_ns);
                    }
                }
            }
            _ => self.see_other(entry),
        }
        if let Some(packets) = reported_at_will(entry) {
            let labels = [("hci", self.hci.as_str())];
            self.snapshot
                .add(&ACKS_UNMATCHED, &labels, u64::from(packets));
        }
    }

    /// A packet came: the host had sent it by then.
    fn see_data(&mut self, entry: &Entry, at_ns: i64) {
        let Detail::DataFromHost {
            handle,
            link,
            slots_after,
            l2cap,
            ..
        } = &entry.detail
        else {
            return;
        };
        let process = self.processes.at(at_ns);
        let kind = match process {
            // The kernel knows no such link.
            Some(HciChannel::User) => "unknown",
            _ => link.map_or_else(|| kind_of_packet(entry.kind), kind_of_link),
        };
        let known = self.links.entry(handle.get()).or_insert_with(|| Link {
            kind,
            counted: slots_after.is_some() || entry.kind != Some(PacketKind::Sco),
            of_socket: false,
            in_flight: VecDeque::new(),
        });
        // Spec: Core 5.4, Vol 3, Part A, 2.1: dynamically allocated channels begin at 0x0040.
        if let Some(header) = l2cap {
            known.of_socket = header.cid >= 0x40;
        }
        if known.counted {
            let begins = l2cap.is_some() && known.of_socket;
            let limit = begins.then(|| self.stamped.limit(at_ns)).flatten();
            known.in_flight.push_back(InFlight {
                came_ns: at_ns,
                limit_ns: limit.unwrap_or(self.length_ns),
            });
        }
        let (kind, of_socket) = (known.kind, known.of_socket);
        if process.is_some() {
            // It passed the kernel's queues and its count of slots by.
            return;
        }
        let waited_ns = match link {
            Some(LinkKind::Acl) if of_socket && self.same_clock => self.waited_ns(at_ns),
            _ => 0,
        };
        let labels = [("hci", self.hci.as_str()), ("kind", kind)];
        self.snapshot
            .observe_between(&QUEUE_TIME, &labels, waited_ns, self.length_ns);
        if *link == Some(LinkKind::Acl) && *slots_after == Some(0) {
            self.acl_freed.exhausted = true;
        }
    }

    /// How long a packet on a socket's channel has waited at least. What comes in a silence was handed
    /// to the socket before the silence began; and once all buffers were taken, it was sent only after
    /// some were given back.
    fn waited_ns(&self, at_ns: i64) -> u64 {
        let within = |silence: &&Period| (silence.began_ns..=silence.ended_ns).contains(&at_ns);
        let silence = self.silences.iter().find(within);
        let limits = silence.zip(self.acl_freed.at_ns);
        limits.map_or(0, |(silence, freed_ns)| {
            u64::try_from(freed_ns - silence.began_ns).unwrap_or(0)
        })
    }

    /// The controller has given buffers back: the host learns it not before.
    fn see_completed(&mut self, handle: u16, packets: u16, at_ns: i64) {
        let hci = ("hci", self.hci.as_str());
        for _ in 0..packets {
            let link = self.links.get_mut(&handle);
            let oldest = link.and_then(|link| Some((link.kind, link.in_flight.pop_front()?)));
            let Some((kind, InFlight { came_ns, limit_ns })) = oldest else {
                self.snapshot.add(&ACKS_UNMATCHED, &[hci], 1);
                continue;
            };
            let low = u64::try_from(at_ns - came_ns).unwrap_or(0);
            let low = if self.same_clock { low } else { 0 };
            let labels = [hci, ("kind", kind)];
            self.snapshot
                .observe_between(&ACK_TIME, &labels, low, limit_ns);
        }
    }

    /// The host forgets a link when it learns of its end. Spec: Core 5.4, Vol 4, Part E, 7.7.5.
    fn see_other(&mut self, entry: &Entry) {
        if let (Some(PacketKind::Command), [0x03, 0x0c, ..]) = (entry.kind, entry.head.bytes()) {
            return self.see_reset();
        }
        let (Some(PacketKind::Event), &[0x05, _, 0, low, high, ..]) =
            (entry.kind, entry.head.bytes())
        else {
            return;
        };
        let handle = u16::from_le_bytes([low, high]) & 0x0fff;
        if let Some(link) = self.links.get_mut(&handle) {
            abandon(self.snapshot, &self.hci, link);
        }
    }

    /// The host forgets all links when it resets the controller, without a word of either.
    fn see_reset(&mut self) {
        for link in self.links.values_mut() {
            abandon(self.snapshot, &self.hci, link);
        }
    }

    fn expect_in_flight(&mut self) {
        let mut sums: BTreeMap<&str, i64> = BTreeMap::new();
        for link in self.links.values().filter(|link| link.counted) {
            let in_flight = i64::try_from(link.in_flight.len()).expect("a count fits");
            *sums.entry(link.kind).or_default() += in_flight;
        }
        for (kind, sum) in sums {
            let labels = [("hci", self.hci.as_str()), ("kind", kind)];
            self.snapshot.set(&IN_FLIGHT, &labels, sum);
        }
    }
}

/// What is in flight on a link that the host forgets is never acknowledged.
fn abandon(snapshot: &mut Snapshot, hci: &str, link: &mut Link) {
    let labels = [("hci", hci), ("kind", link.kind)];
    let abandoned = u64::try_from(link.in_flight.drain(..).count()).expect("a count fits");
    snapshot.add(&UNACKNOWLEDGED, &labels, abandoned);
}

fn kind_of_link(link: LinkKind) -> &'static str {
    match link {
        LinkKind::Acl => "acl",
        LinkKind::Le => "le",
        LinkKind::Sco | LinkKind::Esco => "sco",
        LinkKind::Cis | LinkKind::Bis => "iso",
    }
}

/// The kind of a link that the controller does not have (any more).
fn kind_of_packet(kind: Option<PacketKind>) -> &'static str {
    match kind {
        Some(PacketKind::Sco) => "sco",
        Some(PacketKind::Iso) => "iso",
        _ => "acl",
    }
}

fn length_ns(period: Period) -> u64 {
    u64::try_from(period.ended_ns - period.began_ns).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use controller::{
        CompletedLink, ConnHandle, ControllerId, Direction, Fate, L2capHeader, PacketHead,
    };
    use std::time::Duration;

    fn entry(milliseconds: u64, kind: PacketKind, head: &[u8], detail: Detail) -> Entry {
        Entry {
            time: Duration::from_millis(milliseconds),
            controller: ControllerId::from_index(0),
            direction: Direction::HostToController,
            kind: Some(kind),
            length_bytes: 9,
            head: PacketHead::of(head),
            detail,
        }
    }

    fn data(milliseconds: u64, slots_after: u16) -> Entry {
        let detail = Detail::DataFromHost {
            handle: ConnHandle::from_low_bits(5),
            link: Some(LinkKind::Acl),
            payload_bytes: 5,
            slots_after: Some(slots_after),
            l2cap: Some(L2capHeader {
                cid: 0x40,
                length: 1,
            }),
            fate: Fate::Forwarded,
        };
        entry(milliseconds, PacketKind::Acl, &[], detail)
    }

    fn completed(milliseconds: u64, packets: u16) -> Entry {
        let links = vec![CompletedLink {
            handle: ConnHandle::from_low_bits(5),
            pool: Pool::Acl,
            packets,
            slots_after: 1,
        }];
        let detail = Detail::Completed { links };
        entry(milliseconds, PacketKind::Event, &[], detail)
    }

    fn period(began: i64, ended: i64) -> Period {
        Period {
            began_ns: began * 1_000_000,
            ended_ns: ended * 1_000_000,
        }
    }

    fn expected(steps: &[(Step, Period)], entries: Vec<Entry>) -> Vec<String> {
        let scenario = Scenario {
            name: String::new(),
            about: String::new(),
            controllers: Vec::new(),
            transports: Vec::new(),
            steps: steps.iter().map(|(step, _)| step.clone()).collect(),
        };
        let evidence = Evidence {
            ledgers: BTreeMap::from([(0, entries)]),
            steps: steps.iter().map(|(_, period)| *period).collect(),
            observed_in: period(0, 1000),
            ..Evidence::default()
        };
        let mut snapshot = Snapshot::new();
        expect(&mut snapshot, &scenario, &evidence);
        let touched = snapshot.iter().filter(|(_, value)| !value.is_untouched());
        touched
            .map(|(series, value)| format!("{} {value}", series.metric))
            .map(|line| line.split(" {").next().unwrap_or_default().to_owned())
            .collect()
    }

    /// Check that packets and acknowledgements are matched in order, and that what is acknowledged
    /// without having been sent is told apart.
    #[test]
    fn acknowledgements_match_the_oldest_packets() {
        let lines = expected(
            &[],
            vec![data(10, 1), data(20, 0), completed(40, 1), completed(90, 3)],
        );
        assert_eq!(
            lines,
            [
                // 30 ms and 70 ms at least, 1 s each at most.
                "bluetooth_hci_ack_seconds 2 values, sum 100000000 to 2000000000",
                "bluetooth_hci_acks_unmatched_total 2",
                "bluetooth_hci_packets_in_flight 0",
                "bluetooth_hci_queue_seconds 2 values, sum 0 to 2000000000",
            ]
        );
    }

    /// Check that the kernel's own stamps limit the times of what was written after stamping began.
    #[test]
    fn stamps_limit_times_from_above() {
        let scenario = Scenario {
            name: String::new(),
            about: String::new(),
            controllers: Vec::new(),
            transports: Vec::new(),
            steps: vec![Step::StampWrites {
                socket: String::new(),
            }],
        };
        let stamp = Stamp {
            sent_ns: 5_000_000_000,
            completed_ns: 5_090_000_000,
        };
        let evidence = Evidence {
            ledgers: BTreeMap::from([(0, vec![data(10, 1), data(20, 0), completed(100, 2)])]),
            steps: vec![period(12, 13)],
            stamps: BTreeMap::from([(0, vec![stamp])]),
            observed_in: period(0, 1000),
            ..Evidence::default()
        };
        let mut snapshot = Snapshot::new();
        expect(&mut snapshot, &scenario, &evidence);
        let acks: Vec<_> = snapshot.series_of(&ACK_TIME).collect();
        let text = acks[0].1.to_string();
        // 90 ms and 80 ms at least; 1 s for the packet before the stamps, 90 ms for the one after.
        assert!(
            text.starts_with("2 values, sum 170000000 to 1090000000 "),
            "{text}"
        );
    }

    /// Check that packets that are in the controller when the link ends are not in flight any more.
    #[test]
    fn packets_of_an_ended_link_are_given_up() {
        let end = entry(
            30,
            PacketKind::Event,
            &[5, 4, 0, 5, 0, 0x13],
            Detail::Injected,
        );
        let lines = expected(&[], vec![data(10, 1), data(20, 0), end]);
        assert_eq!(
            lines,
            [
                "bluetooth_hci_packets_in_flight 0",
                "bluetooth_hci_packets_unacknowledged_total 2",
                "bluetooth_hci_queue_seconds 2 values, sum 0 to 2000000000",
            ]
        );
    }

    /// Check that what comes after buffers were given back, when nothing had been written for a while, has
    /// waited that long; and that it has not if something was written meanwhile.
    #[test]
    fn packets_in_a_silence_have_waited_since_its_begin() {
        let write = || Step::Write {
            socket: String::new(),
            bytes: 1,
        };
        let entries = || vec![data(10, 0), completed(300, 1), data(310, 0)];
        let queue = |steps: &[(Step, Period)]| expected(steps, entries()).pop();
        let quiet = (Step::Quiet { milliseconds: 200 }, period(50, 400));
        let silent = [(write(), period(5, 50)), quiet.clone()];
        assert_eq!(
            queue(&silent).as_deref(),
            Some("bluetooth_hci_queue_seconds 2 values, sum 250000000 to 2000000000")
        );
        let written = [silent[0].clone(), (write(), period(60, 305)), quiet];
        assert_eq!(
            queue(&written).as_deref(),
            Some("bluetooth_hci_queue_seconds 2 values, sum 0 to 2000000000")
        );
    }
}
