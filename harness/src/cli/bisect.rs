//! `bisect`: the first kernel on which a scenario comes out differently.

use super::lab::{Lab, LabOptions, Manner};
use super::selection::Selection;
use super::{USAGE, complain, print, repository};
use anyhow::Context as _;
use clap::Args;
use evidence::Scenario;
use harness::bisect::{Found, bisect};
use harness::case::CaseResult;
use harness::class::Class;
use kernels::{KernelId, Lock, Manifest};
use serde::Serialize;
use std::collections::BTreeMap;
use std::process::ExitCode;

/// Options of `bisect`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The scenario
    #[arg(long, value_name = "SCENARIO")]
    scenario: String,
    /// A kernel of kernels.toml, or a pattern; may be given more than once [default: all of the archive's generic kernels]
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// A group of kernels.toml
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Print the finding as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    lab: LabOptions,
}

/// What was found, for machines.
#[derive(Debug, Serialize)]
struct Finding {
    scenario: String,
    /// The last kernel that is as the oldest one.
    last_before: Option<String>,
    before: Class,
    /// The first one that is not.
    first_after: Option<String>,
    after: Option<Class>,
    /// What that one has to say.
    detail: String,
    /// How many kernels were looked at, of how many.
    looked_at: usize,
    of: usize,
}

/// Boots as few kernels as will do, oldest and newest first.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let (kernels, scenario) = match choose(options) {
        Ok(chosen) => chosen,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            return Ok(ExitCode::from(USAGE));
        }
    };
    let lab = Lab::open(&options.lab)?;
    let mut seen: BTreeMap<usize, CaseResult> = BTreeMap::new();
    let found = bisect(kernels.len(), |place| {
        let wanted = [(kernels.get(place)?.clone(), scenario.clone())];
        let mut report = lab.run(&wanted, Manner::default(), |_, _, _| {});
        let result = report.results.pop()?;
        let class = result.class;
        seen.insert(place, result);
        // What is outside the guest says nothing about the kernel.
        (!matches!(class, Class::Infrastructure | Class::Cancelled)).then_some(class)
    });
    lab.close();
    let Some(found) = found else {
        let last = seen.values().find(|r| r.class == Class::Infrastructure);
        let why = last.map_or_else(|| "stopped".to_owned(), |result| result.outcome.detail());
        anyhow::bail!("no answer: {why}");
    };
    let finding = Finding::new(scenario.name, &kernels, found, &seen);
    print(&if options.json {
        serde_json::to_string_pretty(&finding)? + "\n"
    } else {
        finding.to_text()
    });
    Ok(ExitCode::SUCCESS)
}

impl Finding {
    fn new(
        scenario: String,
        kernels: &[KernelId],
        found: Found<Class>,
        seen: &BTreeMap<usize, CaseResult>,
    ) -> Self {
        let name = |place: usize| kernels.get(place).map(ToString::to_string);
        let (before, change) = match found {
            Found::SameAtBothEnds(class) => (class, None),
            Found::At {
                place,
                before,
                after,
            } => (before, Some((place, after))),
        };
        Self {
            scenario,
            last_before: change.and_then(|(place, _)| name(place - 1)),
            before,
            first_after: change.and_then(|(place, _)| name(place)),
            after: change.map(|(_, class)| class),
            detail: change
                .and_then(|(place, _)| seen.get(&place))
                .map_or_else(String::new, |result| result.outcome.detail()),
            looked_at: seen.len(),
            of: kernels.len(),
        }
    }

    fn to_text(&self) -> String {
        let Self {
            scenario,
            last_before,
            before,
            first_after,
            after,
            detail,
            looked_at,
            of,
        } = self;
        let looked = format!("(looked at {looked_at} of {of} kernels)");
        match (last_before, first_after, after) {
            (Some(last), Some(first), Some(after)) => {
                let detail = match detail.as_str() {
                    "" => String::new(),
                    detail => format!(": {detail}"),
                };
                format!(
                    "{scenario} changes at {first}: {before} up to {last}, {after} from {first} on{detail} {looked}\n\
                     again: cargo xtask test-kernels --kernel {first} --scenario {scenario}\n"
                )
            }
            _ => {
                format!("{scenario} is {before} on the oldest kernel and on the newest {looked}\n")
            }
        }
    }
}

fn choose(options: &Options) -> anyhow::Result<(Vec<KernelId>, Scenario)> {
    let manifest = Manifest::load(&repository().join("kernels.toml"))?;
    let selection = Selection {
        kernel: options.kernel.clone(),
        group: options.group.clone(),
        scenario: vec![options.scenario.clone()],
        partition: None,
    };
    let mut scenarios = selection.scenarios()?.into_iter();
    let scenario = scenarios.next().context("no scenario fits")?;
    if scenarios.next().is_some() {
        anyhow::bail!("{:?} fits several scenarios; name one", options.scenario);
    }
    let mut kernels = if options.kernel.is_empty() && options.group.is_none() {
        let generic = manifest.iter().map(|(kernel, _)| kernel);
        let generic = generic.filter(|id| id.debian().is_some_and(|name| name.flavour.is_none()));
        generic.cloned().collect()
    } else {
        selection.kernels(&manifest)?
    };
    sort(&mut kernels);
    Ok((kernels, scenario))
}

/// Oldest first: by the pinned version, not by the name ("5.10" is newer than "5.10.218").
fn sort(kernels: &mut [KernelId]) {
    let lock = Lock::load(&repository().join("kernels.lock")).ok();
    kernels.sort_by_cached_key(|kernel| {
        let pinned = lock.as_ref().and_then(|lock| lock.get(kernel).ok());
        let version = pinned.map_or_else(String::new, |locked| locked.version.to_string());
        (numbers(&version), kernel.to_string())
    });
}

/// The numbers in a version, in order.
fn numbers(version: &str) -> Vec<u64> {
    let words = version.split(|c: char| !c.is_ascii_digit());
    words.filter_map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that kernels stand in the order of their pinned versions.
    #[test]
    fn sort_puts_point_releases_before_their_series() {
        let mut kernels: Vec<KernelId> = [
            "debian:7.3",
            "debian:5.10",
            "debian:6.12",
            "debian:6.12.43",
            "debian:5.10.218",
        ]
        .map(|name| name.parse().unwrap())
        .into();
        sort(&mut kernels);
        let names: Vec<String> = kernels.iter().map(ToString::to_string).collect();
        let wanted = [
            "debian:5.10.218",
            "debian:5.10",
            "debian:6.12.43",
            "debian:6.12",
            "debian:7.3",
        ];
        assert_eq!(names, wanted);
    }
}
