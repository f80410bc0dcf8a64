//! Loading one object: choose, load, attach, and choose again where the kernel refuses.

use std::collections::HashMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;

use libbpf_rs::{MapCore, Object, ObjectBuilder, OpenObject};
use metrics::Family;

use crate::FAMILIES;
use crate::attach::{attach, one_line};
use crate::choose::{Choice, choose};
use crate::find::{Target, find};
use crate::hooks::{
    Feed, GIVEBACK, Hook, PARTIAL, Partial, SCO_FLOWCTL, UNREGISTER, USER_CHANNEL, hooks_of,
};
use crate::load::{Loaded, Options, Settled, Shared};
use crate::log::Capture;
use crate::surface::Surface;
use metrics::{AttachKind, Lost, ProbeReport, State};

/// The events of a family and what was chosen for each.
pub(crate) type Plan = Vec<(&'static Hook, Choice)>;

/// A program that the kernel turned down.
pub(crate) struct Refused {
    event: &'static str,
    symbol: &'static str,
    kinds: &'static [AttachKind],
    kind: AttachKind,
    reason: String,
    log: Option<String>,
}

/// Loading of one object.
pub(crate) struct Attempt<'a> {
    pub(crate) family: Family,
    /// The events to choose for.
    pub(crate) hooks: Vec<&'static Hook>,
    /// An object whose maps are to be shared.
    pub(crate) maps: Option<&'a Object>,
    pub(crate) path: &'a Path,
    pub(crate) surface: &'a mut Surface,
    pub(crate) shared: &'a Shared,
    pub(crate) options: &'a Options,
    pub(crate) capture: &'a Capture,
    pub(crate) refused: Vec<Refused>,
}

impl Attempt<'_> {
    /// Chooses, loads and attaches until the kernel refuses nothing. Ends, because each turn but the
    /// last takes away at least one set of programs.
    pub(crate) fn run(&mut self) -> (Option<Loaded>, Plan) {
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

    /// Keeps what was refused, except where the kernel's list of symbols, or of what ftrace can reach, says
    /// that nothing can attach there. These are asked for only now; the next choice heeds them.
    fn file(&mut self, mut refused: Vec<Refused>) {
        let all = || FAMILIES.iter().flat_map(|f| hooks_of(*f));
        if self.surface.symbols.is_none() {
            self.surface.ask_symbols(&all().collect::<Vec<_>>());
            refused.retain(|r| {
                self.hook(r.event)
                    .is_some_and(|h| find(h, self.surface).is_ok())
            });
        }
        let by_ftrace = |kind| matches!(kind, AttachKind::Fentry | AttachKind::Fexit);
        if self.surface.traceable.is_none() && refused.iter().any(|r| by_ftrace(r.kind)) {
            self.surface.ask_ftrace(&all().collect::<Vec<_>>());
            refused.retain(|r| !(by_ftrace(r.kind) && self.surface.is_untraceable(r.symbol)));
        }
        self.refused.extend(refused);
    }

    fn hook(&self, event: &str) -> Option<&'static Hook> {
        self.hooks.iter().copied().find(|hook| hook.event == event)
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

    /// The words of `struct config` in `bpf/config.bpf.h`.
    fn configuration(&self, plan: &Plan) -> Option<Vec<u64>> {
        match self.family {
            Family::Credits | Family::Latency | Family::Hci => {
                // In the order of `enum returns`.
                let returns = chosen(plan).find_map(|(_, _, kind, _)| match kind {
                    AttachKind::Fexit => Some(1),
                    AttachKind::Kretprobe => Some(2),
                    AttachKind::Fentry | AttachKind::Kprobe | AttachKind::Run => None,
                });
                let flags = [UNREGISTER, SCO_FLOWCTL, USER_CHANNEL];
                let [going, sco_flowctl, user_channel] = flags.map(|flag| self.surface.flag(flag));
                Some(vec![going, sco_flowctl, user_channel, returns.unwrap_or(0)])
            }
            // `sees_ends` in `bpf/urb.bpf.c`.
            Family::Urb => {
                let sees_ends = chosen(plan).any(|(hook, ..)| hook.event == GIVEBACK);
                Some(vec![u64::from(sees_ends)])
            }
            Family::Socket | Family::Buffer | Family::Probe => None,
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

    pub(crate) fn settle(&self, hook: &'static Hook, choice: &Choice) -> Settled {
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
