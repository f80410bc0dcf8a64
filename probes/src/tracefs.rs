//! Return probes with room for many calls at once, made through tracefs.
//!
//! A kretprobe has a fixed number of instances, one for each call under way; a return without one is
//! not seen. The perf interface gives about twice the number of CPUs, which blocked reads use up.
//! Only tracefs takes the number. It also counts what was missed.
//!
//! Kernel: Documentation/trace/kprobetrace.rst.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// Instances for each return probe: this many calls may be blocked at once.
const MAX_ACTIVE: u32 = 512;

/// Prefix of the groups that this crate's events are in; the process id follows.
const GROUP_PREFIX: &str = "btmetrics_";

/// A mounted tracefs.
#[derive(Clone, Debug)]
pub(crate) struct Tracefs(PathBuf);

impl Tracefs {
    /// The place where tracefs is mounted, in libbpf's order, which looks there too.
    pub(crate) fn find() -> Option<Self> {
        ["/sys/kernel/debug/tracing", "/sys/kernel/tracing"]
            .into_iter()
            .map(|path| Self(path.into()))
            .find(|tracefs| tracefs.path("kprobe_events").exists())
    }

    /// A file in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Removes events that processes which are gone have left.
    pub(crate) fn remove_stale_events(&self) {
        let Ok(text) = fs::read_to_string(self.path("kprobe_events")) else {
            return;
        };
        for event in stale_events(&text, |pid| Path::new("/proc").join(pid).exists()) {
            if let Err(error) = self.command(&format!("-:{event}")) {
                tracing::warn!(event, %error, "failed to remove a stale return probe");
            }
        }
    }

    fn command(&self, line: &str) -> io::Result<()> {
        OpenOptions::new()
            .append(true)
            .open(self.path("kprobe_events"))?
            .write_all(line.as_bytes())
    }
}

/// Names of events, `group/event`, of processes that are not `alive`.
fn stale_events(kprobe_events: &str, alive: impl Fn(&str) -> bool) -> Vec<&str> {
    let stale = |event: &&str| {
        let pid = event
            .strip_prefix(GROUP_PREFIX)
            .and_then(|rest| rest.split(['_', '/']).next());
        pid.is_some_and(|pid| !alive(pid))
    };
    // r512:group/event module:symbol
    let events = kprobe_events
        .lines()
        .filter_map(|line| line.split([':', ' ']).nth(1));
    events.filter(stale).collect()
}

/// A return probe that exists, and is removed, with this value.
#[derive(Debug)]
pub(crate) struct ReturnProbe {
    tracefs: Tracefs,
    /// Group of the event.
    pub(crate) group: String,
    /// Name of the event.
    pub(crate) event: String,
}

impl ReturnProbe {
    /// Makes a return probe at `module:symbol` or at an address.
    pub(crate) fn create(tracefs: &Tracefs, event: &str, target: &str) -> io::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let owner = format!("{}_{number}", std::process::id());
        let group = format!("{GROUP_PREFIX}{owner}");
        // kprobe_profile names events without their groups.
        let event = format!("{event}_{owner}");
        tracefs.command(&format!("r{MAX_ACTIVE}:{group}/{event} {target}"))?;
        Ok(Self {
            tracefs: tracefs.clone(),
            group,
            event,
        })
    }

    /// Returns that were not seen, because no instance was free.
    pub(crate) fn missed(&self) -> io::Result<u64> {
        let profile = fs::read_to_string(self.tracefs.path("kprobe_profile"))?;
        missed(&profile, &self.event).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("{} is not in kprobe_profile", self.event),
            )
        })
    }
}

/// Reads `kprobe_profile`: `event hits missed`.
fn missed(profile: &str, event: &str) -> Option<u64> {
    profile.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == event).then_some(())?;
        words.nth(1)?.parse().ok()
    })
}

impl Drop for ReturnProbe {
    fn drop(&mut self) {
        let Self {
            tracefs,
            group,
            event,
        } = self;
        if let Err(error) = tracefs.command(&format!("-:{group}/{event}")) {
            tracing::warn!(event, %error, "failed to remove a return probe");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that only events of this crate's dead processes are stale.
    #[test]
    fn stale_events_are_those_of_dead_processes() {
        let text = "r512:btmetrics_12_0/f bluetooth:f\nr512:btmetrics_34_1/g bluetooth:g\n\
                    p:kprobes/mine vfs_read\nr10:btmetrics_x/h h\n";
        assert_eq!(
            stale_events(text, |pid| pid == "34"),
            ["btmetrics_12_0/f", "btmetrics_x/h"]
        );
    }

    /// Check that the last column of the event's line is what was missed.
    #[test]
    fn missed_of_event_is_the_last_column() {
        let profile = "  other                 1               2\n  f                    17               3\n";
        assert_eq!(missed(profile, "f"), Some(3));
        assert_eq!(missed(profile, "g"), None);
    }
}
