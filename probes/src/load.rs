//! Loading objects: choose, load, attach, and choose again where the kernel refuses.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use libbpf_rs::{MapCore, Object, ObjectBuilder, OpenObject};
use metrics::Family;

use crate::FAMILIES;
use crate::attach::{Attached, attach, one_line};
use crate::choose::{Choice, Preference, Target, choose};
use crate::hooks::{Feed, Hook, PARTIAL, Partial, SCO_FLOWCTL, UNREGISTER, USER_CHANNEL, hooks_of};
use crate::log::Capture;
use crate::surface::{Surface, VMLINUX, loaded_modules};
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
    objects: Vec<(Family, PathBuf)>,
    options: Options,
    /// The modules that hooks are in, as they were when the programs were chosen.
    modules: BTreeMap<String, String>,
    settled: Vec<Settled>,
    reports: Vec<ProbeReport>,
    lost: Vec<Lost>,
}

/// One object in the kernel.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) family: Family,
    /// Are its maps those of an earlier object of the family? They are read there.
    pub(crate) is_late: bool,
    // The links go before the programs.
    pub(crate) attached: Vec<(AttachKind, Target, Attached)>,
    pub(crate) object: Object,
}

/// What became of one event.
#[derive(Debug)]
struct Settled {
    family: Family,
    hook: &'static Hook,
    reports: Vec<ProbeReport>,
    lost: Vec<Lost>,
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

    /// Looks whether modules came or went since the programs were chosen, and if so, lets go of the
    /// programs whose functions are gone and chooses anew for those that came. Counters stay. True:
    /// something changed.
    ///
    /// Costs a read of `/proc/modules` if nothing changed. What [`load`] says of threads holds here.
    pub fn refresh(&mut self) -> bool {
        let hooks: Vec<_> = self.settled.iter().map(|settled| settled.hook).collect();
        let modules = loaded_modules(&hooks);
        if modules == self.modules {
            return false;
        }
        let changed = |module: &str| self.modules.get(module) != modules.get(module);
        for loaded in &mut self.loaded {
            let stays = |target: &Target| target.module().is_none_or(|module| !changed(module));
            loaded.attached.retain(|(_, target, _)| stays(target));
        }
        let again: Vec<bool> = hooks.iter().map(|hook| changed(hook.module)).collect();
        self.modules = modules;
        self.choose_for(|index| again.get(index).copied().unwrap_or(false));
        true
    }

    /// Chooses for the events, in the order of the objects and of their hooks, that `wanted` picks.
    fn choose_for(&mut self, wanted: impl Fn(usize) -> bool) {
        let all: Vec<_> = self
            .objects
            .iter()
            .flat_map(|(family, _)| hooks_of(*family))
            .collect();
        let capture = Capture::start();
        let mut surface = Surface::of_running_kernel(&all, self.options.btf.as_deref());
        let shared = Shared::new(&surface);
        let mut index = 0;
        let mut settled = Vec::new();
        for (family, path) in &self.objects {
            let picked = |hook| {
                index += 1;
                wanted(index - 1).then_some(hook)
            };
            let hooks: Vec<_> = hooks_of(*family).iter().filter_map(picked).collect();
            if hooks.is_empty() {
                continue;
            }
            let first = self
                .loaded
                .iter()
                .find(|l| l.family == *family && !l.is_late);
            let mut attempt = Attempt {
                family: *family,
                hooks,
                maps: first.map(|loaded| &loaded.object),
                path,
                surface: &mut surface,
                shared: &shared,
                options: &self.options,
                capture: &capture,
                refused: Vec::new(),
            };
            let (loaded, plan) = attempt.run();
            settled.extend(
                plan.iter()
                    .map(|(hook, choice)| attempt.settle(hook, choice)),
            );
            self.loaded.extend(loaded);
        }
        self.settle(settled);
        self.reports = self
            .settled
            .iter()
            .flat_map(|s| s.reports.clone())
            .collect();
        self.lost = self.settled.iter().flat_map(|s| s.lost.clone()).collect();
    }

    /// Puts outcomes in the place of earlier ones of the same events, or at the end.
    fn settle(&mut self, outcomes: Vec<Settled>) {
        for outcome in outcomes {
            let same = |known: &&mut Settled| {
                known.family == outcome.family && known.hook.event == outcome.hook.event
            };
            match self.settled.iter_mut().find(same) {
                Some(known) => *known = outcome,
                None => self.settled.push(outcome),
            }
        }
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
    let mut probes = Probes {
        loaded: Vec::new(),
        objects: objects.to_vec(),
        options: options.clone(),
        modules: loaded_modules(&hooks),
        settled: Vec::new(),
        reports: Vec::new(),
        lost: Vec::new(),
    };
    probes.choose_for(|_| true);
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
    /// The events to choose for.
    hooks: Vec<&'static Hook>,
    /// An object whose maps are to be shared.
    maps: Option<&'a Object>,
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
        self.hooks.iter().copied().map(choose_for).collect()
    }

