//! What people get who ask for something that is not to be had.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy exempts marked functions only"
)]

use rstest::rstest;
use std::process::{Command, Output};

fn harness(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_harness"));
    // A payload of empty files: nothing here gets as far as running it.
    let payload = folder.path().join("payload");
    std::fs::create_dir_all(payload.join("objects")).unwrap();
    for file in ["stage0", "agent", "objects/socket.bpf.o"] {
        std::fs::write(payload.join(file), "").unwrap();
    }
    command
        .env("BT_PAYLOAD", payload)
        .env("BT_CACHE", folder.path().join("cache"));
    command.args(arguments).output().unwrap()
}

/// Check that wrong words are answered with exit code 2 and the right ones.
#[rstest]
#[case::kernel(&["--kernel", "debian:6.21"], "debian:6.12")]
#[case::group(&["--group", "smok"], "smoke")]
#[case::scenario(&["--scenario", "l2cap"], "l2cap-seqpacket")]
#[case::option(&["--kernle", "debian:6.12"], "--kernel")]
fn test_kernels_wrong_word_is_usage_with_the_right_word(
    #[case] arguments: &[&str],
    #[case] suggestion: &str,
) {
    let output = harness(&[&["test-kernels"], arguments].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(suggestion), "{said}");
}

/// Check that a cold cache without a mirror says which package is missing and what to do.
#[test]
fn test_kernels_cold_cache_without_mirror_could_not_run() {
    let arguments = [
        "test-kernels",
        "--kernel",
        "debian:6.12",
        "--mirror",
        "file:///no/mirror",
    ];
    let output = harness(&arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("debian:6.12"), "{said}");
}

/// Check that listing needs neither network nor payload, and names every kernel of the group.
#[test]
fn test_kernels_list_names_kernels_and_scenarios() {
    let output = harness(&["test-kernels", "--group", "lts", "--list"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for wanted in [
        "debian:5.10",
        "debian:6.1",
        "debian:6.12",
        "l2cap-seqpacket",
    ] {
        assert!(text.contains(wanted), "{text}");
    }
}
