//! Time of one verdict when object and kernel are in memory: `warm OBJECT SNAPSHOT`.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for developers"
)]

use btcompat::object::Object;
use btcompat::surface::read_snapshot;
use btcompat::verdict::{Scenario, decide};
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [object, snapshot] = &args[..] else {
        eprintln!("usage: warm OBJECT SNAPSHOT");
        return ExitCode::from(2);
    };
    let object = std::fs::read(object).expect("the object can be read");
    let object = Object::parse(&object).expect("it can be parsed");
    let snapshot = std::fs::read(snapshot).expect("the snapshot can be read");
    let surface = read_snapshot(&snapshot).expect("it can be parsed");
    let scenario = Scenario::default();
    let run = || {
        let start = Instant::now();
        let verdict = decide("object", &object, &surface, &scenario);
        (start.elapsed(), verdict.programs.len())
    };
    let (first, programs) = run();
    let best = (0..20).map(|_| run().0).min().unwrap_or(Duration::ZERO);
    println!(
        "{programs} programs: first {:.1} ms, best of 20 {:.1} ms",
        first.as_secs_f64() * 1e3,
        best.as_secs_f64() * 1e3
    );
    ExitCode::SUCCESS
}
