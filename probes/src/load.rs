//! Objects that are loaded, and what became of their programs.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use libbpf_rs::Object;
use metrics::Family;

use crate::attach::Attached;
use crate::attempt::Attempt;
use crate::choose::Preference;
use crate::find::Target;
use crate::hooks::{Hook, hooks_of};
use crate::log::Capture;
use crate::surface::{Surface, VMLINUX, loaded_modules};
use crate::sys::{BtfTarget, KernelBtfs, MemoryFile, TargetHandlers, kernel_btfs};
use crate::tracefs::Tracefs;
use metrics::{AttachKind, Lost, ProbeReport};

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
pub(crate) struct Settled {
    pub(crate) family: Family,
    pub(crate) hook: &'static Hook,
    pub(crate) reports: Vec<ProbeReport>,
    pub(crate) lost: Vec<Lost>,
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
        let btfs = kernel_btfs().unwrap_or_default();
        let external = self.options.btf.as_deref();
        let mut surface = Surface::of_running_kernel(&all, external, &btfs);
        let shared = Shared::new(&surface, btfs);
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

/// What all objects are loaded with. Without it, libbpf reads the BTF of the kernel and of each
/// module again for each object.
pub(crate) struct Shared {
    /// The structures that programs read.
    pub(crate) types: Option<MemoryFile>,
    /// Where fentry and fexit programs go.
    pub(crate) handlers: Option<TargetHandlers>,
    btfs: KernelBtfs,
}

impl Shared {
    /// Prepares what it can; the rest is left to libbpf.
    fn new(surface: &Surface, btfs: KernelBtfs) -> Self {
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
            btfs,
        }
    }

    /// The number that stands for a function which an fentry or fexit program goes to.
    pub(crate) fn ticket(&self, surface: &Surface, hook: &Hook, target: &Target) -> Option<i32> {
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
