//! Does a QEMU outlive a harness that is killed, at whatever moment?

use anyhow::{Context as _, ensure};
use serde::Serialize;
use std::fs;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Marks a run and everything that it starts, through the environment.
const MARK: &str = "BT_BENCH_RUN";
/// How long a process that was told to die may take.
const GRACE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(10);

/// What became of the guests of runs that were killed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Kills {
    /// `bluetooth-metrics.kills/1`.
    pub schema: &'static str,
    /// How many runs were killed.
    pub trials: usize,
    /// In how many of them a QEMU ran at that moment.
    pub with_qemu: usize,
    /// How many processes were left after all.
    pub left: usize,
    /// How long a run takes that nobody kills, and so the time over which the kills were spread.
    pub run_ms: u64,
}

/// Runs `command` once to its end, then so often again, and kills it each time with SIGKILL, the
/// moments spread evenly over its run.
///
/// # Errors
/// It cannot be run, or fails by itself.
pub fn kill_often(
    command: &dyn Fn() -> Command,
    trials: usize,
    line: &dyn Fn(&str),
) -> anyhow::Result<Kills> {
    let start = Instant::now();
    let whole = quiet(command())
        .status()
        .context("failed to run the harness")?;
    ensure!(
        whole.success(),
        "the run fails without being killed: {whole}"
    );
    let run = start.elapsed();
    let mut kills = Kills {
        schema: "bluetooth-metrics.kills/1",
        trials,
        with_qemu: 0,
        left: 0,
        run_ms: run.as_millis().try_into().unwrap_or(u64::MAX),
    };
    for trial in 0..trials {
        let mark = format!("{}-{trial}", std::process::id());
        let mut harness = quiet(command()).env(MARK, &mark).spawn()?;
        sleep(moment(trial, run));
        let before = marked(&mark).len();
        harness.kill()?;
        harness.wait()?;
        // One of those before was the harness itself, unless it had ended.
        kills.with_qemu += usize::from(before > 1);
        let left = remaining(&mark);
        kills.left += left;
        line(&format!(
            "kill {} of {trials}: {before} processes, {left} left",
            trial + 1
        ));
    }
    Ok(kills)
}

fn quiet(mut command: Command) -> Command {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// Moments that fill the whole run evenly, however many there are: multiples of the golden ratio.
fn moment(trial: usize, run: Duration) -> Duration {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let trial = u32::try_from(trial).unwrap_or(u32::MAX);
    run.mul_f64((f64::from(trial) * GOLDEN).fract())
}

/// Waits until nothing of that mark runs; says how much does after all.
fn remaining(mark: &str) -> usize {
    let deadline = Instant::now() + GRACE;
    loop {
        let left = marked(mark).len();
        if left == 0 || Instant::now() > deadline {
            return left;
        }
        sleep(PAUSE);
    }
}

/// The processes that carry a mark. One that has ended and was not waited for has no environment.
fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let carries = |number: &u32| {
        let environment = fs::read(format!("/proc/{number}/environ")).unwrap_or_default();
        environment
            .split(|byte| *byte == 0)
            .any(|variable| variable == wanted.as_bytes())
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(carries).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &'static str) -> impl Fn() -> Command {
        move || {
            let mut command = Command::new("sh");
            command.args(["-c", text]);
            command
        }
    }

    /// Check that what outlives its parent is found, and that what does not is not.
    #[test]
    fn kill_often_counts_what_is_left() {
        let alone = kill_often(&script("exec sleep 0.2"), 3, &|_| {}).unwrap();
        assert_eq!((alone.trials, alone.left), (3, 0));
        // The second one leaves a child when it is killed. Its run takes a second, so that the
        // second kill, 0.6 s in, finds the child.
        let leaving = script("test -z \"$BT_BENCH_RUN\" || setsid sleep 7 & sleep 1");
        let kills = kill_often(&leaving, 2, &|_| {}).unwrap();
        assert!(kills.left >= 1, "{kills:?}");
    }

    /// Check that a command that fails by itself is no measurement.
    #[test]
    fn kill_often_refuses_a_failing_command() {
        let error = kill_often(&script("exit 3"), 1, &|_| {}).unwrap_err();
        assert!(
            error.to_string().contains("without being killed"),
            "{error}"
        );
    }

    /// Check that moments are spread over the run.
    #[test]
    fn moments_fill_the_run() {
        let run = Duration::from_secs(1);
        let mut moments: Vec<Duration> = (0..100).map(|trial| moment(trial, run)).collect();
        moments.sort();
        let largest = moments.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(largest.unwrap() < Duration::from_millis(30), "{largest:?}");
    }
}
