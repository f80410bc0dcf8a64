//! What may be trusted when the world around a run is not as it should be: several runs at once, a
//! damaged save, a full disk, a busy machine, time that jumps, machines that somebody kills.

use crate::common::{Run, lab, processes, scenario};
use evidence::{Misbehavior, Step};
use harness::class::Class;
use harness::outcome::Outcome;
use harness::progress::Progress;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const KERNEL: &str = "debian:6.12";
const SCENARIO: &str = "l2cap-seqpacket";

/// A cache with everything but saved machines, which it has for itself.
fn cache_without_saves() -> tempfile::TempDir {
    let _cached = crate::common::image(&KERNEL.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    folder
}

fn fill(folder: &Path) {
    for kind in ["packages", "trees", "images"] {
        symlink(lab().images.folder().join(kind), folder.join(kind)).unwrap();
    }
}

fn harness(cache: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command
        .args(["test-kernels", "--accel", "tcg", "--jobs", "1", "--locked"])
        .env("BT_CACHE", cache)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A run of the usual case.
fn usual(cache: &Path) -> Command {
    let mut command = harness(cache);
    command.args(["--kernel", KERNEL, "--scenario", SCENARIO]);
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).unwrap().count()
}

/// Check that two runs at once make each save once, both come out right, and nothing half-made
/// stays.
#[test]
fn two_runs_at_once_share_the_saves() {
    let cache = cache_without_saves();
    let start = |_| usual(cache.path()).spawn().unwrap();
    let runs: Vec<Child> = (0..2).map(start).collect();
    for run in runs {
        let output = run.wait_with_output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(!said.contains("anew"), "{said}");
    }
    assert_eq!(count(&cache.path().join("saves")), 2, "bare, bluetooth");
    assert_eq!(count(&cache.path().join("scratch")), 0);
}

/// Check that a save whose memory changed on disk is noticed, told in one line, and made anew; the
/// same of one that was cut.
#[test]
fn damaged_save_is_made_anew_with_one_line() {
    let cache = cache_without_saves();
    let run = || {
        let output = usual(cache.path()).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        said.matches("making it anew").count()
    };
    assert_eq!(run(), 0);
    let states = || {
        let saves = fs::read_dir(cache.path().join("saves")).unwrap();
        saves.map(|save| save.unwrap().path().join("state"))
    };
    for state in states() {
        let mut bytes = fs::read(&state).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&state, bytes).unwrap();
    }
    // One line for the state that is wanted, one for the bare one that it is made from.
    assert_eq!(run(), 2);
    for state in states() {
        let file = fs::File::options().write(true).open(&state).unwrap();
        file.set_len(1 << 16).unwrap();
    }
    assert_eq!(run(), 2);
    assert_eq!(run(), 0);
}

