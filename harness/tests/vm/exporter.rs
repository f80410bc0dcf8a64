//! The exporter's command, and modules that come and go under the probes.

use crate::common::{Run, lab, scenario};
use evidence::{Scenario, Step};
use harness::outcome::Outcome;

/// The scenario after `rfcomm` was taken out and put in again, with peeks: what tells them from reads sees calls begin.
fn with_reload(unseen: bool) -> Scenario {
    let mut scenario = scenario("rfcomm");
    let module = "rfcomm".to_owned();
    scenario
        .steps
        .insert(0, Step::ReloadModule { module, unseen });
    let (client, server) = (|| "client".to_owned(), || "server".to_owned());
    let bytes = 107;
    scenario.steps.extend([
        Step::Write {
            socket: client(),
            bytes,
        },
        Step::Peek {
            socket: server(),
            times: 3,
        },
        Step::Read {
            socket: server(),
            bytes,
        },
    ]);
    scenario
}

/// Check that a module goes while programs are attached to it, and that those of the one that comes again count as before.
#[test]
fn module_that_comes_again_is_measured() {
    let run = Run::new("debian:6.12", with_reload(false));
    assert_eq!(run.go().outcome, Outcome::Passed);
}

/// Check that peeks are taken for reads if nobody tells the probes that the module came again: the kernel itself brings back what sees calls
/// return, but not what sees them begin.
#[test]
fn module_that_comes_again_unseen_is_measured_wrongly() {
    let outcome = Run::new("debian:6.12", with_reload(true)).go().outcome;
    let Outcome::Differs { differences } = &outcome else {
        panic!("{outcome:?}")
    };
    let is_peek =
        |labels: &str| labels.contains("proto=\"rfcomm\"") && labels.contains("direction=\"peek\"");
    let mut peeks = differences.iter().filter(|d| is_peek(&d.labels));
    let peeks = peeks.next();
    let values = peeks.map(|d| (d.expected.as_str(), d.observed.as_str()));
    assert_eq!(values, Some(("3", "nothing")), "{differences:?}");
}

/// Check that the command btmetrics serves the exact values, and that `--once` reads the same state of devices.
#[test]
fn btmetrics_serves_exact_values() {
    let payload = lab().built.with_btmetrics().unwrap();
    let run = Run {
        payload,
        ..Run::new("debian:6.12", scenario("l2cap-seqpacket"))
    };
    assert_eq!(run.go().outcome, Outcome::Passed);
}

/// Check that btmetrics without the right objects does not pass: what it serves is what is judged.
#[test]
fn btmetrics_that_counts_wrong_is_found() {
    let mut payload = lab().built.with_btmetrics().unwrap();
    let wrong = lab().built.extra_object("hci_off_by_one.bpf.o").unwrap().1;
    let mut objects = payload.objects.iter_mut();
    objects.find(|(name, _)| name == "hci.bpf.o").unwrap().1 = wrong;
    let run = Run {
        payload,
        ..Run::new("debian:6.12", scenario("l2cap-seqpacket"))
    };
    let outcome = run.go().outcome;
    assert!(matches!(outcome, Outcome::Differs { .. }), "{outcome:?}");
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
