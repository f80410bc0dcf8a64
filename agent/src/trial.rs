//! Trying objects program by program, and sending text files of the kernel home.

use crate::port::Port;
use anyhow::Context as _;
use evidence::AgentRecord;
use metrics::{Trial, Try};
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of a text file in one record; a frame holds 4 MiB.
const TEXT_BYTES_PER_RECORD: usize = 1 << 20;

/// Tries each program of each object in the folder alone.
///
/// # Errors
/// The folder or an object cannot be read, or the port fails. That the kernel refuses a program is
/// a result.
pub(crate) fn objects(folder: &Path, port: &Port) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        // BTFs from outside lie there, too.
        if path.to_string_lossy().ends_with(".bpf.o") {
            paths.push(path);
        }
    }
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "o"));
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".bpf.o").unwrap_or(&name);
        port.phase(format!("trying {name}"))?;
        let bytes =
            fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let mut sent = Ok(());
        let tried = probes::try_each(name, &bytes, |trial| {
            if sent.is_ok() {
                sent = port.send(&AgentRecord::Trial(trial));
            }
        });
        tried
            .map_err(anyhow::Error::msg)
            .with_context(|| format!("failed to open {name}"))?;
        sent?;
    }
    Ok(())
}

/// Loads each object of the folder whole, as libbpf does by itself.
fn plain(folder: &Path, port: &Port) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(folder).with_context(|| format!("failed to list {}", folder.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    for path in paths.filter(|path| path.to_string_lossy().ends_with(".bpf.o")) {
        let object = path.file_name().unwrap_or_default().to_string_lossy();
        port.phase(format!("loading {object}"))?;
        let load = match probes::Plain::load(&path) {
            Ok(_loaded) => Try::Accepted,
            Err(reason) => Try::Refused { reason, log: None },
        };
        port.send(&AgentRecord::Trial(Trial {
            object: object.into_owned(),
            prog: "*".to_owned(),
            load,
            attach: None,
        }))?;
    }
    Ok(())
}

/// Sends a text file home.
///
/// # Errors
/// It cannot be read, or the port fails.
pub(crate) fn text(path: &Path, port: &Port) -> anyhow::Result<()> {
    port.phase(format!("reading {}", path.display()))?;
    let bytes = fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let mut rest = &*text;
    loop {
        let (part, later) = rest.split_at(rest.floor_char_boundary(TEXT_BYTES_PER_RECORD));
        port.send(&AgentRecord::Text {
            path: path.display().to_string(),
            text: part.to_owned(),
        })?;
        if later.is_empty() {
            return Ok(());
        }
        rest = later;
    }
}

/// What is to be done instead of a scenario.
#[derive(Debug, clap::Args)]
pub(crate) struct Instead {
    /// Load and attach each program of each object alone, and end
    #[arg(long = "try")]
    try_each: bool,
    /// Load each object whole, as libbpf does by itself, and end
    #[arg(long)]
    plain: bool,
    /// Send this text file home, and end
    #[arg(long, value_name = "FILE")]
    text: Vec<PathBuf>,
}

impl Instead {
    /// Does it, if anything is to be done; else it is false.
    ///
    /// # Errors
    /// A file cannot be read, or the port fails.
    pub(crate) fn run(&self, folder: &Path, port: &Port) -> anyhow::Result<bool> {
        if self.try_each {
            objects(folder, port)?;
        }
        if self.plain {
            plain(folder, port)?;
        }
        for path in &self.text {
            text(path, port)?;
        }
        Ok(self.try_each || self.plain || !self.text.is_empty())
    }
}
