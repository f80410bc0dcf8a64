//! Ways to put an [`Air`](crate::Air) before a real host.
//!
//! A [`Port`] carries the packets of one controller; [`Server`] serves any number of ports with one thread. [`vhci`] makes ports of
//! `/dev/vhci`, [`H4Port`] of unix sockets, [`usbredir`] makes them USB dongles of a QEMU guest.

mod h4;
mod h4_stream;
mod listening;
mod port;
mod server;
mod sys;
pub mod usbredir;
pub mod vhci;

pub use h4::H4Port;
pub use h4_stream::{H4Stream, NotH4};
pub use port::{Port, Received};
pub use server::{ServeError, Server, Stats};
