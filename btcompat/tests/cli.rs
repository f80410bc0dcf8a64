//! The command as its users see it.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests and their helpers"
)]

mod common;

use btcompat::surface::write_snapshot;
use common::kernel::{Recipe, compile};
use rstest::rstest;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tempfile::TempDir;

struct Bench {
    dir: TempDir,
    object: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let object = compile("sample", dir.path());
        Self { dir, object }
    }

    fn kernel(&self, name: &str, recipe: &Recipe) -> PathBuf {
        let path = self.dir.path().join(name);
        let mut surface = recipe.surface();
        surface.release = name.to_owned();
        std::fs::write(&path, write_snapshot(&surface, 1).unwrap()).unwrap();
        path
    }

    fn check(&self, kernels: &[&Path], more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btcompat"));
        command.arg("check").arg("-O").arg(&self.object);
        for kernel in kernels {
            command.arg("-K").arg(kernel);
        }
        command.args(more).output().unwrap()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn good() -> Recipe {
    Recipe::default()
}

fn without_field() -> Recipe {
    Recipe {
        added: false,
        ..Recipe::default()
    }
}

fn without_function() -> Recipe {
    Recipe {
        symbols: vec![],
        ..Recipe::default()
    }
}

/// Check that the exit status says what the text says.
#[rstest]
#[case::works(good(), 0, "works     sample")]
#[case::degraded(without_field(), 3, "RELO-MISSING at load: dev___new.added")]
#[case::broken(without_function(), 4, "FN-INLINED at attach: dev_send")]
fn check_exit_status_follows_verdict(
    #[case] recipe: Recipe,
    #[case] status: i32,
    #[case] line: &str,
) {
    let bench = Bench::new();
    let kernel = bench.kernel("k", &recipe);
    let output = bench.check(&[&kernel], &[]);
    assert_eq!(output.status.code(), Some(status), "{}", text(&output));
    assert!(text(&output).contains(line), "{}", text(&output));
}

/// Check that a missing file is an error with the file's name, not a verdict.
#[test]
fn check_missing_kernel_is_an_error() {
    let bench = Bench::new();
    let output = bench.check(&[Path::new("/nonexistent/vmlinuz.deb")], &[]);
    assert_eq!(output.status.code(), Some(1));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("/nonexistent/vmlinuz.deb"), "{message}");
}

/// Check that a program without a target of its own does not spoil the answer,
/// and that `--verbose` shows it.
#[test]
fn check_verbose_shows_notes() {
    let bench = Bench::new();
    let kernel = bench.kernel("k", &good());
    let output = text(&bench.check(&[&kernel], &["--verbose"]));
    assert!(
        output.contains("manual [?kprobe] (not loaded by default)"),
        "{output}"
    );
    assert!(output.contains("TARGET-USERSPACE"), "{output}");
}

/// Check that each output names each program and escapes what it must.
#[rstest]
#[case("markdown", "| `read_count` |")]
#[case("junit", "<testcase classname=\"sample\" name=\"read_count\"/>")]
#[case("html", "<td>read_count<td class=w")]
fn check_formats_name_programs(#[case] format: &str, #[case] part: &str) {
    let bench = Bench::new();
    let kernel = bench.kernel("a&b", &good());
    let output = text(&bench.check(&[&kernel], &["--format", format]));
    assert!(output.contains(part), "{output}");
    let raw = output.contains("a&b");
    assert_eq!(raw, format == "markdown", "{output}");
}

