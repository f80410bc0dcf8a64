//! How fast USB goes: time of each scenario, messages over the bulk endpoints, a held URB's latency, voice.

use crate::bench::Spread;
use crate::case::{self, CaseResult, Setting};
use crate::drive::{Image, Watch};
use crate::machine::Accel;
use crate::scenarios;
use anyhow::ensure;
use evidence::{Direction, Protocol, Scenario, Step};
use kernels::KernelId;
use metrics::Value;
use metrics::catalogue::URB_LATENCY;
use serde::Serialize;
use std::collections::BTreeMap;

/// Version of the JSON that [`Speeds`] is written as.
pub const SCHEMA: &str = "bluetooth-metrics.bench-usb/1";

/// What was measured on one kernel.
#[derive(Debug, Serialize)]
pub struct Speeds {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The kernel's name in kernels.toml.
    pub kernel: String,
    /// `uname -r` under it.
    pub release: String,
    /// Who executed.
    pub accel: Accel,
    /// How often each was measured.
    pub times: usize,
    /// Messages one way, over the bulk OUT endpoint of one dongle and the bulk IN endpoint of another, with all probes attached.
    pub bulk: Bulk,
    /// From telling a guest each USB scenario to its end.
    pub scenario_ms: BTreeMap<String, Spread>,
    /// The bulk URBs of `usb-held-urb`, 23 of which the dongle holds for 20 ms, as the probes count them: inclusive upper bound of each bucket,
    /// nanoseconds, and how many are in it.
    pub held_urb_ns: Option<Vec<(u64, u64)>>,
    /// Frames of each scenario with voice.
    pub voice: Vec<Voice>,
}

/// How fast messages went.
#[derive(Debug, Serialize)]
pub struct Bulk {
    /// How many messages.
    pub messages: u32,
    /// Length of each, bytes.
    pub message_bytes: usize,
    /// From the first write to the last read.
    pub transfer_ms: Option<Spread>,
    /// By the median.
    pub messages_per_second: Option<u64>,
    /// By the median.
    pub bytes_per_second: Option<u64>,
}

/// Frames that were written, read, and never came; those that were refused on purpose are not in it.
#[derive(Debug, Serialize)]
pub struct Voice {
    /// The scenario.
    pub scenario: String,
    /// Written to sockets, in all runs.
    pub frames_written: u64,
    /// Of these, refused by the driver, as the scenario wants it.
    pub frames_refused: u64,
    /// Read from sockets.
    pub frames_read: u64,
    /// The rest.
    pub frames_lost: u64,
}

/// What is measured, and how often.
#[derive(Clone, Copy)]
pub struct Plan<'a> {
    /// The kernel.
    pub kernel: &'a KernelId,
    /// What to boot.
    pub image: &'a Image,
    /// How cases are run.
    pub setting: Setting<'a>,
    /// How often.
    pub times: usize,
    /// Messages of each transfer.
    pub messages: u32,
}

impl std::fmt::Debug for Plan<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("kernel", &self.kernel)
            .field("setting", &self.setting)
            .finish_non_exhaustive()
    }
}

/// Runs everything so often, one after the other.
///
/// # Errors
/// A case does not come out right: what it would say of speed is worth nothing.
pub fn speeds(plan: Plan<'_>, watch: Watch<'_>) -> anyhow::Result<Speeds> {
    let mut speeds = Speeds {
        schema: SCHEMA,
        kernel: plan.kernel.to_string(),
        release: plan.image.release.clone(),
        accel: plan.setting.accel,
        times: plan.times,
        bulk: measure_bulk(plan, watch)?,
        scenario_ms: BTreeMap::new(),
        held_urb_ns: None,
        voice: Vec::new(),
    };
    for scenario in scenarios::all().iter().filter(|s| s.is_outside()) {
        let results = run_often(plan, watch, scenario)?;
        let times = results.iter().filter_map(|r| r.timings.scenario_ms);
        if let Some(spread) = Spread::of(times.collect()) {
            speeds.scenario_ms.insert(scenario.name.clone(), spread);
        }
        speeds.voice.extend(voice(scenario, &results));
        if scenario.name == "usb-held-urb" {
            speeds.held_urb_ns = results.last().and_then(held);
        }
    }
    Ok(speeds)
}

