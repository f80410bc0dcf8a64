//! Loading objects: choose, load, attach, and choose again where the kernel refuses.

use std::fs;
use std::path::{Path, PathBuf};

use libbpf_rs::{Object, ObjectBuilder, OpenObject};
use metrics::Family;

use crate::attach::{Attached, attach, one_line};
use crate::choose::{Choice, Preference, Target, choose};
use crate::hooks::{Hook, SCO_FLOWCTL, hooks_of};
use crate::log::Capture;
use crate::surface::Surface;
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
/// go to `tracing`, target `libbpf`, while this runs.
#[must_use]
pub fn load(objects: &[(Family, PathBuf)], options: &Options) -> Probes {
    if let Some(tracefs) = Tracefs::find() {
        tracefs.remove_stale_events();
    }
    let hooks: Vec<_> = objects
        .iter()
        .flat_map(|(family, _)| hooks_of(*family))
        .collect();
    let surface = Surface::of_running_kernel(&hooks, options.btf.as_deref());
    let capture = Capture::start();
    let mut probes = Probes {
        loaded: Vec::new(),
        reports: Vec::new(),
        lost: Vec::new(),
    };
    for (family, path) in objects {
        let mut attempt = Attempt {
            family: *family,
            path,
            surface: &surface,
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
    kinds: &'static [AttachKind],
    kind: AttachKind,
    reason: String,
    log: Option<String>,
}

/// Loading of one object.
struct Attempt<'a> {
    family: Family,
    path: &'a Path,
    surface: &'a Surface,
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
            self.refused.extend(refused);
        }
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
        if let Some(btf) = self.options.btf.as_ref().filter(|_| external) {
            builder.btf_custom_path(btf).map_err(one_line)?;
        }
        let mut open = builder.open_memory(&bytes).map_err(one_line)?;
        let names: Vec<_> = chosen(plan)
            .map(|(hook, _, kind, _)| hook.prog(kind))
            .collect();
        for mut prog in open.progs_mut() {
            let name = prog.name().to_string_lossy().into_owned();
            prog.set_autoload(names.contains(&name) && wanted(&name));
        }
        self.configure(&mut open)?;
        open.load().map_err(one_line)
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
