//! Shared by tests and by the `parity` example.
#![allow(dead_code, reason = "each user takes its own part")]

pub(crate) mod btf_writer;
pub(crate) mod kernel;
pub(crate) mod mutate;
pub(crate) mod oracle;
