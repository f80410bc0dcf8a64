//! `check --load`: the verdicts beside real loads on this host.

use super::inputs;
use super::live;
use super::report::Report;
use anyhow::{Context as _, Result, bail};
use btcompat::object::embedded;
use btcompat::verdict::{Agreement, beside_trials};
use metrics::Trial;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program that links libbpf. This one never does.
const TRIAL: &str = "bt-trial";

/// Loads and attaches every program of the objects, and puts what came of it beside the verdicts.
pub(crate) fn compare(report: &mut Report, objects: &[PathBuf]) -> Result<()> {
    if !live::caps().may_trace() {
        bail!(
            "--load loads programs into this kernel: run it as root, or with CAP_BPF and CAP_PERFMON"
        );
    }
    let trial = find()?;
    let scratch = tempfile::Builder::new().prefix("btcompat-").tempdir()?;
    let files = copy_objects(&inputs::object_files(objects)?, scratch.path())?;
    let trials = run(&trial, &files)?;
    for entry in &mut report.entries {
        entry.beside = beside_trials(&entry.verdict, &trials);
    }
    Ok(())
}

/// Where the program is: named by the user, or beside this one.
fn find() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("BT_TRIAL") {
        return Ok(path.into());
    }
    let exe = std::env::current_exe().context("failed to find this program")?;
    let beside = exe.with_file_name(TRIAL);
    if !beside.is_file() {
        bail!(
            "{} is not there; build it with `cargo build -p probes --bin {TRIAL}`, or name it in BT_TRIAL",
            beside.display()
        );
    }
    Ok(beside)
}

/// Objects by the names that verdicts have, out of the programs that carry them.
fn copy_objects(paths: &[PathBuf], dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        let data =
            std::fs::read(path).with_context(|| format!("failed to read {}", path.display()))?;
        for (name, object) in inputs::named(path, embedded(&data)) {
            let file = dir.join(format!("{name}.bpf.o"));
            std::fs::write(&file, object)
                .with_context(|| format!("failed to write {}", file.display()))?;
            files.push(file);
        }
    }
    Ok(files)
}

fn run(program: &Path, files: &[PathBuf]) -> Result<Vec<Trial>> {
    let output = Command::new(program)
        .args(files)
        .stderr(Stdio::piped())
        .output()
        .with_context(|| format!("failed to run {}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed: {}", program.display(), said.trim());
    }
    let text = String::from_utf8(output.stdout).context("its output is no text")?;
    text.lines()
        .map(|line| {
            serde_json::from_str(line)
                .with_context(|| format!("{} said {line:?}", program.display()))
        })
        .collect()
}

/// The comparison for people: what was foretold wrongly, then the score.
pub(crate) fn text(report: &Report) -> String {
    let mut out = String::new();
    let all = || report.entries.iter().flat_map(|e| &e.beside);
    for line in all().filter(|b| b.agreement.is_wrong()) {
        let (said, came) = if line.agreement == Agreement::FalseOk {
            ("said to work, refused", &line.said)
        } else {
            ("said to fail, works", &line.reason)
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "FORETOLD WRONGLY  {}/{} at {}: {said}: {came}",
            line.object, line.program, line.stage
        );
    }
    let count = |wanted: Agreement| all().filter(|b| b.agreement == wanted).count();
    let undetermined = count(Agreement::Undetermined);
    let decided = all().count() - undetermined;
    let _ = writeln!(
        out,
        "really loaded: {} of {decided} loads and attachments as foretold, {undetermined} not determined",
        count(Agreement::Agrees)
    );
    out
}
