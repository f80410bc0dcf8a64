//! From programs to metrics: which of the catalogue's numbers can be had.

use super::{Code, Finding, ProgramVerdict, Severity, State, Verdict};
use crate::btf::essential_name;
use metrics::catalogue::{members_of, needed_by};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// The answer for one metric.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricVerdict {
    /// Name.
    pub name: String,
    /// Family, which is the object that measures it.
    pub family: String,
    /// All of it, none of it, or not determined.
    pub state: State,
    /// Some of its sources work and some do not: present, but not complete.
    pub degraded: bool,
    /// Sources that do not work, each with the gravest reason.
    pub missing: Vec<Missing>,
    /// Programs that would be used, best first for each source.
    pub programs: Vec<String>,
}

/// A source of a metric that does not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// `module:function`; empty where the metric needs none of its own.
    pub source: String,
    /// Kind of the finding; empty if it is not determined why.
    pub code: String,
    /// What is affected.
    pub subject: String,
    /// What the kernel has.
    pub evidence: String,
    /// What to do about it.
    pub advice: String,
}

impl Missing {
    fn new(source: &str, finding: Option<&Finding>) -> Self {
        let text = |part: fn(&Finding) -> &str| finding.map_or("", part).to_owned();
        Self {
            source: source.to_owned(),
            code: finding.map_or_else(String::new, |f| f.code.to_string()),
            subject: text(|f| &f.subject),
            evidence: text(|f| &f.evidence),
            advice: text(|f| &f.advice),
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.source.is_empty() {
            write!(f, "{}: ", self.source)?;
        }
        if self.code.is_empty() {
            return f.write_str("not determined");
        }
        write!(f, "{} {}", self.code, self.subject)?;
        if self.evidence.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.evidence)
        }
    }
}

/// Judges the metrics of a family by its object's verdict. Programs on one hook
/// are alternatives: those that use a trampoline, else those that use kprobes.
#[must_use]
pub fn metric_verdicts(family: &str, verdict: &Verdict) -> Vec<MetricVerdict> {
    let whole = verdict
        .findings
        .iter()
        .any(|f| f.severity == Severity::Breaks);
    metrics::CATALOGUE
        .iter()
        .filter(|m| m.family.as_str() == family)
        .map(|metric| {
            let mut answer = judge(metric, verdict);
            if whole {
                answer.state = State::No;
                let grave = verdict.findings.iter();
                let grave = grave.filter(|f| f.severity == Severity::Breaks);
                answer
                    .missing
                    .extend(grave.map(|f| Missing::new("", Some(f))));
            }
            answer
        })
        .collect()
}

fn judge(metric: &metrics::Metric, verdict: &Verdict) -> MetricVerdict {
    let mut answer = MetricVerdict {
        name: metric.name.to_owned(),
        family: metric.family.as_str().to_owned(),
        state: State::Yes,
        degraded: false,
        missing: Vec::new(),
        programs: Vec::new(),
    };
    let mut states = Vec::new();
    for function in metric.functions {
        let name = function.split_once(':').map_or(*function, |(_, f)| f);
        let groups = groups(verdict, name);
        if groups.is_empty() {
            continue;
        }
        let best = best(&groups).expect("there is at least one");
        states.push(state(best));
        if state(best) == State::Yes {
            answer.programs.extend(best.iter().map(|p| p.name.clone()));
        } else {
            answer.missing.push(Missing::new(function, reason(best)));
        }
    }
    let works = states.contains(&State::Yes);
    let fails = states.contains(&State::No);
    let unknown = states.contains(&State::Unknown);
    answer.degraded = works && (fails || unknown);
    answer.state = match (works, fails, unknown) {
        (true, _, _) => State::Yes,
        (false, _, true) => State::Unknown,
        (false, true, false) => State::No,
        // A metric of the loader itself needs no hook.
        (false, false, false) => {
            let targetless: Vec<&ProgramVerdict> = verdict
                .programs
                .iter()
                .filter(|p| p.attach.is_none())
                .collect();
            let state = default_state(verdict);
            if state != State::Yes {
                answer.missing.push(Missing::new("", reason(&targetless)));
            }
            state
        }
    };
    heed_members(metric, verdict, &mut answer);
    heed_needs(metric.family, verdict, &mut answer);
    answer
}

/// Some series need a member of a structure that the programs do without.
fn heed_members(metric: &metrics::Metric, verdict: &Verdict, answer: &mut MetricVerdict) {
    for (structure, member) in members_of(metric) {
        let programs = verdict.programs.iter();
        let mut guarded = programs
            .flat_map(|p| &p.findings)
            .filter(|f| f.code == Code::RelocGuarded);
        let lacking = guarded.find(|f| {
            let path = f.subject.split_once('.');
            path.is_some_and(|(root, rest)| essential_name(root) == *structure && rest == *member)
        });
        if let Some(finding) = lacking.filter(|_| answer.state == State::Yes) {
            answer.degraded = true;
            answer.missing.push(Missing::new("", Some(finding)));
        }
    }
}

/// Takes a metric back that lacks what all of its family needs.
fn heed_needs(family: metrics::Family, verdict: &Verdict, answer: &mut MetricVerdict) {
    for function in needed_by(family) {
        let name = function.split_once(':').map_or(*function, |(_, f)| f);
        let groups = groups(verdict, name);
        let Some(best) = best(&groups).filter(|group| state(group) != State::Yes) else {
            continue;
        };
        answer.state = answer.state.and(state(best));
        answer.degraded = false;
        answer.programs.clear();
        let missing = Missing::new(function, reason(best));
        if !answer.missing.contains(&missing) {
            answer.missing.push(missing);
        }
    }
}

