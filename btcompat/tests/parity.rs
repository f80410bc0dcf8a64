//! Relocation verdicts and values against libbpf itself, on random variations
//! of a small set of types that has every kind in it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests and their helpers"
)]

mod common;

use btcompat::btf::{Btf, Kind};
use btcompat::object::Insn;
use btcompat::relocate::{CoreRelo, CoreReloKind, Targets};
use common::btf_writer::{Body, BtfWriter};
use common::mutate::{Rng, mutate, shift_ids};
use common::oracle::{Bench, Outcome, Question};
use std::sync::Arc;

/// Accessors that are tried on every type.
const ACCESSORS: &[&str] = &[
    "0", "1", "0:0", "0:1", "0:2", "0:3", "0:4", "0:5", "0:6", "0:7", "0:8", "0:9", "1:0", "0:0:0",
    "0:1:0", "0:2:1", "0:3:0", "0:4:0", "0:5:1", "0:6:2", "0:7:0:1", "0:8:0", "0:9:1", "0:5:0:1",
];

/// Types as a kernel might have them.
fn model() -> BtfWriter {
    let mut w = BtfWriter::new();
    let u32_ = w.int("unsigned int", 4, false);
    let int = w.int("int", 4, true);
    let long = w.int("long unsigned int", 8, false);
    let u8_ = w.int("unsigned char", 1, false);
    let u16_ = w.int("short unsigned int", 2, false);
    let word = w.typedef("u32", u32_);
    let konst = w.add("", 10, word, Body::Nothing);
    let state = w.enumeration("state", &[("OPEN", 0), ("CLOSED", 1), ("BOUND", u32::MAX)]);
    let wide = vec![("W_A".to_owned(), 1, 0), ("W_B".to_owned(), 2, 0x8000_0000)];
    let wide = w.add("wide", 19, 8, Body::Enum64(wide));
    let fwd = w.add("opaque", 7, 0, Body::Nothing);
    let fwd_ptr = w.ptr(fwd);
    let array = w.array(u16_, 4);
    let grid = w.array(array, 2);
    let flexible = w.array(u8_, 0);
    let proto = w.add(
        "",
        13,
        int,
        Body::Params(vec![("a".to_owned(), word), ("b".to_owned(), fwd_ptr)]),
    );
    let callback = w.ptr(proto);
    let float = w.add("double", 16, 8, Body::Nothing);
    let inner = w.structure("", 16, &[("x", u32_, 0), ("y", int, 32), ("z", long, 64)]);
    let choice = w.add(
        "",
        5,
        8,
        Body::Members(vec![
            ("as_long".to_owned(), long, 0),
            ("as_bytes".to_owned(), flexible, 0),
        ]),
    );
    let stat = w.structure(
        "stat",
        12,
        &[("rx", u32_, 0), ("tx", word, 32), ("err", int, 64)],
    );
    let dev = w.structure(
        "dev",
        96,
        &[
            ("id", u16_, 0),
            ("acl_cnt", konst, 32),
            ("", inner, 64),
            ("stat", stat, 192),
            ("", choice, 320),
            ("cb", array, 384),
            ("grid", grid, 448),
            ("state", state, 576),
            ("wide", wide, 640),
            ("name", flexible, 768),
        ],
    );
    let dev_ptr = w.ptr(dev);
    let bits = vec![
        ("a".to_owned(), u32_, 3 << 24),
        ("b".to_owned(), int, 7 << 24 | 3),
        ("c".to_owned(), u8_, 2 << 24 | 10),
        ("d".to_owned(), u32_, 32),
        ("e".to_owned(), long, 33 << 24 | 64),
    ];
    let flags = w.add("flags", 4, 24, Body::Members(bits));
    w.types.last_mut().unwrap().kind_flag = true;
    w.structure(
        "conn",
        80,
        &[
            ("hdev", dev_ptr, 0),
            ("flags", flags, 64),
            ("cb", callback, 256),
            ("f", float, 320),
            ("opaque", fwd_ptr, 384),
            ("devs", grid, 448),
        ],
    );
    let both = w.add(
        "both",
        5,
        8,
        Body::Members(vec![
            ("n".to_owned(), long, 0),
            ("p".to_owned(), dev_ptr, 0),
        ]),
    );
    w.typedef("both_t", both);
    w.typedef("callback_t", callback);
    w
}

/// Every kind of relocation on every type with every accessor; the accessor
/// strings are put into the BTF by types that nothing refers to.
fn questions(local: &Btf, rng: &mut Rng) -> Vec<Question> {
    let accessor_types: Vec<(u32, &str)> = local
        .own_types()
        .filter(|t| t.kind() == Kind::Fwd && ACCESSORS.contains(&t.name()))
        .map(|t| (t.id, t.name()))
        .collect();
    let mut list = Vec::new();
    for ty in local.own_types().filter(|t| !ACCESSORS.contains(&t.name())) {
        for kind in CoreReloKind::ALL {
            for &(id, access) in &accessor_types {
                // All on interesting types, a sample on the others.
                let interesting = ty.kind().is_composite() || ty.kind().is_enum();
                if !interesting && access != "0" && !rng.chance(20) {
                    continue;
                }
                list.push(Question {
                    relo: CoreRelo {
                        kind,
                        type_id: ty.id,
                        access: access.to_owned(),
                    },
                    access_off: name_offset(local, id),
                    insns: instruction(rng),
                });
            }
        }
    }
    list
}

fn name_offset(btf: &Btf, id: u32) -> u32 {
    let at = btf.record_offset(id).unwrap();
    btf.endian().u32(btf.bytes(), at).unwrap()
}

