//! Nothing is left behind, however the harness ends.

use crate::common::lab;
use rstest::rstest;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(5);

/// The harness on one kernel; booting takes long enough to be interrupted.
fn harness(arguments: &[&str]) -> Child {
    let kernel: kernels::KernelId = "debian:6.12".parse().unwrap();
    let _cached = crate::common::image(&kernel);
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    command
        .args(["test-kernels", "--kernel", "debian:6.12", "--accel", "tcg"])
        .args(arguments);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let folder = lab().images.folder();
    command.env("BT_CACHE", folder).spawn().unwrap()
}

/// The QEMUs whose parent is `pid`.
fn qemus_of(pid: u32) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|number| is_qemu_of(*number, pid)).collect()
}

fn is_qemu_of(number: u32, parent: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    let Some((name, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let its_parent = rest
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok());
    name.contains("qemu-system") && its_parent == Some(parent)
}

fn is_alive(number: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(name, rest)| name.contains("qemu-system") && !rest.starts_with(['Z', 'X']))
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come about");
        sleep(PAUSE);
    }
}

fn first_qemus(harness: &mut Child) -> Vec<u32> {
    let pid = harness.id();
    wait_for("a QEMU", || {
        assert!(
            harness.try_wait().unwrap().is_none(),
            "the harness ended before its guest"
        );
        Some(qemus_of(pid)).filter(|qemus| !qemus.is_empty())
    })
}

/// Check that no QEMU outlives the harness, whichever signal ends it, in a boot or a restore.
#[rstest]
#[case::interrupt("INT", &["--boot"], Some(130))]
#[case::terminate("TERM", &["--boot"], Some(130))]
#[case::kill_while_booting("KILL", &["--boot"], None)]
#[case::kill_while_restored("KILL", &[], None)]
fn signal_ends_harness_and_its_qemus(
    #[case] signal: &str,
    #[case] arguments: &[&str],
    #[case] code: Option<i32>,
) {
    let mut harness = harness(arguments);
    let qemus = first_qemus(&mut harness);
    let pid = harness.id().to_string();
    assert!(
        Command::new("kill")
            .args([&format!("-{signal}"), &pid])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(harness.wait().unwrap().code(), code);
    wait_for("the end of all QEMUs", || {
        qemus.iter().all(|q| !is_alive(*q)).then_some(())
    });
}
