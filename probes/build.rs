//! Compiles each BPF source to `OUT_DIR/<name>.bpf.o`.
//!
//! The objects are files of their own, next to the program that loads them and not inside it: a
//! changed probe needs no new loader. Who packs them finds the directory in cargo's JSON messages
//! (`build-script-executed`, `out_dir`), or compiles them itself and says so with
//! `BT_PROBE_OBJECTS=apart`: then nothing is built anew here when a source changes.

#[path = "build/compile.rs"]
mod compile;

use std::env;
use std::path::Path;

fn main() {
    println!("cargo::rerun-if-env-changed=BT_PROBE_OBJECTS");
    println!("cargo::rerun-if-changed=build");
    if env::var("BT_PROBE_OBJECTS").is_ok_and(|where_to| where_to == "apart") {
        return;
    }
    println!("cargo::rerun-if-changed=bpf");
    println!("cargo::rerun-if-env-changed=CLANG");
    if let Err(message) = compile_all() {
        println!("cargo::error={}", message.replace('\n', " | "));
        std::process::exit(1);
    }
}

fn compile_all() -> Result<(), String> {
    let headers = variable("DEP_BPF_INCLUDE")?;
    let architecture = variable("CARGO_CFG_TARGET_ARCH")?;
    let setting = compile::Setting {
        package: Path::new("."),
        headers: Path::new(&headers),
        architecture: &architecture,
    };
    compile::all(setting, Path::new(&variable("OUT_DIR")?))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("environment variable {name}: {error}"))
}
