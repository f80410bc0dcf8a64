//! Loading the probes, waiting until everything has settled, and reporting what was seen.

use crate::btmetrics::Btmetrics;
use crate::controllers::Controllers;
use crate::port::Port;
use crate::scrape;
use crate::usbmon::Monitor;
use anyhow::{Context as _, bail};
use clap::ValueEnum;
use evidence::{AgentRecord, DeviceCounters, PacketCounts, PastKernel, Period, Scrape};
use exporter::Collector;
use metrics::{Family, Snapshot};
use probes::{Options, Preference};
use std::path::Path;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How the probes attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Attach {
    /// The best way that the kernel offers.
    Auto,
    /// kprobes and kretprobes only.
    Kprobe,
}

impl Attach {
    /// As the loader has it.
    pub(crate) const fn preference(self) -> Preference {
        match self {
            Self::Auto => Preference::Auto,
            Self::Kprobe => Preference::Kprobe,
        }
    }
}

/// Loads all objects of the folder that are those of a family; that for USB only if there will be any (`usb`).
///
/// # Errors
/// There are none.
pub(crate) fn load(folder: &Path, attach: Attach, usb: bool) -> anyhow::Result<Collector> {
    let path = |family: &Family| folder.join(probes::object_name(*family));
    let objects: Vec<_> = probes::FAMILIES
        .iter()
        .filter(|family| **family != Family::Urb || usb)
        .map(|family| (*family, path(family)))
        .filter(|(_, path)| path.exists())
        .collect();
    if objects.is_empty() {
        bail!("no probe objects in {}", folder.display());
    }
    let attach = attach.preference();
    let btf = probes::external_btf(folder);
    let probes = probes::load(&objects, &Options { attach, btf });
    Ok(Collector::new(probes))
}

/// Reports what became of each program, and the series that are lost.
///
/// # Errors
/// The port fails.
pub(crate) fn report_probes(probes: &Collector, port: &Port) -> anyhow::Result<()> {
    let (reports, lost) = probes.state();
    for report in reports {
        port.send(&AgentRecord::Probe(report))?;
    }
    for lost in lost {
        port.send(&AgentRecord::Lost(lost))?;
    }
    Ok(())
}

/// Who measures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    /// Our own probes.
    pub(crate) probes: &'a Arc<Collector>,
    /// What is judged in their place.
    pub(crate) served: Option<&'a Btmetrics>,
    /// From when on they are there.
    pub(crate) loaded: Instant,
}

/// What was measured, all of the same moment.
struct Moment {
    snapshot: Snapshot,
    scrapes: Vec<Scrape>,
    counters: Vec<DeviceCounters>,
    ended_ns: i64,
}

/// Waits until nothing moves any more, then reports metrics, kernel counters, and the ledgers, which may already be longer: what is later
/// than the end of the reported period is not to be looked at.
///
/// # Errors
/// It does not settle, the monitor missed something, or the port fails.
pub(crate) fn settle_and_report(
    seen: Seen<'_>,
    controllers: &Controllers,
    monitor: Option<Monitor>,
    port: &Port,
) -> anyhow::Result<()> {
    let Moment {
        snapshot,
        scrapes,
        counters,
        ended_ns,
    } = await_moment(seen, controllers, port)?;
    let period = period_until(ended_ns, seen.loaded);
    let pcap = monitor.map(Monitor::finish).transpose()?;
    port.phase("reporting")?;
    controllers.report_ledgers(port)?;
    for (hci, read) in controllers.past_kernel() {
        let (hci, read) = (*hci, *read);
        port.send(&AgentRecord::UserChannel { hci, read })?;
    }
    for counters in counters {
        port.send(&AgentRecord::Device(counters))?;
    }
    port.send(&AgentRecord::Observed { period, snapshot })?;
    for scrape in scrapes {
        port.send(&AgentRecord::Scraped(scrape))?;
    }
    pcap.map_or(Ok(()), |pcap| report_usb(&pcap, controllers, port))
}

/// Waits until nothing moves, and reads everything; again if something crossed meanwhile, since the kernel ends idle links by its own clock.
fn await_moment(seen: Seen<'_>, controllers: &Controllers, port: &Port) -> anyhow::Result<Moment> {
    for _ in 0..MOMENTS {
        port.phase("settling")?;
        settle(controllers)?;
        port.phase("reading the metrics")?;
        let before = controllers.crossed()?;
        let (snapshot, scrapes) = match seen.served {
            None => read_still(seen.probes)?,
            Some(served) => served.read()?,
        };
        let counters = controllers.counters()?;
        let (crossed, ended_ns) = controllers.crossed_by()?;
        if crossed == before {
            return Ok(Moment {
                snapshot,
                scrapes,
                counters,
                ended_ns,
            });
        }
    }
    bail!("packets crossed during each of {MOMENTS} tries to read the metrics")
}

