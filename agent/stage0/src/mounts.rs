//! The file systems that drivers, probes and the agent expect.

use crate::sys;
use std::{fs, io};

/// Type and place. The ones that a kernel lacks are not missed until somebody uses them.
const MOUNTS: [(&str, &str, bool); 7] = [
    ("proc", "/proc", true),
    ("sysfs", "/sys", true),
    ("devtmpfs", "/dev", true),
    ("tmpfs", "/run", true),
    ("debugfs", "/sys/kernel/debug", false),
    ("tracefs", "/sys/kernel/tracing", false),
    ("bpf", "/sys/fs/bpf", false),
];

/// Mounts everything; fails on the first that stage 0 cannot do without.
pub(crate) fn mount_all() -> Result<(), String> {
    for (fs_type, target, needed) in MOUNTS {
        // sysfs refuses new folders: there the mount point exists or the mount fails.
        let _ = fs::create_dir_all(target);
        match sys::mount(fs_type, target) {
            Err(error) if needed && error.kind() != io::ErrorKind::ResourceBusy => {
                return Err(format!("cannot mount {fs_type} on {target}: {error}"));
            }
            _ => {}
        }
    }
    Ok(())
}
