//! Compiling the eBPF programs. Used by the build script of `probes`, and by xtask, for which a
//! changed program is no reason to build the loader again.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, thread};

/// What compiling takes besides the sources.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting<'a> {
    /// Folder of the package `probes`.
    pub(crate) package: &'a Path,
    /// Folder with libbpf's headers, `bpf/` below it.
    pub(crate) headers: &'a Path,
    /// As Rust calls it.
    pub(crate) architecture: &'a str,
}

/// Folders of sources, below the package.
const FOLDERS: [&str; 3] = ["bpf", "bpf/negative", "bpf/bench"];

/// Compiles every source to `<out>/<name>.bpf.o`, all at once.
pub(crate) fn all(setting: Setting<'_>, out: &Path) -> Result<(), String> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        all.extend(sources(setting.package, folder)?);
    }
    thread::scope(|scope| {
        let compile = |source: PathBuf| {
            let stem = source.file_stem().unwrap_or_default();
            let object = out.join(stem).with_added_extension("o");
            scope.spawn(move || compile(setting, &source, &object))
        };
        let compilers: Vec<_> = all.into_iter().map(compile).collect();
        let mut done = compilers.into_iter().map(|compiler| compiler.join());
        done.try_for_each(|joined| {
            joined.unwrap_or_else(|_panic| Err("a compiler panicked".to_owned()))
        })
    })
}

/// The `*.bpf.c` files of a folder, sorted, relative to the package: no path of the machine that
/// builds goes into an object.
fn sources(package: &Path, folder: &str) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(package.join(folder))
        .map_err(|error| format!("failed to list {folder}: {error}"))?;
    let mut sources: Vec<PathBuf> = entries
        .filter_map(|entry| Some(Path::new(folder).join(entry.ok()?.file_name())))
        .filter(|path| path.to_string_lossy().ends_with(".bpf.c"))
        .collect();
    sources.sort();
    Ok(sources)
}

fn compile(setting: Setting<'_>, source: &Path, object: &Path) -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let output = Command::new(&clang)
        .current_dir(setting.package)
        .args(["-target", "bpf", "-mcpu=v3", "-O2", "-g"])
        .arg("-fno-stack-protector")
        .args(["-fdebug-compilation-dir", "."])
        .args(["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"])
        .arg(format!(
            "-D__TARGET_ARCH_{}",
            bpf_name(setting.architecture)?
        ))
        .arg("-isystem")
        .arg(setting.headers)
        .arg("-c")
        .arg(source)
        .arg("-o")
        .arg(object)
        .output()
        .map_err(|error| format!("failed to run {clang} (Debian package: clang): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(format!("{clang} failed on {}: {stderr}", source.display()))
}

/// The architecture's name in libbpf's `bpf_tracing.h`: it decides which registers hold arguments.
fn bpf_name(architecture: &str) -> Result<&'static str, String> {
    match architecture {
        "x86_64" => Ok("x86"),
        "aarch64" => Ok("arm64"),
        other => Err(format!("the probes are not written for {other}")),
    }
}
