//! Rules of relocation, each on types made for it.

use super::*;
use crate::btf::Btf;
use crate::btf::writer::{Body, BtfWriter};
use rstest::rstest;
use std::sync::Arc;

fn btf(writer: &BtfWriter) -> Arc<Btf> {
    Arc::new(Btf::parse(writer.encode()).unwrap())
}

fn relo(kind: CoreReloKind, type_id: u32, access: &str) -> CoreRelo {
    CoreRelo {
        kind,
        type_id,
        access: access.to_owned(),
    }
}

fn run(local: &Btf, target: &Arc<Btf>, relo: &CoreRelo) -> Result<Resolution, RelocError> {
    let targets = Targets::vmlinux_only(Arc::clone(target));
    let mut candidates = targets
        .candidates(local, relo.type_id, LibbpfVersion::CURRENT)
        .unwrap();
    resolve(relo, local, &mut candidates, LibbpfVersion::CURRENT).map(|r| r.resolution)
}

/// `struct dev___x { unsigned int count; }` as an object would declare it.
fn local_dev() -> (Arc<Btf>, u32) {
    let mut w = BtfWriter::new();
    let uint = w.int("unsigned int", 4, false);
    let dev = w.structure("dev___x", 4, &[("count", uint, 0)]);
    (btf(&w), dev)
}

/// Check that a field is found at the kernel's offset, whatever the flavor.
#[test]
fn byte_off_moved_field_follows_kernel() {
    let (local, dev) = local_dev();
    let mut w = BtfWriter::new();
    let uint = w.int("unsigned int", 4, false);
    w.structure(
        "dev",
        12,
        &[("a", uint, 0), ("b", uint, 32), ("count", uint, 64)],
    );
    let res = run(&local, &btf(&w), &relo(CoreReloKind::ByteOff, dev, "0:0")).unwrap();
    assert_eq!((res.new_val, res.poison, res.new_sz), (8, false, 4));
}

/// Check that a member in an anonymous struct is found with both offsets added.
#[test]
fn byte_off_anonymous_member_adds_offsets() {
    let (local, dev) = local_dev();
    let mut w = BtfWriter::new();
    let uint = w.int("unsigned int", 4, false);
    let inner = w.structure("", 8, &[("x", uint, 0), ("count", uint, 32)]);
    w.structure("dev", 24, &[("a", uint, 0), ("", inner, 128)]);
    let res = run(&local, &btf(&w), &relo(CoreReloKind::ByteOff, dev, "0:0")).unwrap();
    assert_eq!(res.new_val, 20);
}

/// Check what happens to each kind of relocation when the field or type is gone.
#[rstest]
#[case::offset(CoreReloKind::ByteOff, "0:0", true)]
#[case::size(CoreReloKind::ByteSz, "0:0", true)]
#[case::exists(CoreReloKind::FieldExists, "0:0", false)]
#[case::type_exists(CoreReloKind::TypeExists, "0", false)]
#[case::type_size(CoreReloKind::TypeSize, "0", false)]
#[case::type_id(CoreReloKind::TargetTypeId, "0", false)]
fn missing_type_poisons_fields_and_zeroes_types(
    #[case] kind: CoreReloKind,
    #[case] access: &str,
    #[case] poison: bool,
) {
    let (local, dev) = local_dev();
    let mut w = BtfWriter::new();
    w.int("unsigned int", 4, false);
    let res = run(&local, &btf(&w), &relo(kind, dev, access)).unwrap();
    assert_eq!((res.poison, res.new_val), (poison, 0));
}

/// Check that two types of one name that disagree are refused, not guessed.
#[test]
fn byte_off_two_candidates_disagree_is_refused() {
    let (local, dev) = local_dev();
    let mut w = BtfWriter::new();
    let uint = w.int("unsigned int", 4, false);
    w.structure("dev", 8, &[("count", uint, 0)]);
    w.structure("dev", 8, &[("count", uint, 32)]);
    let err = run(&local, &btf(&w), &relo(CoreReloKind::ByteOff, dev, "0:0")).unwrap_err();
    assert_eq!(
        err,
        RelocError::AmbiguousOffset {
            first: 0,
            other: 32
        }
    );
    assert_eq!(err.errno(), -22);
}

