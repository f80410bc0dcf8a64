//! Writes the objects that programs carry inside as files: `extract FOLDER PROGRAM...`.

#![allow(clippy::print_stderr, reason = "a command for developers")]

use btcompat::object::embedded;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> std::io::Result<ExitCode> {
    let mut args = std::env::args().skip(1).map(PathBuf::from);
    let Some(folder) = args.next() else {
        eprintln!("usage: extract FOLDER PROGRAM...");
        return Ok(ExitCode::from(2));
    };
    std::fs::create_dir_all(&folder)?;
    for program in args {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        for (i, object) in embedded(&std::fs::read(&program)?).iter().enumerate() {
            let number = if i == 0 {
                String::new()
            } else {
                format!(".{i}")
            };
            std::fs::write(folder.join(format!("{name}{number}.bpf.o")), object)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
