//! Loading objects: choose, load, attach, and choose again where the kernel refuses.

use std::collections::HashMap;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::{Object, ObjectBuilder, OpenObject};
use metrics::Family;

use crate::FAMILIES;
use crate::attach::{Attached, attach, one_line};
use crate::choose::{Choice, Preference, Target, choose};
use crate::hooks::{Hook, SCO_FLOWCTL, hooks_of};
use crate::log::Capture;
use crate::surface::{Surface, VMLINUX};
use crate::sys::{BtfTarget, MemoryFile, TargetHandlers, module_btfs};
use crate::tracefs::Tracefs;
use metrics::{AttachKind, Lost, ProbeReport, State};

/// How to load.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which kinds of attachment to take.
    pub attach: Preference,
    /// BTF that describes the Bluetooth structures, for kernels whose own BTF does not.
    pub btf: Option<PathBuf>,
}

/// Objects that are loaded and programs that are attached, for as long as this value lives.
#[derive(Debug)]
pub struct Probes {
    pub(crate) loaded: Vec<Loaded>,
    reports: Vec<ProbeReport>,
    lost: Vec<Lost>,
}

/// One object in the kernel.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) family: Family,
    // The links go before the programs.
    pub(crate) attached: Vec<(AttachKind, Target, Attached)>,
    pub(crate) object: Object,
}

impl Probes {
    /// What became of each program, in the order of the objects and of their events.
    #[must_use]
    pub fn reports(&self) -> &[ProbeReport] {
        &self.reports
    }

    /// The series that no attached program measures.
    #[must_use]
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }
}

/// Loads objects and attaches what this kernel can run of them.
///
/// Never stops at a problem: an object that is missing, a program that the verifier refuses or an
/// event that the kernel does not have becomes reports and losses, and the rest is loaded. A family
/// that has no programs is ignored.
///
/// Needs root, or `CAP_BPF`, `CAP_PERFMON` and `CAP_SYS_ADMIN` (for the BTF of modules). Return probes
/// need tracefs at `/sys/kernel/tracing` to follow more than a few blocked calls. libbpf's messages
/// go to `tracing`, target `libbpf`, while this runs, and no other thread may load programs through
/// libbpf meanwhile.
#[must_use]
pub fn load(objects: &[(Family, PathBuf)], options: &Options) -> Probes {
    if let Some(tracefs) = Tracefs::find() {
        tracefs.remove_stale_events();
    }
    let hooks: Vec<_> = objects
        .iter()
        .flat_map(|(family, _)| hooks_of(*family))
        .collect();
    let capture = Capture::start();
    let mut surface = Surface::of_running_kernel(&hooks, options.btf.as_deref());
    let shared = Shared::new(&surface);
    let mut probes = Probes {
        loaded: Vec::new(),
        reports: Vec::new(),
        lost: Vec::new(),
    };
    for (family, path) in objects {
        let mut attempt = Attempt {
            family: *family,
            path,
            surface: &mut surface,
            shared: &shared,
            options,
            capture: &capture,
            refused: Vec::new(),
        };
        let (loaded, plan) = attempt.run();
        probes.loaded.extend(loaded);
        for (hook, choice) in &plan {
            probes.reports.extend(attempt.reports(hook, choice));
            probes.lost.extend(attempt.losses(hook, choice));
        }
    }
    probes
}

/// The events of a family and what was chosen for each.
type Plan = Vec<(&'static Hook, Choice)>;

/// A program that the kernel turned down.
struct Refused {
    event: &'static str,
    symbol: &'static str,
    kinds: &'static [AttachKind],
    kind: AttachKind,
    reason: String,
    log: Option<String>,
}

/// What all objects are loaded with. Without it, libbpf reads the BTF of the kernel and of each
/// module again for each object.
struct Shared {
    /// The structures that programs read.
    types: Option<MemoryFile>,
    /// Where fentry and fexit programs go.
    handlers: Option<TargetHandlers>,
    /// The BTFs of modules.
    btfs: HashMap<String, OwnedFd>,
}

impl Shared {
    /// Prepares what it can; the rest is left to libbpf.
    fn new(surface: &Surface) -> Self {
        let types = surface.types.as_ref();
        let types = types.map(|types| MemoryFile::new(types));
        let types = types.transpose().unwrap_or_else(|error| {
            tracing::warn!(%error, "failed to store the kernel's types");
            None
        });
        let handlers = TargetHandlers::install()
            .inspect_err(|error| tracing::warn!(%error, "failed to install handlers"));
        Self {
            types,
            handlers: handlers.ok(),
            btfs: module_btfs().unwrap_or_default(),
        }
    }

    /// The number that stands for a function which an fentry or fexit program goes to.
    fn ticket(&self, surface: &Surface, hook: &Hook, target: &Target) -> Option<i32> {
        let home = target.module().unwrap_or(VMLINUX);
        let function = surface.function(home, hook.symbol)?;
        let btf_fd = match target.module() {
            None => 0,
            Some(module) => u32::try_from(self.btfs.get(module)?.as_raw_fd()).ok()?,
        };
        let handlers = self.handlers.as_ref()?;
        Some(handlers.ticket(BtfTarget { btf_fd, function }))
    }
}

/// Loading of one object.
struct Attempt<'a> {
    family: Family,
    path: &'a Path,
    surface: &'a mut Surface,
    shared: &'a Shared,
    options: &'a Options,
    capture: &'a Capture,
    refused: Vec<Refused>,
}

