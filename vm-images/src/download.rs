//! Downloads: by apt's own helper where there is one, so that the machine's proxies, certificates and transports apply, else by curl.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Instant;

use kernels::Sha256;

use crate::cache::CacheError;
use crate::child::{Running, command};
use crate::mirror::local_path;
use crate::progress::{Event, Progress};

const APT_HELPER: &str = "/usr/lib/apt/apt-helper";
/// How much larger than it should be a file may grow before its download is stopped.
const SLACK_BYTES: u64 = 1 << 20;

/// What is to be downloaded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// What people call it.
    pub(crate) name: &'a str,
    pub(crate) uri: &'a str,
    pub(crate) content: Content,
    /// How often a server that could not be reached, or gave up, is asked again.
    pub(crate) retries: u32,
}

/// What is known of the bytes beforehand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Content {
    Exactly { size: u64, sha256: Sha256 },
    Hashed { most_bytes: u64, sha256: Sha256 },
    AtMost(u64),
}

/// Why a download did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DownloadError {
    /// The server does not have it.
    #[error("{uri} is not there")]
    NotFound {
        /// The address.
        uri: String,
    },
    /// The server could not be reached, or gave up.
    #[error(
        "failed to download {uri}: {message}; check the network, or name another mirror with --mirror or BT_MIRROR"
    )]
    Network {
        /// The address.
        uri: String,
        /// What the program said.
        message: String,
    },
    /// The file is shorter or longer than it should be.
    #[error(
        "{uri} has {found_bytes} bytes instead of {expected_bytes}; it was not kept (try again, or another mirror with --mirror)"
    )]
    Size {
        /// The address.
        uri: String,
        /// Its size as pinned.
        expected_bytes: u64,
        /// Its size as downloaded.
        found_bytes: u64,
    },
    /// The file is not the one that it should be.
    #[error(
        "{uri} has the SHA-256 hash {found} instead of {expected}; it was not kept (try another mirror with --mirror)"
    )]
    Hash {
        /// The address.
        uri: String,
        /// Its hash as pinned.
        expected: Sha256,
        /// Its hash as downloaded.
        found: Sha256,
    },
    /// Neither apt nor curl could be started.
    #[error("failed to start {program}; install apt or curl")]
    NoProgram {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

/// Downloads `wanted` to `dest`, a file that does not exist, in a scratch directory.
pub(crate) fn download(
    wanted: &Wanted<'_>,
    dest: &Path,
    progress: &dyn Progress,
) -> Result<(), DownloadError> {
    let Wanted {
        name, uri, content, ..
    } = *wanted;
    let start = Instant::now();
    tracing::debug!(uri, "download");
    match local_path(uri) {
        Some(path) => copy(uri, path, dest)?,
        None => transfer(wanted, dest, progress)?,
    }
    let bytes = check(uri, content, dest)?;
    progress.report(Event::Downloaded {
        name,
        bytes,
        took: start.elapsed(),
    });
    Ok(())
}

fn copy(uri: &str, path: &Path, dest: &Path) -> Result<(), DownloadError> {
    let mut source = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => DownloadError::NotFound {
            uri: uri.to_owned(),
        },
        _ => CacheError::new("open", path, error).into(),
    })?;
    let failed = |source| CacheError::new("write", dest, source);
    io::copy(&mut source, &mut File::create(dest).map_err(failed)?).map_err(failed)?;
    Ok(())
}

fn transfer(
    wanted: &Wanted<'_>,
    dest: &Path,
    progress: &dyn Progress,
) -> Result<(), DownloadError> {
    let Wanted {
        name, uri, content, ..
    } = *wanted;
    let (total_bytes, most_bytes) = match content {
        Content::Exactly { size, .. } => (Some(size), size.saturating_add(SLACK_BYTES)),
        Content::Hashed { most_bytes, .. } | Content::AtMost(most_bytes) => (None, most_bytes),
    };
    let apt = Path::new(APT_HELPER).exists();
    let mut program = if apt {
        apt_helper(wanted, dest)
    } else {
        curl(wanted, dest)
    };
    program
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let no_program = |source| DownloadError::NoProgram {
        program: program_name(apt),
        source,
    };
    let mut running = Running::spawn(&mut program).map_err(no_program)?;
    let said = running.errors();
    let mut told = 0;
    let status = running.wait(|| {
        let done_bytes = size_of(dest);
        if done_bytes != told {
            told = done_bytes;
            progress.report(Event::Downloading {
                name,
                done_bytes,
                total_bytes,
            });
        }
        done_bytes <= most_bytes
    });
    let status = status.map_err(|source| DownloadError::NoProgram {
        program: program_name(apt),
        source,
    })?;
    if status.success() && dest.exists() {
        return Ok(());
    }
    if size_of(dest) > most_bytes {
        return Err(DownloadError::Size {
            uri: uri.to_owned(),
            expected_bytes: most_bytes,
            found_bytes: size_of(dest),
        });
    }
    Err(explain(uri, dest, status, &said.text()))
}