/// Check that a matrix says where each program works.
#[test]
fn matrix_says_where_it_breaks() {
    let bench = Bench::new();
    let kernels = [
        bench.kernel("6.1", &without_field()),
        bench.kernel("6.2", &good()),
        bench.kernel("6.3", &good()),
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_btcompat"));
    command.arg("matrix").arg("-O").arg(&bench.object).arg("-K");
    let output = command.args(&kernels).output().unwrap();
    let output = text(&output);
    let row = "read_unguarded: breaks on 6.1: RELO-MISSING, works on 6.2 … 6.3";
    assert!(output.contains(row), "{output}");
    assert!(output.contains("-++  sample read_unguarded"), "{output}");
}

/// Check that requirements are the same bytes each time and from anywhere.
#[test]
fn requirements_are_reproducible() {
    let run = || {
        let bench = Bench::new();
        let mut command = Command::new(env!("CARGO_BIN_EXE_btcompat"));
        let command = command.arg("requirements").arg(&bench.object);
        command
            .current_dir(bench.dir.path())
            .output()
            .unwrap()
            .stdout
    };
    let first = run();
    assert_eq!(first, run());
    assert!(!String::from_utf8(first).unwrap().contains("/tmp"));
}

/// Check that every code can be explained, in any case.
#[test]
fn explain_knows_its_codes() {
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btcompat"));
        command.arg("explain").args(args).output().unwrap()
    };
    let list = text(&run(&[]));
    assert!(list.lines().count() > 40, "{list}");
    for line in list.lines() {
        let code = line.split_whitespace().next().unwrap().to_lowercase();
        let output = run(&[&code]);
        assert_eq!(output.status.code(), Some(0), "{code}");
        assert!(text(&output).len() > 60, "{code}");
    }
    assert_eq!(run(&["NO-SUCH-CODE"]).status.code(), Some(1));
}

/// Check that `diff` shows what changed and nothing else.
#[test]
fn diff_shows_changed_fields() {
    let bench = Bench::new();
    let old = bench.kernel("old", &good());
    let new = bench.kernel("new", &without_field());
    let mut command = Command::new(env!("CARGO_BIN_EXE_btcompat"));
    let command = command.arg("diff").arg(old).arg(new).arg("--object");
    let output = text(&command.arg(&bench.object).output().unwrap());
    let changes: Vec<&str> = output.lines().skip(2).collect();
    assert_eq!(changes, ["- field dev.added"]);
}

