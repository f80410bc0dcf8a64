//! What the probes cost: throughput with them against without, and what the kernel counts.

mod ratio;

use crate::bench::Spread;
use crate::case::MEMORY_MIB;
use crate::drive::{Guest, Image, Payload, Watch};
use crate::evidence::Evidence;
use crate::machine::Accel;
use crate::saves::{self, Point, Saves, Stage};
use crate::scenarios;
use anyhow::{anyhow, bail};
use metrics::{MapCost, ProgramCost};
use serde::Serialize;
use std::collections::BTreeMap;

pub use ratio::Share;

/// Version of the JSON that [`Costs`] is written as.
pub const SCHEMA: &str = "bluetooth-metrics.cost/2";

/// What was measured on one kernel.
#[derive(Debug, Serialize)]
pub struct Costs {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The kernel's name in kernels.toml.
    pub kernel: String,
    /// `uname -r` under it.
    pub release: String,
    /// Who executed.
    pub accel: Accel,
    /// Messages of each transfer.
    pub messages: u32,
    /// Microseconds of each transfer, by what was loaded.
    pub transfer_us: BTreeMap<String, Spread>,
    /// Throughput against none loaded, percent: each stretch against those just before and after it.
    pub throughput_percent: BTreeMap<String, Share>,
    /// Throughput of the socket family against the plain one's, percent, round by round.
    pub socket_against_plain_percent: Option<Share>,
    /// Bytes of all maps, by family.
    pub map_bytes: BTreeMap<String, u64>,
    /// Nanoseconds of all runs, divided by the messages, by family.
    pub ns_per_message: BTreeMap<String, u64>,
    /// Each program.
    pub programs: Vec<ProgramCost>,
    /// Each map.
    pub maps: Vec<MapCost>,
}

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// Its name.
    pub kernel: &'a str,
    /// Its image.
    pub image: &'a Image,
    /// Who executes.
    pub accel: Accel,
    /// Where machines come from.
    pub saves: &'a Saves,
    /// What is pushed.
    pub payload: &'a Payload,
    /// How often each is measured.
    pub rounds: u32,
    /// Messages of each transfer.
    pub messages: u32,
}

/// Measures in one guest.
///
/// # Errors
/// The guest does not live, or a step in it fails.
pub fn costs(plan: Plan<'_>, watch: Watch<'_>, line: &dyn Fn(&str)) -> anyhow::Result<Costs> {
    let scenario = scenarios::throughput(plan.messages);
    let mut payload = plan.payload.clone();
    payload.agent_arguments = vec!["--cost".to_owned(), plan.rounds.to_string()];
    let spec = saves::spec(plan.image, plan.accel, MEMORY_MIB);
    let point = Point::before_push(Stage::Bluetooth);
    let guest = plan
        .saves
        .guest(&spec, point, watch, &vm_images::Quiet, line);
    let mut guest: Guest<'_> = guest.map_err(|error| anyhow!("no guest: {error:?}"))?;
    let ended = guest
        .push(&payload)
        .and_then(|()| guest.start_agent(&payload, false))
        .and_then(|()| guest.run(&scenario));
    if let Some((step, error)) = &guest.evidence.failed {
        bail!("{step}: {error}");
    }
    ended.map_err(|ending| anyhow!("the guest died: {ending:?}"))?;
    Ok(summarize(plan, &guest.evidence))
}

fn summarize(plan: Plan<'_>, evidence: &Evidence) -> Costs {
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (probes, ns) in &evidence.timed {
        times.entry(probes.clone()).or_default().push(ns / 1000);
    }
    let spread = |(probes, times)| Some((probes, Spread::of(times)?));
    let transfer_us: BTreeMap<String, Spread> = times.into_iter().filter_map(spread).collect();
    let mut map_bytes = BTreeMap::new();
    for map in &evidence.map_costs {
        *map_bytes.entry(map.family.clone()).or_default() += map.bytes;
    }
    let mut ns_per_message: BTreeMap<String, u64> = BTreeMap::new();
    for program in &evidence.program_costs {
        *ns_per_message.entry(program.family.clone()).or_default() += program.ns;
    }
    for ns in ns_per_message.values_mut() {
        *ns /= u64::from(plan.messages.max(1));
    }
    Costs {
        schema: SCHEMA,
        kernel: plan.kernel.to_owned(),
        release: plan.image.release.clone(),
        accel: plan.accel,
        messages: plan.messages,
        transfer_us,
        throughput_percent: ratio::shares(&evidence.timed),
        socket_against_plain_percent: ratio::share_against(
            &evidence.timed,
            "socket",
            "plain-socket",
        ),
        map_bytes,
        ns_per_message,
        programs: evidence.program_costs.clone(),
        maps: evidence.map_costs.clone(),
    }
}