/// Check that a signed field of another width cannot be loaded, an unsigned one can.
#[rstest]
#[case::unsigned(false, false)]
#[case::signed(true, true)]
fn byte_off_width_changed_only_unsigned_adjusts(#[case] signed: bool, #[case] fails: bool) {
    let mut w = BtfWriter::new();
    let int = w.int("int", 4, signed);
    let dev = w.structure("dev", 4, &[("count", int, 0)]);
    let local = btf(&w);
    let mut w = BtfWriter::new();
    let short = w.int("short", 2, signed);
    w.structure("dev", 4, &[("count", short, 0)]);
    let res = run(&local, &btf(&w), &relo(CoreReloKind::ByteOff, dev, "0:0")).unwrap();
    assert_eq!(res.fail_memsz_adjust, fails);
    assert_eq!((res.orig_sz, res.new_sz), (4, 2));
}

/// Check that an incompatible member of the right name ends the search.
#[test]
fn byte_off_incompatible_member_poisons() {
    let (local, dev) = local_dev();
    let mut w = BtfWriter::new();
    let uint = w.int("unsigned int", 4, false);
    let ptr = w.ptr(uint);
    w.structure("dev", 8, &[("count", ptr, 0)]);
    let res = run(&local, &btf(&w), &relo(CoreReloKind::ByteOff, dev, "0:0")).unwrap();
    assert!(res.poison);
}

/// Check that enumerators are found by name and 32-bit values are sign-extended.
#[test]
fn enumval_value_renumbered_follows_kernel() {
    let mut w = BtfWriter::new();
    let e = w.enumeration("state", &[("A", 0), ("B", 1)]);
    let local = btf(&w);
    let mut w = BtfWriter::new();
    w.enumeration("state", &[("B", u32::MAX)]);
    let target = btf(&w);
    let value = run(&local, &target, &relo(CoreReloKind::EnumvalValue, e, "1")).unwrap();
    assert_eq!(value.new_val, u64::MAX);
    let gone = run(&local, &target, &relo(CoreReloKind::EnumvalExists, e, "0")).unwrap();
    assert_eq!((gone.new_val, gone.poison), (0, false));
}

/// Check that the accessor of an object may not leave its own types.
#[rstest]
#[case("0:1")]
#[case("0:-1")]
#[case("")]
#[case("0:0:0")]
#[case("x")]
fn accessor_outside_type_is_refused(#[case] access: &str) {
    let (local, dev) = local_dev();
    let target = Arc::clone(&local);
    let err = run(&local, &target, &relo(CoreReloKind::ByteOff, dev, access)).unwrap_err();
    assert_eq!(err.errno(), -22);
}

/// Check the shifts of a bitfield against the layout written by hand.
#[test]
fn bitfield_shifts_follow_layout() {
    let mut w = BtfWriter::new();
    let uint = w.int("unsigned int", 4, false);
    let members = vec![("flag".to_owned(), uint, 3 << 24 | 37)];
    let dev = w.add("dev", 4, 8, Body::Members(members));
    w.types.last_mut().unwrap().kind_flag = true;
    let both = btf(&w);
    let value = |kind| run(&both, &both, &relo(kind, dev, "0:0")).unwrap().new_val;
    assert_eq!(value(CoreReloKind::ByteOff), 4);
    assert_eq!(value(CoreReloKind::ByteSz), 4);
    assert_eq!(value(CoreReloKind::LshiftU64), 64 - (5 + 3));
    assert_eq!(value(CoreReloKind::RshiftU64), 61);
}

/// Check that module types are searched only when the kernel has none.
#[test]
fn candidates_vmlinux_type_shadows_module() {
    let (local, dev) = local_dev();
    let mut base = BtfWriter::new();
    let uint = base.int("unsigned int", 4, false);
    let empty = btf(&base);
    base.structure("dev", 4, &[("count", uint, 0)]);
    let full = btf(&base);
    for (base, module) in [(&empty, Some("bt")), (&full, None)] {
        let mut w = BtfWriter::new();
        w.first_id = base.type_count();
        w.string_base = u32::try_from(base.bytes().len()).unwrap();
        let strings = base.bytes().len() - 24 - if module.is_some() { 16 } else { 16 + 24 };
        w.string_base = u32::try_from(strings).unwrap();
        w.structure("dev", 8, &[("count", uint, 32)]);
        let split = Arc::new(Btf::parse_split(w.encode(), Arc::clone(base)).unwrap());
        let targets = Targets {
            vmlinux: Arc::clone(base),
            modules: vec![("bt".to_owned(), split)],
            may_read_modules: true,
        };
        let found = targets
            .candidates(&local, dev, LibbpfVersion::CURRENT)
            .unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].module, module);
    }
}
