//! Arguments, and what each command does.

mod args;
mod diff;
mod html;
mod inputs;
mod junit;
mod live;
mod load;
mod losses;
mod markdown;
mod matrix;
mod offer;
mod reasons;
mod report;
mod text;

pub(crate) use args::Args;

use anyhow::{Context as _, Result, bail};
use args::{Command, Format, Judging};
use btcompat::object::requirements;
use btcompat::surface::write_snapshot;
use btcompat::verdict::{Code, State};
use clap::CommandFactory as _;
use offer::Offer;
use report::Report;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

/// What the exit status says. `--help` prints the same table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Everything works.
    Works = 0,
    /// The question could not be answered: a file is missing or damaged.
    Error = 1,
    /// Some of it works.
    Degraded = 3,
    /// Nothing of it works.
    Broken = 4,
    /// It cannot be told.
    Unknown = 5,
    /// Something really came otherwise than foretold (`check --load`).
    Foretold = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Works => 0,
            Exit::Error => 1,
            Exit::Degraded => 3,
            Exit::Broken => 4,
            Exit::Unknown => 5,
            Exit::Foretold => 6,
        })
    }
}

/// Runs a command; returns what goes to stdout.
pub(crate) fn run(args: &Args) -> Result<(String, Exit)> {
    match &args.command {
        Command::Check { judging, load } => check(judging, *load),
        Command::Matrix(judging) => {
            let report = judge(judging, true)?;
            Ok((render(&report, judging, true)?, report.exit()))
        }
        Command::Requirements { object } => {
            let (_, object) = inputs::object(object)?;
            Ok((pretty(&requirements(&object))?, Exit::Works))
        }
        Command::Surface {
            kernel,
            json,
            inputs,
        } => {
            let offer = Offer::of(&inputs::kernel(kernel, inputs)?);
            let text = if *json { pretty(&offer)? } else { offer.text() };
            Ok((text, Exit::Works))
        }
        Command::Snapshot {
            kernel,
            output,
            inputs,
        } => {
            let kernel = inputs::kernel(kernel, inputs)?;
            let data = write_snapshot(&kernel.surface, 19).context("failed to compress")?;
            std::fs::write(output, &data)
                .with_context(|| format!("failed to write {}", output.display()))?;
            let text = format!("{}: {} bytes\n", output.display(), data.len());
            Ok((text, Exit::Works))
        }
        Command::Diff {
            old,
            new,
            object,
            json,
            inputs,
        } => {
            let (old, new) = (inputs::kernel(old, inputs)?, inputs::kernel(new, inputs)?);
            let diff = diff::diff(&old, &new, object)?;
            let text = if *json { pretty(&diff)? } else { diff.text() };
            Ok((text, Exit::Works))
        }
        Command::Explain { code } => explain(code.as_deref()),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            let mut command = Args::command();
            clap_complete::generate(*shell, &mut command, "btcompat", &mut script);
            Ok((String::from_utf8(script)?, Exit::Works))
        }
        Command::Man => Ok((manual()?, Exit::Works)),
    }
}

fn pretty(document: &impl serde::Serialize) -> Result<String> {
    let mut text = serde_json::to_string_pretty(document).context("failed to write JSON")?;
    text.push('\n');
    Ok(text)
}

fn check(judging: &Judging, load: bool) -> Result<(String, Exit)> {
    let mut report = judge(judging, false)?;
    if load {
        load::compare(&mut report, &judging.object)?;
    }
    let mut text = render(&report, judging, false)?;
    if load && judging.format() == Format::Text {
        text.push_str(&load::text(&report));
    }
    Ok((text, report.exit()))
}

fn judge(judging: &Judging, many: bool) -> Result<Report> {
    let objects = inputs::objects(&judging.object)?;
    let kernels = if judging.kernel.is_empty() {
        if many {
            bail!("no kernel given: --kernel");
        }
        vec!["host".to_owned()]
    } else {
        judging.kernel.clone()
    };
    report::judge(&objects, &kernels, judging)
}

fn render(report: &Report, judging: &Judging, many: bool) -> Result<String> {
    Ok(match judging.format() {
        Format::Text if many => matrix::text(report),
        Format::Text => text::report(report, judging.verbose),
        Format::Json => {
            let mut text =
                serde_json::to_string_pretty(report).context("failed to write the report")?;
            text.push('\n');
            text
        }
        Format::Markdown => markdown::report(report),
        Format::Junit => junit::report(report),
        Format::Html => html::report(report),
    })
}

/// The manual page, commands included.
fn manual() -> Result<String> {
    let mut page = Vec::new();
    let mut command = Args::command();
    command.build();
    clap_mangen::Man::new(command.clone())
        .render(&mut page)
        .context("failed to write the manual")?;
    for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
        let man = clap_mangen::Man::new(sub.clone());
        writeln!(page, ".SH COMMAND {}", sub.get_name().to_uppercase())?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
    }
    Ok(String::from_utf8(page)?)
}

fn explain(code: Option<&str>) -> Result<(String, Exit)> {
    let mut text = String::new();
    let Some(name) = code else {
        for code in Code::ALL {
            let info = code.info();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:22} {}", info.name, info.title);
        }
        return Ok((text, Exit::Works));
    };
    let Some(code) = Code::find(name) else {
        bail!("no code {name}; `btcompat explain` lists them");
    };
    let info = code.info();
    let _ = writeln!(
        text,
        "{}: {}\n\n{}",
        info.name,
        info.title,
        text::wrap(info.text)
    );
    Ok((text, Exit::Works))
}

/// One word for an answer.
pub(crate) fn word(state: State) -> &'static str {
    match state {
        State::Yes => "works",
        State::No => "broken",
        State::Unknown => "unknown",
    }
}
