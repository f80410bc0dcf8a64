//! Captures as Wireshark reads them.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

/// The fields of each packet of a capture, as tshark prints them. `None`, and a line that says so, where there is no tshark.
pub(crate) fn fields(capture: &Path, names: &[&str]) -> Option<Vec<Vec<String>>> {
    let mut command = Command::new("tshark");
    command.arg("-r").arg(capture).args(["-T", "fields"]);
    for name in names {
        command.args(["-e", name]);
    }
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            #[expect(clippy::print_stderr, reason = "a test says what it leaves out")]
            {
                eprintln!("skipped: there is no tshark on this machine (Debian: package tshark)");
            }
            return None;
        }
        output => output.unwrap(),
    };
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaints}");
    let said = String::from_utf8(output.stdout).unwrap();
    let words = |line: &str| line.split('\t').map(str::to_owned).collect();
    Some(said.lines().map(words).collect())
}
