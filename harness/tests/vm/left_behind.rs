//! Nothing is left behind, however the harness ends.

use crate::common::lab;
use crate::common::processes::{self, is_alive, qemus_of};
use rstest::rstest;
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
    assert!(processes::signal(harness.id(), signal));
    assert_eq!(harness.wait().unwrap().code(), code);
    wait_for("the end of all QEMUs", || {
        qemus.iter().all(|q| !is_alive(*q)).then_some(())
    });
}