fn schema(name: &str) -> Value {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema");
    let text = std::fs::read(folder.join(format!("{name}.schema.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Check that each JSON document is what its published schema says, and that the schema refuses another.
#[rstest]
#[case("report", &["check", "--json", "-O", "OBJECT", "-K", "OLD"], "/entries/0/state", Value::from("maybe"))]
#[case("requirements", &["requirements", "OBJECT"], "/programs/0/instructions", Value::from("many"))]
#[case("surface", &["surface", "OLD", "--json"], "/preemption", Value::from(7))]
#[case("diff", &["diff", "NEW", "OLD", "--object", "OBJECT", "--json"], "/changes/0/what", Value::from("thing"))]
fn json_follows_schema(
    #[case] name: &str,
    #[case] arguments: &[&str],
    #[case] place: &str,
    #[case] nonsense: Value,
) {
    let bench = Bench::new();
    let old = bench.kernel("old", &without_field());
    let new = bench.kernel("new", &good());
    let mut command = Command::new(env!("CARGO_BIN_EXE_btcompat"));
    for argument in arguments {
        match *argument {
            "OBJECT" => command.arg(&bench.object),
            "OLD" => command.arg(&old),
            "NEW" => command.arg(&new),
            word => command.arg(word),
        };
    }
    let document: Value = serde_json::from_str(&text(&command.output().unwrap())).unwrap();
    let schema = schema(name);
    validate(&document, &schema, &schema, name);
    let mut wrong = document;
    *wrong.pointer_mut(place).unwrap() = nonsense;
    let refused = std::panic::catch_unwind(|| validate(&wrong, &schema, &schema, "wrong"));
    assert!(refused.is_err());
}

/// A command that starts another one without any right, whoever runs the tests.
fn without_rights() -> Command {
    let id = Command::new("id").arg("-u").output().unwrap();
    if text(&id).trim() != "0" {
        return Command::new("env");
    }
    let mut command = Command::new("setpriv");
    command.args([
        "--bounding-set=-all",
        "--reuid=65534",
        "--clear-groups",
        "--",
    ]);
    command
}

/// Check that without the right to load, `--load` says so instead of calling everything wrong, and
/// that it cannot be asked of another kernel.
#[test]
fn load_takes_this_kernel_and_its_rights() {
    let bench = Bench::new();
    let kernel = bench.kernel("k", &good());
    let output = bench.check(&[&kernel], &["--load"]);
    assert_eq!(output.status.code(), Some(2));
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(bench.dir.path(), readable).unwrap();
    // Where it was built, nobody else may be let in.
    let program = bench.dir.path().join("btcompat");
    std::fs::copy(env!("CARGO_BIN_EXE_btcompat"), &program).unwrap();
    let output = without_rights()
        .arg(&program)
        .args(["check", "--load", "-O"])
        .arg(&bench.object)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("CAP_BPF"), "{said}");
}

/// Check that an object inside a program is judged like the object itself, under the program's name.
#[test]
fn object_inside_a_program_is_judged() {
    let bench = Bench::new();
    let kernel = bench.kernel("k", &good());
    let object = std::fs::read(&bench.object).unwrap();
    let tool = bench.dir.path().join("tool");
    let program = std::fs::read(env!("CARGO_BIN_EXE_btcompat")).unwrap();
    std::fs::write(&tool, [&program[..64], &object, b"more data"].concat()).unwrap();
    let check = |object: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btcompat"));
        command
            .arg("check")
            .arg("-O")
            .arg(object)
            .arg("-K")
            .arg(&kernel);
        text(&command.output().unwrap())
    };
    assert_eq!(check(&tool), check(&bench.object).replace("sample", "tool"));
}

/// Check that packages of both kinds are told from other files, and a damaged one is named.
#[rstest]
#[case("kernel.rpm", &[0xed, 0xab, 0xee, 0xdb])]
#[case("kernel.deb", b"!<arch>\n")]
fn damaged_package_is_named(#[case] name: &str, #[case] magic: &[u8]) {
    let bench = Bench::new();
    let package = bench.dir.path().join(name);
    std::fs::write(&package, [magic, &[0; 40]].concat()).unwrap();
    let output = bench.check(&[&package], &[]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(name) && said.contains("package"), "{said}");
}

/// Check that completions and the manual name every command.
#[test]
fn completions_and_manual_name_every_command() {
    let run = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_btcompat"));
        text(&command.args(args).output().unwrap()).to_lowercase()
    };
    for page in [
        run(&["completions", "bash"]),
        run(&["completions", "zsh"]),
        run(&["man"]),
    ] {
        for command in [
            "check",
            "matrix",
            "requirements",
            "surface",
            "snapshot",
            "diff",
            "explain",
        ] {
            assert!(page.contains(command), "{command}");
        }
    }
}

/// The part of JSON Schema that the schema uses; every key must be declared.
fn validate(value: &Value, schema: &Value, root: &Value, at: &str) {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).unwrap();
        return validate(value, target, root, at);
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(allowed.contains(value), "{at}: {value}");
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let types = &schema["type"];
    let fits = types == kind
        || types
            .as_array()
            .is_some_and(|t| t.iter().any(|k| k == kind));
    assert!(types.is_null() || fits, "{at}: {kind} is not {types}");
    for item in value.as_array().into_iter().flatten() {
        validate(item, &schema["items"], root, at);
    }
    if let Some(object) = value.as_object() {
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(
                object.contains_key(required.as_str().unwrap()),
                "{at}: {required}"
            );
        }
        for (key, value) in object {
            let declared = &schema["properties"][key];
            assert!(!declared.is_null(), "{at}: {key} is not in the schema");
            validate(value, declared, root, &format!("{at}.{key}"));
        }
    }
}
