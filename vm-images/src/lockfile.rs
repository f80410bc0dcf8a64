//! Files whose only use is to be locked. They may be removed by whoever holds the lock alone; the others notice.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// How a file is locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// With others that share it.
    Shared,
    /// Alone.
    Alone,
}

/// Locks the file at `path`, which is created if need be; `waiting` is called once if somebody else has it. Dropping the file unlocks it.
pub(crate) fn lock(path: &Path, mode: Mode, waiting: impl FnOnce()) -> io::Result<File> {
    let mut waiting = Some(waiting);
    loop {
        let file = open(path)?;
        if !take(&file, mode)? {
            if let Some(waiting) = waiting.take() {
                waiting();
            }
            match mode {
                Mode::Shared => file.lock_shared()?,
                Mode::Alone => file.lock()?,
            }
        }
        if is_at(&file, path)? {
            return Ok(file);
        }
    }
}

/// Locks the file at `path`, which is created if need be, unless somebody else has it.
pub(crate) fn try_lock(path: &Path, mode: Mode) -> io::Result<Option<File>> {
    loop {
        let file = open(path)?;
        if !take(&file, mode)? {
            return Ok(None);
        }
        if is_at(&file, path)? {
            return Ok(Some(file));
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}

fn take(file: &File, mode: Mode) -> io::Result<bool> {
    let taken = match mode {
        Mode::Shared => file.try_lock_shared(),
        Mode::Alone => file.try_lock(),
    };
    match taken {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether `path` still names `file`: a lock on a file that was removed keeps nobody out.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let ours = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that those who share a lock keep out whoever wants it alone, and the other way round.
    #[test]
    fn lock_is_shared_or_held_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let try_lock = |mode| try_lock(&path, mode).unwrap();
        let first = try_lock(Mode::Shared).unwrap();
        let second = try_lock(Mode::Shared).unwrap();
        assert!(try_lock(Mode::Alone).is_none());
        drop((first, second));
        let alone = try_lock(Mode::Alone).unwrap();
        assert!(try_lock(Mode::Shared).is_none());
        drop(alone);
        assert!(try_lock(Mode::Shared).is_some());
    }

    /// Check that who waited for a file that was removed meanwhile ends up with a lock on the one that is there.
    #[test]
    fn lock_of_removed_file_is_taken_anew() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let holder = try_lock(&path, Mode::Alone).unwrap().unwrap();
        let (sender, waiting) = std::sync::mpsc::channel();
        let waited = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| lock(&path, Mode::Shared, || sender.send(()).unwrap()));
            waiting.recv().unwrap();
            std::fs::remove_file(&path).unwrap();
            drop(holder);
            waiter.join().unwrap().unwrap()
        });
        assert!(is_at(&waited, &path).unwrap());
        assert!(try_lock(&path, Mode::Alone).unwrap().is_none());
    }
}