    /// Opens the object and loads the chosen programs that `wanted` picks.
    fn load(&self, plan: &Plan, wanted: impl Fn(&str) -> bool) -> Result<Object, String> {
        self.capture.clear();
        let bytes = fs::read(self.path)
            .map_err(|error| format!("failed to read {}: {error}", self.path.display()))?;
        let mut builder = ObjectBuilder::default();
        if let Some(types) = &self.shared.types {
            builder.btf_custom_path(types.path()).map_err(one_line)?;
        }
        let mut open = builder.open_memory(&bytes).map_err(one_line)?;
        self.select(plan, &mut open, wanted)?;
        self.configure(plan, &mut open)?;
        self.share_maps(&mut open)?;
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

    /// Has the programs count in the maps of an earlier object. Its configuration is its own.
    fn share_maps(&self, open: &mut OpenObject) -> Result<(), String> {
        let Some(object) = self.maps else {
            return Ok(());
        };
        for mut map in open.maps_mut() {
            let earlier = object.maps().find(|known| known.name() == map.name());
            match earlier {
                Some(earlier) if !map.name().to_string_lossy().contains('.') => {
                    map.reuse_fd(earlier.as_fd()).map_err(one_line)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Hands over what BTF says to user space alone.
    fn configure(&self, plan: &Plan, open: &mut OpenObject) -> Result<(), String> {
        let Some(words) = self.configuration(plan) else {
            return Ok(());
        };
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut config = open
            .maps_mut()
            .find(|map| map.name().to_string_lossy().ends_with(".rodata"))
            .ok_or("the object has no configuration")?;
        config.set_initial_value(&bytes).map_err(one_line)
    }

    /// The words of `struct credits_config` in `bpf/credits.bpf.c`, or of `struct config` in
    /// `bpf/config.bpf.h`.
    fn configuration(&self, plan: &Plan) -> Option<Vec<u64>> {
        let sco_flowctl = self.surface.flag(SCO_FLOWCTL);
        match self.family {
            Family::Credits => Some(vec![sco_flowctl, self.surface.flag(USER_CHANNEL)]),
            Family::Latency | Family::Hci => {
                let returns = |kind| matches!(kind, AttachKind::Fexit | AttachKind::Kretprobe);
                let returns = chosen(plan).any(|(_, _, kind, _)| returns(kind));
                let going = self.surface.flag(UNREGISTER);
                Some(vec![going, sco_flowctl, u64::from(returns)])
            }
            Family::Socket | Family::Buffer | Family::Urb | Family::Probe => None,
        }
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
            let loaded = Loaded {
                family: self.family,
                is_late: self.maps.is_some(),
                attached,
                object,
            };
            loaded.learn_devices();
            return Ok(loaded);
        }
        Err(refused)
    }

    fn settle(&self, hook: &'static Hook, choice: &Choice) -> Settled {
        Settled {
            family: self.family,
            hook,
            reports: self.reports(hook, choice),
            lost: self.losses(hook, choice),
        }
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

    /// The series that are missing although the event is seen: this kernel's structures lack a member.
    fn partial_losses(&self, hook: &Hook) -> Vec<Lost> {
        let of_hook = |p: &&Partial| p.family == self.family && p.event == hook.event;
        let partial = PARTIAL.iter().filter(of_hook);
        let missing = partial.filter(|p| self.surface.lacks_member(p.structure, p.member));
        let lost = missing.map(|p| {
            let (structure, member) = (p.structure, p.member);
            let reason = format!("struct {structure} of this kernel has no {member}");
            lost(&p.feed, reason)
        });
        lost.collect()
    }

    /// The series that are missing if nothing sees the event.
    fn losses(&self, hook: &Hook, choice: &Choice) -> Vec<Lost> {
        if choice.taken.is_some() {
            return self.partial_losses(hook);
        }
        let reason = || choice.passed.join("; ");
        hook.feeds.iter().map(|feed| lost(feed, reason())).collect()
    }
}

fn lost(feed: &Feed, reason: String) -> Lost {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Lost {
        metric: feed.metric.name.to_owned(),
        labels: feed.labels.iter().map(owned).collect(),
        reason,
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
