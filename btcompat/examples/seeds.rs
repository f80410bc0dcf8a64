//! Writes seeds for the fuzz targets: `seeds FOLDER [TREE...]`. The small ones are made, and kept in
//! `fuzz/seeds`; each unpacked kernel that is given adds its own.

#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a command for developers"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use btcompat::surface::{KernelFiles, Wanted, write_snapshot};
use common::kernel::{Recipe, compile};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let Some(folder) = args.next() else {
        eprintln!("usage: seeds FOLDER [TREE...]");
        return ExitCode::from(2);
    };
    made(&folder);
    for tree in args {
        of_kernel(&folder, &tree);
    }
    ExitCode::SUCCESS
}

fn put(folder: &Path, target: &str, name: &str, data: &[u8]) {
    let dir = folder.join(target);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(name), data).unwrap();
}

/// Seeds that need no kernel: types with every odd thing, an object for each kind of program.
fn made(folder: &Path) {
    let scratch = tempfile::tempdir().unwrap();
    let object = fs::read(compile("sample", scratch.path())).unwrap();
    put(folder, "object", "sample", &object);
    // Any ELF file is a start for what reads ELF files.
    put(folder, "module", "sample", &object);
    put(folder, "image", "sample", &object);
    let recipes = [
        ("plain", Recipe::default()),
        (
            "module",
            Recipe {
                module: Some("m"),
                ..Recipe::default()
            },
        ),
    ];
    for (name, recipe) in recipes {
        let surface = recipe.surface();
        let snapshot = write_snapshot(&surface, 1).unwrap();
        put(folder, "snapshot", name, &snapshot);
        put(folder, "btf", name, surface.btf.unwrap().bytes());
        for module in surface.modules.values() {
            if let Some(btf) = module.btf.get() {
                put(folder, "btf", "split", btf.bytes());
            }
        }
    }
    let mut header = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
    header.resize(24, 0);
    put(folder, "btf", "header-only", &header);
}

/// What an unpacked kernel has, where it is small enough to be mutated.
fn of_kernel(folder: &Path, tree: &Path) {
    let files = KernelFiles::find(tree, None).expect("there is a kernel");
    for name in ["bluetooth", "btusb", "hci_vhci", "rfcomm"] {
        if let Some(path) = files.modules.get(name) {
            put(folder, "module", name, &fs::read(path).unwrap());
        }
    }
    put(folder, "image", "vmlinuz", &fs::read(&files.image).unwrap());
    let surface = files.surface(&Wanted::Nothing).unwrap();
    for module in surface.modules.values() {
        if let Some(btf) = module.btf.get() {
            put(folder, "btf", &module.name, btf.bytes());
        }
    }
}