/// A metric without hooks of its own works if any program without a target does.
fn default_state(verdict: &Verdict) -> State {
    let targetless = verdict.programs.iter().filter(|p| p.attach.is_none());
    targetless
        .map(ProgramVerdict::state)
        .max()
        .unwrap_or(State::Yes)
}

fn state(group: &[&ProgramVerdict]) -> State {
    group.iter().map(|p| p.state()).fold(State::Yes, State::and)
}

/// The group that would be used: one that works, if it can one that misses nothing, and a trampoline rather than kprobes.
fn best<'a, 'b>(groups: &'b [Vec<&'a ProgramVerdict>]) -> Option<&'b Vec<&'a ProgramVerdict>> {
    groups.iter().rev().max_by_key(|group| {
        let loses = |p: &&ProgramVerdict| p.findings.iter().any(|f| f.severity == Severity::Loses);
        (state(group), !group.iter().any(loses))
    })
}

/// Programs on one hook, grouped by how they attach: trampolines first.
fn groups<'a>(verdict: &'a Verdict, function: &str) -> Vec<Vec<&'a ProgramVerdict>> {
    let mut groups: BTreeMap<bool, Vec<&ProgramVerdict>> = BTreeMap::new();
    for program in &verdict.programs {
        let section = program.section.trim_start_matches('?');
        let Some((prefix, target)) = section.split_once('/') else {
            continue;
        };
        let target = target.rsplit(':').next().unwrap_or(target);
        if target == function {
            groups
                .entry(prefix.starts_with('k'))
                .or_default()
                .push(program);
        }
    }
    groups.into_values().collect()
}

/// The gravest finding of a group.
fn reason<'a>(group: &[&'a ProgramVerdict]) -> Option<&'a Finding> {
    let findings = group.iter().flat_map(|p| &p.findings);
    findings.min_by_key(|f| f.severity)
}

#[cfg(test)]
mod tests {
    use super::{Finding, ProgramVerdict, Severity, State, Verdict, metric_verdicts};
    use crate::verdict::{Code, Stage};
    use rstest::rstest;

    fn program(section: &str, severity: Option<Severity>) -> ProgramVerdict {
        let mut program = ProgramVerdict {
            name: section.replace('/', "_"),
            section: section.to_owned(),
            autoload: true,
            load: State::Yes,
            attach: Some(State::Yes),
            truth: State::Yes,
            findings: Vec::new(),
        };
        if let Some(severity) = severity {
            program.add(Finding {
                code: Code::LiePreempted,
                stage: Stage::Run,
                severity,
                subject: String::new(),
                place: None,
                evidence: String::new(),
                advice: String::new(),
            });
        }
        program
    }

    fn verdict(programs: Vec<ProgramVerdict>) -> Verdict {
        Verdict {
            object: String::new(),
            kernel: String::new(),
            arch: String::new(),
            findings: Vec::new(),
            programs,
        }
    }

    /// Check that a trampoline is taken where both work, and a kprobe where the trampoline misses events or does not work.
    #[rstest]
    #[case(None, "fentry_usb_submit_urb")]
    #[case(Some(Severity::Note), "fentry_usb_submit_urb")]
    #[case(Some(Severity::Loses), "kprobe_usb_submit_urb")]
    #[case(Some(Severity::Breaks), "kprobe_usb_submit_urb")]
    fn best_group_is_taken(#[case] severity: Option<Severity>, #[case] expected: &str) {
        let programs = vec![
            program("fentry/usb_submit_urb", severity),
            program("kprobe/usb_submit_urb", None),
        ];
        let metrics = metric_verdicts("urb", &verdict(programs));
        let submitted = metrics
            .iter()
            .find(|m| m.name == "bluetooth_urb_submitted_total");
        assert_eq!(submitted.unwrap().programs, [expected]);
    }

    /// Check that a family that does not learn of devices has no metric at all, also of those that are counted elsewhere.
    #[test]
    fn metric_falls_with_what_its_family_needs() {
        let submit = || program("fentry/usb_submit_urb", None);
        let devices = |severity| program("kprobe/hci_sock_dev_event", severity);
        let states = |programs| {
            let metrics = metric_verdicts("urb", &verdict(programs));
            let submitted = metrics
                .into_iter()
                .find(|m| m.name == "bluetooth_urb_submitted_total");
            let submitted = submitted.unwrap();
            (submitted.state, submitted.missing.len())
        };
        let blind = vec![submit(), devices(Some(Severity::Lies))];
        assert_eq!(states(blind), (State::No, 1));
        assert_eq!(states(vec![submit(), devices(None)]), (State::Yes, 0));
    }

    /// Check that a metric lacks series where the member that they need is gone, and another metric does not.
    #[rstest]
    #[case("hci_dev___now.iso_pkts", true)]
    #[case("hci_dev.iso_pkts", true)]
    #[case("hci_dev.le_pkts", false)]
    #[case("hci_conn.iso_pkts", false)]
    fn metric_lacks_series_of_a_missing_member(#[case] subject: &str, #[case] degraded: bool) {
        let mut send = program("fentry/hci_send_frame", Some(Severity::Note));
        send.findings[0].code = Code::RelocGuarded;
        subject.clone_into(&mut send.findings[0].subject);
        let metrics = metric_verdicts("credits", &verdict(vec![send]));
        let of = |name: &str| metrics.iter().find(|m| m.name == name).unwrap();
        let at_send = of("bluetooth_hci_slots_at_send");
        assert_eq!((at_send.state, at_send.degraded), (State::Yes, degraded));
        assert_eq!(at_send.missing.len(), usize::from(degraded));
        assert!(!of("bluetooth_hci_completed_packets_events_total").degraded);
    }
}
