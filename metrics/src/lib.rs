//! The metric catalogue, snapshots of metric values, and their difference.
//!
//! [`CATALOGUE`] is the only place where a metric's name, kind, unit, labels and meaning are
//! written. A [`Snapshot`] holds values of catalogued metrics; what a scenario expects and what the
//! probes observed are both snapshots, so that comparing them is [`diff`] and nothing else.
//!
//! The crate does no I/O and knows nothing of BPF: values in, values out.

#![forbid(unsafe_code)]

pub mod catalogue;
mod cost;
mod diff;
pub mod docs;
mod errno;
mod report;
mod snapshot;
pub mod text;
mod trial;
mod value;

pub use catalogue::{CATALOGUE, Family, Kind, Label, LabelError, LabelValues, Metric, Unit, find};
pub use cost::{MapCost, ProgramCost};
pub use diff::{Difference, diff};
pub use errno::errno_name;
pub use report::{AttachKind, Lost, ProbeReport, State};
pub use snapshot::{Labels, Problem, Sample, Series, Snapshot};
pub use trial::{Trial, Try};
pub use value::{Value, Within};
