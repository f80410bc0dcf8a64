//! Damaged and hostile input: an error or a finding, never a panic, a loop or
//! memory without bound.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests and their helpers"
)]

mod common;

use btcompat::btf::Btf;
use btcompat::object::{Object, requirements};
use btcompat::relocate::{CoreRelo, CoreReloKind, LibbpfVersion, Targets, resolve};
use btcompat::surface::{
    Image, Module, ModuleBtf, decompress, read_kallsyms, read_snapshot, write_snapshot,
};
use btcompat::verdict::{Scenario, decide};
use common::btf_writer::{Body, BtfWriter};
use common::kernel::{Recipe, compile};
use proptest::prelude::*;
use std::sync::{Arc, LazyLock};

static OBJECT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    std::fs::read(compile("sample", dir.path())).unwrap()
});

/// Overwrites bytes and cuts the end.
fn damage(data: &[u8], edits: &[(usize, u8)], cut: usize) -> Vec<u8> {
    let mut data = data.to_vec();
    let len = data.len();
    for &(at, byte) in edits {
        data[at % len] = byte;
    }
    data.truncate(len - cut % len);
    data
}

fn edits() -> impl Strategy<Value = (Vec<(usize, u8)>, usize)> {
    let edits = prop::collection::vec((any::<usize>(), any::<u8>()), 1..24);
    (edits, prop_oneof![4 => Just(0usize), 1 => any::<usize>()])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Check that a damaged object is an error or is judged.
    #[test]
    fn object_damaged_never_panics((edits, cut) in edits()) {
        if let Ok(object) = Object::parse(&damage(&OBJECT, &edits, cut)) {
            let _ = requirements(&object);
            let surface = Recipe::default().surface();
            let _ = decide("damaged", &object, &surface, &Scenario::default());
        }
    }

    /// Check that a damaged BTF is an error or can be searched and sized.
    #[test]
    fn btf_damaged_never_panics((edits, cut) in edits()) {
        let good = Recipe::default().surface().btf.unwrap().bytes().to_vec();
        if let Ok(btf) = Btf::parse(damage(&good, &edits, cut)) {
            for ty in btf.own_types() {
                let _ = btf.size_of(ty.id);
                let _ = btf.spelling(ty.id);
                let _ = btf.prototype(ty.name(), ty.target());
                let _ = btf.own_by_essential_name(ty.name()).count();
                let _ = ty.members().count() + ty.params().count() + ty.enumerators().count();
            }
        }
    }

    /// Check that damage to the kernel's types never upsets a verdict.
    #[test]
    fn kernel_types_damaged_never_panics((edits, _) in edits()) {
        let mut surface = Recipe::default().surface();
        let good = surface.btf.take().unwrap().bytes().to_vec();
        if let Ok(btf) = Btf::parse(damage(&good, &edits, 0)) {
            surface.btf = Some(Arc::new(btf));
        }
        let object = Object::parse(&OBJECT).unwrap();
        let _ = decide("sample", &object, &surface, &Scenario::default());
    }

    /// Check that a damaged snapshot is an error or a surface.
    #[test]
    fn snapshot_damaged_never_panics((edits, cut) in edits()) {
        let good = write_snapshot(&Recipe::default().surface(), 1).unwrap();
        let _ = read_snapshot(&damage(&good, &edits, cut));
    }

    /// Check that a damaged module or image is an error or is read. An eBPF
    /// object serves as the ELF file.
    #[test]
    fn elf_damaged_never_panics((edits, cut) in edits()) {
        let data = damage(&OBJECT, &edits, cut);
        let _ = Module::read("m", &data, None);
        if let Ok(image) = Image::from_elf(data) {
            let _ = read_kallsyms(&image);
        }
    }

    /// Check that bytes which are nothing are an error.
    #[test]
    fn noise_never_panics(data in prop::collection::vec(any::<u8>(), 0..600), magic in 0usize..6) {
        const MAGICS: [&[u8]; 6] = [
            b"", b"\x7fELF\x02\x01\x01", b"\x1f\x8b\x08", b"\xfd7zXZ\0", b"\x28\xb5\x2f\xfd",
            b"btcompat-surface 1\n",
        ];
        let data = [MAGICS[magic], &data].concat();
        let _ = Object::parse(&data);
        let _ = Image::unpack(&data);
        let _ = read_snapshot(&data);
        let _ = decompress(data.clone());
        let _ = Btf::parse(data);
    }

    /// Check that a token table among noise, which promises symbols, is no trap.
    #[test]
    fn kallsyms_noise_never_panics(noise in prop::collection::vec(any::<u8>(), 600..4000), at in 0usize..500) {
        let mut data = noise;
        let digits = b"0\x001\x002\x003\x004\x005\x006\x007\x008\x009\0";
        data[at..at + digits.len()].copy_from_slice(digits);
        data[0x38..0x3c].copy_from_slice(b"ARM\x64");
        if let Ok(image) = Image::unpack(&data) {
            let _ = read_kallsyms(&image);
        }
    }
}

/// Check that 24 bytes of BTF, as some distributions ship for a module, are
/// told apart from types that are there.
#[test]
fn module_btf_of_24_bytes_is_broken() {
    let base = Recipe::default().surface().btf.unwrap();
    let mut header = vec![0x9f, 0xeb, 1, 0, 24, 0, 0, 0];
    header.resize(24, 0);
    let btf = ModuleBtf::parse(&header, Some(&base));
    assert!(matches!(btf, ModuleBtf::Broken(_)), "{btf:?}");
}

/// Check that types which contain themselves end a search instead of going round.
#[test]
fn cyclic_types_are_refused() {
    let mut w = BtfWriter::new();
    let uint = w.int("unsigned int", 4, false);
    let loop_type = w.typedef("round", uint + 1);
    let array = w.add("", 3, 0, Body::Array(loop_type + 1, loop_type + 1, 2));
    let nested = w.structure("dev", 8, &[("", array + 1, 0)]);
    let btf = Arc::new(Btf::parse(w.encode()).unwrap());
    assert!(btf.strip(loop_type).is_none());
    assert!(btf.size_of(array).is_err());
    let mut local = BtfWriter::new();
    let uint = local.int("unsigned int", 4, false);
    let dev = local.structure("dev", 4, &[("count", uint, 0)]);
    let local = Btf::parse(local.encode()).unwrap();
    let relo = CoreRelo {
        kind: CoreReloKind::ByteOff,
        type_id: dev,
        access: "0:0".to_owned(),
    };
    let targets = Targets::vmlinux_only(Arc::clone(&btf));
    let mut candidates = targets
        .candidates(&local, dev, LibbpfVersion::CURRENT)
        .unwrap();
    assert_eq!(candidates[0].id, nested);
    let refused = resolve(&relo, &local, &mut candidates, LibbpfVersion::CURRENT);
    assert_eq!(refused.unwrap_err().errno(), -7);
}
