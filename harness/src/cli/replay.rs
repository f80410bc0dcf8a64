//! `replay`: one case again, from its bundle.

use super::lab::{Lab, LabOptions};
use super::print;
use anyhow::{Context as _, bail};
use clap::Args;
use harness::bundle::{self, Replay};
use harness::case::{self, Setting, Start};
use harness::drive::{Image, Watch};
use harness::report::Report;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Options of `replay`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The bundle's folder
    bundle: PathBuf,
    /// The kernel's file, if neither the cache nor the archive has it any more
    #[arg(long, value_name = "FILE")]
    kernel_file: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    lab: LabOptions,
}

/// Runs the bundle's case with the bundle's payload on the bundle's kernel.
pub(crate) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let replay = bundle::read(&options.bundle)?;
    let lab = Lab::open(&options.lab)?;
    let image = Image {
        kernel: find_kernel(&lab, &replay, options.kernel_file.as_deref())?,
        initramfs: replay.initramfs.clone(),
        release: replay.bundle.release.clone(),
        config: None,
    };
    let line = |text: &str| lab.progress.line(text);
    let setting = Setting {
        accel: options.lab.accel.unwrap_or(replay.bundle.accel),
        start: if replay.bundle.boot || options.lab.boot {
            Start::Boot
        } else {
            Start::Restore(&lab.saves)
        },
        payload: &replay.payload,
        line: &line,
        keep: None,
        captures: false,
    };
    let task = lab.progress.task(&format!("{}", options.bundle.display()));
    let watch = Watch {
        patience: Duration::from_secs(options.lab.patience),
        cancelled: &|| lab.cancelled(),
        progress: &|sign| task.at(sign.phase),
    };
    let kernel = &replay.bundle.kernel;
    let result = case::run(kernel, &image, setting, &replay.scenario, watch);
    drop(task);
    let mut report: Report = lab.report_of(vec![result], setting.accel);
    report.accel_reason = "as in the bundle".to_owned();
    print(&if options.json {
        report.to_json()?
    } else {
        report.to_text()
    });
    Ok(ExitCode::from(report.exit() as u8))
}

/// The kernel by its hash: where the user says, where the lock leads, or anywhere in the cache.
fn find_kernel(lab: &Lab, replay: &Replay, given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let wanted = &replay.bundle.kernel_file;
    let is_it = |path: &Path| bundle::hash(path).is_ok_and(|hash| hash.sha256 == wanted.sha256);
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    if let Some(found) = in_cache(lab.images.folder(), &wanted.name)?
        .into_iter()
        .find(|path| is_it(path))
    {
        return Ok(found);
    }
    let provided = lab.image(&replay.bundle.kernel)?.kernel;
    if is_it(&provided) {
        return Ok(provided);
    }
    bail!(
        "{} is now another build than the bundle's (release {}, {} with sha256 {}); give the file with --kernel-file",
        replay.bundle.kernel,
        replay.bundle.release,
        wanted.name,
        wanted.sha256
    )
}

/// Every unpacked kernel's file of that name.
fn in_cache(cache: &Path, name: &str) -> anyhow::Result<Vec<PathBuf>> {
    let trees = cache.join("trees");
    let entries =
        fs::read_dir(&trees).with_context(|| format!("failed to read {}", trees.display()))?;
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .flat_map(|tree| {
            let folder = tree.path();
            [folder.join(name), folder.join("boot").join(name)]
        })
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    Ok(found)
}
