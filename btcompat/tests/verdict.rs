//! Verdicts on an object compiled for it and kernels that fit or do not.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests and their helpers"
)]

mod common;

use btcompat::object::{Object, requirements};
use btcompat::relocate::LibbpfVersion;
use btcompat::surface::{
    Flags, Kconfig, Loaded, ModuleBtf, Surface, read_snapshot, write_snapshot,
};
use btcompat::verdict::{
    Caps, Code, Host, OtherBtf, ProgramVerdict, Scenario, Severity, State, Verdict, decide,
};
use common::kernel::{Recipe, TRACEABLE, sample};
use rstest::rstest;
use std::sync::LazyLock;

static SAMPLE: LazyLock<Object> = LazyLock::new(sample);

fn judge(recipe: &Recipe, scenario: &Scenario) -> Verdict {
    decide("sample", &SAMPLE, &recipe.surface(), scenario)
}

fn program<'a>(verdict: &'a Verdict, name: &str) -> &'a ProgramVerdict {
    verdict.programs.iter().find(|p| p.name == name).unwrap()
}

fn codes(program: &ProgramVerdict) -> Vec<Code> {
    let serious = program
        .findings
        .iter()
        .filter(|f| f.severity != Severity::Note);
    serious.map(|f| f.code).collect()
}

/// Check that a kernel that fits is found to fit, program by program.
#[test]
fn fitting_kernel_everything_works() {
    let verdict = judge(&Recipe::default(), &Scenario::default());
    for program in &verdict.programs {
        assert_eq!(program.state(), State::Yes, "{program:?}");
    }
}

/// Check that each thing a kernel lacks is found, with the right stage and code.
#[rstest]
#[case::absent(Recipe { symbols: vec![], ..Recipe::default() }, "kprobe_send", Code::FnInlined)]
#[case::optimized(Recipe { symbols: vec![("dev_send.isra.0", Flags::TEXT)], ..Recipe::default() }, "kprobe_send", Code::FnOptimized)]
#[case::no_address(Recipe { symbols: vec![("dev_send.isra.0", Flags::TEXT)], ..Recipe::default() }, "read_count", Code::FnNoAddress)]
#[case::not_traceable(Recipe { symbols: vec![("dev_send", Flags::TEXT)], ..Recipe::default() }, "read_count", Code::FnNotTraceable)]
#[case::blacklisted(Recipe { symbols: vec![("dev_send", TRACEABLE[0].with(TRACEABLE[1]).with(Flags::BLACKLIST))], ..Recipe::default() }, "kprobe_send", Code::FnBlacklisted)]
#[case::duplicate(Recipe { symbols: vec![("dev_send", TRACEABLE[0].with(TRACEABLE[1])); 2], ..Recipe::default() }, "kprobe_send", Code::FnDuplicate)]
#[case::first_of_many(Recipe { symbols: vec![("dev_send", TRACEABLE[0].with(TRACEABLE[1])); 2], ..Recipe::default() }, "read_count", Code::FnFirstOfMany)]
#[case::missing_field(Recipe { added: false, ..Recipe::default() }, "read_unguarded", Code::RelocMissing)]
#[case::wider_field(Recipe { count_bytes: 8, ..Recipe::default() }, "read_count", Code::LieWidth)]
#[case::no_third_argument(Recipe { more_params: 0, ..Recipe::default() }, "read_third", Code::FnArguments)]
#[case::other_argument(Recipe { takes_device: false, ..Recipe::default() }, "kprobe_send", Code::FnSignature)]
#[case::many_arguments(Recipe { more_params: 6, ..Recipe::default() }, "read_count", Code::FnTooManyArgs)]
fn lacking_kernel_is_found_out(#[case] recipe: Recipe, #[case] name: &str, #[case] code: Code) {
    let mut surface = recipe.surface();
    if code == Code::FnTooManyArgs {
        surface.release = "6.1.0".to_owned();
    }
    let verdict = decide("sample", &SAMPLE, &surface, &Scenario::default());
    let program = program(&verdict, name);
    assert!(codes(program).contains(&code), "{:#?}", program.findings);
    assert_eq!(program.state(), State::No);
}