impl Attempt<'_> {
    /// Chooses, loads and attaches until the kernel refuses nothing. Ends, because each turn but the
    /// last takes away at least one set of programs.
    fn run(&mut self) -> (Option<Loaded>, Plan) {
        loop {
            let plan = self.plan();
            if plan.iter().all(|(_, choice)| choice.taken.is_none()) {
                return (None, plan);
            }
            let refused = match self.load(&plan, |_| true) {
                Err(error) => self.culprits(&plan, &error),
                Ok(object) => match self.attach_all(&plan, object) {
                    Ok(loaded) => return (Some(loaded), plan),
                    Err(refused) => refused,
                },
            };
            self.file(refused);
        }
    }

    /// Keeps what was refused, except where ftrace says that nothing can attach there: then the next
    /// choice heeds it.
    fn file(&mut self, mut refused: Vec<Refused>) {
        let by_ftrace = |kind| matches!(kind, AttachKind::Fentry | AttachKind::Fexit);
        if self.surface.traceable.is_none() && refused.iter().any(|r| by_ftrace(r.kind)) {
            let hooks: Vec<_> = FAMILIES.iter().flat_map(|f| hooks_of(*f)).collect();
            self.surface.ask_ftrace(&hooks);
            refused.retain(|r| !(by_ftrace(r.kind) && self.surface.is_untraceable(r.symbol)));
        }
        self.refused.extend(refused);
    }

    fn plan(&self) -> Plan {
        let choose_for = |hook: &'static Hook| {
            let refused: Vec<_> = self
                .refused
                .iter()
                .filter(|r| r.event == hook.event)
                .map(|r| r.kinds)
                .collect();
            (
                hook,
                choose(hook, self.surface, self.options.attach, &refused),
            )
        };
        hooks_of(self.family).iter().map(choose_for).collect()
    }

    /// Opens the object and loads the chosen programs that `wanted` picks.
    fn load(&self, plan: &Plan, wanted: impl Fn(&str) -> bool) -> Result<Object, String> {
        self.capture.clear();
        let bytes = fs::read(self.path)
            .map_err(|error| format!("failed to read {}: {error}", self.path.display()))?;
        let mut builder = ObjectBuilder::default();
        let external = chosen(plan).any(|(_, _, _, target)| target.external_btf);
        let types = match &self.options.btf {
            Some(btf) if external => Some(btf.clone()),
            _ => self.shared.types.as_ref().map(MemoryFile::path),
        };
        if let Some(types) = types {
            builder.btf_custom_path(types).map_err(one_line)?;
        }
        let mut open = builder.open_memory(&bytes).map_err(one_line)?;
        self.select(plan, &mut open, wanted)?;
        self.configure(&mut open)?;
        open.load().map_err(one_line)
    }

    /// Has the chosen programs that `wanted` picks loaded, and says where they go.
    fn select(
        &self,
        plan: &Plan,
        open: &mut OpenObject,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        let chosen: HashMap<_, _> = chosen(plan)
            .map(|(hook, _, kind, target)| (hook.prog(kind), (hook, kind, target)))
            .collect();
        for mut prog in open.progs_mut() {
            let name = prog.name().to_string_lossy().into_owned();
            let target = chosen.get(&name).filter(|_| wanted(&name));
            prog.set_autoload(target.is_some());
            let Some((hook, AttachKind::Fentry | AttachKind::Fexit, target)) = target else {
                continue;
            };
            if self.shared.handlers.is_none() {
                continue;
            }
            let ticket = self.shared.ticket(self.surface, hook, target);
            let ticket = ticket.ok_or_else(|| format!("{name} has no target in the BTF"))?;
            prog.set_attach_target(ticket, None).map_err(one_line)?;
        }
        Ok(())
    }

    /// Hands over what BTF says to user space alone.
    fn configure(&self, open: &mut OpenObject) -> Result<(), String> {
        if self.family != Family::Credits {
            return Ok(());
        }
        let known = self.surface.btf.values().chain(&self.surface.external);
        let bit = known
            .flatten()
            .find_map(|names| names.enumerators.get(SCO_FLOWCTL));
        let mask = bit
            .and_then(|bit| 1_u64.checked_shl(u32::try_from(*bit).ok()?))
            .unwrap_or(0);
        let mut config = open
            .maps_mut()
            .find(|map| map.name().to_string_lossy().ends_with(".rodata"))
            .ok_or("the object has no configuration")?;
        config
            .set_initial_value(&mask.to_ne_bytes())
            .map_err(one_line)
    }

    /// Which programs made loading fail: each is loaded alone. If none fails alone, all of them did.
    fn culprits(&self, plan: &Plan, error: &str) -> Vec<Refused> {
        let together = self.capture.tail();
        let alone: Vec<_> = chosen(plan)
            .filter_map(|(hook, kinds, kind, _)| {
                let prog = hook.prog(kind);
                let reason = self.load(plan, |name| name == prog).err()?;
                Some(Refused {
                    event: hook.event,
                    symbol: hook.symbol,
                    kinds,
                    kind,
                    reason,
                    log: self.capture.tail(),
                })
            })
            .collect();
        if !alone.is_empty() {
            return alone;
        }
        let all = chosen(plan).map(|(hook, kinds, kind, _)| Refused {
            event: hook.event,
            symbol: hook.symbol,
            kinds,
            kind,
            reason: error.to_owned(),
            log: together.clone(),
        });
        all.collect()
    }

    fn attach_all(&self, plan: &Plan, object: Object) -> Result<Loaded, Vec<Refused>> {
        let mut attached = Vec::new();
        let mut refused = Vec::new();
        for (hook, kinds, kind, target) in chosen(plan) {
            self.capture.clear();
            match attach(&object, &hook.prog(kind), kind, target) {
                Ok(one) => attached.push((kind, target.clone(), one)),
                Err(reason) => {
                    let log = self.capture.tail();
                    refused.push(Refused {
                        event: hook.event,
                        symbol: hook.symbol,
                        kinds,
                        kind,
                        reason,
                        log,
                    });
                }
            }
        }
        if refused.is_empty() {
            return Ok(Loaded {
                family: self.family,
                attached,
                object,
            });
        }
        Err(refused)
    }

    /// Reports of one event: the refused programs, then the attached ones, or the best that would
    /// have been if none are.
    fn reports(&self, hook: &Hook, choice: &Choice) -> Vec<ProbeReport> {
        let refused = self
            .refused
            .iter()
            .filter(|refused| refused.event == hook.event);
        let mut reports: Vec<_> = refused
            .map(|refused| ProbeReport {
                family: self.family,
                prog: hook.prog(refused.kind),
                attach: refused.kind,
                state: State::Failed,
                reason: Some(refused.reason.clone()),
                log: refused.log.clone(),
            })
            .collect();
        let passed = (!choice.passed.is_empty()).then(|| choice.passed.join("; "));
        let (kinds, state) = match &choice.taken {
            Some((kinds, _)) => (*kinds, State::Attached),
            None if reports.is_empty() => (hook.variants[0], State::Unavailable),
            None => return reports,
        };
        reports.extend(kinds.iter().map(|kind| ProbeReport {
            family: self.family,
            prog: hook.prog(*kind),
            attach: *kind,
            state,
            reason: passed.clone(),
            log: None,
        }));
        reports
    }

    /// The series that are missing if nothing sees the event.
    fn losses(&self, hook: &Hook, choice: &Choice) -> Vec<Lost> {
        if choice.taken.is_some() {
            return Vec::new();
        }
        let owned = |labels: &[(&str, &str)]| {
            labels
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect()
        };
        let lost = hook.feeds.iter().map(|feed| Lost {
            metric: feed.metric.name.to_owned(),
            labels: owned(feed.labels),
            reason: choice.passed.join("; "),
        });
        lost.collect()
    }
}

/// Every program that was chosen, with its set and its target.
fn chosen(
    plan: &Plan,
) -> impl Iterator<Item = (&'static Hook, &'static [AttachKind], AttachKind, &Target)> {
    plan.iter().flat_map(|(hook, choice)| {
        choice.taken.iter().flat_map(move |(kinds, target)| {
            let kinds: &'static [AttachKind] = kinds;
            kinds.iter().map(move |kind| (*hook, kinds, *kind, target))
        })
    })
}
