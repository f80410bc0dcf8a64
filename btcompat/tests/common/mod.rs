//! Shared by tests and by the `parity` example.
#![allow(dead_code, reason = "each user takes its own part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(
    unreachable_pub,
    clippy::cast_possible_truncation,
    reason = "helpers of tests"
)]

pub(crate) mod btf_writer;
pub(crate) mod kernel;
pub(crate) mod mutate;
pub(crate) mod oracle;