/// Check that a trampoline on a kernel that preempts its own code is said to miss events, by its options or what a running one was told; and
/// that it does not make the program useless.
#[rstest]
#[case::voluntary("CONFIG_PREEMPT_VOLUNTARY=y", None, &[])]
#[case::lazy("CONFIG_PREEMPT_LAZY=y", None, &[Code::LiePreempted])]
#[case::told("CONFIG_PREEMPT_VOLUNTARY=y", Some("full"), &[Code::LiePreempted])]
#[case::told_not_to("CONFIG_PREEMPT_LAZY=y", Some("none"), &[])]
#[case::real_time("CONFIG_PREEMPT_RT=y", Some("none"), &[Code::LiePreempted])]
fn trampoline_misses_events_where_the_kernel_is_preempted(
    #[case] options: &str,
    #[case] mode: Option<&str>,
    #[case] expected: &[Code],
) {
    let mut surface = Recipe::default().surface();
    let features = "CONFIG_KPROBE_EVENTS=y\nCONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y\n";
    surface.kconfig = Some(Kconfig::parse(&format!("{features}{options}\n")));
    let host = Host {
        preempt: mode.map(str::to_owned),
        ..Host::default()
    };
    let scenario = Scenario {
        host: Some(host),
        ..Scenario::default()
    };
    let verdict = decide("sample", &SAMPLE, &surface, &scenario);
    let fentry = program(&verdict, "read_count");
    assert_eq!((&*codes(fentry), fentry.state()), (expected, State::Yes));
    let kprobe = program(&verdict, "kprobe_send");
    assert_eq!((codes(kprobe), kprobe.state()), (vec![], State::Yes));
}

/// Check that a kprobe in softirq context is said to be wrong, unless softirqs are tasks; and a trampoline the other way around.
#[rstest]
#[case::kprobe(
    "kprobe_send",
    "CONFIG_PREEMPT_VOLUNTARY=y",
    Some(Code::LieInterrupted),
    State::No
)]
#[case::kprobe_lazy(
    "kprobe_send",
    "CONFIG_PREEMPT_LAZY=y",
    Some(Code::LieInterrupted),
    State::No
)]
#[case::kprobe_real_time("kprobe_send", "CONFIG_PREEMPT_RT=y", None, State::Yes)]
#[case::fentry_lazy("read_count", "CONFIG_PREEMPT_LAZY=y", None, State::Yes)]
#[case::fentry_real_time(
    "read_count",
    "CONFIG_PREEMPT_RT=y",
    Some(Code::LiePreempted),
    State::Yes
)]
fn softirq_is_the_other_way_around(
    #[case] name: &str,
    #[case] options: &str,
    #[case] code: Option<Code>,
    #[case] state: State,
) {
    const FUNCTION: &str = "__usb_hcd_giveback_urb";
    let recipe = Recipe {
        symbols: vec![(FUNCTION, TRACEABLE[0].with(TRACEABLE[1]))],
        function: FUNCTION,
        ..Recipe::default()
    };
    let mut surface = recipe.surface();
    let features = "CONFIG_KPROBE_EVENTS=y\nCONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y\n";
    surface.kconfig = Some(Kconfig::parse(&format!("{features}{options}\n")));
    let mut object = sample();
    for program in &mut object.programs {
        let target = program.spec.as_mut().and_then(|spec| spec.target.as_mut());
        target
            .into_iter()
            .for_each(|target| *target = FUNCTION.to_owned());
    }
    let verdict = decide("sample", &object, &surface, &Scenario::default());
    let program = program(&verdict, name);
    assert_eq!(codes(program).first().copied(), code, "{program:#?}");
    assert_eq!(program.state(), state);
}

