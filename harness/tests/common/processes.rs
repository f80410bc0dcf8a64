//! The QEMUs of a process, and signals to them.

use std::fs;
use std::process::Command;

/// The QEMUs whose parent is `pid`.
pub(crate) fn qemus_of(pid: u32) -> Vec<u32> {
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

/// Is this still a QEMU that runs?
pub(crate) fn is_alive(number: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(name, rest)| name.contains("qemu-system") && !rest.starts_with(['Z', 'X']))
}

/// Sends a signal by its name, without SIG. No: that process is gone.
pub(crate) fn signal(number: u32, name: &str) -> bool {
    let number = number.to_string();
    let mut kill = Command::new("kill");
    kill.args([&format!("-{name}"), &number])
        .status()
        .unwrap()
        .success()
}
