//! Everything that takes a real guest. Needs the payload that `cargo xtask test` builds.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy exempts marked functions only"
)]

mod common;
mod vm;
