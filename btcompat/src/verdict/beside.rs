//! Verdicts beside what kernels really did.

use super::{MetricVerdict, Missing, ProgramVerdict, Severity, State, Verdict};
use metrics::{Lost, ProbeReport, Trial, Try};
use serde::{Deserialize, Serialize};

/// How an answer compares with reality.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Agreement {
    /// What was foretold came true.
    Agrees,
    /// Nothing was foretold.
    Undetermined,
    /// The kernel refused what was said to work, because the verifier gave up on its size.
    TooComplex,
    /// The kernel accepted what was said to fail.
    FalseAlarm,
    /// The kernel refused what was said to work.
    FalseOk,
}

impl Agreement {
    /// What was foretold did not come true, for a reason that could have been known.
    #[must_use]
    pub fn is_wrong(self) -> bool {
        matches!(self, Self::FalseAlarm | Self::FalseOk)
    }

    fn of(foretold: State, tried: &Try) -> Self {
        match (foretold, tried) {
            (State::Unknown, _) => Self::Undetermined,
            (State::Yes, Try::Accepted) | (State::No, Try::Refused { .. }) => Self::Agrees,
            (State::No, Try::Accepted) => Self::FalseAlarm,
            (State::Yes, Try::Refused { log, .. }) if is_too_complex(log.as_deref()) => {
                Self::TooComplex
            }
            (State::Yes, Try::Refused { .. }) => Self::FalseOk,
        }
    }
}

/// What the verifier says when it gives up. Kernel: v6.12 kernel/bpf/verifier.c do_check(),
/// check_max_stack_depth(), push_stack().
fn is_too_complex(log: Option<&str>) -> bool {
    const WORDS: [&str; 3] = [
        "BPF program is too large",
        "is too complex",
        "The sequence of 8193 jumps is too complex",
    ];
    log.is_some_and(|log| WORDS.iter().any(|words| log.contains(words)))
}

/// A program: what was foretold, and what came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramBeside {
    /// Name of the object.
    pub object: String,
    /// Name of the program.
    pub program: String,
    /// At which stage: `load`, `attach`, or `use` for both together.
    pub stage: String,
    /// What was foretold.
    pub foretold: State,
    /// Why, by the codes of the findings.
    pub reason: String,
    /// Whether the kernel accepted it.
    pub accepted: bool,
    /// What it said if not.
    pub said: String,
    /// Whether that is the same.
    pub agreement: Agreement,
}

/// A metric: what was foretold, and what came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetricBeside {
    /// Name.
    pub metric: String,
    /// What was foretold: all of it, none of it, or not determined.
    pub foretold: State,
    /// Only some of it was foretold.
    pub degraded: bool,
    /// Why.
    pub reason: String,
    /// What the loader could not have: labels and reason of each loss.
    pub lost: Vec<String>,
    /// Whether that is the same.
    pub agreement: Agreement,
}

fn reason(program: &ProgramVerdict, verdict: &Verdict) -> String {
    let all = verdict.findings.iter().chain(&program.findings);
    let grave = all.filter(|f| f.severity <= Severity::Undetermined);
    let mut codes: Vec<String> = grave.map(|f| format!("{} {}", f.code, f.subject)).collect();
    codes.dedup();
    codes.join(", ")
}

/// What the object's own findings leave of a program's answer.
fn with_object(state: State, verdict: &Verdict) -> State {
    verdict
        .findings
        .iter()
        .map(|f| match f.severity {
            Severity::Breaks => State::No,
            Severity::Undetermined => State::Unknown,
            Severity::Lies | Severity::Loses | Severity::Note => State::Yes,
        })
        .fold(state, State::and)
}

