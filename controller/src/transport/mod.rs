//! Ways to put an [`Air`](crate::Air) before a real host.
//!
//! A [`Port`] carries the packets of one controller; [`Server`] serves any number of ports with one thread. [`vhci`] makes ports of
//! `/dev/vhci`.

mod port;
mod server;
mod sys;
pub mod vhci;

pub use port::{Port, Received};
pub use server::{ServeError, Server, Stats};
