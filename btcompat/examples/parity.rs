//! Compares relocation with libbpf on real objects and kernels:
//!
//! `parity OBJECTS KERNEL...`, where a KERNEL is a surface snapshot or a
//! directory. Every relocation is judged twice, with the modules of the
//! kernel loaded and without, and then on `MUTATIONS` (default 0) random
//! variations of the types that the objects use. Exits with 1 on a difference.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for developers"
)]

#[path = "../tests/common/mod.rs"]
mod common;

use btcompat::btf::{Btf, Kind, essential_name};
use btcompat::object::Object;
use btcompat::relocate::Targets;
use btcompat::surface::{KernelFiles, Loaded, Surface, Wanted, read_snapshot};
use common::btf_writer::{Body, BtfWriter};
use common::mutate::{Rng, decode, mutate};
use common::oracle::{Bench, Outcome, Question};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

#[derive(Default)]
struct Tally {
    relocations: usize,
    poisoned: usize,
    refused: usize,
    differences: usize,
}

impl Tally {
    fn add(&mut self, what: &str, answers: &[(Outcome, Outcome)]) {
        for (i, (ours, theirs)) in answers.iter().enumerate() {
            self.relocations += 1;
            match theirs {
                Outcome::Patched(res, _) if res.poison => self.poisoned += 1,
                Outcome::Patched(..) => {}
                _ => self.refused += 1,
            }
            if ours != theirs {
                self.differences += 1;
                eprintln!("{what}, relocation {i}: {ours:?} here, {theirs:?} in libbpf");
            }
        }
    }
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let (Some(objects), kernels) = (args.next(), args.collect::<Vec<_>>()) else {
        eprintln!("usage: parity OBJECTS KERNEL...");
        return ExitCode::from(2);
    };
    let objects = read_objects(&objects);
    let mutations: usize = std::env::var("MUTATIONS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(0);
    let mut differences = 0;
    println!("| kernel | modules | objects | relocations | poisoned | refused | differences |");
    println!("|---|---|---|---|---|---|---|");
    for path in &kernels {
        let surface = read_kernel(path);
        for (name, loaded) in [("all", Loaded::All), ("none", Loaded::Nothing)] {
            let Some(targets) = surface.targets(&loaded, true) else {
                continue;
            };
            let modules = targets.modules.len();
            let mut tally = Tally::default();
            for (object, local, questions) in &objects {
                let bench = Bench::new(Arc::clone(local), targets.clone());
                let bench = bench.expect("libbpf reads what this crate reads");
                let what = format!("{} {name} {object}", surface.release);
                tally.add(&what, &bench.judge(questions));
            }
            println!(
                "| {} | {modules} | {} | {} | {} | {} | {} |",
                surface.release,
                objects.len(),
                tally.relocations,
                tally.poisoned,
                tally.refused,
                tally.differences
            );
            differences += tally.differences;
        }
        if mutations > 0 {
            differences += mutated(&surface, &objects, mutations);
        }
    }
    ExitCode::from(u8::from(differences > 0))
}

type Item = (String, Arc<Btf>, Vec<Question>);

fn read_objects(dir: &Path) -> Vec<Item> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(dir)
        .expect("the directory of the objects can be listed")
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "o"))
        .collect();
    paths.sort();
    paths
        .iter()
        .filter_map(|path| {
            let data = std::fs::read(path).expect("an object can be read");
            let mut object = Object::parse(&data).expect("an object can be parsed");
            let local = Arc::new(object.btf.take()?);
            let questions = questions(&object, &local);
            let name = path.file_name()?.to_string_lossy().into_owned();
            Some((name, local, questions))
        })
        .collect()
}

fn questions(object: &Object, local: &Btf) -> Vec<Question> {
    let offsets = string_offsets(local);
    object
        .relocation_order()
        .into_iter()
        .filter_map(|(f, r)| {
            let relocation = &object.functions[f].relocations[r];
            let relo = relocation.relo.clone()?;
            let insns = &object.functions[f].insns;
            let insn = |at: usize| insns.get(at).copied().unwrap_or_default();
            Some(Question {
                access_off: *offsets.get(relo.access.as_str())?,
                relo,
                insns: [insn(relocation.insn), insn(relocation.insn + 1)],
            })
        })
        .collect()
}

/// Where each string of a BTF starts.
fn string_offsets(btf: &Btf) -> BTreeMap<&str, u32> {
    let mut offsets = BTreeMap::new();
    let mut at = 0;
    while let Some(text) = btf.string(at) {
        offsets.entry(text).or_insert(at);
        at += u32::try_from(text.len()).expect("a short string") + 1;
    }
    offsets
}

