//! eBPF programs that measure Linux Bluetooth, and their loader.
//!
//! Each metric family is one object, `<family>.bpf.o`, made by this crate's build script and loaded
//! from a file at run time. [`load`] looks at what the running kernel offers (its BTF, its symbols
//! and what ftrace can reach, never its version), chooses for each event the best programs that can
//! work, loads and attaches them, and tells in [`Probes::reports`] and [`Probes::lost`] what was
//! chosen and what could not be. [`Probes::snapshot`] reads the values.
//!
//! ```no_run
//! use metrics::Family;
//!
//! let objects = [(Family::Socket, "socket.bpf.o".into()), (Family::Credits, "credits.bpf.o".into())];
//! let probes = probes::load(&objects, &probes::Options::default());
//! // … Bluetooth traffic …
//! let snapshot = probes.snapshot()?;
//! # Ok::<(), probes::SnapshotError>(())
//! ```

mod attach;
mod attempt;
mod btf;
mod choose;
mod costs;
mod decode;
mod external;
mod find;
mod hooks;
mod load;
mod log;
mod lookup;
mod preempt;
mod reduce;
mod snapshot;
mod surface;
mod sys;
mod tracefs;
mod trial;

use std::fs;
use std::path::{Path, PathBuf};

use metrics::Family;

pub use btf::BtfError;
pub use choose::Preference;
pub use costs::{Plain, count_runs};
pub use external::cut as cut_btf;
pub use load::{Options, Probes, load};
pub use snapshot::SnapshotError;
pub use trial::try_each;

/// The families that have an object, in the order of the catalogue.
pub const FAMILIES: &[Family] = &[
    Family::Socket,
    Family::Buffer,
    Family::Credits,
    Family::Urb,
    Family::Latency,
    Family::Hci,
];

/// File name of a family's object.
#[must_use]
pub fn object_name(family: Family) -> String {
    format!("{family}.bpf.o")
}

/// The BTF beside the objects that describes the Bluetooth structures of the running kernel, which
/// needs it if its modules have none: `<release>.btf`.
#[must_use]
pub fn external_btf(folder: &Path) -> Option<PathBuf> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let file = folder.join(format!("{}.btf", release.trim()));
    file.is_file().then_some(file)
}

/// Objects that count wrong on purpose, and the family whose place each takes.
///
/// `socket_off_by_one.bpf.o` counts the first call of each series of
/// `bluetooth_socket_calls_total` twice; `buffer_with_bias.bpf.o` takes each buffer for a byte fuller than it is,
/// `buffer_causes_swapped.bpf.o` one cause of EAGAIN for the other; `hci_off_by_one.bpf.o` the first packet of each series of
/// `bluetooth_hci_packets_total`; `urb_off_by_one.bpf.o` each
/// completed URB; `latency_halved.bpf.o` and `urb_halved.bpf.o` take each time for half as long as it was.
pub const NEGATIVE_CONTROLS: &[(Family, &str)] = &[
    (Family::Socket, "socket_off_by_one.bpf.o"),
    (Family::Buffer, "buffer_with_bias.bpf.o"),
    (Family::Buffer, "buffer_causes_swapped.bpf.o"),
    (Family::Urb, "urb_off_by_one.bpf.o"),
    (Family::Urb, "urb_halved.bpf.o"),
    (Family::Latency, "latency_halved.bpf.o"),
    (Family::Hci, "hci_off_by_one.bpf.o"),
];
