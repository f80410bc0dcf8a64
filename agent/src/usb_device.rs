//! A controller's USB device, as sysfs has it.
//!
//! Source: Kernel: v6.12 Documentation/driver-api/usb/power-management.rst.

use evidence::UsbPlace;
use std::fs;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Why a device's USB side cannot be dealt with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum UsbDeviceError {
    /// A file cannot be read or written.
    #[error("failed to access {path}")]
    File { path: String, source: io::Error },
    /// A file holds no number.
    #[error("{path} holds {text:?}")]
    Text { path: String, text: String },
    /// The device did not become what it was to become.
    #[error("the USB device of hci{hci} is {status} and not {wanted} after {PATIENCE:?}")]
    Power {
        hci: u16,
        status: String,
        wanted: &'static str,
    },
}

const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);
/// Idle time before the kernel suspends a device that was resumed: more than any scenario takes.
const LONG_MS: &str = "3600000";
/// The kernel does not try again by itself if the device was busy when it was to be suspended; after so long it is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// Where it is.
///
/// # Errors
/// It is not on USB.
pub(crate) fn place(hci: u16) -> Result<UsbPlace, UsbDeviceError> {
    let number = |file: &str| {
        let path = path(hci, file);
        let text = read(&path)?;
        match text.parse::<u16>() {
            Ok(number) => Ok(number),
            Err(_not_a_number) => Err(UsbDeviceError::Text { path, text }),
        }
    };
    let (bus, device) = (number("busnum")?, number("devnum")?);
    let device = u8::try_from(device).map_err(|_too_large| UsbDeviceError::Text {
        path: path(hci, "devnum"),
        text: device.to_string(),
    })?;
    Ok(UsbPlace { hci, bus, device })
}

/// Has the kernel suspend it as soon as it is idle, and waits for that. Once it is resumed it stays awake.
///
/// # Errors
/// It stays awake.
pub(crate) fn suspend(hci: u16) -> Result<(), UsbDeviceError> {
    write(&path(hci, "power/autosuspend_delay_ms"), "0")?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // The second of these makes the kernel look whether it is idle.
        write(&path(hci, "power/control"), "on")?;
        write(&path(hci, "power/control"), "auto")?;
        let until = (Instant::now() + ASK_AGAIN).min(deadline);
        match await_status(hci, "suspended", until) {
            Err(UsbDeviceError::Power { .. }) if Instant::now() < deadline => {}
            other => {
                other?;
                return write(&path(hci, "power/autosuspend_delay_ms"), LONG_MS);
            }
        }
    }
}

/// Has the kernel resume it, and keep it awake.
///
/// # Errors
/// It stays asleep.
pub(crate) fn resume(hci: u16) -> Result<(), UsbDeviceError> {
    write(&path(hci, "power/control"), "on")?;
    await_status(hci, "active", Instant::now() + PATIENCE)
}

fn await_status(hci: u16, wanted: &'static str, until: Instant) -> Result<(), UsbDeviceError> {
    loop {
        let status = read(&path(hci, "power/runtime_status"))?;
        if status == wanted {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(UsbDeviceError::Power {
                hci,
                status,
                wanted,
            });
        }
        sleep(PAUSE);
    }
}

/// A device's parent is the interface that the driver is bound to, whose parent is the USB device.
fn path(hci: u16, file: &str) -> String {
    format!("/sys/class/bluetooth/hci{hci}/device/../{file}")
}

fn read(path: &str) -> Result<String, UsbDeviceError> {
    let text = fs::read_to_string(path).map_err(|source| UsbDeviceError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim().to_owned())
}

fn write(path: &str, text: &str) -> Result<(), UsbDeviceError> {
    fs::write(path, text).map_err(|source| UsbDeviceError::File {
        path: path.to_owned(),
        source,
    })
}
