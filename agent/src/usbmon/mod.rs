//! What the kernel's own monitor sees of all buses, as a capture.

mod sys;

use anyhow::{Context as _, bail};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// All buses.
const DEVICE: &str = "/dev/usbmon0";
/// The most that the kernel gives.
const RING_BYTES: libc::c_int = 1_200_000;
/// Data of one event that is kept, bytes: more than any packet here has.
const DATA_BYTES: usize = 4096;
const PAUSE: Duration = Duration::from_millis(2);
/// Format: pcap, microseconds; link type LINKTYPE_USB_LINUX_MMAPPED.
const PCAP_MAGIC: u32 = 0xa1b2_c3d4;
const LINK_TYPE: u32 = 220;

/// A running capture.
#[derive(Debug)]
pub(crate) struct Monitor {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<Vec<u8>>>,
}

impl Monitor {
    /// Begins.
    ///
    /// # Errors
    /// The kernel has no monitor.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).custom_flags(libc::O_NONBLOCK);
        let device = options.open(DEVICE);
        let device = device.with_context(|| format!("failed to open {DEVICE}"))?;
        sys::set_ring_size(&device, RING_BYTES).context("failed to make room for USB events")?;
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = thread::spawn(move || capture(&device, &flag));
        Ok(Self { stop, thread })
    }

    /// Ends, with everything that happened before this call.
    ///
    /// # Errors
    /// Reading failed, or the kernel had no room for an event.
    pub(crate) fn finish(self) -> anyhow::Result<Vec<u8>> {
        self.stop.store(true, Ordering::SeqCst);
        match self.thread.join() {
            Ok(result) => result,
            Err(_panic) => bail!("the thread that reads USB events panicked"),
        }
    }
}

fn capture(device: &File, stop: &AtomicBool) -> anyhow::Result<Vec<u8>> {
    let mut pcap = file_header();
    let mut header = [0; sys::HEADER_BYTES];
    let mut data = vec![0; DATA_BYTES];
    loop {
        // Looked at before reading: what is there when it is set is read.
        let last = stop.load(Ordering::SeqCst);
        match sys::next_event(device, &mut header, &mut data) {
            Ok(()) => append(&mut pcap, &header, &data),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if last {
                    break;
                }
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(error).context("failed to read a USB event"),
        }
    }
    match sys::dropped(device).context("failed to ask for lost USB events")? {
        0 => Ok(pcap),
        lost => bail!("the kernel had no room for {lost} USB events"),
    }
}

fn file_header() -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(PCAP_MAGIC.to_le_bytes());
    header.extend([2, 0, 4, 0]); // version 2.4
    header.extend([0; 8]);
    header.extend(u32::MAX.to_le_bytes());
    header.extend(LINK_TYPE.to_le_bytes());
    header
}

/// The event's header has its time (at 16: seconds, microseconds) and how much data was kept (at 36).
fn append(pcap: &mut Vec<u8>, header: &[u8; sys::HEADER_BYTES], data: &[u8]) {
    let word = |at: usize| {
        let bytes = header.get(at..).and_then(<[u8]>::first_chunk::<4>);
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    let kept = usize::try_from(word(36))
        .unwrap_or(usize::MAX)
        .min(data.len());
    let length = u32::try_from(sys::HEADER_BYTES + kept).unwrap_or(u32::MAX);
    for number in [word(16), word(24), length, length] {
        pcap.extend(number.to_le_bytes());
    }
    pcap.extend(header);
    pcap.extend(data.get(..kept).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that an event becomes a record of its time and length.
    #[test]
    fn append_event_has_time_and_length() {
        let mut header = [0; sys::HEADER_BYTES];
        header[16] = 7;
        header[24] = 9;
        header[36] = 3;
        let mut pcap = file_header();
        append(&mut pcap, &header, &[1, 2, 3, 4]);
        assert_eq!(pcap.len(), 24 + 16 + 64 + 3);
        assert_eq!(
            pcap[24..40],
            [7, 0, 0, 0, 9, 0, 0, 0, 67, 0, 0, 0, 67, 0, 0, 0]
        );
        assert_eq!(pcap[104..], [1, 2, 3]);
    }
}
