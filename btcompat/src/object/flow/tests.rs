//! Reachability and provenance, on programs written by hand.

use super::*;
use crate::bytes::Endian;
use crate::object::{CallTarget, Function, SectionSpec};
use crate::relocate::{CoreRelo, CoreReloKind};

const EXIT: Insn = Insn {
    code: 0x95,
    dst: 0,
    src: 0,
    off: 0,
    imm: 0,
};

fn insn(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Insn {
    Insn {
        code,
        dst,
        src,
        off,
        imm,
    }
}

fn object(insns: Vec<Insn>, relocations: &[(usize, CoreReloKind)]) -> Object {
    let relocations = relocations
        .iter()
        .enumerate()
        .map(|(order, &(insn, kind))| Relocation {
            insn,
            order,
            raw_kind: 0,
            relo: Some(CoreRelo {
                kind,
                type_id: 1,
                access: "0:0".to_owned(),
            }),
        })
        .collect();
    let calls = insns
        .iter()
        .enumerate()
        .filter(|(_, i)| i.is_call())
        .map(|(at, i)| (at, CallTarget::Helper(i.imm.cast_unsigned())))
        .collect();
    let function = Function {
        name: "f".to_owned(),
        section: "fentry/f".to_owned(),
        start: 0,
        insns,
        relocations,
        calls,
        refs: BTreeMap::new(),
        lines: BTreeMap::new(),
        type_id: 0,
        global: true,
    };
    Object {
        endian: Endian::Little,
        btf: None,
        license: String::new(),
        functions: vec![function],
        programs: vec![Program {
            function: 0,
            spec: SectionSpec::parse("fentry/f"),
            reachable: vec![0],
        }],
        maps: Vec::new(),
        externs: Vec::new(),
        orphan_relocations: 0,
    }
}

fn flow(object: &Object) -> Flow {
    analyze(object, &object.programs[0], Oracle::Compiled)
}

/// `if (exists) r0 = *(r1 + 0)`: the guard is the relocated instruction 0.
fn guarded() -> Object {
    object(
        vec![
            insn(0xb7, 2, 0, 0, 1),
            insn(0x15, 2, 0, 1, 0),
            insn(0x79, 0, 1, 8, 0),
            EXIT,
        ],
        &[(0, CoreReloKind::FieldExists)],
    )
}

/// Check that code behind a check that came out as 0 is dead, and only then.
#[test]
fn guard_resolved_to_zero_makes_code_unreachable() {
    let object = guarded();
    assert_eq!(flow(&object).reach((0, 2)), Reach::Possible);
    let zero = BTreeMap::from([((0, 0), insn(0xb7, 2, 0, 0, 0))]);
    let patched = analyze(
        &object,
        &object.programs[0],
        Oracle::Patched(&zero, &BTreeMap::new()),
    );
    assert_eq!(patched.reach((0, 2)), Reach::Never);
    assert_eq!(patched.reach((0, 3)), Reach::Possible);
}

/// Check that the context is followed through a spill and an addition.
#[test]
fn context_read_through_stack_is_found() {
    let object = object(
        vec![
            insn(0x7b, 10, 1, -8, 0),
            insn(0x79, 6, 10, -8, 0),
            insn(0x07, 6, 0, 0, 8),
            insn(0x79, 0, 6, 8, 0),
            EXIT,
        ],
        &[],
    );
    let reads: Vec<_> = flow(&object).context_reads.into_iter().collect();
    assert_eq!(reads.len(), 1);
    assert_eq!((reads[0].offset, reads[0].width), (16, 8));
}

/// Check that a probe read is tied to the relocation that made its address, and its size known.
#[test]
fn probe_read_knows_its_relocation_and_size() {
    let object = object(
        vec![
            insn(0x79, 3, 1, 0, 0),
            insn(0xb7, 2, 0, 0, 16),
            insn(0x0f, 3, 2, 0, 0),
            insn(0xb7, 2, 0, 0, 4),
            insn(0x85, 0, 0, 0, 113),
            EXIT,
        ],
        &[(1, CoreReloKind::ByteOff)],
    );
    let reads: Vec<_> = flow(&object).probe_reads.into_iter().collect();
    assert_eq!(reads.len(), 1);
    assert_eq!(reads[0].relocation, Some((0, 0)));
    assert_eq!(reads[0].size, Some(4));
    assert!(!reads[0].fixed_offset);
}

/// Check that an address made without a relocation is told apart.
#[test]
fn probe_read_fixed_offset_is_marked() {
    let object = object(
        vec![
            insn(0x79, 3, 1, 0, 0),
            insn(0x07, 3, 0, 0, 16),
            insn(0xb7, 2, 0, 0, 4),
            insn(0x85, 0, 0, 0, 113),
            EXIT,
        ],
        &[],
    );
    let flow = flow(&object);
    assert!(flow.probe_reads.first().unwrap().fixed_offset);
}

/// Check that a choice by a setting is conditional until both ways have met again.
#[test]
fn setting_branch_is_conditional_until_it_joins() {
    let mut object = object(
        vec![
            insn(0x18, 1, 0, 0, 0),
            insn(0, 0, 0, 0, 0),
            insn(0x61, 1, 1, 0, 0),
            insn(0x15, 1, 0, 1, 0),
            insn(0xb7, 3, 0, 0, 7),
            insn(0xb7, 0, 0, 0, 0),
            EXIT,
        ],
        &[],
    );
    let rodata = RefTarget::Data(".rodata".to_owned());
    object.functions[0].refs.insert(0, rodata);
    let flow = flow(&object);
    assert_eq!(flow.reach((0, 4)), Reach::Conditional);
    assert_eq!(flow.reach((0, 5)), Reach::Possible);
}

/// Check that a loop ends the analysis, not the other way round.
#[test]
fn loop_terminates() {
    let object = object(
        vec![
            insn(0xb7, 1, 0, 0, 0),
            insn(0x07, 1, 0, 0, 1),
            insn(0xa5, 1, 0, -2, 100),
            EXIT,
        ],
        &[],
    );
    let flow = flow(&object);
    assert!(!flow.gave_up);
    assert_eq!(flow.reach((0, 3)), Reach::Possible);
}
