//! Boots guests, drives scenarios, compares metrics, reports.
//!
//! The harness never links libbpf: it meets the probes in the guest's evidence alone.

pub mod accel;
pub mod bench;
pub mod bisect;
pub mod bulk;
pub mod bundle;
pub mod case;
pub mod class;
pub mod controls;
pub mod cost;
pub mod drive;
pub mod evidence;
pub mod expect;
pub mod foretell;
pub mod images;
pub mod kills;
pub mod machine;
pub mod matrix;
pub mod needs;
pub mod outcome;
pub mod outside;
pub mod payload;
pub mod progress;
pub mod repeat;
pub mod report;
pub mod saves;
pub mod scenarios;
pub mod select;
pub mod shards;
pub mod sit;
pub mod size;
pub mod splats;
mod sys;
pub mod usbmon;
