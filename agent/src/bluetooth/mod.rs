//! AF_BLUETOOTH sockets in three layers: the kernel's constants and structs (`sys`), safe calls
//! over owned descriptors (`fd`), and typed sockets (`l2cap`, `device`).

pub(crate) mod device;
mod fd;
pub(crate) mod l2cap;
mod sys;
