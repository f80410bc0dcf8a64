//! Captures in the btsnoop format, one file per controller; Wireshark and `btmon -r` open them.
//!
//! Format: big endian; a 16-byte header (`btsnoop\0`, version 1, data link type 1002 = H4), then records of a 24-byte header and the
//! packet with its indicator. Time is in microseconds since midnight, January 1st, 0 AD.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::air::Tap;
use crate::ledger::Direction;
use crate::types::{ControllerId, PacketKind};

/// Microseconds from year 0 to 1970.
const UNIX_EPOCH_MICROSECONDS: u64 = 0x00dc_ddb3_0f2f_8000;
const H4_DATA_LINK: u32 = 1002;

/// Writes one capture.
#[derive(Debug)]
pub struct Btsnoop<W> {
    to: W,
    start: Duration,
}

impl<W: Write> Btsnoop<W> {
    /// A capture whose clock stood at zero at `start` (since the Unix epoch); writes the file header.
    ///
    /// # Errors
    /// What writing says.
    pub fn new(mut to: W, start: Duration) -> io::Result<Self> {
        to.write_all(b"btsnoop\0")?;
        to.write_all(&1u32.to_be_bytes())?;
        to.write_all(&H4_DATA_LINK.to_be_bytes())?;
        Ok(Self { to, start })
    }

    /// Appends a packet (with its H4 indicator) that crossed at `time`.
    ///
    /// # Errors
    /// What writing says.
    pub fn write(&mut self, direction: Direction, time: Duration, packet: &[u8]) -> io::Result<()> {
        let length = u32::try_from(packet.len()).map_err(io::Error::other)?;
        let since_epoch = self.start.saturating_add(time).as_micros();
        let since_epoch = u64::try_from(since_epoch).map_err(io::Error::other)?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(&length.to_be_bytes())?;
        self.to.write_all(&flags(direction, packet).to_be_bytes())?;
        self.to.write_all(&0u32.to_be_bytes())?;
        self.to.write_all(
            &since_epoch
                .saturating_add(UNIX_EPOCH_MICROSECONDS)
                .to_be_bytes(),
        )?;
        self.to.write_all(packet)
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// What writing says.
    pub fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Bit 0: towards the host. Bit 1: command or event.
fn flags(direction: Direction, packet: &[u8]) -> u32 {
    let kind = packet.first().copied().and_then(PacketKind::from_indicator);
    let received = u32::from(direction == Direction::ControllerToHost);
    let control = u32::from(matches!(
        kind,
        Some(PacketKind::Command | PacketKind::Event)
    ));
    received | control << 1
}

/// Captures of all controllers of an air, as `<stem><n>.btsnoop` in one folder, made when a controller's first packet comes.
#[derive(Debug)]
pub struct BtsnoopFiles {
    folder: PathBuf,
    stem: String,
    start: Duration,
    files: Vec<Option<Btsnoop<BufWriter<File>>>>,
    error: Option<io::Error>,
}

impl BtsnoopFiles {
    /// Captures into `folder`, whose clock stands at zero now.
    pub fn new(folder: &Path, stem: &str) -> Self {
        Self {
            folder: folder.to_owned(),
            stem: stem.to_owned(),
            start: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default(),
            files: Vec::new(),
            error: None,
        }
    }

    fn file(&mut self, id: ControllerId) -> io::Result<&mut Btsnoop<BufWriter<File>>> {
        let at = id.index();
        if self.files.len() <= at {
            self.files.resize_with(at + 1, || None);
        }
        let path = self.folder.join(format!("{}{at}.btsnoop", self.stem));
        let start = self.start;
        let slot = self
            .files
            .get_mut(at)
            .ok_or_else(|| io::Error::other("no such controller"))?;
        match slot {
            Some(file) => Ok(file),
            None => Ok(slot.insert(Btsnoop::new(BufWriter::new(File::create(path)?), start)?)),
        }
    }
}

impl Tap for BtsnoopFiles {
    fn packet(&mut self, id: ControllerId, direction: Direction, time: Duration, packet: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let written = self
            .file(id)
            .and_then(|file| file.write(direction, time, packet));
        self.error = written.err();
    }

    fn finish(&mut self) -> io::Result<()> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.files.iter_mut().flatten().try_for_each(Btsnoop::flush)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that header and record are what the format says, byte for byte.
    #[test]
    fn btsnoop_record_has_the_documented_layout() {
        let mut bytes = Vec::new();
        let mut capture = Btsnoop::new(&mut bytes, Duration::from_secs(1)).unwrap();
        let time = Duration::from_micros(2);
        capture
            .write(Direction::ControllerToHost, time, &[4, 0x0e, 0])
            .unwrap();
        let mut expected = b"btsnoop\0\0\0\0\x01\0\0\x03\xea".to_vec();
        expected.extend([0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0]);
        expected.extend((UNIX_EPOCH_MICROSECONDS + 1_000_002).to_be_bytes());
        expected.extend([4, 0x0e, 0]);
        assert_eq!(bytes, expected);
    }
}
