//! The running kernel: what can be read of it, root or not.

use super::args::Inputs;
use super::inputs::{Kernel, bluetooth_modules};
use anyhow::{Context as _, Result};
use btcompat::btf::Btf;
use btcompat::surface::{
    Arch, Flags, Kconfig, KernelFiles, Module, ModuleBtf, Surface, Symbol, SymbolTable, Wanted,
};
use btcompat::verdict::{Caps, Host};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

fn text(path: &str) -> Option<String> {
    let bytes = std::fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Reads the running kernel.
pub(crate) fn kernel(inputs: &Inputs) -> Result<Kernel> {
    let release = text("/proc/sys/kernel/osrelease")
        .context("failed to read the kernel's release")?
        .trim()
        .to_owned();
    let mut warnings = Vec::new();
    let btf = std::fs::read("/sys/kernel/btf/vmlinux")
        .inspect_err(|e| warnings.push(format!("/sys/kernel/btf/vmlinux: {e}")))
        .ok()
        .and_then(|data| {
            Btf::parse(data)
                .inspect_err(|e| warnings.push(format!("/sys/kernel/btf/vmlinux: {e}")))
                .ok()
        })
        .map(Arc::new);
    let symbols = Kallsyms::read();
    if symbols.is_none() {
        warnings.push("/proc/kallsyms cannot be read".to_owned());
    }
    let ftrace = ftrace_functions();
    let blacklist = blacklist();
    let (ftrace_known, blacklist_known) = (ftrace.is_some(), blacklist.is_some());
    let traits = Traits {
        ftrace: ftrace.unwrap_or_default(),
        blacklist: blacklist.unwrap_or_default(),
    };
    let files = installed_files(&release);
    let mut surface = Surface {
        arch: if std::env::consts::ARCH == "aarch64" {
            Arch::Aarch64
        } else {
            Arch::X86_64
        },
        symbols: symbols.as_ref().map(|s| s.table("", &traits)),
        ftrace_known,
        blacklist_known,
        trace_events: trace_events(),
        kconfig: kconfig(&release),
        modules: BTreeMap::new(),
        module_names: files.modules.keys().cloned().collect(),
        builtin: files.builtin.clone(),
        loaded: Some(loaded_modules()),
        inlining: None,
        btf,
        release,
        banner: text("/proc/version").unwrap_or_default().trim().to_owned(),
        warnings,
    };
    add_modules(&mut surface, &files, symbols.as_ref(), &traits, inputs);
    Ok(Kernel {
        label: "host".to_owned(),
        surface,
        host: Some((host(), caps())),
    })
}

/// Files of the running kernel's modules, and its image if it can be read.
fn installed_files(release: &str) -> KernelFiles {
    let root = Path::new("/lib/modules").join(release);
    let mut files = KernelFiles::default();
    let mut pending = vec![root.clone()];
    while let Some(dir) = pending.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            if kind.is_dir() {
                pending.push(entry.path());
            } else if let Some((stem, rest)) = name.split_once(".ko")
                && matches!(rest, "" | ".xz" | ".zst" | ".gz")
            {
                files.modules.insert(stem.replace('-', "_"), entry.path());
            }
        }
    }
    let builtin = text(&root.join("modules.builtin").to_string_lossy()).unwrap_or_default();
    files.builtin = builtin
        .lines()
        .filter_map(|l| l.rsplit('/').next()?.strip_suffix(".ko"))
        .map(|n| n.replace('-', "_"))
        .collect();
    files
}

/// What the running kernel says about names.
struct Traits {
    ftrace: HashSet<String>,
    blacklist: HashSet<String>,
}

impl Traits {
    fn flags(&self, kind: u8, name: &str) -> Flags {
        let mut flags = Flags::default();
        if matches!(kind, b't' | b'T' | b'w' | b'W') {
            flags = flags.with(Flags::TEXT);
        }
        if self.ftrace.contains(name) {
            flags = flags.with(Flags::FTRACE);
        }
        if self.blacklist.contains(name) {
            flags = flags.with(Flags::BLACKLIST);
        }
        flags
    }
}

/// `/proc/kallsyms`: address, type, name, `[module]`.
struct Kallsyms {
    text: String,
}

impl Kallsyms {
    fn read() -> Option<Self> {
        text("/proc/kallsyms").map(|text| Self { text })
    }

    fn lines<'a>(&'a self, module: &'a str) -> impl Iterator<Item = (u64, u8, &'a str)> {
        self.text.lines().filter_map(move |line| {
            let mut words = line.split_ascii_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let kind = *words.next()?.as_bytes().first()?;
            let name = words.next()?;
            let owner = words.next().unwrap_or("");
            let owner = owner.trim_start_matches('[').trim_end_matches(']');
            (owner == module).then_some((address, kind, name))
        })
    }

    fn table(&self, module: &str, traits: &Traits) -> SymbolTable {
        let lines = self.lines(module);
        SymbolTable::new(lines.map(|(address, kind, name)| Symbol {
            name,
            address,
            flags: traits.flags(kind, name),
        }))
    }
}

fn tracefs() -> Option<&'static str> {
    ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"]
        .into_iter()
        .find(|dir| Path::new(dir).join("available_events").exists())
}

fn ftrace_functions() -> Option<HashSet<String>> {
    let list = text(&format!("{}/available_filter_functions", tracefs()?))?;
    let names = list
        .lines()
        .filter_map(|l| l.split_ascii_whitespace().next());
    Some(names.map(str::to_owned).collect())
}

fn blacklist() -> Option<HashSet<String>> {
    let list = text("/sys/kernel/debug/kprobes/blacklist")?;
    let names = list
        .lines()
        .filter_map(|l| l.split_ascii_whitespace().nth(1));
    Some(names.map(str::to_owned).collect())
}