fn run_often(
    plan: Plan<'_>,
    watch: Watch<'_>,
    scenario: &Scenario,
) -> anyhow::Result<Vec<CaseResult>> {
    let mut results = Vec::new();
    for time in 0..plan.times {
        (plan.setting.line)(&format!("{} {} of {}", scenario.name, time + 1, plan.times));
        let result = case::run(plan.kernel, plan.image, plan.setting, scenario, watch);
        let CaseResult { class, outcome, .. } = &result;
        ensure!(
            class.is_right(),
            "{} is {class}: {outcome:?}",
            scenario.name
        );
        results.push(result);
    }
    Ok(results)
}

fn measure_bulk(plan: Plan<'_>, watch: Watch<'_>) -> anyhow::Result<Bulk> {
    let scenario = scenarios::bulk(plan.messages);
    let is_transfer = |step: &Step| matches!(step, Step::Transfer { .. });
    let at = scenario.steps.iter().position(is_transfer);
    let results = run_often(plan, watch, &scenario)?;
    let took = |result: &CaseResult| {
        let period = result.evidence.steps.get(at?)?;
        u64::try_from((period.ended_ns - period.began_ns) / 1_000_000).ok()
    };
    let transfer_ms = Spread::of(results.iter().filter_map(took).collect());
    let per_second = |number: u64| Some(number * 1000 / transfer_ms?.median.max(1));
    let messages = u64::from(plan.messages);
    Ok(Bulk {
        messages: plan.messages,
        message_bytes: scenarios::BULK_BYTES,
        transfer_ms,
        messages_per_second: per_second(messages),
        bytes_per_second: per_second(messages * scenarios::BULK_BYTES as u64),
    })
}

/// What the probes say of the bulk URBs of the first device.
fn held(result: &CaseResult) -> Option<Vec<(u64, u64)>> {
    let labels = [("hci", "hci0"), ("endpoint", "bulk")];
    match result
        .evidence
        .observed
        .as_ref()?
        .get(&URB_LATENCY, &labels)?
    {
        Value::Histogram { buckets, .. } => Some(buckets.clone()),
        _ => None,
    }
}

/// `None` if the scenario has no voice. A read that accepts a link (deferred set-up) succeeds without a frame, hence by bytes.
fn voice(scenario: &Scenario, results: &[CaseResult]) -> Option<Voice> {
    let calls = |direction| {
        let calls = results.iter().flat_map(|result| &result.evidence.calls);
        calls.filter(move |call| {
            call.protocol == Protocol::Sco && call.direction == direction && call.result == "ok"
        })
    };
    let bytes = |direction| calls(direction).map(|call| call.bytes).sum::<u64>();
    let written: u64 = calls(Direction::Write).map(|call| call.calls).sum();
    let frame_bytes = bytes(Direction::Write).checked_div(written)?.max(1);
    let read = bytes(Direction::Read) / frame_bytes;
    let times = u64::try_from(results.len()).unwrap_or(u64::MAX);
    let refused = crate::expect::refused_frames(scenario) * times;
    Some(Voice {
        scenario: scenario.name.clone(),
        frames_written: written,
        frames_refused: refused,
        frames_read: read,
        frames_lost: written.saturating_sub(refused + read),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use evidence::CallCount;

    /// Check that a read that brings no frame is none, and that a frame that never came is lost.
    #[test]
    fn frames_are_counted_by_their_bytes() {
        let call = |direction, calls, bytes| CallCount {
            protocol: Protocol::Sco,
            direction,
            result: "ok".to_owned(),
            calls,
            bytes,
        };
        let kernel = "debian:6.12".parse().unwrap();
        let mut result = CaseResult::bare(&kernel, "usb-sco-msbc", Outcome::Passed);
        result.evidence.calls = vec![
            call(Direction::Write, 5, 300),
            call(Direction::Read, 5, 240),
        ];
        let scenario = &scenarios::all()[0];
        let voice = voice(scenario, &[result]).unwrap();
        let frames = [voice.frames_written, voice.frames_read, voice.frames_lost];
        assert_eq!(frames, [5, 4, 1]);
        let silent = CaseResult::bare(&kernel, "usb-l2cap", Outcome::Passed);
        assert!(super::voice(scenario, &[silent]).is_none());
    }
}