/// How often to begin again when packets crossed meanwhile.
const MOMENTS: u32 = 20;

/// A frame holds 4 MiB, and a byte takes two digits.
const MONITOR_BYTES_PER_RECORD: usize = 1 << 20;

/// Reports what the kernel's USB monitor saw, and which devices are where.
fn report_usb(pcap: &[u8], controllers: &Controllers, port: &Port) -> anyhow::Result<()> {
    for place in controllers.usb_places()? {
        port.send(&AgentRecord::UsbPlace(place))?;
    }
    for pcap in pcap.chunks(MONITOR_BYTES_PER_RECORD) {
        port.send(&AgentRecord::UsbMonitor {
            pcap: pcap.to_vec(),
        })?;
    }
    Ok(())
}

/// From then to a moment ago, on the controllers' clock, which may have begun to run later.
fn period_until(ended_ns: i64, then: Instant) -> Period {
    let lasted_ns = i64::try_from(then.elapsed().as_nanos()).unwrap_or(i64::MAX);
    Period {
        began_ns: ended_ns.saturating_sub(lasted_ns),
        ended_ns,
    }
}

/// Reads the values directly and through the exporter, while nothing changes between.
fn read_still(probes: &Arc<Collector>) -> anyhow::Result<(Snapshot, Vec<Scrape>)> {
    let read = || probes.snapshot().context("failed to read the metrics");
    let mut before = read()?;
    for _ in 0..READS {
        let scrapes = scrape::scrape(probes).context("failed to scrape the exporter")?;
        let after = read()?;
        if before == after {
            return Ok((after, scrapes));
        }
        before = after;
    }
    bail!("the metrics did not stand still for a scrape in {READS} tries")
}

/// How often to read again when something changed meanwhile.
const READS: u32 = 50;

/// How long traffic may take to settle.
const SETTLE_PATIENCE: Duration = Duration::from_secs(20);
/// Nothing has crossed for so long: nothing is on its way.
const QUIET: Duration = Duration::from_millis(30);
const QUIET_PAUSE: Duration = Duration::from_millis(5);

/// Has the controllers give all buffers back, and waits until the kernel has counted every packet that crossed, and nothing crosses any
/// more. Buffers are given back only while nothing else is on its way: the kernel would count them before or after its next packet, as
/// chance has it.
fn settle(controllers: &Controllers) -> anyhow::Result<()> {
    let deadline = Instant::now() + SETTLE_PATIENCE;
    let mut flushed_at = None;
    // Past the deadline the harness compares counters and ledgers: what is behind will be seen there.
    while Instant::now() < deadline {
        let crossed = await_quiet(controllers, deadline)?;
        if flushed_at == Some(crossed) && !is_any_behind(controllers)? {
            break;
        }
        controllers.flush_acks()?;
        flushed_at = Some(crossed);
    }
    Ok(())
}

/// Waits until nothing has crossed for a while; how many packets have by then.
fn await_quiet(controllers: &Controllers, deadline: Instant) -> anyhow::Result<usize> {
    let mut crossed = controllers.crossed()?;
    let mut since = Instant::now();
    while since.elapsed() < QUIET && Instant::now() < deadline {
        sleep(QUIET_PAUSE);
        let now = controllers.crossed()?;
        if now != crossed {
            (crossed, since) = (now, Instant::now());
        }
    }
    Ok(crossed)
}

/// Has the kernel, or a process in its place, counted less of some device than crossed its boundary?
///
/// # Errors
/// The controllers cannot be reached, or a device is gone.
pub(crate) fn is_any_behind(controllers: &Controllers) -> anyhow::Result<bool> {
    let past_kernel = |hci| {
        let read = controllers.past_kernel().get(&hci);
        read.copied().unwrap_or_default()
    };
    let (kernel, ledgers) = (controllers.counters()?, controllers.counts()?);
    let mut pairs = kernel.iter().zip(&ledgers);
    Ok(pairs.any(|(kernel, ledger)| is_behind(kernel, ledger, past_kernel(kernel.hci))))
}

/// Has the kernel counted less than crossed the boundary? It never counts what a process read on the user channel.
fn is_behind(kernel: &DeviceCounters, ledger: &PacketCounts, past_kernel: PastKernel) -> bool {
    kernel.acl_sent < ledger.acl_sent
        || kernel.acl_received + past_kernel.acl < ledger.acl_received
        || kernel.sco_sent < ledger.sco_sent
        || kernel.sco_received + past_kernel.sco < ledger.sco_received
        || kernel.commands_sent < ledger.commands
        || kernel.events_received + past_kernel.events < ledger.events
}
