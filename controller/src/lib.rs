//! A virtual Bluetooth controller.
//!
//! The model is plain code: no I/O, no threads, no clock of its own. An [`Air`] owns controllers that can hear each other. Bytes from a
//! host go in with [`Air::from_host`], bytes for a host come out of [`Air::to_host`], and time passes only when the caller says so.
//! Whatever crosses that boundary is written to the [`Ledger`], which is what tests compare measurements with.
//!
//! [`transport`] puts the model behind `/dev/vhci`, where a Linux kernel finds it as `hciN`, or behind QEMU's `usb-redir`, where a guest
//! finds it as a USB dongle.
//!
//! ```
//! use controller::{Air, Profile};
//! use std::time::Duration;
//!
//! let mut air = Air::new();
//! let id = air.add(Profile::dual_mode("00:00:5E:00:53:01".parse()?));
//! air.from_host(id, &[0x01, 0x03, 0x0c, 0x00], Duration::ZERO); // HCI_Reset
//! let (to, packet) = air.to_host().expect("a reset is answered");
//! assert_eq!(to, id);
//! assert_eq!(packet, [0x04, 0x0e, 0x04, 0x01, 0x03, 0x0c, 0x00]);
//! # Ok::<(), controller::ParseBdAddrError>(())
//! ```

#![deny(unsafe_code)]

mod action;
mod air;
mod btsnoop;
mod buffers;
mod cmd;
mod data;
mod faults;
mod hci;
mod held;
mod inquiry;
mod le;
mod ledger;
mod link;
mod page;
mod pairing;
mod profile;
mod reset;
mod sco;
mod state;
mod timers;
pub mod transport;
mod types;

pub use action::Action;
pub use air::{Air, Tap};
pub use btsnoop::{Btsnoop, BtsnoopFiles};
pub use buffers::{AckPolicy, Pool};
pub use faults::{Fault, FaultAction};
pub use ledger::{
    CompletedLink, Detail, Direction, Entry, Fate, L2capHeader, Ledger, PacketHead,
    ParsePacketHeadError, Totals,
};
pub use profile::{BufferSize, Features, LeFeatures, LmpFeature, Profile, Version};
pub use types::{
    BdAddr, ConnHandle, ControllerId, LinkKind, Opcode, PacketKind, ParseBdAddrError, Role, Status,
};
