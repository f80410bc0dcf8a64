//! The command `bt-controller`, as somebody who has nothing but it uses it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

fn host(path: &Path) -> UnixStream {
    let host = UnixStream::connect(path).unwrap();
    host.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    host
}

fn ask<const N: usize>(host: &mut UnixStream, command: &[u8]) -> [u8; N] {
    host.write_all(command).unwrap();
    answer(host)
}

fn answer<const N: usize>(host: &mut UnixStream) -> [u8; N] {
    let mut answer = [0; N];
    host.read_exact(&mut answer).unwrap();
    answer
}

/// Check that two controllers on sockets hear each other, that captures are written, and that the end says what crossed.
#[test]
fn bt_controller_serves_two_hosts_and_says_what_crossed() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|name| folder.path().join(name));
    let mut child = Command::new(env!("CARGO_BIN_EXE_bt-controller"))
        .arg("--h4")
        .arg(&a)
        .arg("--h4")
        .arg(&b)
        .arg("--capture")
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    for (path, last) in [(&a, 1), (&b, 2)] {
        let line = said.next().unwrap().unwrap();
        assert_eq!(line, format!("{} 00:00:5E:00:53:0{last}", path.display()));
    }
    let (mut a, mut b) = (host(&a), host(&b));
    // Write Scan Enable at B, Create Connection at A: B's host is asked.
    assert_eq!(
        ask(&mut b, &[1, 0x1a, 0x0c, 1, 2]),
        [4, 0x0e, 4, 1, 0x1a, 0x0c, 0]
    );
    let create = [
        1, 5, 4, 13, 2, 0x53, 0, 0x5e, 0, 0, 0x18, 0xcc, 2, 0, 0, 0, 1,
    ];
    assert_eq!(ask(&mut a, &create), [4, 0x0f, 4, 0, 1, 5, 4]);
    let asked: [u8; 13] = answer(&mut b);
    assert_eq!(asked[..9], [4, 4, 10, 1, 0x53, 0, 0x5e, 0, 0]);
    let stopped = Command::new("kill").arg(child.id().to_string()).status();
    assert!(stopped.unwrap().success());
    let sums: Vec<String> = said.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(sums.len(), 4, "{sums:?}");
    for file in ["hci0.btsnoop", "hci1.btsnoop"] {
        let capture = std::fs::read(folder.path().join(file)).unwrap();
        assert!(capture.starts_with(b"btsnoop\0"));
    }
}

/// Check that what cannot be had is named, with a way out: vhci where there is none, and a place for a socket where something else is.
#[test]
fn bt_controller_says_what_it_cannot_have() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    std::fs::write(&taken, "").unwrap();
    let run = |option: &str, path: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bt-controller"));
        let output = command.arg(option).arg(path).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let missing = run("--device", &folder.path().join("vhci"));
    assert!(
        missing.contains("/vhci") && missing.contains("module hci_vhci"),
        "{missing}"
    );
    let taken = run("--usbredir", &taken);
    assert!(
        taken.contains("/taken") && taken.contains("choose another path"),
        "{taken}"
    );
}