/// Programs that were tried alone. Programs that the verdict does not know are passed over.
#[must_use]
pub fn beside_trials(verdict: &Verdict, trials: &[Trial]) -> Vec<ProgramBeside> {
    let of_object = trials.iter().filter(|t| t.object == verdict.object);
    of_object
        .flat_map(|trial| {
            let program = verdict.programs.iter().find(|p| p.name == trial.prog);
            let program = program.map(|p| (p, with_object(p.load, verdict)));
            let line = |stage: &str, foretold, p: &ProgramVerdict, tried: &Try| ProgramBeside {
                object: verdict.object.clone(),
                program: p.name.clone(),
                stage: stage.to_owned(),
                foretold,
                reason: reason(p, verdict),
                accepted: tried.is_accepted(),
                said: said(tried),
                agreement: Agreement::of(foretold, tried),
            };
            let load = program.map(|(p, load)| line("load", load, p, &trial.load));
            let attach = program
                .and_then(|(p, _)| Some(line("attach", p.attach?, p, trial.attach.as_ref()?)));
            load.into_iter().chain(attach)
        })
        .collect()
}

/// The error, and the line of the log that says most: the last before the verifier's statistics.
fn said(tried: &Try) -> String {
    let Try::Refused { reason, log } = tried else {
        return String::new();
    };
    const NOISE: [&str; 6] = [
        "processed ",
        "-- END",
        "libbpf: failed to load",
        "libbpf: prog '",
        "max_states",
        "arg#",
    ];
    let lines = log.iter().flat_map(|log| log.lines().rev().map(str::trim));
    let mut telling =
        lines.filter(|line| !line.is_empty() && !NOISE.iter().any(|n| line.starts_with(n)));
    match telling.next() {
        Some(line) => format!("{reason}: {line}"),
        None => reason.clone(),
    }
}

/// Programs that the loader of the probes chose. A program that it did not want has no line.
#[must_use]
pub fn beside_reports(verdicts: &[Verdict], reports: &[ProbeReport]) -> Vec<ProgramBeside> {
    reports
        .iter()
        .filter_map(|report| {
            let family = report.family.as_str();
            let verdict = verdicts.iter().find(|v| v.object == family)?;
            let program = verdict.programs.iter().find(|p| p.name == report.prog)?;
            let tried = match report.state {
                metrics::State::Attached => Try::Accepted,
                metrics::State::Unavailable | metrics::State::Failed => Try::Refused {
                    reason: report.reason.clone().unwrap_or_default(),
                    log: report.log.clone(),
                },
            };
            let alone = match report.state {
                // The loader leaves out what would report wrong numbers, and asks no kernel.
                metrics::State::Unavailable => program.state(),
                _ => program.load.and(program.attach.unwrap_or(State::Yes)),
            };
            let foretold = with_object(alone, verdict);
            Some(ProgramBeside {
                object: family.to_owned(),
                program: report.prog.clone(),
                stage: "use".to_owned(),
                foretold,
                reason: reason(program, verdict),
                accepted: tried.is_accepted(),
                said: said(&tried),
                agreement: Agreement::of(foretold, &tried),
            })
        })
        .collect()
}

/// Metrics beside the series that the loader lost.
#[must_use]
pub fn beside_losses(metrics: &[MetricVerdict], lost: &[Lost]) -> Vec<MetricBeside> {
    metrics
        .iter()
        .map(|metric| {
            let losses = lost.iter().filter(|l| l.metric == metric.name);
            let lost: Vec<String> = losses
                .map(|l| {
                    let labels = l
                        .labels
                        .iter()
                        .map(|(name, value)| format!("{name}={value}"));
                    let labels: Vec<String> = labels.collect();
                    format!("{{{}}}: {}", labels.join(","), l.reason)
                })
                .collect();
            let whole = metric.state == State::Yes && !metric.degraded;
            let agreement = match (metric.state, whole, lost.is_empty()) {
                (State::Unknown, ..) => Agreement::Undetermined,
                (_, true, true) | (_, false, false) => Agreement::Agrees,
                (_, true, false) => Agreement::FalseOk,
                (_, false, true) => Agreement::FalseAlarm,
            };
            MetricBeside {
                metric: metric.name.clone(),
                foretold: metric.state,
                degraded: metric.degraded,
                reason: joined(&metric.missing),
                lost,
                agreement,
            }
        })
        .collect()
}

