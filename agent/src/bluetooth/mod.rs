//! AF_BLUETOOTH sockets in three layers: the kernel's constants and structs (`sys`), safe calls
//! over owned descriptors (`fd`), and typed sockets (`socket`, `device`,
//! `hci`).

pub(crate) mod device;
mod fd;
pub(crate) mod hci;
pub(crate) mod memory;
pub(crate) mod socket;
mod sys;
