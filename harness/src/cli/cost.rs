//! `bench cost`: what the probes cost.

use super::lab::{Lab, LabOptions};
use super::selection::Selection;
use super::{USAGE, complain, print, repository};
use clap::Args;
use comfy_table::{Table, presets};
use harness::cost::{self, Costs, Plan};
use harness::drive::{Payload, Watch};
use kernels::{KernelId, Manifest};
use metrics::ProgramCost;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

/// Options of `bench cost`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// A kernel of kernels.toml, e.g. debian:6.12 or 'debian:6.*'; may be given more than once [default:
    /// debian:6.12, unless --group is given]
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<String>,
    /// A group of kernels.toml
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// How often each is measured; 0: no throughput, only what the kernel tells of each program
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: u32,
    /// Messages of each transfer
    #[arg(long, value_name = "N", default_value_t = 1009)]
    messages: u32,
    /// Print tables of the programs, by kernel, instead of JSON
    #[arg(long)]
    table: bool,
    #[command(flatten)]
    lab: LabOptions,
}

/// Measures, one kernel after the other, and prints.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let manifest = Manifest::load(&repository().join("kernels.toml"))?;
    let kernels = match chosen(options, &manifest) {
        Ok(kernels) => kernels,
        Err(error) => {
            complain(&format!("error: {error:#}"));
            return Ok(ExitCode::from(USAGE));
        }
    };
    let lab = Lab::open(&options.lab)?;
    let mut payload = lab.payload.clone();
    payload
        .objects
        .push(lab.built.extra_object("socket_plain.bpf.o")?);
    let measure = |kernel: &KernelId| measure(options, &lab, &payload, kernel);
    let costs: Vec<Costs> = kernels.iter().map(measure).collect::<Result<_, _>>()?;
    if options.table {
        for (title, number) in COLUMNS {
            print(&format!("{title}\n{}\n\n", table(&costs, number)));
        }
    } else {
        print(&(serde_json::to_string_pretty(&costs)? + "\n"));
    }
    Ok(ExitCode::SUCCESS)
}

fn chosen(options: &Options, manifest: &Manifest) -> anyhow::Result<Vec<KernelId>> {
    let mut kernel = options.kernel.clone();
    if kernel.is_empty() && options.group.is_none() {
        kernel.push("debian:6.12".to_owned());
    }
    let selection = Selection {
        kernel,
        group: options.group.clone(),
        scenario: Vec::new(),
        partition: None,
    };
    selection.kernels(manifest)
}

fn measure(
    options: &Options,
    lab: &Lab,
    payload: &Payload,
    kernel: &KernelId,
) -> anyhow::Result<Costs> {
    let image = lab.image(kernel)?;
    let plan = Plan {
        kernel: &kernel.to_string(),
        image: &image,
        accel: lab.choose_accel(&image).accel,
        saves: &lab.saves,
        payload,
        rounds: options.rounds,
        messages: options.messages,
    };
    let watch = Watch {
        patience: Duration::from_secs(options.lab.patience),
        cancelled: &|| lab.cancelled(),
        progress: &|_| {},
    };
    cost::costs(plan, watch, &|text| lab.progress.line(text))
}

/// What each table shows of a program.
type Number = fn(&ProgramCost) -> Option<u64>;

const COLUMNS: [(&str, Number); 3] = [
    ("Instructions that the verifier looked at:", |program| {
        // Kernels before 5.16 do not tell, and leave 0.
        Some(program.verified_instructions.into()).filter(|number| *number > 0)
    }),
    ("Instructions of each program:", |program| {
        Some(program.instructions.into())
    }),
    ("Nanoseconds of a run:", |program| {
        program.ns.checked_div(program.runs)
    }),
];

/// Programs by kernels. Kernels load different programs.
fn table(costs: &[Costs], number: Number) -> Table {
    let mut rows: BTreeMap<(&str, &str), Vec<Option<u64>>> = BTreeMap::new();
    for (column, kernel) in costs.iter().enumerate() {
        for program in &kernel.programs {
            let row = rows.entry((&program.family, &program.prog));
            row.or_insert_with(|| vec![None; costs.len()])[column] = number(program);
        }
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    let names = costs.iter().map(|costs| costs.kernel.as_str());
    table.set_header(["family", "program"].into_iter().chain(names));
    for ((family, prog), numbers) in rows {
        let mut cells = vec![family.to_owned(), prog.to_owned()];
        let cell = |number: Option<u64>| number.map_or_else(|| "–".to_owned(), |n| n.to_string());
        cells.extend(numbers.into_iter().map(cell));
        table.add_row(cells);
    }
    table
}
