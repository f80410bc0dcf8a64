//! How long the ways to a guest take, and how long they take other tools on the same kernel.

use crate::case::MEMORY_MIB;
use crate::drive::{Guest, Image, Payload, Watch};
use crate::evidence::Ending;
use crate::machine::{Accel, Vm, VmSpec};
use crate::saves::{self, NoGuest, Point, Saves, Stage};
use crate::sys;
use anyhow::{Context as _, anyhow, ensure};
use evidence::Scenario;
use serde::Serialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Version of the JSON that [`Boots`] is written as.
pub const SCHEMA: &str = "bluetooth-metrics.bench/1";

/// Several measurements of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: u64,
    /// The one in the middle; of two, the smaller.
    pub median: u64,
    /// The largest.
    pub max: u64,
}

impl Spread {
    /// `None`: there is no measurement.
    #[must_use]
    pub fn of(mut values: Vec<u64>) -> Option<Self> {
        values.sort_unstable();
        Some(Self {
            min: *values.first()?,
            median: *values.get((values.len() - 1) / 2)?,
            max: *values.last()?,
        })
    }
}

/// What was measured on one kernel.
#[derive(Debug, Serialize)]
pub struct Boots {
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
    /// From starting QEMU to stage 0's first word.
    pub boot_ms: Option<Spread>,
    /// Loading the Bluetooth modules.
    pub modules_ms: Option<Spread>,
    /// Writing a machine's state into a file.
    pub save_ms: Option<Spread>,
    /// The size of that file.
    pub save_bytes: Option<Spread>,
    /// From asking for a saved machine to one that runs.
    pub restore_ms: Option<Spread>,
    /// From asking for a saved machine to its first answer.
    pub restore_to_talking_ms: Option<Spread>,
    /// Pushing agent and objects.
    pub push_ms: Option<Spread>,
    /// How much that is.
    pub push_bytes: u64,
    /// From starting the agent to its probes being attached.
    pub probes_ms: Option<Spread>,
    /// From asking for a machine that was saved with its probes attached to one that runs.
    pub restore_with_probes_ms: Option<Spread>,
    /// From telling such a machine a short scenario to its end.
    pub scenario_ms: Option<Spread>,
    /// Other tools on the same kernel, in the same run.
    pub peers: Vec<Peer>,
}

/// Another tool: one command in a guest of the same kernel, from start to end.
#[derive(Debug, Serialize)]
pub struct Peer {
    /// Its name.
    pub name: &'static str,
    /// What was run.
    pub command: String,
    /// From its start to its end.
    pub run_ms: Option<Spread>,
    /// Its median in terms of our boot.
    pub ratio_to_boot: Option<f64>,
    /// Its median in terms of our restored machine that talks.
    pub ratio_to_restore: Option<f64>,
    /// Why there is no measurement.
    pub absent: Option<String>,
}

/// What is measured, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Plan<'a> {
    /// The kernel's name.
    pub kernel: &'a str,
    /// What to boot.
    pub image: &'a Image,
    /// Who executes.
    pub accel: Accel,
    /// Where saved machines are.
    pub saves: &'a Saves,
    /// What is pushed.
    pub payload: &'a Payload,
    /// The short scenario.
    pub scenario: &'a Scenario,
    /// How often.
    pub times: usize,
}

/// Boots, saves, restores and pushes so often, one after the other.
///
/// # Errors
/// A guest dies, or something outside fails.
pub fn boots(plan: Plan<'_>, watch: Watch<'_>, line: &dyn Fn(&str)) -> anyhow::Result<Boots> {
    let spec = saves::spec(plan.image, plan.accel, MEMORY_MIB);
    let [boot, modules, save, save_bytes] = boot_often(plan, &spec, watch, line)?;
    let [restore, talk, push, probes] = restore_often(plan, &spec, watch, line)?;
    let [ready, scenario] = run_often(plan, &spec, watch, line)?;
    let objects = plan.payload.objects.iter().map(|(_, bytes)| bytes.len());
    let push_bytes = plan.payload.agent.len() + objects.sum::<usize>();
    Ok(Boots {
        schema: SCHEMA,
        kernel: plan.kernel.to_owned(),
        release: plan.image.release.clone(),
        accel: plan.accel,
        times: plan.times,
        boot_ms: Spread::of(boot),
        modules_ms: Spread::of(modules),
        save_ms: Spread::of(save),
        save_bytes: Spread::of(save_bytes),
        restore_ms: Spread::of(restore),
        restore_to_talking_ms: Spread::of(talk),
        push_ms: Spread::of(push),
        push_bytes: push_bytes as u64,
        probes_ms: Spread::of(probes),
        restore_with_probes_ms: Spread::of(ready),
        scenario_ms: Spread::of(scenario),
        peers: Vec::new(),
    })
}

