//! May this process load probes?

use std::fs;

use thiserror::Error;

/// It may not.
#[derive(Debug, Error)]
#[error(
    "this needs root, or the capabilities CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN; missing: {}. \
     Try: sudo btmetrics …",
    missing.join(", ")
)]
pub struct NotPermitted {
    /// Names of the capabilities that are missing.
    pub missing: Vec<&'static str>,
}

/// Numbers of capabilities, and their names. Kernel: include/uapi/linux/capability.h.
///
/// `CAP_SYS_ADMIN` opens the BTF of modules by number, and stands for the other two before 5.8.
const NEEDED: [(u32, &str); 3] = [(39, "CAP_BPF"), (38, "CAP_PERFMON"), (21, "CAP_SYS_ADMIN")];

/// Checks that this process may load probes.
///
/// # Errors
///
/// Names the capabilities that it lacks. If it cannot tell, it does not fail: the kernel will say.
pub fn check_privilege() -> Result<(), NotPermitted> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let missing = missing(&status);
    if missing.is_empty() {
        return Ok(());
    }
    Err(NotPermitted { missing })
}

fn missing(status: &str) -> Vec<&'static str> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let effective = effective.unwrap_or(u64::MAX);
    let lacking = NEEDED
        .iter()
        .filter(|(bit, _)| effective & (1_u64 << bit) == 0);
    lacking.map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Check that root lacks nothing, and that who lacks something is told what.
    #[rstest]
    #[case::root("CapEff:\t000001ffffffffff\n", &[])]
    #[case::nobody("Name:\tx\nCapEff:\t0000000000000000\n", &["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"])]
    #[case::no_admin("CapEff:\t000000c000000000\n", &["CAP_SYS_ADMIN"])]
    #[case::untold("", &[])]
    fn missing_capabilities_are_named(#[case] status: &str, #[case] expected: &[&str]) {
        assert_eq!(missing(status), expected);
    }
}
