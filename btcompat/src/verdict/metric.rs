//! From programs to metrics: which of the catalogue's numbers can be had.

use super::{Finding, ProgramVerdict, State, Verdict};
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
        .any(|f| f.severity == super::Severity::Breaks);
    metrics::CATALOGUE
        .iter()
        .filter(|m| m.family.as_str() == family)
        .map(|metric| {
            let mut answer = judge(metric, verdict);
            if whole {
                answer.state = State::No;
                let grave = verdict.findings.iter();
                let grave = grave.filter(|f| f.severity == super::Severity::Breaks);
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
        let best = groups
            .iter()
            .max_by_key(|g| state(g))
            .expect("there is at least one");
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
    answer
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

/// Programs on one hook, grouped by how they attach.
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
