//! Which kernels and scenarios: options that several commands share.

use anyhow::{Context as _, bail};
use clap::Args;
use evidence::Scenario;
use harness::scenarios;
use harness::select::{Partition, glob_matches, is_glob};
use kernels::{KernelId, Manifest};
use std::collections::BTreeSet;

/// Which part of the matrix.
#[derive(Debug, Clone, Args)]
pub(super) struct Selection {
    /// A kernel of kernels.toml, e.g. debian:6.12 or 'debian:6.*'; may be given more than once
    #[arg(long, value_name = "KERNEL")]
    pub(super) kernel: Vec<String>,
    /// A group of kernels.toml [default: smoke, unless --kernel is given]
    #[arg(long, value_name = "GROUP")]
    pub(super) group: Option<String>,
    /// A scenario, or a pattern such as 'l2cap-*'; may be given more than once [default: all]
    #[arg(long, value_name = "SCENARIO")]
    pub(super) scenario: Vec<String>,
    /// Only one of several equal parts of the cases, e.g. 2/5
    #[arg(long, value_name = "M/N")]
    pub(super) partition: Option<Partition>,
}

impl Selection {
    /// The cells, kernel by kernel, oldest first where a group says so.
    pub(super) fn cells(&self, manifest: &Manifest) -> anyhow::Result<Vec<(KernelId, Scenario)>> {
        let scenarios = self.scenarios()?;
        let mut cells = Vec::new();
        for kernel in self.kernels(manifest)? {
            cells.extend(scenarios.iter().map(|s| (kernel.clone(), s.clone())));
        }
        Ok(match self.partition {
            Some(partition) => cells.drain(partition.range(cells.len())).collect(),
            None => cells,
        })
    }

    /// The kernels that are asked for, each once.
    pub(super) fn kernels(&self, manifest: &Manifest) -> anyhow::Result<Vec<KernelId>> {
        let mut kernels: Vec<KernelId> = Vec::new();
        for wanted in &self.kernel {
            if !is_glob(wanted) {
                kernels.push(manifest.choose(wanted)?);
                continue;
            }
            let names = manifest.iter().map(|(kernel, _)| kernel.clone());
            let before = kernels.len();
            kernels.extend(names.filter(|kernel| glob_matches(wanted, &kernel.to_string())));
            if kernels.len() == before {
                bail!("no kernel of kernels.toml fits {wanted:?}");
            }
        }
        let smoke = || kernels.is_empty().then_some("smoke");
        if let Some(group) = self.group.as_deref().or_else(smoke) {
            kernels.extend(manifest.group(group)?.into_iter().cloned());
        }
        let mut seen = BTreeSet::new();
        kernels.retain(|kernel| seen.insert(kernel.clone()));
        Ok(kernels)
    }

    /// The scenarios that are asked for, in the order of the report.
    pub(super) fn scenarios(&self) -> anyhow::Result<Vec<Scenario>> {
        let all = scenarios::all();
        for wanted in &self.scenario {
            let found = all
                .iter()
                .any(|scenario| glob_matches(wanted, &scenario.name));
            found.then_some(()).with_context(|| {
                let names: Vec<&str> = all.iter().map(|s| s.name.as_str()).collect();
                format!(
                    "there is no scenario {wanted:?}; there are: {}",
                    names.join(", ")
                )
            })?;
        }
        let wanted = |scenario: &Scenario| {
            let fits = |pattern: &String| glob_matches(pattern, &scenario.name);
            self.scenario.is_empty() || self.scenario.iter().any(fits)
        };
        Ok(all.into_iter().filter(wanted).collect())
    }
}
