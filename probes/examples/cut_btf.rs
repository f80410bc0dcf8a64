//! Cuts a BTF down to what the programs may need of it.
//!
//! `cut_btf IN OUT`: IN describes a module and stands alone, as `pahole --btf_encode_detached` makes
//! it of a module's debugging information.

use std::env;
use std::fs;
use std::io::Write;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let mut arguments = env::args_os().skip(1);
    let input = arguments.next().context("usage: cut_btf IN OUT")?;
    let output = arguments.next().context("usage: cut_btf IN OUT")?;
    let bytes = fs::read(&input).with_context(|| format!("failed to read {}", input.display()))?;
    let cut = probes::cut_btf(bytes).with_context(|| input.display().to_string())?;
    fs::write(&output, &cut).with_context(|| format!("failed to write {}", output.display()))?;
    writeln!(std::io::stdout(), "{} bytes", cut.len())?;
    Ok(())
}