/// Check that a missing field behind a check is no problem, and is said.
#[test]
fn guarded_field_missing_is_a_note() {
    let recipe = Recipe {
        added: false,
        ..Recipe::default()
    };
    let verdict = judge(&recipe, &Scenario::default());
    let guarded = program(&verdict, "read_guarded");
    assert_eq!(guarded.state(), State::Yes, "{guarded:#?}");
    assert!(
        guarded
            .findings
            .iter()
            .any(|f| f.code == Code::RelocGuarded)
    );
}

/// Check that the loaded modules and the capabilities change the answer.
#[rstest]
#[case::loaded(Loaded::All, Caps::ALL, "read_count", None)]
#[case::not_loaded(Loaded::Nothing, Caps::ALL, "read_count", Some(Code::ModNotLoaded))]
#[case::guard_lies(Loaded::Nothing, Caps::ALL, "read_guarded", Some(Code::LieZero))]
#[case::unreadable(Loaded::All, Caps { sys_admin: false, ..Caps::ALL }, "read_count", Some(Code::BtfModulesUnreadable))]
#[case::unreadable_guard(Loaded::All, Caps { sys_admin: false, ..Caps::ALL }, "read_guarded", Some(Code::LieZero))]
#[case::no_rights(Loaded::All, Caps::NONE, "kprobe_send", Some(Code::HostCaps))]
fn module_scenarios_change_the_verdict(
    #[case] loaded: Loaded,
    #[case] caps: Caps,
    #[case] name: &str,
    #[case] code: Option<Code>,
) {
    let recipe = Recipe {
        module: Some("devices"),
        ..Recipe::default()
    };
    let scenario = Scenario {
        loaded,
        caps,
        ..Scenario::default()
    };
    let verdict = judge(&recipe, &scenario);
    let found = codes(program(&verdict, name));
    match code {
        Some(code) => assert!(found.contains(&code), "{found:?}"),
        None => assert!(found.is_empty(), "{found:?}"),
    }
}

/// Check that a function that could be in an unread module is not called absent.
#[test]
fn unread_modules_leave_the_question_open() {
    let mut surface = Recipe {
        symbols: vec![],
        module: Some("devices"),
        ..Recipe::default()
    }
    .surface();
    surface.modules.clear();
    surface.module_names.insert("unread".to_owned());
    let verdict = decide("sample", &SAMPLE, &surface, &Scenario::default());
    let program = program(&verdict, "kprobe_send");
    assert_eq!(program.state(), State::Unknown);
    assert!(codes(program).contains(&Code::ModUnread));
}

/// Check that an unsized map and a program without target are said to be user space's.
#[test]
fn requirements_name_what_user_space_sets() {
    let needs = requirements(&SAMPLE);
    let manual = needs.programs.iter().find(|p| p.name == "manual").unwrap();
    assert_eq!(
        manual.set_by_user_space,
        ["autoload", "attach target", "max_entries of results"]
    );
    let kprobe = needs.programs.iter().find(|p| p.name == "kprobe_send");
    assert_eq!(kprobe.unwrap().arguments, [0]);
    let third = needs.programs.iter().find(|p| p.name == "read_third");
    assert_eq!(third.unwrap().arguments, [2]);
    let relocations = &needs.programs.iter().find(|p| p.name == "read_count");
    assert_eq!(relocations.unwrap().relocations[0].path, "dev.count");
}

/// Check that a surface means the same after a snapshot.
#[rstest]
#[case::kernel(None)]
#[case::module(Some("devices"))]
fn snapshot_keeps_the_verdict(#[case] module: Option<&'static str>) {
    let surface: Surface = Recipe {
        module,
        added: false,
        ..Recipe::default()
    }
    .surface();
    let stored = read_snapshot(&write_snapshot(&surface, 3).unwrap()).unwrap();
    let verdicts = [&surface, &stored].map(|s| decide("sample", &SAMPLE, s, &Scenario::default()));
    assert_eq!(verdicts[0], verdicts[1]);
}

