//! `bt-trial OBJECT...`: loads and attaches each program of each object alone, as root, and prints
//! what became of it, one JSON line a program. `btcompat check --load` reads that.

#![forbid(unsafe_code)]

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let objects: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if objects.is_empty() || objects.iter().any(|o| o.to_string_lossy().starts_with('-')) {
        return complain("usage: bt-trial OBJECT...", 2);
    }
    match run(&objects) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("error: {error}"), 1),
    }
}

fn run(objects: &[PathBuf]) -> Result<(), String> {
    let mut out = std::io::stdout().lock();
    for path in objects {
        let shown = path.display();
        let bytes = std::fs::read(path).map_err(|e| format!("failed to read {shown}: {e}"))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".bpf.o").unwrap_or(&name);
        let mut failed = None;
        let tried = probes::try_each(name, &bytes, |trial| {
            let line = serde_json::to_string(&trial).map_err(std::io::Error::from);
            let written = line.and_then(|line| writeln!(out, "{line}"));
            failed = failed.take().or(written.err());
        });
        tried.map_err(|e| format!("failed to open {shown}: {e}"))?;
        if let Some(error) = failed {
            return Err(format!("failed to write: {error}"));
        }
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "this is a command")]
fn complain(text: &str, code: u8) -> ExitCode {
    eprintln!("{text}");
    ExitCode::from(code)
}