fn trace_events() -> Option<BTreeSet<String>> {
    let list = text(&format!("{}/available_events", tracefs()?))?;
    Some(list.lines().map(|l| l.replacen(':', "/", 1)).collect())
}

fn kconfig(release: &str) -> Option<Kconfig> {
    if let Ok(file) = std::fs::File::open("/proc/config.gz") {
        let mut config = String::new();
        let stream = flate2::read::GzDecoder::new(file);
        if stream.take(16 << 20).read_to_string(&mut config).is_ok() {
            return Some(Kconfig::parse(&config));
        }
    }
    let places = [
        format!("/boot/config-{release}"),
        format!("/lib/modules/{release}/config"),
    ];
    let config = places.iter().find_map(|p| text(p))?;
    Some(Kconfig::parse(&config))
}

/// Names in `/proc/modules`, oldest first.
fn loaded_modules() -> Vec<String> {
    let list = text("/proc/modules").unwrap_or_default();
    let names = list
        .lines()
        .filter_map(|l| l.split_ascii_whitespace().next());
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.reverse();
    names
}

/// Loaded modules from what the kernel shows, Bluetooth ones that are not from their files.
fn add_modules(
    surface: &mut Surface,
    files: &KernelFiles,
    symbols: Option<&Kallsyms>,
    traits: &Traits,
    inputs: &Inputs,
) {
    let mut wanted = bluetooth_modules();
    let more = inputs.read_modules.split(',').filter(|n| !n.is_empty());
    wanted.extend(more.map(str::to_owned));
    files.add_modules(surface, &Wanted::These(wanted));
    let mut owned: HashMap<&str, Vec<Symbol>> = HashMap::new();
    for line in symbols.iter().flat_map(|s| s.text.lines()) {
        let mut words = line.split_ascii_whitespace();
        let parsed = (|| {
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            let kind = *words.next()?.as_bytes().first()?;
            let name = words.next()?;
            let owner = words.next()?.trim_start_matches('[').trim_end_matches(']');
            Some((
                owner,
                Symbol {
                    name,
                    address,
                    flags: traits.flags(kind, name),
                },
            ))
        })();
        if let Some((owner, symbol)) = parsed {
            owned.entry(owner).or_default().push(symbol);
        }
    }
    for name in surface.loaded.clone().unwrap_or_default() {
        let data = std::fs::read(format!("/sys/kernel/btf/{name}"));
        let btf = data.map_or(ModuleBtf::Absent, |d| {
            ModuleBtf::parse(&d, surface.btf.as_ref())
        });
        if let ModuleBtf::Broken(why) = &btf {
            let warning = format!("BTF of module {name} is not usable: {why}");
            surface.warnings.push(warning);
        }
        let live = owned.remove(name.as_str()).unwrap_or_default();
        let module = surface
            .modules
            .entry(name.clone())
            .or_insert_with(|| Module {
                name: name.clone(),
                depends: Vec::new(),
                btf: ModuleBtf::Absent,
                symbols: SymbolTable::default(),
                ftrace_known: surface.ftrace_known,
                tracepoints: BTreeSet::new(),
                category: None,
            });
        module.btf = btf;
        // The file knows call sites without root; the kernel knows what is loaded.
        if !live.is_empty() && (module.symbols.is_empty() || surface.ftrace_known) {
            module.symbols = SymbolTable::new(live);
            module.ftrace_known = surface.ftrace_known;
        }
    }
}

/// What this process may do.
pub(crate) fn caps() -> Caps {
    let status = text("/proc/self/status").unwrap_or_default();
    let bits = status
        .lines()
        .find_map(|l| l.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    Caps::from_bits(bits.unwrap_or(0))
}

fn number<T: std::str::FromStr>(path: &str) -> Option<T> {
    text(path)?.trim().parse().ok()
}

/// The mode of a kernel that has several, as root sees it, or as its command line chose it.
fn preempt() -> Option<String> {
    if let Some(modes) = text("/sys/kernel/debug/sched/preempt") {
        let (_, rest) = modes.split_once('(')?;
        return Some(rest.split_once(')')?.0.to_owned());
    }
    let line = text("/proc/cmdline")?;
    let words = line.split_ascii_whitespace();
    let mut chosen = words.filter_map(|word| word.strip_prefix("preempt="));
    chosen.next_back().map(str::to_owned)
}

fn host() -> Host {
    let switch = |path: &str| number::<u32>(path).map(|n| n != 0);
    let lockdown = text("/sys/kernel/security/lockdown").and_then(|line| {
        let start = line.find('[')? + 1;
        Some(line[start..].split(']').next()?.to_owned())
    });
    let limits = text("/proc/self/limits").unwrap_or_default();
    let memlock = limits
        .lines()
        .find_map(|l| l.strip_prefix("Max locked memory"))
        .and_then(|rest| rest.split_ascii_whitespace().next())
        .and_then(|n| {
            if n == "unlimited" {
                Some(u64::MAX)
            } else {
                n.parse().ok()
            }
        });
    Host {
        lockdown,
        preempt: preempt(),
        ftrace_enabled: switch("/proc/sys/kernel/ftrace_enabled"),
        kprobes_enabled: switch("/sys/kernel/debug/kprobes/enabled"),
        jit_enabled: switch("/proc/sys/net/core/bpf_jit_enable"),
        tracefs: Some(tracefs().is_some()),
        memlock_bytes: memlock,
        kptr_restrict: number("/proc/sys/kernel/kptr_restrict"),
        perf_event_paranoid: number("/proc/sys/kernel/perf_event_paranoid"),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
    }
}