/// Check that a run whose package is overwritten comes out right, since it has what it needs, and that the next one names the file.
#[test]
fn package_that_changes_under_a_run_is_noticed_by_the_next() {
    let _cached = crate::common::image(&KERNEL.parse().unwrap());
    let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let packages = copy_packages(folder.path());
    let names: Vec<_> = packages.iter().map(|p| p.display().to_string()).collect();
    let id = format!("deb:{}", names.join(","));
    let mut command = harness(cache.path());
    command.args(["--kernel", &id, "--scenario", SCENARIO]);
    let mut run = command.spawn().unwrap();
    let mut stderr = BufReader::new(run.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("guests run under") {
        assert_ne!(stderr.read_line(&mut said).unwrap(), 0, "{said}");
    }
    for package in &packages {
        fs::write(package, "no package").unwrap();
    }
    stderr.read_to_string(&mut said).unwrap();
    let output = run.wait_with_output().unwrap();
    said += &self::said(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let output = command.output().unwrap();
    let said = self::said(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(names.iter().any(|name| said.contains(name)), "{said}");
    assert_eq!(count(&cache.path().join("scratch")), 0);
}

/// The kernel's packages, as files of their own.
fn copy_packages(folder: &Path) -> Vec<PathBuf> {
    let progress = Progress::on_stderr();
    let packages = lab().images.packages(&KERNEL.parse().unwrap(), &progress);
    let copy = |(number, package): (usize, PathBuf)| {
        let path = folder.join(format!("{number}.deb"));
        fs::copy(&package, &path).unwrap();
        path
    };
    let packages = packages.unwrap().into_iter();
    packages.enumerate().map(copy).collect()
}

/// Check that a disk that fills up while a machine is saved is named as that, that it is the
/// infrastructure's fault, and that nothing stays.
#[test]
fn full_disk_is_named_and_leaves_nothing() {
    let cache = cache_without_saves();
    let mut inner = usual(cache.path());
    let script = "mount -t tmpfs -o size=30m none \"$BT_CACHE\" && cd \"$BT_CACHE\" \
         && ln -s \"$REAL\"/packages \"$REAL\"/trees \"$REAL\"/images . && \"$@\"; status=$?; \
         echo \"scratch: $(ls scratch | wc -l), saves: $(ls saves | wc -l)\"; exit $status";
    let arguments: Vec<_> = inner.get_args().map(ToOwned::to_owned).collect();
    let mut outer = Command::new("unshare");
    outer
        .args(["--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(inner.get_program())
        .args(arguments)
        .env("BT_CACHE", cache.path())
        .env("REAL", lab().images.folder());
    inner.stdin(Stdio::null());
    let output = outer.output().unwrap();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(
        said.contains("No space left on device") || said.contains("is full"),
        "{said}"
    );
    assert!(said.contains("infrastructure"), "{said}");
    assert!(said.contains("scratch: 0, saves: 0"), "{said}");
}

/// Check that values are exact while every processor is kept busy by others.
#[test]
fn busy_machine_comes_out_right() {
    let stop = AtomicBool::new(false);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let result = thread::scope(|scope| {
        for _ in 0..2 * processors {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = Run::new(KERNEL, scenario(SCENARIO)).go();
        stop.store(true, Ordering::Relaxed);
        result
    });
    assert_eq!(result.outcome, Outcome::Passed);
}

/// Check that values are exact although the guest's clock jumps a day ahead in the middle.
#[test]
fn clock_jump_in_the_guest_comes_out_right() {
    let mut jumping = scenario(SCENARIO);
    let how = Misbehavior::ClockJump;
    jumping.steps.insert(2, Step::Misbehave { how });
    let result = Run::new(KERNEL, jumping).go();
    assert_eq!(result.outcome, Outcome::Passed);
}

/// Check that values are exact although the whole machine stands still for a while, as when its
/// host sleeps.
#[test]
fn machine_that_stood_still_comes_out_right() {
    const STILL: Duration = Duration::from_secs(3);
    let stopped = AtomicBool::new(false);
    let watch = |sign: harness::drive::Sign<'_>| {
        let due = sign.phase.starts_with("step 3") && !stopped.swap(true, Ordering::Relaxed);
        if due {
            assert!(processes::signal(sign.qemu_pid, "STOP"));
            let begin = Instant::now();
            while begin.elapsed() < STILL {
                thread::yield_now();
            }
            assert!(processes::signal(sign.qemu_pid, "CONT"));
        }
    };
    let result = Run {
        watch: &watch,
        ..Run::new(KERNEL, scenario(SCENARIO))
    }
    .go();
    assert!(stopped.load(Ordering::Relaxed), "the step was never seen");
    assert_eq!(result.outcome, Outcome::Passed);
}

/// Check that of three machines that are killed, wherever they are, each costs its own case, which
/// says so; that the other cases are right; and that no machine stays.
#[test]
fn three_machines_killed_cost_three_cases() {
    let mut command = usual(lab().images.folder());
    command.args(["--repeat", "6", "--retries", "0", "--json"]);
    let run = command.spawn().unwrap();
    let pid = run.id();
    let mut killed = Vec::new();
    let output = thread::scope(|scope| {
        let output = scope.spawn(move || run.wait_with_output().unwrap());
        while killed.len() < 3 && !output.is_finished() {
            let qemus = processes::qemus_of(pid);
            if let Some(qemu) = qemus.into_iter().find(|qemu| !killed.contains(qemu)) {
                // Each later in its life than the one before.
                thread::sleep(Duration::from_millis(300) * u32::try_from(killed.len()).unwrap());
                if processes::signal(qemu, "KILL") {
                    killed.push(qemu);
                }
            }
            thread::yield_now();
        }
        output.join().unwrap()
    });
    assert_eq!(killed.len(), 3);
    let report: harness::report::Report = serde_json::from_slice(&output.stdout).unwrap();
    let result = &report.results[0];
    let repeats = result.repeats.unwrap();
    assert_eq!(repeats.runs, 6);
    assert!(
        (3..6).contains(&repeats.right),
        "{repeats}: {}",
        said(&output)
    );
    let detail = result.outcome.detail();
    let clear = [Class::LostVm, Class::Infrastructure];
    assert!(clear.contains(&result.class), "{}: {detail}", result.class);
    assert!(processes::qemus_of(pid).is_empty());
}
