//! Compares what is read from a kernel's files with lists taken from that
//! kernel while it runs: `running KERNEL LOG`. The log holds, each behind its
//! mark: `=====FTRACE` (`available_filter_functions`) or `=====FTRACE-ADDRS`
//! (`available_filter_functions_addrs`, booted with `nokaslr`),
//! `=====BLACKLIST` (`kprobes/blacklist`), `=====EVENTS` (`available_events`).
//! Exits with 1 on a difference.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for developers"
)]

use btcompat::surface::{Flags, KernelFiles, Surface, Wanted};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [kernel, log] = &args[..] else {
        eprintln!("usage: running KERNEL LOG");
        return ExitCode::from(2);
    };
    let files = KernelFiles::find(Path::new(kernel), None).expect("there is a kernel");
    let log = std::fs::read(log).expect("the log can be read");
    let log = String::from_utf8_lossy(&log);
    let sections = sections(&log);
    let running = Running::new(&sections);
    let names = running.modules.keys().cloned().collect();
    let surface = files
        .surface(&Wanted::These(names))
        .expect("it can be read");
    let mut same = true;
    if let Some(lines) = sections.get("FTRACE-ADDRS") {
        same &= addresses(&surface, lines);
    }
    same &= functions(&surface, &running);
    for key in ["BLACKLIST", "EVENTS"] {
        if let Some(lines) = sections.get(key) {
            same &= if key == "EVENTS" {
                events(&surface, lines)
            } else {
                blacklist(&surface, lines)
            };
        }
    }
    ExitCode::from(u8::from(!same))
}

fn sections(log: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut sections: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut current = "";
    for line in log.lines().map(str::trim_end) {
        match line.strip_prefix("=====") {
            Some(mark) => current = mark,
            None => sections.entry(current).or_default().push(line),
        }
    }
    sections
}

/// Traceable functions by module; the kernel's own under "".
struct Running {
    kernel: BTreeSet<String>,
    modules: BTreeMap<String, BTreeSet<String>>,
}

impl Running {
    fn new(sections: &BTreeMap<&str, Vec<&str>>) -> Self {
        let with_address = sections.contains_key("FTRACE-ADDRS");
        let key = if with_address {
            "FTRACE-ADDRS"
        } else {
            "FTRACE"
        };
        let mut running = Self {
            kernel: BTreeSet::new(),
            modules: BTreeMap::new(),
        };
        for line in sections.get(key).into_iter().flatten() {
            let mut words = line.split_whitespace().skip(usize::from(with_address));
            let Some(name) = words.next().filter(|n| !n.starts_with("__ftrace_invalid")) else {
                continue;
            };
            match words.next() {
                Some(module) => {
                    let module = module.trim_matches(['[', ']']).to_owned();
                    running
                        .modules
                        .entry(module)
                        .or_default()
                        .insert(name.to_owned());
                }
                None => {
                    running.kernel.insert(name.to_owned());
                }
            }
        }
        running
    }
}

fn report(what: &str, ours: usize, theirs: usize, missing: usize, extra: usize) -> bool {
    println!("{what}: {ours} from files, {theirs} running, {missing} missed, {extra} too many");
    missing == 0 && extra == 0
}

/// Addresses of traceable functions in the kernel itself.
fn addresses(surface: &Surface, lines: &[&str]) -> bool {
    let theirs: BTreeSet<u64> = lines
        .iter()
        .filter(|l| !l.contains('[') && !l.contains("__ftrace_invalid"))
        .filter_map(|l| u64::from_str_radix(l.split_whitespace().next()?, 16).ok())
        .collect();
    let symbols = surface.symbols.as_ref().expect("symbols were read");
    let ours: BTreeSet<u64> = symbols
        .iter()
        .filter(|s| s.flags.has(Flags::FTRACE))
        .map(|s| s.address)
        .collect();
    // The running kernel gives the call site, up to 4 bytes into the function.
    let near = |set: &BTreeSet<u64>, at: u64, back: u64, on: u64| {
        set.range(at.saturating_sub(back)..=at.saturating_add(on))
            .next()
            .is_some()
    };
    let missing = theirs.iter().filter(|&&a| !near(&ours, a, 4, 0)).count();
    let extra = ours.iter().filter(|&&a| !near(&theirs, a, 0, 4)).count();
    report(
        "traceable addresses",
        ours.len(),
        theirs.len(),
        missing,
        extra,
    )
}

