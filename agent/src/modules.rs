//! Taking a module out of the kernel and putting it in again.

use crate::sys;
use anyhow::Context as _;
use std::fs::{self, File};
use std::path::PathBuf;

/// Where stage 0's modules are, `<number>-<name>.ko`.
const FOLDER: &str = "/modules";

/// Takes a module out, tells `gone`, and puts it in again.
///
/// # Errors
/// It is in use, or is not among stage 0's modules.
pub(crate) fn reload(name: &str, gone: impl FnOnce()) -> anyhow::Result<()> {
    let path = find(name)?;
    sys::remove_module(name).with_context(|| format!("failed to remove {name}"))?;
    gone();
    let file = File::open(&path).with_context(|| format!("failed to open {}", path.display()))?;
    sys::insert_module(&file).with_context(|| format!("failed to insert {}", path.display()))
}

fn find(name: &str) -> anyhow::Result<PathBuf> {
    let files = fs::read_dir(FOLDER).with_context(|| format!("failed to list {FOLDER}"))?;
    let ending = format!("-{name}.ko");
    let mut paths = files.flatten().map(|file| file.path());
    let path = paths.find(|path| path.to_string_lossy().ends_with(&ending));
    path.with_context(|| format!("{FOLDER} has no module {name}"))
}
