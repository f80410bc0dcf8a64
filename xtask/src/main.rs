//! Entry point of this repository.

fn main() {}