fn apt_helper(wanted: &Wanted<'_>, dest: &Path) -> Command {
    let mut program = command(APT_HELPER);
    program.args(["-o", &format!("Acquire::Retries={}", wanted.retries)]);
    // As root, apt tries whether its user for downloads could write the file, which it cannot: a scratch directory is the caller's own. But
    // who changes users is not ended any more with its parent (prctl(2), PR_SET_PDEATHSIG), so it is not to try.
    program.args(["-o", "APT::Sandbox::User="]);
    program.args(["download-file", wanted.uri]).arg(dest);
    program
}

fn curl(wanted: &Wanted<'_>, dest: &Path) -> Command {
    let mut program = command("curl");
    program.args(["--fail", "--location", "--silent", "--show-error"]);
    program.args([
        "--connect-timeout",
        "30",
        "--retry",
        &wanted.retries.to_string(),
    ]);
    // A transfer that does not move for a minute ends.
    program.args(["--speed-limit", "1", "--speed-time", "60", "--output"]);
    program.arg(dest).args(["--", wanted.uri]);
    program
}

fn program_name(apt: bool) -> PathBuf {
    PathBuf::from(if apt { APT_HELPER } else { "curl" })
}

fn size_of(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Finds the cause in what the program said.
fn explain(uri: &str, dest: &Path, status: ExitStatus, said: &str) -> DownloadError {
    if said.contains("No space left on device") || said.contains("Failure writing output") {
        return CacheError::DiskFull {
            path: dest.to_owned(),
        }
        .into();
    }
    // apt: `Failed to fetch URI  404  Not Found`; curl: `The requested URL returned error: 404`.
    if said.contains(" 404") {
        return DownloadError::NotFound {
            uri: uri.to_owned(),
        };
    }
    let fetch = format!("Failed to fetch {uri}");
    let line = said
        .lines()
        .find_map(|line| line.split_once(&fetch))
        .map(|(_, reason)| reason);
    let line = line.or_else(|| said.lines().rfind(|line| !line.trim().is_empty()));
    let message = line.map_or_else(|| status.to_string(), |line| line.trim().to_owned());
    DownloadError::Network {
        uri: uri.to_owned(),
        message,
    }
}

/// Checks what was downloaded and returns its size.
fn check(uri: &str, content: Content, file: &Path) -> Result<u64, DownloadError> {
    let found_bytes = size_of(file);
    match content {
        Content::Hashed { most_bytes, .. } if found_bytes > most_bytes => {
            Err(DownloadError::Size {
                uri: uri.to_owned(),
                expected_bytes: most_bytes,
                found_bytes,
            })
        }
        Content::Exactly { size, .. } if size != found_bytes => Err(DownloadError::Size {
            uri: uri.to_owned(),
            expected_bytes: size,
            found_bytes,
        }),
        Content::Exactly {
            sha256: expected, ..
        }
        | Content::Hashed {
            sha256: expected, ..
        } => {
            let found = sha256_of(file)?;
            if found != expected {
                return Err(DownloadError::Hash {
                    uri: uri.to_owned(),
                    expected,
                    found,
                });
            }
            Ok(found_bytes)
        }
        Content::AtMost(most) if found_bytes > most => Err(DownloadError::Size {
            uri: uri.to_owned(),
            expected_bytes: most,
            found_bytes,
        }),
        Content::AtMost(_) => Ok(found_bytes),
    }
}

/// Hashes a file.
pub(crate) fn sha256_of(path: &Path) -> Result<Sha256, CacheError> {
    File::open(path)
        .and_then(Sha256::of_reader)
        .map_err(|source| CacheError::new("read", path, source))
}
