//! Boots guests, drives scenarios, compares metrics, reports.

fn main() {}