fn functions(surface: &Surface, running: &Running) -> bool {
    let traceable = |table: &btcompat::surface::SymbolTable| -> BTreeSet<String> {
        let symbols = table.iter().filter(|s| s.flags.has(Flags::FTRACE));
        symbols.map(|s| s.name.to_owned()).collect()
    };
    let ours = traceable(surface.symbols.as_ref().expect("symbols were read"));
    let missing: Vec<_> = running.kernel.difference(&ours).collect();
    // Of several names for one address the running kernel shows one.
    let table = surface.symbols.as_ref().expect("symbols were read");
    let known: BTreeSet<u64> = table
        .iter()
        .filter(|s| running.kernel.contains(s.name))
        .map(|s| s.address)
        .collect();
    let extra: Vec<_> = table
        .iter()
        .filter(|s| s.flags.has(Flags::FTRACE) && !known.contains(&s.address))
        .map(|s| s.name)
        .collect();
    let (m, e) = (missing.len(), extra.len());
    let mut same = report(
        "traceable functions",
        ours.len(),
        running.kernel.len(),
        m,
        e,
    );
    if !same {
        println!("  missed {missing:?}, too many {extra:?}");
    }
    for (name, theirs) in &running.modules {
        let Some(module) = surface.modules.get(name) else {
            println!("module {name} was not read");
            continue;
        };
        let ours = traceable(&module.symbols);
        let missing: Vec<_> = theirs.difference(&ours).collect();
        let extra: Vec<_> = ours.difference(theirs).collect();
        let what = format!("traceable functions of {name}");
        let (m, e) = (missing.len(), extra.len());
        if !report(&what, ours.len(), theirs.len(), m, e) {
            println!("  missed {missing:?}, too many {extra:?}");
            same = false;
        }
    }
    same
}

fn blacklist(surface: &Surface, lines: &[&str]) -> bool {
    let theirs: BTreeSet<&str> = lines
        .iter()
        .filter_map(|l| l.split_whitespace().nth(1))
        // Padding in front of functions is nothing to attach to.
        .filter(|n| !n.starts_with("__pfx_"))
        .collect();
    let symbols = surface.symbols.as_ref().expect("symbols were read");
    let ours: BTreeSet<&str> = symbols
        .iter()
        .filter(|s| s.flags.has(Flags::BLACKLIST))
        .map(|s| s.name)
        .collect();
    let missing: Vec<_> = theirs.difference(&ours).collect();
    let extra = ours.difference(&theirs).count();
    if !missing.is_empty() {
        println!("  missed {missing:?}");
    }
    // Labels without size in forbidden sections are refused as well, but not listed.
    report(
        "kprobe blacklist",
        ours.len(),
        theirs.len(),
        missing.len(),
        extra,
    ) || missing.is_empty()
}

fn events(surface: &Surface, lines: &[&str]) -> bool {
    let theirs: BTreeSet<String> = lines
        .iter()
        .filter(|l| l.contains(':'))
        .map(|l| l.replacen(':', "/", 1))
        .collect();
    let ours = surface.trace_events.as_ref().expect("events were read");
    // Events of modules and those that tracing makes itself have no entry in the table.
    let missing: Vec<_> = theirs.difference(ours).collect();
    let extra: Vec<_> = ours.difference(&theirs).collect();
    println!("  missed {missing:?}, too many {extra:?}");
    report(
        "events",
        ours.len(),
        theirs.len(),
        missing.len(),
        extra.len(),
    ) || missing.is_empty()
}