/// Boot, modules, save, and bytes of the save, of each time.
fn boot_often(
    plan: Plan<'_>,
    spec: &VmSpec,
    watch: Watch<'_>,
    line: &dyn Fn(&str),
) -> anyhow::Result<[Vec<u64>; 4]> {
    let folder = tempfile::tempdir().context("failed to create a temporary folder")?;
    let state = folder.path().join("state");
    let mut columns: [Vec<u64>; 4] = Default::default();
    let [boot, modules, save, save_bytes] = &mut columns;
    for time in 0..plan.times {
        line(&format!("boot {} of {}", time + 1, plan.times));
        let vm = Vm::start(spec).context("cannot start QEMU")?;
        let mut guest = Guest::new(vm, watch);
        let loaded = guest
            .boot()
            .and_then(|()| guest.load_modules(saves::MODULES));
        loaded.map_err(died)?;
        boot.extend(guest.timings.boot_ms);
        modules.extend(guest.timings.modules_ms);
        let start = Instant::now();
        guest.save(&state)?;
        save.push(milliseconds(start));
        save_bytes.push(fs::metadata(&state)?.len());
    }
    Ok(columns)
}

/// Restore, restore to the first answer, push, and start of the agent, of each time.
fn restore_often(
    plan: Plan<'_>,
    spec: &VmSpec,
    watch: Watch<'_>,
    line: &dyn Fn(&str),
) -> anyhow::Result<[Vec<u64>; 4]> {
    let restored = || {
        let point = Point::before_push(Stage::Bluetooth);
        let quiet = &vm_images::Quiet;
        let guest = plan.saves.guest(spec, point, watch, quiet, line);
        guest.map_err(no_guest)
    };
    // Makes the save, and brings it into memory, as in a run of more than one case.
    drop(restored()?);
    let mut columns: [Vec<u64>; 4] = Default::default();
    let [restore, talk, push, probes] = &mut columns;
    for time in 0..plan.times {
        line(&format!("restore {} of {}", time + 1, plan.times));
        let start = Instant::now();
        let mut guest = restored()?;
        restore.push(milliseconds(start));
        guest.ping().map_err(died)?;
        talk.push(milliseconds(start));
        guest.push(plan.payload).map_err(died)?;
        push.extend(guest.timings.push_ms);
        guest.start_agent(plan.payload, false).map_err(died)?;
        probes.extend(guest.timings.probes_ms);
    }
    Ok(columns)
}

/// Restore of a machine with probes, and a scenario in it, of each time.
fn run_often(
    plan: Plan<'_>,
    spec: &VmSpec,
    watch: Watch<'_>,
    line: &dyn Fn(&str),
) -> anyhow::Result<[Vec<u64>; 2]> {
    let point = Point {
        stage: Stage::Bluetooth,
        ready: Some(plan.payload),
    };
    let restored = || {
        let guest = plan
            .saves
            .guest(spec, point, watch, &vm_images::Quiet, line);
        guest.map_err(no_guest)
    };
    drop(restored()?);
    let mut columns: [Vec<u64>; 2] = Default::default();
    let [ready, scenario] = &mut columns;
    for time in 0..plan.times {
        line(&format!("case {} of {}", time + 1, plan.times));
        let start = Instant::now();
        let mut guest = restored()?;
        ready.push(milliseconds(start));
        guest.run(plan.scenario).map_err(died)?;
        scenario.extend(guest.timings.scenario_ms);
    }
    Ok(columns)
}

fn died(ending: Ending) -> anyhow::Error {
    anyhow!("the guest died: {ending:?}")
}

fn no_guest(error: NoGuest) -> anyhow::Error {
    match error {
        NoGuest::Outside(error) => error,
        NoGuest::Died(death) => died(death.0),
    }
}

fn milliseconds(since: Instant) -> u64 {
    since.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
}

/// Another tool: its name, its program, and the words for one command on one kernel.
struct Tool {
    name: &'static str,
    program: &'static str,
    words: fn(kernel: &str, accel: Accel) -> Vec<String>,
}

/// Both share the machine's file system with the guest; virtiofs would need a daemon of its own.
const TOOLS: [Tool; 2] = [
    Tool {
        name: "virtme-ng",
        program: "vng",
        words: |kernel, accel| {
            let mut words = vec!["--force-9p"];
            words.extend((accel == Accel::Tcg).then_some("--disable-kvm"));
            words.extend(["--run", kernel, "--exec", "true"]);
            words.into_iter().map(str::to_owned).collect()
        },
    },
    Tool {
        name: "vmtest",
        program: "vmtest",
        words: |kernel, _| ["--kernel", kernel, "true"].map(str::to_owned).into(),
    },
];
const PEER_PATIENCE: Duration = Duration::from_secs(180);
const PAUSE: Duration = Duration::from_millis(5);

