//! The entry points of continuous integration, with everything real but cargo and the guests: a
//! `cargo` stands on the path that hands `xtask`'s words to the harness.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy exempts marked functions only"
)]

use harness::case::CaseResult;
use harness::machine::Accel;
use harness::outcome::{DeathClass, Outcome};
use harness::report::{KernelInfo, Report, SCHEMA};
use rstest::rstest;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Night {
    folder: tempfile::TempDir,
}

impl Night {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let night = Self { folder };
        // Looking kernels up takes the network; its failure must not end the night.
        let cargo = format!(
            "#!/bin/sh\nshift\n[ \"$1\" != update-kernels ] || {{ echo 'debian:7.3: 7.3.4-1 -> 7.3.5-1'; exit 4; }}\nexec {} \"$@\"\n",
            env!("CARGO_BIN_EXE_harness")
        );
        fs::create_dir(night.at("bin")).unwrap();
        fs::write(night.at("bin/cargo"), cargo).unwrap();
        let executable = fs::Permissions::from_mode(0o755);
        fs::set_permissions(night.at("bin/cargo"), executable).unwrap();
        night
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let repository = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let path = std::env::var("PATH").unwrap();
        Command::new(repository.join("ci").join(program))
            .args(arguments)
            .env("PATH", format!("{}:{path}", self.at("bin").display()))
            .env("BT_CACHE", self.at("cache"))
            .env("GITHUB_OUTPUT", self.at("output"))
            .env("GITHUB_STEP_SUMMARY", self.at("summary"))
            .env_remove("GROUP")
            .output()
            .unwrap()
    }

    fn merge(&self, parts: &str) -> (Option<i32>, String) {
        let path = |name| self.at(name).display().to_string();
        let (from, last, to) = (path("parts"), path("last.json"), path("night"));
        let output = self.run("merge", &[&from, &last, &to, parts]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr)
            + &fs::read_to_string(self.at("summary")).unwrap_or_default();
        (output.status.code(), said)
    }

    fn put(&self, name: &str, cases: &[(&str, Outcome)]) {
        let path = self.at(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, report(cases).to_json().unwrap()).unwrap();
    }
}

fn report(cases: &[(&str, Outcome)]) -> Report {
    let results = cases.iter().map(|(kernel, outcome)| {
        CaseResult::bare(&kernel.parse().unwrap(), "l2cap-seqpacket", outcome.clone())
    });
    let info = |kernel: &str| KernelInfo {
        release: format!("{kernel}-amd64"),
        version: None,
    };
    Report {
        schema: SCHEMA.to_owned(),
        accel: Accel::Tcg,
        accel_reason: "no /dev/kvm".to_owned(),
        total_ms: 1000,
        options: Vec::new(),
        kernels: cases
            .iter()
            .map(|(kernel, _)| ((*kernel).to_owned(), info(kernel)))
            .collect::<BTreeMap<_, _>>(),
        foretold: BTreeMap::new(),
        results: results.collect(),
        not_started: 0,
    }
}

fn wrong() -> Outcome {
    Outcome::Failed {
        step: "step 1".to_owned(),
        error: "planted".to_owned(),
    }
}

fn lost() -> Outcome {
    Outcome::Died {
        class: DeathClass::LostVm,
        phase: "restoring".to_owned(),
        detail: "QEMU hung up".to_owned(),
    }
}

/// Check that the night fails on what was right and is wrong, and on nothing else.
#[rstest]
#[case::all_right(Outcome::Passed, Outcome::Passed, 0, "1 cases are as they were")]
#[case::regressed(Outcome::Passed, wrong(), 1, "Regressed (1)")]
#[case::wrong_as_ever(wrong(), wrong(), 0, "1 cases are as they were")]
#[case::mended(wrong(), Outcome::Passed, 0, "Mended (1)")]
#[case::not_told(Outcome::Passed, lost(), 0, "Not determined this time (1)")]
fn merge_fails_on_a_regression_only(
    #[case] last: Outcome,
    #[case] tonight: Outcome,
    #[case] code: i32,
    #[case] says: &str,
) {
    let night = Night::new();
    night.put("last.json", &[("debian:6.1", last)]);
    night.put("parts/part-1/report.json", &[("debian:6.1", tonight)]);
    // A kernel that is new is new, wrong or not.
    night.put("parts/part-2/report.json", &[("debian:7.4", wrong())]);
    let (status, said) = night.merge("2");
    assert_eq!(status, Some(code), "{said}");
    for words in [says, "New (1)", "debian:7.4: none → debian:7.4-amd64"] {
        assert!(said.contains(words), "{words}: {said}");
    }
    for file in ["report.json", "index.html", "junit.xml", "diff.md"] {
        assert!(night.at("night").join(file).exists(), "{file}");
    }
}

/// Check that the first night has nothing to compare with, and that a part without a report fails
/// the night and does not hide the others.
#[test]
fn merge_tells_missing_parts() {
    let night = Night::new();
    night.put(
        "parts/part-1/report.json",
        &[("debian:6.1", Outcome::Passed)],
    );
    let (status, said) = night.merge("1");
    assert_eq!(status, Some(0), "{said}");
    assert!(said.contains("nothing to compare with"), "{said}");
    let (status, said) = night.merge("3");
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("2 of 3 parts have no report"), "{said}");
    assert!(said.contains("1 of 1 right"), "{said}");
}

/// Check that the plan goes on without the network, and names as many parts as there are.
#[test]
fn plan_splits_the_matrix() {
    let night = Night::new();
    let output = night.run("plan", &["4"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let written = fs::read_to_string(night.at("output")).unwrap();
    let line = written
        .lines()
        .find_map(|line| line.strip_prefix("matrix="));
    let matrix: serde_json::Value = serde_json::from_str(line.unwrap()).unwrap();
    let include = matrix["include"].as_array().unwrap();
    assert_eq!(include.len(), 4);
    assert_eq!(include[3]["partition"], "4/4");
    assert!(written.contains("parts=4"), "{written}");
    let summary = fs::read_to_string(night.at("summary")).unwrap();
    assert!(summary.contains("7.3.4-1 -> 7.3.5-1"), "{summary}");
    assert!(
        summary.contains("Not every kernel could be looked up"),
        "{summary}"
    );
}
