//! Compiles each BPF source to `OUT_DIR/<name>.bpf.o`.
//!
//! The objects are files of their own, next to the program that loads them and not inside it: a
//! changed probe needs no new loader. Who packs them finds the directory in cargo's JSON messages
//! (`build-script-executed`, `out_dir`).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    if let Err(message) = compile_all() {
        println!("cargo::error={}", message.replace('\n', " | "));
        std::process::exit(1);
    }
}

fn compile_all() -> Result<(), String> {
    let out_dir = PathBuf::from(variable("OUT_DIR")?);
    for directory in ["bpf", "bpf/negative"] {
        for source in sources(Path::new(directory))? {
            let stem = source
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            compile(&source, &out_dir.join(format!("{stem}.o")))?;
        }
    }
    Ok(())
}

/// The `*.bpf.c` files of a directory, sorted.
fn sources(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(directory)
        .map_err(|error| format!("failed to list {}: {error}", directory.display()))?;
    let mut sources: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.to_string_lossy().ends_with(".bpf.c"))
        .collect();
    sources.sort();
    Ok(sources)
}

fn compile(source: &Path, object: &Path) -> Result<(), String> {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    let headers = variable("DEP_BPF_INCLUDE")?;
    let output = Command::new(&clang)
        .args([
            "-target",
            "bpf",
            "-mcpu=v3",
            "-O2",
            "-g",
            "-fno-stack-protector",
        ])
        // No path of the machine that builds goes into the object.
        .args(["-fdebug-compilation-dir", "."])
        .args(["-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror"])
        .arg(format!("-D__TARGET_ARCH_{}", bpf_architecture()?))
        .arg("-isystem")
        .arg(headers)
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
fn bpf_architecture() -> Result<&'static str, String> {
    match variable("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => Ok("x86"),
        "aarch64" => Ok("arm64"),
        other => Err(format!("the probes are not written for {other}")),
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("environment variable {name}: {error}"))
}
