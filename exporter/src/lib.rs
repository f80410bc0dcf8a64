//! Serving Bluetooth metrics to Prometheus.
//!
//! The command is `btmetrics`; this library is what the tests in virtual machines share with it:
//! finding the objects, keeping the probes attached while modules come and go, and the server.

#![forbid(unsafe_code)]

mod collector;
mod head;
mod objects;
mod privilege;
mod server;

pub use collector::Collector;
pub use objects::{NoObjects, Objects};
pub use privilege::{NotPermitted, check_privilege};
pub use server::{Limits, Server, Source};
