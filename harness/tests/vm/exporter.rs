//! Modules that come and go under the probes.

use crate::common::{Run, scenario};
use evidence::{Scenario, Step};
use harness::outcome::Outcome;

/// The scenario after `rfcomm` was taken out and put in again.
fn with_reload() -> Scenario {
    let mut scenario = scenario("rfcomm");
    let module = "rfcomm".to_owned();
    scenario.steps.insert(0, Step::ReloadModule { module });
    scenario
}

/// Check that probes of a module that went and came again count as before. Kprobes: programs at
/// trampolines keep their module from going.
#[test]
fn module_that_comes_again_is_measured() {
    let mut run = Run::new("debian:6.12", with_reload());
    let kprobes = ["--attach", "kprobe"].map(str::to_owned);
    run.payload.agent_arguments.extend(kprobes);
    assert_eq!(run.go().outcome, Outcome::Passed);
}

/// Check that each object loads whole by libbpf alone, so that others can use it; in a guest that has
/// the modules of USB too.
#[test]
fn objects_load_by_plain_libbpf() {
    let mut run = Run::new("debian:6.12", scenario("usb-l2cap"));
    run.payload.agent_arguments.push("--plain".to_owned());
    let objects = run.payload.objects.iter();
    let objects = objects.filter(|(name, _)| name.ends_with(".bpf.o")).count();
    let trials = run.go().evidence.trials;
    let refused: Vec<_> = trials
        .iter()
        .filter(|trial| !trial.load.is_accepted())
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(trials.len(), objects);
}
