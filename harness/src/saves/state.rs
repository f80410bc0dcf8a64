//! What lies on disk of a saved machine: the state that QEMU wrote, packed or not, and the notes beside it.

use super::{NoGuest, Point};
use crate::drive::Guest;
use crate::evidence::Evidence;
use crate::machine::{SAVE_WRITER, Saved, Talk};
use anyhow::ensure;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::Path;
use std::time::Duration;
use vm_images::{Cache, Damaged, Entry, Kind};

const STATE: &str = "state";
const NOTES: &str = "notes.json";

/// What is written beside a state.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Notes {
    pub(super) talk: Talk,
    pub(super) evidence: Evidence,
    state: Fingerprint,
}

/// What tells a state from a damaged one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Fingerprint {
    bytes: u64,
    crc32: u32,
}

/// The saved machines of a cache that are not what they were when they were made.
///
/// # Errors
/// The cache cannot be read.
pub fn damaged(cache: &Cache) -> anyhow::Result<Vec<Damaged>> {
    let entries = cache.entries()?.into_iter();
    let saves = entries.filter(|entry| entry.kind == Kind::Save);
    let look = |entry: Entry| {
        let why = sound(&entry.path).err()?;
        let why = format!("{why:#}");
        Some(Damaged { entry, why })
    };
    Ok(saves.filter_map(look).collect())
}

fn sound(folder: &Path) -> anyhow::Result<()> {
    let notes = fs::read(folder.join(NOTES))?;
    // Notes that cannot be understood may be those of another version of this program.
    match serde_json::from_slice::<Notes>(&notes) {
        Ok(notes) => check(&folder.join(STATE), notes.state),
        Err(_) => Ok(()),
    }
}

/// Saves a guest for good, into an empty folder.
pub(super) fn write(mut guest: Guest<'_>, point: Point<'_>, folder: &Path) -> Result<(), NoGuest> {
    guest.tell("saving");
    let file = folder.join(STATE);
    let talk = guest.save(&file);
    let talk = talk.map_err(|error| {
        // QEMU does not know why; the program that it writes through does.
        guest.finish(Duration::ZERO);
        let mut said = guest.evidence.console.iter();
        let said = said.find(|line| line.starts_with(SAVE_WRITER)).cloned();
        let error = anyhow::Error::new(error);
        NoGuest::Outside(match said {
            Some(said) => error.context(said),
            None => error,
        })
    })?;
    if point.is_packed() {
        pack(&file).map_err(NoGuest::outside)?;
    }
    let notes = Notes {
        talk,
        evidence: guest.evidence,
        state: fingerprint(&file).map_err(NoGuest::outside)?,
    };
    let json = serde_json::to_vec(&notes).map_err(NoGuest::outside)?;
    fs::write(folder.join(NOTES), json).map_err(NoGuest::outside)
}

/// What a save holds. A plain state is checked here, a packed one while it is unpacked: QEMU
/// notices one that was cut, and would run one whose memory has changed.
pub(super) fn open(folder: &Path, point: Point<'_>) -> anyhow::Result<(Notes, Saved)> {
    let notes: Notes = serde_json::from_slice(&fs::read(folder.join(NOTES))?)?;
    let path = folder.join(STATE);
    let state = if point.is_packed() {
        Saved::Packed(Box::new(zstd::Decoder::new(File::open(path)?)?))
    } else {
        check(&path, notes.state)?;
        Saved::Plain(File::open(path)?)
    };
    Ok((notes, state))
}

/// Packs a state, with a checksum. The fastest level makes a quarter of it.
fn pack(file: &Path) -> io::Result<()> {
    const FASTEST: i32 = 1;
    let packed = file.with_extension("packed");
    let mut encoder = zstd::Encoder::new(File::create(&packed)?, FASTEST)?;
    encoder.include_checksum(true)?;
    io::copy(&mut File::open(file)?, &mut encoder)?;
    encoder.finish()?;
    fs::rename(packed, file)
}

/// Refuses a state that is not what was saved, without restoring it.
fn check(file: &Path, wanted: Fingerprint) -> anyhow::Result<()> {
    let found = fingerprint(file)?;
    ensure!(found == wanted, "{} has changed", file.display());
    Ok(())
}

fn fingerprint(file: &Path) -> io::Result<Fingerprint> {
    let mut file = File::open(file)?;
    let mut hasher = crc32fast::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            n => {
                hasher.update(&buffer[..n]);
                bytes += n as u64;
            }
        }
    }
    let crc32 = hasher.finalize();
    Ok(Fingerprint { bytes, crc32 })
}

#[cfg(test)]
mod tests {
    use super::super::Stage;
    use super::*;
    use rstest::rstest;

    /// Check that a state is read as it was saved, packed or not, and that one whose bytes changed
    /// or were cut cannot be read to its end.
    #[rstest]
    #[case(Stage::Bare)]
    #[case(Stage::Bluetooth)]
    fn state_is_whole_or_unreadable(#[case] stage: Stage) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(STATE);
        let noise = |n: u32| (n.wrapping_mul(n) >> 7).to_le_bytes()[0];
        let bytes: Vec<u8> = (0..1_000_000).map(noise).collect();
        fs::write(&file, &bytes).unwrap();
        if stage.is_packed() {
            pack(&file).unwrap();
        }
        let notes = Notes {
            talk: Talk::default(),
            evidence: Evidence::default(),
            state: fingerprint(&file).unwrap(),
        };
        fs::write(
            folder.path().join(NOTES),
            serde_json::to_vec(&notes).unwrap(),
        )
        .unwrap();
        let read = || {
            let mut read = Vec::new();
            match open(folder.path(), Point::before_push(stage))?.1 {
                Saved::Plain(mut file) => file.read_to_end(&mut read)?,
                Saved::Packed(mut state) => state.read_to_end(&mut read)?,
            };
            anyhow::Ok(read)
        };
        assert_eq!(read().unwrap(), bytes);
        let whole = fs::read(&file).unwrap();
        let mut changed = whole.clone();
        let middle = changed.len() / 2;
        changed[middle] ^= 1;
        for damaged in [&changed[..], &whole[..middle]] {
            fs::write(&file, damaged).unwrap();
            assert!(read().is_err());
        }
    }

    /// Check that a state that lost or changed a byte is refused before QEMU sees it.
    #[test]
    fn check_refuses_a_changed_state() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(STATE);
        fs::write(&file, vec![7; 3_000_000]).unwrap();
        let whole = fingerprint(&file).unwrap();
        check(&file, whole).unwrap();
        let mut bytes = vec![7; 3_000_000];
        bytes[2_999_999] ^= 1;
        for damaged in [&bytes[..], &bytes[..2_999_999]] {
            fs::write(&file, damaged).unwrap();
            let error = check(&file, whole).unwrap_err().to_string();
            assert!(error.contains("has changed"), "{error}");
        }
    }
}