/// Measures those tools that are installed, and says why not the others. The kernel must lie as
/// its packages have it: they look for its modules.
#[must_use]
pub fn peers(boots: &Boots, vmlinuz: &Path, times: usize, line: &dyn Fn(&str)) -> Vec<Peer> {
    let measure = |tool: &Tool| {
        let words = (tool.words)(&vmlinuz.to_string_lossy(), boots.accel);
        line(&format!("{}, {times} times", tool.name));
        let runs: anyhow::Result<Vec<u64>> =
            (0..times).map(|_| run_peer(tool.program, &words)).collect();
        let (run_ms, absent) = match runs {
            Ok(runs) => (Spread::of(runs), None),
            Err(why) => (None, Some(format!("{why:#}"))),
        };
        Peer {
            name: tool.name,
            command: format!("{} {}", tool.program, words.join(" ")),
            run_ms,
            ratio_to_boot: ratio(run_ms, boots.boot_ms),
            ratio_to_restore: ratio(run_ms, boots.restore_to_talking_ms),
            absent,
        }
    };
    TOOLS.iter().map(measure).collect()
}

/// Unpacks packages as they are installed, and names the kernel in them.
///
/// # Errors
/// dpkg-deb is missing or fails, or there is no kernel in them.
pub fn unpack_for_peers(packages: &[PathBuf], folder: &Path) -> anyhow::Result<PathBuf> {
    for package in packages {
        let mut dpkg = Command::new("dpkg-deb");
        let status = dpkg.arg("-x").args([package, folder]).status();
        let status = status.context("failed to run dpkg-deb")?;
        ensure!(status.success(), "dpkg-deb failed on {}", package.display());
    }
    let boot = folder.join("boot");
    let entries = fs::read_dir(&boot).with_context(|| format!("no {}", boot.display()))?;
    let mut names = entries.flatten().map(|entry| entry.path());
    names
        .find(|path| path.to_string_lossy().contains("/vmlinuz-"))
        .context("there is no kernel in the packages")
}

/// How many times as long, to two decimals.
fn ratio(theirs: Option<Spread>, ours: Option<Spread>) -> Option<f64> {
    let (theirs, ours) = (theirs?.median, ours?.median.max(1));
    let hundredths = u32::try_from(theirs.saturating_mul(100) / ours).ok()?;
    Some(f64::from(hundredths) / 100.0)
}

/// One run, ended if it takes too long, with everything that it started.
fn run_peer(program: &str, words: &[String]) -> anyhow::Result<u64> {
    let mut command = Command::new(program);
    command
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    sys::tie_to_this_thread(&mut command, &[]);
    let start = Instant::now();
    let mut child = command
        .spawn()
        .with_context(|| format!("{program} is not installed"))?;
    let log = crate::machine::Console::default();
    let reader = child.stderr.take().map(|stderr| log.follow("peer", stderr));
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break Some(status);
        }
        if start.elapsed() > PEER_PATIENCE {
            break None;
        }
        sleep(PAUSE);
    };
    let run_ms = milliseconds(start);
    sys::kill_group(child.id());
    child.wait()?;
    // A reader that panicked has nothing more to say.
    let _ = reader.map(std::thread::JoinHandle::join);
    let said = log.tail(3).join(" | ");
    match status {
        Some(status) if status.success() => Ok(run_ms),
        Some(status) => Err(anyhow!("{status}: {said}")),
        None => Err(anyhow!(
            "no end after {} s: {said}",
            PEER_PATIENCE.as_secs()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the middle is one that was measured.
    #[test]
    fn spread_has_a_measured_median() {
        let spread = Spread::of(vec![9, 1, 4, 2]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1, 2, 9));
        assert_eq!(Spread::of(vec![]), None);
    }

    /// Check that a tool that is not there, and one that fails, are told apart with their words.
    #[test]
    fn peer_that_cannot_run_says_why() {
        let missing = run_peer("no-such-tool", &[]).unwrap_err();
        assert!(
            missing.to_string().contains("is not installed"),
            "{missing}"
        );
        let failing = run_peer(
            "sh",
            &["-c", "echo no kernel >&2; exit 3"].map(str::to_owned),
        )
        .unwrap_err();
        let text = failing.to_string();
        assert!(text.contains('3') && text.contains("no kernel"), "{text}");
        assert!(run_peer("true", &[]).is_ok());
    }
}
