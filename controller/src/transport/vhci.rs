//! Controllers on `/dev/vhci`, which the kernel module hci_vhci turns into `hciN`.
//!
//! Kernel: v6.12 drivers/bluetooth/hci_vhci.c. A vendor packet `ff <opcode>` makes the device and is answered by `ff <opcode> <index>`;
//! after that each read and each write carries one H4 packet.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::port::{Port, Received};
use super::sys;

/// Where the kernel has the device.
pub const DEFAULT_PATH: &str = "/dev/vhci";

/// The N of `hciN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HciIndex(pub u16);

/// Why a controller could not be put on vhci.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The device could not be opened; without the module hci_vhci it is not there.
    #[error("failed to open {}", path.display())]
    Open {
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused to make a controller.
    #[error("failed to create a controller on {}", path.display())]
    Create {
        /// The device.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel's answer was not that a controller was made.
    #[error("unexpected answer from {} to the creation of a controller: {answer:02x?}", path.display())]
    Answer {
        /// The device.
        path: PathBuf,
        /// What it said.
        answer: Vec<u8>,
    },
    /// The kernel did not answer.
    #[error("no answer from {} to the creation of a controller within {timeout:?}", path.display())]
    NoAnswer {
        /// The device.
        path: PathBuf,
        /// How long was waited.
        timeout: Duration,
    },
}

/// H4 indicator of the vendor packet.
const VENDOR: u8 = 0xff;
/// A BR/EDR and/or LE controller, not configured from outside, not raw.
const PRIMARY: u8 = 0x00;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Indicator, ACL header, longest payload.
const LONGEST_PACKET: usize = 1 + 4 + 0xffff;

/// One controller on vhci.
#[derive(Debug)]
pub struct VhciPort {
    device: File,
    index: HciIndex,
    buffer: Vec<u8>,
}

impl VhciPort {
    /// Makes a controller.
    ///
    /// # Errors
    /// [`OpenError`], if the device is not there, or the kernel refuses or does not answer.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK);
        let device = options.open(path);
        let device = device.map_err(|source| OpenError::Open {
            path: path.to_owned(),
            source,
        })?;
        let create = |source| OpenError::Create {
            path: path.to_owned(),
            source,
        };
        (&device).write_all(&[VENDOR, PRIMARY]).map_err(create)?;
        let mut buffer = vec![0; LONGEST_PACKET];
        let length = read_answer(&device, &mut buffer).map_err(create)?;
        let length = length.ok_or_else(|| OpenError::NoAnswer {
            path: path.to_owned(),
            timeout: ANSWER_TIMEOUT,
        })?;
        match buffer.get(..length) {
            Some(&[VENDOR, PRIMARY, low, high]) => {
                let index = HciIndex(u16::from_le_bytes([low, high]));
                Ok(Self {
                    device,
                    index,
                    buffer,
                })
            }
            answer => Err(OpenError::Answer {
                path: path.to_owned(),
                answer: answer.unwrap_or_default().to_vec(),
            }),
        }
    }

    /// Which `hciN` it is.
    pub const fn index(&self) -> HciIndex {
        self.index
    }
}

/// Waits for the answer; `None` if there is none in time.
fn read_answer(device: &File, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let until = Instant::now() + ANSWER_TIMEOUT;
    loop {
        match read_some(device, buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            other => return other.map(Some),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        sys::wait_readable(&[device.as_fd()], Some(left))?;
    }
}

fn read_some(mut device: &File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match device.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

impl AsFd for VhciPort {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

impl Port for VhciPort {
    fn receive(&mut self) -> io::Result<Received<'_>> {
        match read_some(&self.device, &mut self.buffer) {
            Ok(0) => Ok(Received::Closed),
            Ok(length) => Ok(self
                .buffer
                .get(..length)
                .map_or(Received::Nothing, Received::Packet)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    fn send(&mut self, packet: &[u8]) -> io::Result<bool> {
        match self.device.write(packet) {
            Ok(_) => Ok(true),
            // Kernel: net/bluetooth/hci_core.c hci_recv_frame() refuses packets for a device that is neither up nor coming up.
            Err(error) if error.raw_os_error() == Some(libc::ENXIO) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a device that is not there is named in the error.
    #[test]
    fn open_missing_device_names_it() {
        let error = VhciPort::open(Path::new("/nonexistent/vhci")).unwrap_err();
        assert_eq!(error.to_string(), "failed to open /nonexistent/vhci");
    }
}
