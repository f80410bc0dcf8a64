//! Which programs of a hook this kernel can run.

use crate::btf::BtfNames;
use crate::find::{Target, Unavailable, find};
use crate::hooks::Hook;
use crate::surface::{Surface, VMLINUX};
use metrics::AttachKind;

/// Which kinds of attachment to take.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Preference {
    /// The best that can work.
    #[default]
    Auto,
    /// Kprobes and kretprobes even where fentry and fexit can work.
    Kprobe,
}

/// What was chosen for a hook.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Choice {
    /// The kinds of the programs to load, and where they go; `None` if nothing can work.
    pub(crate) taken: Option<(&'static [AttachKind], Target)>,
    /// Why each better set of programs was not taken.
    pub(crate) passed: Vec<String>,
}

/// Chooses the best set of programs of a hook; `refused` are sets that this kernel has turned down.
pub(crate) fn choose(
    hook: &Hook,
    surface: &Surface,
    preference: Preference,
    refused: &[&'static [AttachKind]],
) -> Choice {
    let mut passed = Vec::new();
    let mut variants = hook.variants.to_vec();
    let preemptible = may_be_preempted(hook, surface);
    if preemptible && preference == Preference::Auto {
        // The sort is stable: among equals the hook's own order stays.
        variants.sort_by_key(|kinds| loses_when_preempted(kinds));
    }
    for kinds in variants {
        let names = names(kinds);
        if refused.contains(&kinds) {
            passed.push(format!("{names}: refused by the kernel"));
            continue;
        }
        match kinds.iter().try_fold(None, |_, kind| {
            check(*kind, hook, surface, preference).map(Some)
        }) {
            Ok(Some(target)) => {
                if preemptible && !loses_when_preempted(kinds) {
                    passed.extend(demoted(hook, preference));
                }
                return Choice {
                    taken: Some((kinds, target)),
                    passed,
                };
            }
            Ok(None) => {}
            Err(why) => passed.push(format!("{names}: {why}")),
        }
    }
    Choice {
        taken: None,
        passed,
    }
}

/// Can the kernel preempt the code that this event comes from?
fn may_be_preempted(hook: &Hook, surface: &Surface) -> bool {
    surface.preemptible && (surface.real_time || !hook.is_in_softirq())
}

/// Do these programs miss events on a kernel that can preempt its own code?
fn loses_when_preempted(kinds: &[AttachKind]) -> bool {
    let at_trampoline = |kind: &AttachKind| matches!(kind, AttachKind::Fentry | AttachKind::Fexit);
    kinds.iter().any(at_trampoline)
}

/// Why programs at trampolines were not taken on a kernel that can preempt its own code.
fn demoted(hook: &Hook, preference: Preference) -> Option<String> {
    let demoted = hook
        .variants
        .iter()
        .find(|kinds| loses_when_preempted(kinds))?;
    (preference == Preference::Auto).then(|| {
        let names = names(demoted);
        format!("{names}: would lose events, since this kernel can preempt its own code")
    })
}

fn names(kinds: &[AttachKind]) -> String {
    let names: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    names.join(" and ")
}

/// Can a program of this kind work for the hook, and where does it go?
fn check(
    kind: AttachKind,
    hook: &Hook,
    surface: &Surface,
    preference: Preference,
) -> Result<Target, Unavailable> {
    let symbol = hook.symbol;
    let (home, target) = find(hook, surface)?;
    match kind {
        AttachKind::Fentry | AttachKind::Fexit => {
            if preference == Preference::Kprobe {
                return Err(Unavailable::NotPreferred);
            }
            if surface.is_untraceable(symbol) {
                return Err(Unavailable::NotTraceable { symbol });
            }
            match surface.btf.get(&home) {
                None => return Err(Unavailable::NoBtf { home }),
                Some(Err(error)) => return Err(Unavailable::Unknown(error.clone())),
                Some(Ok(names)) if !names.functions.contains_key(symbol) => {
                    return Err(Unavailable::NoFunction { home, symbol });
                }
                Some(Ok(_)) => {}
            }
        }
        AttachKind::Run if target.address == 0 => {
            return Err(Unavailable::AddressHidden { symbol });
        }
        AttachKind::Kprobe | AttachKind::Kretprobe
            if hook.is_in_softirq() && !surface.real_time =>
        {
            return Err(Unavailable::InterruptsOthers);
        }
        AttachKind::Run | AttachKind::Kprobe | AttachKind::Kretprobe => {}
    }
    if matches!(kind, AttachKind::Fexit | AttachKind::Kretprobe) && hook.is_sometimes_void() {
        check_result(symbol, &home, surface)?;
    }
    check_structs(hook, &home, surface)?;
    Ok(target)
}

/// Does this function return something here?
fn check_result(symbol: &'static str, home: &str, surface: &Surface) -> Result<(), Unavailable> {
    match surface.btf.get(home) {
        Some(Ok(names)) if names.void.contains(symbol) => Err(Unavailable::Void { symbol }),
        Some(Ok(names)) if names.functions.contains_key(symbol) => Ok(()),
        _ => Err(Unavailable::PerhapsVoid { symbol }),
    }
}

/// Are the hook's structures described, by the kernel's BTF or the external one?
fn check_structs(hook: &Hook, home: &str, surface: &Surface) -> Result<(), Unavailable> {
    let describes = |names: &BtfNames, name: &str| names.structs.contains_key(name);
    let known = |name: &str| {
        let own = [home, VMLINUX]
            .into_iter()
            .filter_map(|home| surface.btf.get(home)?.as_ref().ok());
        let mut all = own.chain(surface.external.iter().flatten());
        all.any(|names| describes(names, name))
    };
    let Some(name) = hook.structs.iter().copied().find(|name| !known(name)) else {
        return Ok(());
    };
    match &surface.external {
        None => Err(Unavailable::NoStruct { name }),
        Some(Err(error)) => Err(Unavailable::Unknown(error.clone())),
        Some(Ok(_)) => Err(Unavailable::NoExternalStruct { name }),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rstest::rstest;

    use super::*;
    use crate::surface::{Symbol, Symbols};
    use metrics::AttachKind::{Fexit, Kprobe, Kretprobe, Run};

    const READ: Hook = Hook {
        event: "f",
        module: "bluetooth",
        symbol: "f",
        variants: &[&[Fexit], &[Kprobe, Kretprobe]],
        structs: &["hci_dev"],
        feeds: &[],
    };
    const RUN: Hook = Hook {
        variants: &[&[Run]],
        ..READ
    };

    fn btf_names(function: &str, structure: &str) -> BtfNames {
        BtfNames {
            functions: [(function.to_owned(), 1)].into(),
            structs: [(structure.to_owned(), vec![2])].into(),
            ..BtfNames::default()
        }
    }

    /// A kernel on which everything works.
    fn kernel() -> Surface {
        let symbol = Symbol {
            module: Some("bluetooth".to_owned()),
            address: 0x1000,
        };
        Surface {
            symbols: Some(Ok(Symbols {
                exact: [("f".to_owned(), vec![symbol])].into(),
                suffixed: HashMap::new(),
            })),
            data: HashMap::new(),
            modules: ["bluetooth".to_owned()].into(),
            btf: [("bluetooth".to_owned(), Ok(btf_names("f", "hci_dev")))].into(),
            external: None,
            types: None,
            traceable: Some(["f".to_owned()].into()),
            preemptible: false,
            real_time: false,
        }
    }

    /// An event in softirq context.
    const GIVEBACK: Hook = Hook {
        event: "giveback",
        module: "usbcore",
        symbol: "__usb_hcd_giveback_urb",
        structs: &[],
        ..READ
    };

    /// A kernel on which everything works, and has the function of that event.
    fn kernel_with_usb() -> Surface {
        let mut surface = kernel();
        let symbol = Symbol {
            module: Some("usbcore".to_owned()),
            address: 0x2000,
        };
        let exact = &mut symbols(&mut surface).exact;
        exact.insert(GIVEBACK.symbol.to_owned(), vec![symbol]);
        let names = btf_names(GIVEBACK.symbol, "urb");
        surface.btf.insert("usbcore".to_owned(), Ok(names));
        surface.traceable = Some([GIVEBACK.symbol.to_owned()].into());
        surface
    }

    fn symbols(surface: &mut Surface) -> &mut Symbols {
        surface.symbols.as_mut().unwrap().as_mut().unwrap()
    }

    /// Check that each thing that a kernel may lack leads to the next best choice, with its reason.
    #[rstest]
    #[case::all_there(|_: &mut Surface| {}, Some(&[Fexit][..]), "")]
    #[case::preemptible(
        |s: &mut Surface| s.preemptible = true,
        Some(&[Kprobe, Kretprobe][..]),
        "fexit: would lose events, since this kernel can preempt its own code"
    )]
    #[case::no_ftrace_list(|s: &mut Surface| s.traceable = None, Some(&[Fexit][..]), "")]
    #[case::not_traceable(
        |s: &mut Surface| s.traceable = Some([].into()), Some(&[Kprobe, Kretprobe][..]), "fexit: ftrace cannot reach f"
    )]
    #[case::no_function(
        |s: &mut Surface| _ = s.btf.insert("bluetooth".to_owned(), Ok(btf_names("g", "hci_dev"))),
        Some(&[Kprobe, Kretprobe][..]),
        "fexit: the BTF of bluetooth does not describe f"
    )]
    #[case::no_module_btf(
        |s: &mut Surface| s.btf.clear(),
        None,
        "fexit: this kernel has no BTF of bluetooth; kprobe and kretprobe: struct hci_dev is in no \
         BTF of this kernel, and no external BTF was given"
    )]
    #[case::broken_btf(
        |s: &mut Surface| _ = s.btf.insert("bluetooth".to_owned(), Err("cut".to_owned())),
        None,
        "fexit: cut; kprobe and kretprobe: struct hci_dev is in no BTF of this kernel, and no \
         external BTF was given"
    )]
    #[case::external_btf(
        |s: &mut Surface| { s.btf.clear(); s.external = Some(Ok(btf_names("", "hci_dev"))); },
        Some(&[Kprobe, Kretprobe][..]),
        "fexit: this kernel has no BTF of bluetooth"
    )]
    #[case::external_btf_without_it(
        |s: &mut Surface| { s.btf.clear(); s.external = Some(Ok(btf_names("", "hci_conn"))); },
        None,
        "fexit: this kernel has no BTF of bluetooth; kprobe and kretprobe: struct hci_dev is neither \
         in this kernel's BTF nor in the external one"
    )]
    #[case::inlined(
        |s: &mut Surface| symbols(s).exact.clear(),
        None,
        "fexit: f is not in this kernel, or was inlined; kprobe and kretprobe: f is not in this \
         kernel, or was inlined"
    )]
    #[case::not_loaded(
        |s: &mut Surface| { symbols(s).exact.clear(); s.modules.clear(); },
        None,
        "fexit: module bluetooth is not loaded; kprobe and kretprobe: module bluetooth is not loaded"
    )]
    #[case::suffixed(
        |s: &mut Surface| {
            symbols(s).exact.clear();
            symbols(s).suffixed.insert("f".to_owned(), vec!["f.isra.0".to_owned()]);
        },
        None,
        "fexit: f was optimized by the compiler and exists as f.isra.0 alone; kprobe and kretprobe: \
         f was optimized by the compiler and exists as f.isra.0 alone"
    )]
    #[case::ambiguous(
        |s: &mut Surface| { let f = symbols(s).exact.get_mut("f").unwrap(); f.push(f[0].clone()); },
        None,
        "fexit: f names 2 functions; kprobe and kretprobe: f names 2 functions"
    )]
    #[case::symbols_unreadable(
        |s: &mut Surface| s.symbols = Some(Err("denied".to_owned())), None, "fexit: denied; kprobe and kretprobe: denied"
    )]
    fn choose_on_kernel_without_something_takes_next_best(
        #[case] change: fn(&mut Surface),
        #[case] kinds: Option<&[AttachKind]>,
        #[case] passed: &str,
    ) {
        let mut surface = kernel();
        change(&mut surface);
        let choice = choose(&READ, &surface, Preference::Auto, &[]);
        assert_eq!(choice.taken.map(|(kinds, _)| kinds), kinds);
        assert_eq!(choice.passed.join("; "), passed);
    }

    /// Check that an event in softirq context goes to the trampoline on a kernel that can preempt, but not on a real-time one.
    #[rstest]
    #[case::preemptible(false, &[Fexit])]
    #[case::real_time(true, &[Kprobe, Kretprobe])]
    fn choose_of_softirq_event_heeds_real_time(
        #[case] real_time: bool,
        #[case] kinds: &[AttachKind],
    ) {
        let surface = Surface {
            preemptible: true,
            real_time,
            ..kernel_with_usb()
        };
        let choice = choose(&GIVEBACK, &surface, Preference::Auto, &[]);
        assert_eq!(choice.taken.map(|(kinds, _)| kinds), Some(kinds));
    }

    /// Check that an event in softirq context is not measured rather than wrongly where there are kprobes alone.
    #[test]
    fn choose_of_softirq_event_without_trampolines_takes_nothing() {
        let choice = choose(&GIVEBACK, &kernel_with_usb(), Preference::Kprobe, &[]);
        assert!(choice.taken.is_none());
        let why = "kprobe and kretprobe: would miss what comes in an interrupt in the middle of another program";
        assert_eq!(choice.passed[1], why);
    }

    /// Check that a symbol of another module is not taken for the hook's, and is not ambiguous.
    #[test]
    fn choose_with_same_name_in_another_module_ignores_it() {
        let mut surface = kernel();
        let other = Symbol {
            module: Some("other".to_owned()),
            address: 2,
        };
        symbols(&mut surface)
            .exact
            .get_mut("f")
            .unwrap()
            .push(other);
        let (_, target) = choose(&READ, &surface, Preference::Auto, &[])
            .taken
            .unwrap();
        assert_eq!(
            (target.spec.as_str(), target.address),
            ("bluetooth:f", 0x1000)
        );
    }

    /// Check that a function that is built in is attached without a module, by vmlinux's BTF.
    #[test]
    fn choose_with_bluetooth_built_in_uses_vmlinux() {
        let mut surface = kernel();
        symbols(&mut surface).exact.get_mut("f").unwrap()[0].module = None;
        surface.modules.clear();
        surface.btf = [(VMLINUX.to_owned(), Ok(btf_names("f", "hci_dev")))].into();
        let (kinds, target) = choose(&READ, &surface, Preference::Auto, &[])
            .taken
            .unwrap();
        assert_eq!((kinds, target.spec.as_str()), (&[Fexit][..], "f"));
    }

    /// Check that the result of a function is asked for only where BTF says that there is one.
    #[rstest]
    #[case::returns(|_: &mut BtfNames| {}, true, "")]
    #[case::void(
        |names: &mut BtfNames| _ = names.void.insert("hci_send_frame".to_owned()),
        false,
        "kretprobe: hci_send_frame returns nothing in this kernel"
    )]
    #[case::not_described(
        |names: &mut BtfNames| names.functions.clear(),
        false,
        "kretprobe: no BTF of this kernel says whether hci_send_frame returns anything"
    )]
    fn choose_for_result_heeds_what_btf_says_of_it(
        #[case] change: fn(&mut BtfNames),
        #[case] taken: bool,
        #[case] passed: &str,
    ) {
        const SENT: Hook = Hook {
            symbol: "hci_send_frame",
            variants: &[&[Kretprobe]],
            structs: &[],
            ..READ
        };
        let mut surface = kernel();
        let f = symbols(&mut surface).exact.remove("f").unwrap();
        symbols(&mut surface)
            .exact
            .insert(SENT.symbol.to_owned(), f);
        let mut names = btf_names(SENT.symbol, "hci_dev");
        change(&mut names);
        surface.btf.insert("bluetooth".to_owned(), Ok(names));
        let choice = choose(&SENT, &surface, Preference::Auto, &[]);
        assert_eq!(choice.taken.is_some(), taken);
        assert_eq!(choice.passed.join("; "), passed);
    }

    /// Check that kprobes are taken when asked for, and after the kernel refused fexit.
    #[test]
    fn choose_with_fexit_excluded_takes_kprobes() {
        let asked = choose(&READ, &kernel(), Preference::Kprobe, &[]);
        let refused = choose(&READ, &kernel(), Preference::Auto, &[&[Fexit]]);
        for (choice, why) in [
            (asked, "kprobes were asked for"),
            (refused, "refused by the kernel"),
        ] {
            assert_eq!(choice.taken.unwrap().0, [Kprobe, Kretprobe]);
            assert_eq!(choice.passed, [format!("fexit: {why}")]);
        }
    }

    /// Check that a datum whose address is hidden cannot be read.
    #[test]
    fn choose_of_run_without_address_says_it_is_hidden() {
        let mut surface = kernel();
        assert!(
            choose(&RUN, &surface, Preference::Kprobe, &[])
                .taken
                .is_some()
        );
        symbols(&mut surface).exact.get_mut("f").unwrap()[0].address = 0;
        let choice = choose(&RUN, &surface, Preference::Auto, &[]);
        assert_eq!(choice.passed, ["run: the kernel hides the address of f"]);
    }
}