fn joined(missing: &[Missing]) -> String {
    let texts: Vec<String> = missing.iter().map(Missing::to_string).collect();
    texts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn refused(log: &str) -> Try {
        Try::Refused {
            reason: "no".to_owned(),
            log: Some(log.to_owned()),
        }
    }

    /// Check that each pair of answer and outcome has its own word, and only two are wrong.
    #[rstest]
    #[case(State::Yes, Try::Accepted, Agreement::Agrees, false)]
    #[case(State::No, refused(""), Agreement::Agrees, false)]
    #[case(State::Yes, refused("R1 invalid mem access"), Agreement::FalseOk, true)]
    #[case(
        State::Yes,
        refused("BPF program is too large. Processed 1000001 insn"),
        Agreement::TooComplex,
        false
    )]
    #[case(State::No, Try::Accepted, Agreement::FalseAlarm, true)]
    #[case(State::Unknown, Try::Accepted, Agreement::Undetermined, false)]
    #[case(State::Unknown, refused(""), Agreement::Undetermined, false)]
    fn agreement_of_answer_and_outcome(
        #[case] foretold: State,
        #[case] tried: Try,
        #[case] expected: Agreement,
        #[case] wrong: bool,
    ) {
        let agreement = Agreement::of(foretold, &tried);
        assert_eq!((agreement, agreement.is_wrong()), (expected, wrong));
    }

    fn verdict(load: State, attach: Option<State>) -> Verdict {
        Verdict {
            object: "socket".to_owned(),
            kernel: String::new(),
            arch: String::new(),
            findings: Vec::new(),
            programs: vec![ProgramVerdict {
                name: "p".to_owned(),
                section: "fentry/f".to_owned(),
                autoload: true,
                load,
                attach,
                truth: State::Yes,
                findings: Vec::new(),
            }],
        }
    }

    fn trial(attach: Option<Try>) -> Trial {
        Trial {
            object: "socket".to_owned(),
            prog: "p".to_owned(),
            load: Try::Accepted,
            attach,
        }
    }

    /// Check that loading and attaching are lines of their own, and that attaching has none where
    /// user space decides, or nothing was loaded.
    #[rstest]
    #[case(Some(State::No), Some(Try::Accepted), &["load", "attach"])]
    #[case(None, Some(Try::Accepted), &["load"])]
    #[case(Some(State::Yes), None, &["load"])]
    fn trial_has_a_line_per_stage(
        #[case] foretold: Option<State>,
        #[case] attach: Option<Try>,
        #[case] stages: &[&str],
    ) {
        let lines = beside_trials(&verdict(State::Yes, foretold), &[trial(attach)]);
        let found: Vec<&str> = lines.iter().map(|l| l.stage.as_str()).collect();
        assert_eq!(found, stages);
        let wrong = lines.iter().filter(|l| l.agreement.is_wrong()).count();
        assert_eq!(wrong, usize::from(foretold == Some(State::No)));
    }

    /// Check that a metric that is foretold whole and lacks a series is a false promise.
    #[test]
    fn metric_with_a_loss_is_not_whole() {
        let metric = MetricVerdict {
            name: "m".to_owned(),
            family: "socket".to_owned(),
            state: State::Yes,
            degraded: false,
            missing: Vec::new(),
            programs: Vec::new(),
        };
        let lost = Lost {
            metric: "m".to_owned(),
            labels: vec![("proto".to_owned(), "iso".to_owned())],
            reason: "gone".to_owned(),
        };
        let agreement = |metric: &MetricVerdict, lost: &[Lost]| {
            beside_losses(std::slice::from_ref(metric), lost)[0].agreement
        };
        let degraded = MetricVerdict {
            degraded: true,
            ..metric.clone()
        };
        assert_eq!(agreement(&metric, &[]), Agreement::Agrees);
        assert_eq!(
            agreement(&metric, std::slice::from_ref(&lost)),
            Agreement::FalseOk
        );
        assert_eq!(agreement(&degraded, &[lost]), Agreement::Agrees);
        assert_eq!(agreement(&degraded, &[]), Agreement::FalseAlarm);
    }
}
