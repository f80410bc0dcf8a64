//! Controllers as USB dongles, for a QEMU with `-device usb-redir`.
//!
//! QEMU shows its guest a device and sends every transfer of it over a socket, in the usbredir protocol. [`Dongle`] is the other end: it
//! has the descriptors and endpoints of a full-speed Bluetooth dongle and hands HCI packets to and fro. The guest's own drivers
//! (`xhci_hcd`, `usbcore`, `btusb`) find a device like any other.

mod descriptors;
mod dongle;
mod faults;
mod port;
mod voice;
mod wire;

pub use dongle::{Dongle, DongleSettings, FromHost};
pub use faults::{UsbEndpoint, UsbFault, UsbFaultAction, UsbStatus, UsbTransfers};
pub use port::{UsbControl, UsbPort};
pub use wire::ProtocolError;