/// Check that a libbpf which is older than some kind of the kernel's types is said to read none of them.
#[rstest]
#[case(0, 9, &[Code::BtfUnreadable])]
#[case(1, 0, &[])]
fn loader_older_than_the_types_is_found(
    #[case] major: u16,
    #[case] minor: u16,
    #[case] expected: &[Code],
) {
    let scenario = Scenario {
        libbpf: LibbpfVersion { major, minor },
        ..Scenario::default()
    };
    let recipe = Recipe {
        wide_enum: true,
        ..Recipe::default()
    };
    let grave = |recipe: &Recipe| -> Vec<Code> {
        let findings = judge(recipe, &scenario).findings;
        let grave = findings.iter().filter(|f| f.severity != Severity::Note);
        grave.map(|f| f.code).collect()
    };
    assert_eq!(grave(&recipe), expected);
    assert_eq!(grave(&Recipe::default()), []);
}

/// Check that types given besides the kernel's own are searched for what it lacks, and for nothing else.
#[test]
fn types_given_besides_are_searched_last() {
    let given = Recipe::default().surface().btf.unwrap();
    let scenario = Scenario {
        btf: Some(OtherBtf::Beside(given)),
        ..Scenario::default()
    };
    let without_types = Recipe {
        module: Some("devices"),
        ..Recipe::default()
    };
    let mut kernel = without_types.surface();
    kernel.modules.get_mut("devices").unwrap().btf = ModuleBtf::Absent;
    let relocated = |kernel: &Surface, scenario: &Scenario| {
        let verdict = decide("sample", &SAMPLE, kernel, scenario);
        let found = codes(program(&verdict, "read_unguarded"));
        !found.contains(&Code::RelocMissing)
    };
    assert!(!relocated(&kernel, &Scenario::default()));
    assert!(relocated(&kernel, &scenario));
    let without_field = Recipe {
        added: false,
        ..Recipe::default()
    };
    assert!(!relocated(&without_field.surface(), &scenario));
}

/// Check that types given in place of the kernel's own are searched instead of it and its modules:
/// they settle what those lack, and lack what only those have.
#[test]
fn types_given_are_searched_instead() {
    let with = |btf| Scenario {
        btf: Some(OtherBtf::Instead(btf)),
        ..Scenario::default()
    };
    let whole = Recipe::default().surface().btf.unwrap();
    let without_field = Recipe {
        added: false,
        ..Recipe::default()
    };
    let unguarded = |recipe: &Recipe, scenario: &Scenario| {
        codes(program(&judge(recipe, scenario), "read_unguarded"))
    };
    assert_eq!(
        unguarded(&without_field, &Scenario::default()),
        [Code::RelocMissing]
    );
    assert_eq!(unguarded(&without_field, &with(whole)), []);
    let lacking = without_field.surface().btf.unwrap();
    assert_eq!(
        unguarded(&Recipe::default(), &with(lacking)),
        [Code::RelocMissing]
    );
}

/// Check that a kernel without Bluetooth is told from one whose module was not looked for.
#[rstest]
#[case::unset("", &[], false, Some("CONFIG_BT is not set"))]
#[case::not_installed("CONFIG_BT=m\n", &["usbcore"], false, Some("module bluetooth (CONFIG_BT=m) is not installed"))]
#[case::installed("CONFIG_BT=m\n", &["bluetooth"], false, None)]
#[case::not_looked_for("CONFIG_BT=m\n", &[], false, None)]
#[case::built_in("CONFIG_BT=y\n", &[], true, None)]
fn kernel_without_bluetooth_is_told(
    #[case] config: &str,
    #[case] modules: &[&str],
    #[case] built_in: bool,
    #[case] expected: Option<&str>,
) {
    let symbol = if built_in {
        "bt_sock_register"
    } else {
        "other"
    };
    let recipe = Recipe {
        symbols: vec![(symbol, Flags::TEXT)],
        ..Recipe::default()
    };
    let surface = Surface {
        kconfig: Some(btcompat::surface::Kconfig::parse(config)),
        module_names: modules.iter().map(|m| (*m).to_owned()).collect(),
        modules: std::collections::BTreeMap::new(),
        ..recipe.surface()
    };
    assert_eq!(surface.without_bluetooth().as_deref(), expected);
}