fn read_kernel(path: &Path) -> Surface {
    if path.is_dir() {
        let files = KernelFiles::find(path, None).expect("there is a kernel");
        return files.surface(&Wanted::All).expect("it can be read");
    }
    let data = std::fs::read(path).expect("the snapshot can be read");
    read_snapshot(&data).expect("it is a snapshot")
}

/// Variations of the kernel's own types that the objects name.
fn mutated(surface: &Surface, objects: &[Item], count: usize) -> usize {
    let vmlinux = surface.btf.as_ref().expect("the kernel has BTF");
    let roots: BTreeSet<String> = objects
        .iter()
        .flat_map(|(_, local, questions)| {
            questions.iter().filter_map(|q| {
                let name = local.ty(q.relo.type_id)?.name();
                Some(essential_name(name).to_owned())
            })
        })
        .collect();
    let model = reduce(vmlinux, &roots);
    let mut rng = Rng::new(u64::from(vmlinux.type_count()));
    let mut tally = Tally::default();
    let mut done = 0;
    while done < count {
        let mut kernel = model.clone();
        for _ in 0..=rng.below(8) {
            mutate(&mut kernel, &mut rng);
        }
        let Ok(btf) = Btf::parse(kernel.encode()) else {
            continue;
        };
        let (object, local, questions) = &objects[rng.below(objects.len())];
        let targets = Targets::vmlinux_only(Arc::new(btf));
        let Some(bench) = Bench::new(Arc::clone(local), targets) else {
            continue;
        };
        done += 1;
        let what = format!("{} mutation {done} {object}", surface.release);
        tally.add(&what, &bench.judge(questions));
    }
    println!(
        "| {}, {count} mutations of {} types | 0 | 1 each | {} | {} | {} | {} |",
        surface.release,
        model.types.len(),
        tally.relocations,
        tally.poisoned,
        tally.refused,
        tally.differences
    );
    tally.differences
}

/// The types of these names and what they are made of; structures behind
/// pointers that are not named become forwards.
fn reduce(btf: &Btf, roots: &BTreeSet<String>) -> BtfWriter {
    let full = decode(btf);
    let mut keep: BTreeSet<u32> = btf
        .own_types()
        .filter(|t| roots.contains(essential_name(t.name())))
        .map(|t| t.id)
        .collect();
    let mut pending: Vec<u32> = keep.iter().copied().collect();
    let mut forwards = BTreeSet::new();
    while let Some(id) = pending.pop() {
        let record = &full.types[id as usize - 1];
        let mut next: Vec<u32> = match &record.body {
            Body::Array(element, ..) => vec![*element],
            Body::Members(members) => members.iter().map(|m| m.1).collect(),
            Body::Params(params) => params.iter().map(|p| p.1).collect(),
            _ => Vec::new(),
        };
        let refers = matches!(record.kind, 2 | 8..=14 | 18);
        next.extend(refers.then_some(record.word));
        for id in next.into_iter().filter(|&id| id != 0) {
            let behind_pointer = record.kind == 2;
            let composite = btf.ty(id).is_some_and(|t| t.kind().is_composite());
            if behind_pointer && composite && !keep.contains(&id) {
                forwards.insert(id);
            } else if keep.insert(id) {
                pending.push(id);
            }
        }
    }
    renumber(&full, &keep, &(&forwards - &keep), btf)
}

fn renumber(
    full: &BtfWriter,
    keep: &BTreeSet<u32>,
    forwards: &BTreeSet<u32>,
    btf: &Btf,
) -> BtfWriter {
    let all: BTreeSet<u32> = keep | forwards;
    let ids: BTreeMap<u32, u32> = all.iter().copied().zip(1..).collect();
    let new = |id: &mut u32| *id = ids.get(id).copied().unwrap_or(0);
    let mut writer = BtfWriter::new();
    for &id in &all {
        let mut record = full.types[id as usize - 1].clone();
        if forwards.contains(&id) {
            let union = btf.ty(id).is_some_and(|t| t.kind() == Kind::Union);
            record.kind = 7;
            record.kind_flag = union;
            record.word = 0;
            record.body = Body::Nothing;
            if record.name.is_empty() {
                record.name = format!("anonymous_{id}");
            }
        }
        match &mut record.body {
            Body::Array(element, index, _) => {
                new(element);
                *index = *element;
            }
            Body::Members(members) => members.iter_mut().for_each(|m| new(&mut m.1)),
            Body::Params(params) => params.iter_mut().for_each(|p| new(&mut p.1)),
            _ => {}
        }
        if matches!(record.kind, 2 | 8..=14 | 18) {
            new(&mut record.word);
        }
        writer.types.push(record);
    }
    writer
}
