//! Loads the probes, runs a command, and prints what was observed as JSON.
//!
//! `observe [--kprobe] [--btf FILE] [--object FAMILY=FILE]… DIRECTORY COMMAND [ARGUMENT]…`
//!
//! The objects are `<family>.bpf.o` in the directory, unless one is named by `--object`.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use metrics::Family;
use probes::{FAMILIES, Options, Preference, object_name};

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let mut options = Options::default();
    let mut named = Vec::new();
    let mut arguments = env::args_os().skip(1);
    let directory = loop {
        let argument = arguments.next().context("no directory given")?;
        match argument.to_str() {
            Some("--kprobe") => options.attach = Preference::Kprobe,
            Some("--btf") => {
                options.btf = Some(arguments.next().context("--btf needs a file")?.into())
            }
            Some("--object") => {
                let value = arguments.next().context("--object needs FAMILY=FILE")?;
                named.push(named_object(&value.to_string_lossy())?);
            }
            _ => break PathBuf::from(argument),
        }
    };
    let objects = objects(&directory, named);
    let probes = probes::load(&objects, &options);
    let mut out = std::io::stdout().lock();
    for report in probes.reports() {
        writeln!(out, "REPORT {}", serde_json::to_string(report)?)?;
    }
    for lost in probes.lost() {
        writeln!(out, "LOST {}", serde_json::to_string(lost)?)?;
    }
    let command = arguments.next().context("no command given")?;
    let status = Command::new(&command).args(arguments).status();
    let status = status.with_context(|| format!("failed to run {}", command.display()))?;
    writeln!(out, "STATUS {status}")?;
    for sample in Vec::<metrics::Sample>::from(probes.snapshot()?) {
        writeln!(out, "SAMPLE {}", serde_json::to_string(&sample)?)?;
    }
    Ok(())
}

fn named_object(value: &str) -> Result<(Family, PathBuf)> {
    let (name, file) = value
        .split_once('=')
        .context("--object needs FAMILY=FILE")?;
    match FAMILIES.iter().find(|family| family.as_str() == name) {
        Some(family) => Ok((*family, file.into())),
        None => bail!("no family is called {name}"),
    }
}

/// The object of each family: the named one, or that in the directory.
fn objects(directory: &Path, named: Vec<(Family, PathBuf)>) -> Vec<(Family, PathBuf)> {
    let file = |family: Family| {
        let given = named.iter().find(|(name, _)| *name == family);
        given.map_or_else(
            || directory.join(object_name(family)),
            |(_, file)| file.clone(),
        )
    };
    FAMILIES
        .iter()
        .map(|family| (*family, file(*family)))
        .collect()
}
