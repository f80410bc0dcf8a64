//! Debugging information, made by the compiler for a file whose inlining is known.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests and their helpers"
)]

mod common;

use btcompat::dwarf::{DwarfError, Inlining};
use btcompat::surface::Surface;
use btcompat::verdict::{Code, Scenario, Severity, State, decide};
use common::kernel::{Recipe, sample};
use proptest::prelude::*;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

/// The file, compiled but not linked, as a module is.
static OBJECT: LazyLock<Vec<u8>> = LazyLock::new(|| compile("inlined", &["-g"]));

fn compile(name: &str, options: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let object = dir.path().join("o");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/objects/{name}.c"));
    let mut clang = Command::new("clang");
    clang
        .args(["-O2", "-c"])
        .args(options)
        .arg(source)
        .arg("-o");
    assert!(clang.arg(&object).status().unwrap().success());
    std::fs::read(object).unwrap()
}

/// Check that calls which were inlined are counted with their callers, and functions that are only
/// called or only copied are told apart from those.
#[test]
fn inlined_calls_are_counted() {
    let inlining = Inlining::read(&OBJECT).unwrap();
    let of = |name: &str| {
        let inlined = inlining.of(name).unwrap();
        (inlined.copies > 0, inlined.out_of_line)
    };
    assert_eq!(of("never"), (false, true));
    assert_eq!(of("everywhere"), (true, false));
    assert_eq!(of("partly"), (true, true));
    let callers = &inlining.of("partly").unwrap().callers;
    assert_eq!(callers.iter().collect::<Vec<_>>(), ["caller"]);
    assert_eq!(inlining.of("absent"), None);
}

/// Check that a file without debugging information, and one that is no ELF file, say so.
#[test]
fn file_without_debugging_information_says_so() {
    let without = Inlining::read(&compile("inlined", &[])).unwrap_err();
    assert!(matches!(without, DwarfError::Absent), "{without:?}");
    assert!(matches!(Inlining::read(b"x"), Err(DwarfError::Elf(_))));
}

/// Check that a hook with inlined calls is a lie, that one without them is none and needs no note,
/// and that without debugging information it stays open.
#[test]
fn hook_with_inlined_calls_lies() {
    let renamed = |from: &str| {
        // The sample hooks `dev_send`: let that be the function.
        let source = include_str!("objects/inlined.c").replace(from, "dev_send");
        let dir = tempfile::tempdir().unwrap();
        let (file, object) = (dir.path().join("x.c"), dir.path().join("o"));
        std::fs::write(&file, source).unwrap();
        let mut clang = Command::new("clang");
        clang.args(["-O2", "-g", "-c"]).arg(file).arg("-o");
        assert!(clang.arg(&object).status().unwrap().success());
        Inlining::read(&std::fs::read(object).unwrap()).unwrap()
    };
    let judge = |inlining: Option<Inlining>| {
        let surface = Surface {
            inlining,
            ..Recipe::default().surface()
        };
        let verdict = decide("sample", &sample(), &surface, &Scenario::default());
        let program = verdict
            .programs
            .into_iter()
            .find(|p| p.name == "read_count");
        let program = program.unwrap();
        let found = program.findings.iter().map(|f| (f.code, f.severity));
        let about = |code| matches!(code, Code::InlineSelective | Code::InlineUnknown);
        let found: Vec<_> = found.filter(|(code, _)| about(*code)).collect();
        (found, program.state())
    };
    let lie = vec![(Code::InlineSelective, Severity::Lies)];
    assert_eq!(judge(Some(renamed("partly"))), (lie, State::No));
    assert_eq!(judge(Some(renamed("never"))), (vec![], State::Yes));
    let open = vec![(Code::InlineUnknown, Severity::Note)];
    assert_eq!(judge(None), (open, State::Yes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Check that damaged debugging information is an error or is read.
    #[test]
    fn damaged_debugging_information_never_panics(edits in prop::collection::vec((any::<usize>(), any::<u8>()), 1..24)) {
        let mut data = OBJECT.clone();
        for (at, byte) in edits {
            let at = at % data.len();
            data[at] = byte;
        }
        let _ = Inlining::read(&data);
    }
}
