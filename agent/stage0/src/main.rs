//! PID 1 of the guest: loads modules, receives a payload, runs it.

fn main() {}
