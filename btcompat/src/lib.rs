//! Says whether an eBPF object works on a kernel, and why, from files alone.
//!
//! An [`object::Object`] becomes [`object::Requirements`]; a kernel becomes a
//! `Surface`; the two together become a verdict. The library reads files and
//! bytes that it is given and nothing else; only the `btcompat` command looks
//! at the running machine.

#![forbid(unsafe_code)]

pub mod btf;
pub mod bytes;
pub mod dwarf;
pub mod object;
pub mod relocate;
pub mod surface;
pub mod verdict;
