//! Compares relocation under the rules of another libbpf with that libbpf itself:
//!
//! `older LIBBPF.so VERSION OBJECTS KERNEL...`, where a KERNEL is a surface snapshot. The library is loaded by `handed_over.c`, which is
//! compiled with `cc` and shows what would have gone to the kernel; no right is needed and nothing is loaded. Every relocated instruction of
//! every program is compared. Exits with 1 on a difference.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for developers"
)]

use btcompat::bytes::Endian;
use btcompat::object::{Insn, Object};
use btcompat::relocate::{Candidate, LibbpfVersion, Targets, patch, resolve};
use btcompat::surface::read_snapshot;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

#[derive(Debug, Default)]
struct Tally {
    programs: usize,
    compared: usize,
    poisoned: usize,
    refused: usize,
    differences: usize,
    /// Programs that this libbpf refused for reasons other than relocations.
    other: usize,
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [library, version, objects, kernels @ ..] = &args[..] else {
        eprintln!("usage: older LIBBPF.so VERSION OBJECTS KERNEL...");
        return ExitCode::from(2);
    };
    let version: LibbpfVersion = version.parse().expect("the version is MAJOR.MINOR");
    let scratch = tempfile::tempdir().expect("a temporary directory can be made");
    let judge = build(scratch.path());
    let objects = objects_in(Path::new(objects));
    let mut differences = 0;
    println!(
        "| kernel | programs | relocations | poisoned | refused | refused for other reasons | differences |"
    );
    println!("|---|---|---|---|---|---|---|");
    for kernel in kernels {
        let data = std::fs::read(kernel).expect("the snapshot can be read");
        let surface = read_snapshot(&data).expect("it can be parsed");
        let btf = surface.btf.expect("the kernel has BTF");
        let types = scratch.path().join("btf");
        std::fs::write(&types, btf.bytes()).expect("the types can be written");
        let targets = Targets::vmlinux_only(Arc::clone(&btf));
        let output = Command::new(&judge)
            .args([Path::new(library), &types])
            .args(objects.iter().map(|(path, _)| path))
            .output()
            .expect("the judge can be run");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let mut tally = Tally::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            program(line, &objects, &targets, version, &mut tally);
        }
        let Tally {
            programs,
            compared,
            poisoned,
            refused,
            other,
            differences: different,
        } = tally;
        println!(
            "| {} | {programs} | {compared} | {poisoned} | {refused} | {other} | {different} |",
            surface.release
        );
        differences += different;
    }
    ExitCode::from(u8::from(differences > 0))
}

/// Compiles the program that loads the library.
fn build(folder: &Path) -> PathBuf {
    let judge = folder.join("handed_over");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/handed_over.c");
    let status = Command::new("cc")
        .args(["-O2", "-rdynamic", "-o"])
        .args([&judge, &source])
        .arg("-ldl")
        .status()
        .expect("cc can be run");
    assert!(status.success(), "handed_over.c does not compile");
    judge
}

fn objects_in(dir: &Path) -> Vec<(PathBuf, Object)> {
    let entries = std::fs::read_dir(dir).expect("the directory of the objects can be listed");
    let mut paths: Vec<PathBuf> = entries.flatten().map(|e| e.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "o"));
    paths.sort();
    let object = |path: PathBuf| {
        let data = std::fs::read(&path).expect("an object can be read");
        (path, Object::parse(&data).expect("an object can be parsed"))
    };
    paths.into_iter().map(object).collect()
}

/// Compares one program: a line of the judge.
fn program(
    line: &str,
    objects: &[(PathBuf, Object)],
    targets: &Targets,
    version: LibbpfVersion,
    tally: &mut Tally,
) {
    let fields: Vec<&str> = line.split('\t').collect();
    let [path, name, error, insns] = fields[..] else {
        panic!("the judge said {line:?}");
    };
    let known = objects.iter().find(|(p, _)| p == Path::new(path));
    let (_, object) = known.expect("the judge was given these objects");
    tally.programs += 1;
    let entry = object.functions.iter().position(|f| f.name == name);
    let ours = entry.map(|entry| relocated(object, entry, targets, version));
    let theirs = Insn::decode_all(&unhex(insns), Endian::Little);
    match (ours, error == "0") {
        (Some(Ok(list)), true) => {
            for (at, insn, poisoned) in list {
                tally.compared += 1;
                tally.poisoned += usize::from(poisoned);
                let other = theirs.get(at).copied();
                // Some put the number of the relocation into what they poison with.
                let same = match other {
                    Some(other) if poisoned => {
                        other.code == insn.code && other.imm / 1000 == insn.imm / 1000
                    }
                    other => other == Some(insn),
                };
                if !same {
                    tally.differences += 1;
                    eprintln!("{path} {name} {at}: {insn:?} here, {other:?} in libbpf");
                }
            }
        }
        (Some(Err(_)), false) => tally.refused += 1,
        (Some(Err(why)), true) => {
            tally.differences += 1;
            eprintln!("{path} {name}: refused here ({why}), not by libbpf");
        }
        (_, false) => {
            tally.other += 1;
            eprintln!("{path} {name}: libbpf says {error}");
        }
        (None, true) => panic!("{path} has no program {name}"),
    }
}

type Relocated = Vec<(usize, Insn, bool)>;

/// The instructions of a program's main function that have relocations, as they become.
fn relocated(
    object: &Object,
    entry: usize,
    targets: &Targets,
    version: LibbpfVersion,
) -> Result<Relocated, String> {
    let Some(local) = &object.btf else {
        return Ok(Vec::new());
    };
    let function = &object.functions[entry];
    let mut candidates: HashMap<u32, Vec<Candidate>> = HashMap::new();
    let mut insns = function.insns.clone();
    let mut changed = Vec::new();
    let order = object.relocation_order().into_iter();
    for (_, r) in order.filter(|(f, _)| *f == entry) {
        let relocation = &function.relocations[r];
        let relo = relocation.relo.as_ref().ok_or("unknown kind")?;
        let found = targets.candidates(local, relo.type_id, version);
        let list = candidates
            .entry(relo.type_id)
            .or_insert(found.map_err(|e| e.to_string())?);
        let resolved = resolve(relo, local, list, version).map_err(|e| e.to_string())?;
        let at = relocation.insn;
        let (first, second) = (insns[at], insns.get(at + 1).copied());
        let patched = patch(first, second, &resolved.resolution).map_err(|e| e.to_string())?;
        for (i, insn) in patched.insns.into_iter().enumerate() {
            insns[at + i] = insn;
            changed.push((at + i, insn, patched.poisoned));
        }
    }
    Ok(changed)
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.filter_map(byte).collect()
}
