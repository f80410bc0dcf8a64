//! The matrix as tests: one for each kernel of kernels.toml and each scenario, named
//! `vm::<kernel>::<scenario>`.
//!
//! `cargo test` runs those of the group `smoke`; the others count as ignored, so that
//! `cargo nextest run --run-ignored all` and `-- --ignored` reach them.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy exempts marked functions only"
)]

mod common;

use evidence::Scenario;
use harness::class::Class;
use kernels::{KernelId, Manifest};
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let manifest = Manifest::load(&common::repository().join("kernels.toml")).unwrap();
    let smoke = manifest.group("smoke").unwrap();
    let scenarios = harness::scenarios::all();
    let mut trials = Vec::new();
    for (kernel, _) in manifest.iter() {
        let is_smoke = smoke.contains(&kernel);
        trials.extend(scenarios.iter().cloned().map(|scenario| {
            let name = format!("vm::{kernel}::{}", scenario.name);
            let kernel = kernel.clone();
            let test = move || run(&kernel, scenario, is_smoke);
            Trial::test(name, test).with_ignored_flag(!is_smoke)
        }));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Checks that every metric is exact. On a kernel of the group `smoke` nothing may be absent: what
/// an old kernel lacks is foretold, and these lack nothing.
fn run(kernel: &KernelId, scenario: Scenario, is_smoke: bool) -> Result<(), Failed> {
    let kernel_name = kernel.to_string();
    let mut run = common::Run::new(&kernel_name, scenario);
    run.shared = true;
    let result = run.go();
    let right = result.class.is_right() && !(is_smoke && result.class == Class::Absent);
    if right {
        return Ok(());
    }
    let console = result.evidence.console.join("\n");
    Err(Failed::from(format!(
        "{kernel} × {}: {} {}\n{:#?}\n{console}",
        result.scenario,
        result.class,
        result.outcome.detail(),
        result.outcome,
    )))
}
