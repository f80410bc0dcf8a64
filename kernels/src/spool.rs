//! The modules of a kernel, put aside until it is known which of them are kept.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::compress::Compression;
use crate::unpack::UnpackError;

/// The most that a module may unpack to. Debian's largest unpacks to 15 MB.
const MOST_MODULE_BYTES: u64 = 256 << 20;

/// All modules as they were packaged, in a file without a name: which of them are kept is known only when the last one has been seen, and
/// together they are too large for memory.
pub(crate) struct Spool {
    file: File,
    dest: PathBuf,
    end: u64,
    modules: BTreeMap<String, Spooled>,
}

#[derive(Clone, Copy)]
struct Spooled {
    offset: u64,
    size: u64,
    compression: Option<Compression>,
}

impl Spool {
    pub(crate) fn new(dest: &Path) -> Result<Self, UnpackError> {
        let failed = |source| UnpackError::Write {
            path: dest.to_owned(),
            source,
        };
        let file = tempfile::tempfile_in(dest).map_err(failed)?;
        Ok(Self {
            file,
            dest: dest.to_owned(),
            end: 0,
            modules: BTreeMap::new(),
        })
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.modules.keys().cloned().collect()
    }

    pub(crate) fn put(
        &mut self,
        name: String,
        compression: Option<Compression>,
        bytes: &[u8],
    ) -> Result<(), UnpackError> {
        self.file
            .write_all(bytes)
            .map_err(|source| UnpackError::Write {
                path: self.dest.clone(),
                source,
            })?;
        let spooled = Spooled {
            offset: self.end,
            size: bytes.len() as u64,
            compression,
        };
        self.end += spooled.size;
        self.modules.entry(name).or_insert(spooled);
        Ok(())
    }

    /// The module `name`, decompressed.
    pub(crate) fn take(&mut self, name: &str) -> Result<Option<Vec<u8>>, UnpackError> {
        let Some(&Spooled {
            offset,
            size,
            compression,
        }) = self.modules.get(name)
        else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        self.file
            .seek(SeekFrom::Start(offset))
            .and_then(|_| (&self.file).take(size).read_to_end(&mut bytes))
            .map_err(|source| UnpackError::Write {
                path: self.dest.clone(),
                source,
            })?;
        decompressed(name, compression, bytes).map(Some)
    }
}

/// The module `name`, whose file holds `bytes`.
pub(crate) fn decompressed(
    name: &str,
    compression: Option<Compression>,
    bytes: Vec<u8>,
) -> Result<Vec<u8>, UnpackError> {
    let Some(compression) = compression else {
        return Ok(bytes);
    };
    compression
        .decompress(&bytes, MOST_MODULE_BYTES)
        .map_err(|source| UnpackError::Decompress {
            name: name.to_owned(),
            source,
        })
}