/// One of the forms that a compiler relocates, or one that it does not.
fn instruction(rng: &mut Rng) -> [Insn; 2] {
    let value = [0, 1, 4, 8, 12, 24, 96][rng.below(7)];
    let codes = [
        0xb7, 0x07, 0x61, 0x79, 0x69, 0x71, 0x63, 0x62, 0x18, 0x0f, 0x05,
    ];
    let code = codes[rng.below(codes.len())];
    let first = Insn {
        code,
        dst: 1,
        src: 0,
        off: if matches!(code & 7, 1..=3) { value } else { 0 },
        imm: i32::from(value),
    };
    [first, Insn::default()]
}

fn local_btf() -> Arc<Btf> {
    let mut writer = model();
    for access in ACCESSORS {
        writer.add(access, 7, 0, Body::Nothing);
    }
    let btf = Btf::parse(writer.encode()).unwrap();
    btf.set_pointer_size(8);
    Arc::new(btf)
}

/// The kernel's side: everything in vmlinux, or part of it in one or two modules.
fn targets(rng: &mut Rng, edits: usize) -> Option<Targets> {
    let mut kernel = model();
    let mut modules = Vec::new();
    if rng.chance(3) {
        let mut base = BtfWriter::new();
        base.int("unsigned int", 4, false);
        base.int("long unsigned int", 8, false);
        for _ in 0..=rng.below(2) {
            let mut module = model();
            (0..edits).for_each(|_| mutate(&mut module, rng));
            modules.push(module);
        }
        kernel = base;
    } else {
        (0..edits).for_each(|_| mutate(&mut kernel, rng));
    }
    let vmlinux = Arc::new(Btf::parse(kernel.encode()).ok()?);
    let header = vmlinux.bytes();
    let string_len = vmlinux.endian().u32(header, 20)?;
    let modules = modules
        .into_iter()
        .enumerate()
        .map(|(i, mut module)| {
            shift_ids(&mut module, vmlinux.type_count() - 1);
            module.first_id = vmlinux.type_count();
            module.string_base = string_len;
            let split = Btf::parse_split(module.encode(), Arc::clone(&vmlinux)).ok()?;
            Some((format!("module{i}"), Arc::new(split)))
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Targets {
        vmlinux,
        modules,
        may_read_modules: true,
    })
}

#[derive(Debug, Default)]
struct Tally {
    kernels: usize,
    relocations: usize,
    patched: usize,
    poisoned: usize,
    refused: usize,
}

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        self.relocations += 1;
        match outcome {
            Outcome::Patched(res, _) if res.poison => self.poisoned += 1,
            Outcome::Patched(..) => self.patched += 1,
            Outcome::Refused(_) | Outcome::PatchRefused(..) => self.refused += 1,
        }
    }
}

/// Judges `kernels` random kernels from `seed` on, and fails on the first difference.
fn compare(seed: u64, kernels: usize, sample: usize) -> Tally {
    let local = local_btf();
    let mut rng = Rng::new(seed);
    let all = questions(&local, &mut rng);
    let mut tally = Tally::default();
    while tally.kernels < kernels {
        let edits = 1 + rng.below(6);
        let Some(bench) = targets(&mut rng, edits).and_then(|t| Bench::new(Arc::clone(&local), t))
        else {
            continue;
        };
        tally.kernels += 1;
        let picked: Vec<Question> = (0..sample)
            .map(|_| Question {
                insns: instruction(&mut rng),
                ..all[rng.below(all.len())].clone()
            })
            .collect();
        for (question, (ours, theirs)) in picked.iter().zip(bench.judge(&picked)) {
            tally.count(&theirs);
            assert_eq!(
                ours, theirs,
                "seed {seed}, kernel {}: {question:?}",
                tally.kernels
            );
        }
    }
    tally
}

/// Check that every kind of relocation on unchanged types agrees with libbpf.
#[test]
fn relocations_on_unchanged_types_agree_with_libbpf() {
    let local = local_btf();
    let mut rng = Rng::new(1);
    let list = questions(&local, &mut rng);
    let targets = targets(&mut rng, 0).unwrap();
    let bench = Bench::new(Arc::clone(&local), targets).unwrap();
    for (question, (ours, theirs)) in list.iter().zip(bench.judge(&list)) {
        assert_eq!(ours, theirs, "{question:?}");
    }
}

/// Check that verdict and value agree with libbpf on 10,000 damaged kernels, and
/// that the damage is of every kind: values, poison and refusals all occur.
#[test]
fn relocations_on_mutated_types_agree_with_libbpf() {
    let tally = compare(7, 10_000, 60);
    println!("{tally:?}");
    assert_eq!(tally.kernels, 10_000);
    assert!(tally.patched > 10_000, "{tally:?}");
    assert!(tally.poisoned > 1_000, "{tally:?}");
    assert!(tally.refused > 1_000, "{tally:?}");
}

/// Check that the comparison notices a difference: another libbpf's rule for
/// the width of arrays gives another answer.
#[test]
fn comparison_with_other_rules_differs() {
    use btcompat::relocate::{LibbpfVersion, resolve};
    let local = local_btf();
    let targets = Targets::vmlinux_only(Arc::clone(&local));
    let dev = local.find("dev", Kind::Struct).unwrap().id;
    let relo = CoreRelo {
        kind: CoreReloKind::ByteOff,
        type_id: dev,
        access: "0:5".to_owned(),
    };
    let width = |version: LibbpfVersion| {
        let mut candidates = targets.candidates(&local, dev, version).unwrap();
        let resolved = resolve(&relo, &local, &mut candidates, version).unwrap();
        resolved.resolution.new_sz
    };
    assert_eq!(width(LibbpfVersion::CURRENT), 2);
    assert_eq!(width(LibbpfVersion { major: 1, minor: 5 }), 8);
}
