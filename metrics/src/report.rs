//! What became of each program, and which series are missing because of it.

use crate::catalogue::Family;
use serde::{Deserialize, Serialize};

/// How a program gets to run. Named as libbpf's section prefixes are.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachKind {
    /// At the entry of a function, through a BPF trampoline; arguments are typed by BTF.
    Fentry,
    /// At the return of a function, through a BPF trampoline; has the arguments and the result.
    Fexit,
    /// At the entry of a function, through a kprobe; arguments are taken from registers.
    Kprobe,
    /// At the return of a function, through a kretprobe; has the result alone.
    Kretprobe,
    /// Not attached: the loader runs it when a snapshot is taken.
    Run,
}

impl AttachKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::Fentry,
        Self::Fexit,
        Self::Kprobe,
        Self::Kretprobe,
        Self::Run,
    ];

    /// Name in labels, and the last part of a program's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Fentry => "fentry",
            Self::Fexit => "fexit",
            Self::Kprobe => "kprobe",
            Self::Kretprobe => "kretprobe",
            Self::Run => "run",
        }
    }
}

impl std::fmt::Display for AttachKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of a program.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It measures.
    Attached,
    /// This kernel does not have what it needs.
    Unavailable,
    /// It should have worked and did not.
    Failed,
}

impl State {
    /// Name in labels.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attached => "attached",
            Self::Unavailable => "unavailable",
            Self::Failed => "failed",
        }
    }
}

/// What became of one program.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProbeReport {
    /// The family that it belongs to.
    pub family: Family,
    /// Its name in the object: `<event>_<attach>`.
    pub prog: String,
    /// How it is, or would be, attached.
    pub attach: AttachKind,
    /// What became of it.
    pub state: State,
    /// Why it failed or is unavailable; for an attached one, why not a better one took its place.
    pub reason: Option<String>,
    /// Last lines that libbpf and the verifier said when it failed.
    pub log: Option<String>,
}

/// Series that no attached program measures.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Lost {
    /// Name of the metric.
    pub metric: String,
    /// Labels that all the missing series have; other labels may have any value.
    pub labels: Vec<(String, String)>,
    /// Why.
    pub reason: String,
}

impl Lost {
    /// Is this series one of the missing ones?
    #[must_use]
    pub fn covers(&self, series: &crate::Series) -> bool {
        series.metric == self.metric
            && self
                .labels
                .iter()
                .all(|(name, value)| series.labels.get(name) == Some(value))
    }
}

#[cfg(test)]
mod tests {
    use crate::{Snapshot, catalogue::SOCKET_CALLS};

    use super::*;

    /// Check that a loss covers the series with its labels and leaves the others.
    #[test]
    fn lost_covers_series_with_its_labels_alone() {
        let mut snapshot = Snapshot::new();
        for proto in ["iso", "sco"] {
            let labels = [
                ("proto", proto),
                ("direction", "read"),
                ("result", "ok"),
                ("origin", "user"),
            ];
            snapshot.add(&SOCKET_CALLS, &labels, 1);
        }
        let lost = Lost {
            metric: SOCKET_CALLS.name.to_owned(),
            labels: vec![("proto".to_owned(), "iso".to_owned())],
            reason: String::new(),
        };
        let rest = snapshot.filter(|series, _| !lost.covers(series));
        assert_eq!(
            rest.iter()
                .map(|(s, _)| s.labels.get("proto"))
                .collect::<Vec<_>>(),
            [Some("sco")]
        );
    }
}
