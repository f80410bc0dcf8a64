//! What is read from a kernel's files, against the running kernel.

use crate::common::{Run, image, lab, scenario};
use btcompat::surface::{Flags, KernelFiles, Surface, SymbolTable, Wanted};
use harness::evidence::Evidence;
use harness::foretell::Prophet;
use kernels::KernelTree;
use std::collections::BTreeSet;

const ADDRESSES: &str = "/sys/kernel/tracing/available_filter_functions_addrs";
const BLACKLIST: &str = "/sys/kernel/debug/kprobes/blacklist";

fn ask(kernel: &str, arguments: &[&str]) -> Evidence {
    let mut run = Run::new(kernel, scenario("l2cap-seqpacket"));
    run.payload.agent_arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
    let result = run.go();
    assert!(result.evidence.done, "{:?}", result.outcome);
    result.evidence
}

fn surface(kernel: &str) -> Surface {
    let image = image(&kernel.parse().unwrap());
    let tree = KernelTree::open(image.kernel.parent().unwrap()).unwrap();
    KernelFiles::of_tree(&tree).surface(&Wanted::All).unwrap()
}

/// Check that each program of this project loads and attaches alone exactly where its verdict says
/// so; and that a verdict on the same kernel without its modules is seen to be wrong.
#[test]
fn verdicts_are_what_the_kernel_does() {
    let kernel = "debian:6.12";
    let evidence = ask(kernel, &["--try"]);
    let prophet = Prophet::new(
        &image(&kernel.parse().unwrap()),
        &lab().built.payload.objects,
    );
    let prophet = prophet.unwrap();
    let foretold = prophet.compare(&evidence);
    assert_eq!(foretold.wrong(), Vec::<String>::new());
    assert!(foretold.score().right > 50, "{}", foretold.score());
    let without_modules = Evidence {
        modules: Vec::new(),
        ..evidence
    };
    let wrong = prophet.compare(&without_modules).wrong();
    assert!(
        wrong.iter().any(|line| line.contains("MOD-NOT-LOADED")),
        "{wrong:?}"
    );
}

/// Names with a flag; of the kernel itself or of a module.
fn flagged(table: &SymbolTable, flag: Flags) -> BTreeSet<String> {
    let symbols = table.iter().filter(|s| s.flags.has(flag));
    symbols.map(|s| s.name.to_owned()).collect()
}

/// `address name [module]` of each traceable function.
fn running(list: &str) -> impl Iterator<Item = (u64, &str, Option<&str>)> {
    list.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?.trim_start_matches("0x"), 16).ok()?;
        let name = words
            .next()
            .filter(|n| !n.starts_with("__ftrace_invalid"))?;
        Some((
            address,
            name,
            words.next().map(|m| m.trim_matches(['[', ']'])),
        ))
    })
}

/// Check that the functions which ftrace can reach, and those which kprobes may not, come out of
/// the files as the running kernel has them: the kernel's address for address, modules' by name.
#[test]
fn traceable_functions_are_those_of_the_running_kernel() {
    let kernel = "debian:6.12";
    let evidence = ask(kernel, &["--text", ADDRESSES, "--text", BLACKLIST]);
    let surface = surface(kernel);
    let symbols = surface.symbols.as_ref().unwrap();
    let list = &evidence.texts[ADDRESSES];
    let theirs: BTreeSet<u64> = running(list)
        .filter(|r| r.2.is_none())
        .map(|r| r.0)
        .collect();
    let ours: BTreeSet<u64> = symbols
        .iter()
        .filter(|s| s.flags.has(Flags::FTRACE))
        .map(|s| s.address)
        .collect();
    assert!(ours.len() > 40_000, "{}", ours.len());
    // The kernel was moved at boot, as a whole; and it names call sites, up to 4 bytes into functions.
    let moved = theirs.first().unwrap().wrapping_sub(*ours.first().unwrap()) & !0xfff;
    let here: BTreeSet<u64> = theirs.iter().map(|a| a.wrapping_sub(moved)).collect();
    let near = |a: u64| here.range(a..=a + 4).next().is_some();
    let missed = here
        .iter()
        .filter(|&&a| ours.range(a - 4..=a).next().is_none());
    assert_eq!(missed.count(), 0);
    assert_eq!(ours.iter().filter(|&&a| !near(a)).count(), 0);
    assert!(
        !near(ours.first().unwrap() - 16),
        "the comparison takes anything"
    );
    let loaded: BTreeSet<&str> = running(list).filter_map(|r| r.2).collect();
    assert!(
        loaded.len() > 2 && loaded.contains("bluetooth"),
        "{loaded:?}"
    );
    for module in loaded {
        let of_module = running(list).filter(|r| r.2 == Some(module));
        let theirs: BTreeSet<String> = of_module.map(|r| r.1.to_owned()).collect();
        let ours = flagged(&surface.modules[module].symbols, Flags::FTRACE);
        assert_eq!(ours, theirs, "{module}");
    }
    let forbidden = flagged(symbols, Flags::BLACKLIST);
    let lines = evidence.texts[BLACKLIST].lines();
    let named = lines.filter_map(|line| line.split_whitespace().nth(1));
    // Modules' functions stand in the list, too; so do labels without a symbol of their own.
    let of_kernel = named.filter(|name| symbols.named(name).next().is_some());
    let missed: Vec<&str> = of_kernel
        .filter(|name| !forbidden.contains(*name))
        .collect();
    assert_eq!(missed, Vec::<&str>::new());
}
