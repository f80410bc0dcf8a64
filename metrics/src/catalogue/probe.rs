//! The probes themselves: what is attached, and what was lost.

use super::{Family, Kind, Label, LabelValues, Metric, Unit};

const FAMILY: Label = Label {
    name: "family",
    values: LabelValues::OneOf(&["socket", "buffer", "credits", "urb", "latency", "hci"]),
    help: "the family that the program belongs to",
};

const PROG: Label = Label {
    name: "prog",
    values: LabelValues::Prog,
    help: "name of the program",
};

/// Programs and how they are attached.
pub static PROBE_INFO: Metric = Metric {
    name: "bluetooth_probe_info",
    family: Family::Probe,
    kind: Kind::Gauge,
    unit: Unit::Count,
    labels: &[
        FAMILY,
        PROG,
        Label {
            name: "attach",
            values: LabelValues::OneOf(&["fentry", "fexit", "kprobe", "kretprobe", "run"]),
            help: "kind of attachment; run: not attached, but run when a snapshot is taken",
        },
        Label {
            name: "state",
            values: LabelValues::OneOf(&["attached", "unavailable", "failed"]),
            help: "unavailable: this kernel does not have what the program needs; failed: it \
                   should have worked and did not",
        },
    ],
    help: "Probe programs chosen for this kernel, always 1",
    meaning: "One series for each program that was chosen or could not be. A metric that is \
              missing has its reason here.",
    functions: &[],
    caveats: &[],
};

/// Events that the kernel did not deliver to a program.
pub static PROBE_MISSED: Metric = Metric {
    name: "bluetooth_probe_missed_total",
    family: Family::Probe,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[FAMILY, PROG],
    help: "Events that the kernel did not deliver to a probe program",
    meaning: "Return probes that found no free instance, and runs that the kernel skipped because \
              the program was already running on that CPU. Above 0, the family's counters are too \
              low.",
    functions: &[],
    caveats: &[],
};

/// Events that a program saw and could not count.
pub static PROBE_DROPS: Metric = Metric {
    name: "bluetooth_probe_drops_total",
    family: Family::Probe,
    kind: Kind::Counter,
    unit: Unit::Count,
    labels: &[
        FAMILY,
        Label {
            name: "reason",
            values: LabelValues::OneOf(&[
                "map_full",
                "read_failed",
                "no_entry",
                "malformed",
                "truncated",
                "unexpected",
            ]),
            help: "map_full: a table had no room; read_failed: kernel memory could not be read; \
                   no_entry: a return without its call; malformed: data that the host rejects too; \
                   truncated: more items than the program looks at; unexpected: a value that \
                   should not occur",
        },
    ],
    help: "Events that a probe program saw but could not count",
    meaning: "Above 0, something in the family is not counted; the reason says what.",
    functions: &[],
    caveats: &[
        "A call that was already under way when the probes were loaded has no entry and counts as \
         no_entry when it returns, with kprobes.",
    ],
};
