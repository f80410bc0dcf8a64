//! Who may depend on whom. What is not listed is forbidden.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy exempts marked functions only"
)]

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Each crate of the workspace and the crates of the workspace that it may use, tests included.
const ALLOWED: [(&str, &[&str]); 12] = [
    ("metrics", &[]),
    ("kernels", &[]),
    ("controller", &[]),
    ("evidence", &["metrics", "controller"]),
    ("probes", &["metrics"]),
    ("btcompat", &["kernels", "metrics"]),
    ("stage0", &["evidence"]),
    (
        "agent",
        &["probes", "controller", "evidence", "exporter", "metrics"],
    ),
    ("vm-images", &["kernels"]),
    (
        "harness",
        &[
            "vm-images",
            "controller",
            "evidence",
            "metrics",
            "kernels",
            "btcompat",
        ],
    ),
    ("exporter", &["probes", "metrics"]),
    ("xtask", &["kernels"]),
];

fn metadata() -> Value {
    let mut cargo = Command::new(env!("CARGO"));
    // Of this platform alone: crates of others need not have been downloaded.
    let platform = ["--filter-platform", "x86_64-unknown-linux-gnu"];
    cargo
        .args(["metadata", "--format-version", "1", "--offline"])
        .args(platform);
    let output = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

fn strings<'a>(list: &'a Value, field: &str) -> BTreeSet<&'a str> {
    let items = list.as_array().unwrap().iter();
    items.map(|item| item[field].as_str().unwrap()).collect()
}

/// Names of everything that a crate is built from for its users: normal and build dependencies.
fn tree<'a>(metadata: &'a Value, root: &str) -> BTreeSet<&'a str> {
    let packages = metadata["packages"].as_array().unwrap();
    let name_of: BTreeMap<&str, &str> = packages
        .iter()
        .map(|package| {
            (
                package["id"].as_str().unwrap(),
                package["name"].as_str().unwrap(),
            )
        })
        .collect();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let node = |id: &str| nodes.iter().find(|node| node["id"] == id).unwrap();
    let mut waiting: Vec<&str> = name_of
        .iter()
        .filter(|(id, name)| **name == root && id.starts_with("path+"))
        .map(|(id, _)| *id)
        .collect();
    let mut seen = BTreeSet::new();
    while let Some(id) = waiting.pop() {
        for dep in node(id)["deps"].as_array().unwrap() {
            let kinds = dep["dep_kinds"].as_array().unwrap();
            if kinds.iter().any(|kind| kind["kind"] != "dev")
                && seen.insert(dep["pkg"].as_str().unwrap())
            {
                waiting.push(dep["pkg"].as_str().unwrap());
            }
        }
    }
    seen.into_iter().map(|id| name_of[id]).collect()
}

/// Check that no crate uses one that it may not, and that every crate is in the table.
#[test]
fn crates_depend_downwards_only() {
    let metadata = metadata();
    let members = metadata["workspace_members"].as_array().unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let packages: Vec<&Value> = packages
        .filter(|package| members.contains(&package["id"]))
        .collect();
    let names: BTreeSet<&str> = packages
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let allowed = ALLOWED.iter().find(|(known, _)| *known == name);
        let allowed = allowed
            .unwrap_or_else(|| panic!("{name} is not in the table"))
            .1;
        let used: Vec<&str> = strings(&package["dependencies"], "name")
            .into_iter()
            .filter(|used| names.contains(used) && *used != name)
            .collect();
        for used in used {
            assert!(allowed.contains(&used), "{name} may not depend on {used}");
        }
    }
}

/// Check that the harness and the agent meet in the evidence alone, and that xtask builds without
/// any system library.
#[test]
fn trees_hold_nothing_that_does_not_belong() {
    let metadata = metadata();
    assert!(
        tree(&metadata, "agent").contains("libbpf-sys"),
        "the look into trees sees nothing"
    );
    assert!(!tree(&metadata, "harness").contains("libbpf-sys"));
    let linking: BTreeSet<&str> = metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| package["links"].is_string())
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    let of_xtask = tree(&metadata, "xtask");
    assert_eq!(
        of_xtask.intersection(&linking).collect::<Vec<_>>(),
        Vec::<&&str>::new()
    );
}
