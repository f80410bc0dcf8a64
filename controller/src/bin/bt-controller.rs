//! Serves virtual Bluetooth controllers that hear each other on `/dev/vhci`.

#![forbid(unsafe_code)]

use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use controller::transport::vhci::{self, VhciPort};
use controller::transport::{Port, Server};
use controller::{Air, BdAddr, BtsnoopFiles, Direction, Ledger, Profile};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Serves virtual Bluetooth controllers that hear each other, until SIGINT or SIGTERM.
///
/// Prints one line `hciN ADDRESS` for each on stdout when all are there, and the packets that have crossed at the end.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many controllers.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    vhci: u8,
    /// The vhci device.
    #[arg(long, value_name = "PATH", default_value = vhci::DEFAULT_PATH)]
    device: PathBuf,
    /// BR/EDR without LE.
    #[arg(long)]
    bredr_only: bool,
    /// Captures every controller into FOLDER/hci<n>.btsnoop, n counted from 0 as the controllers are.
    #[arg(long, value_name = "FOLDER")]
    capture: Option<PathBuf>,
    /// Prints every packet that has crossed, as JSON lines, instead of sums.
    #[arg(long)]
    ledger: bool,
}

/// Entries kept when only sums are asked for.
const NO_ENTRIES: usize = 0;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(
                clippy::print_stderr,
                reason = "the one place that reports to the person"
            )]
            {
                eprintln!("error: {error:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let mut signalled = signals().context("failed to watch for SIGINT and SIGTERM")?;
    let mut air = match arguments.ledger {
        true => Air::new(),
        false => Air::with_ledger_limit(NO_ENTRIES),
    };
    if let Some(folder) = &arguments.capture {
        air.set_tap(Box::new(BtsnoopFiles::new(folder, "hci")));
    }
    let mut ports: Vec<Box<dyn Port>> = Vec::new();
    for number in 1..=arguments.vhci {
        let port = VhciPort::open(&arguments.device).context("failed to add a controller")?;
        let addr = BdAddr::from_wire([number, 0x53, 0x00, 0x5e, 0x00, 0x00]);
        say(&format!("hci{} {addr}", port.index().0));
        air.add(if arguments.bredr_only {
            Profile::bredr(addr)
        } else {
            Profile::dual_mode(addr)
        });
        ports.push(Box::new(port));
    }
    let server = Server::start(air, ports)?;
    signalled
        .read_exact(&mut [0])
        .context("failed to wait for a signal")?;
    let mut air = server.stop()?;
    if let Some(mut tap) = air.take_tap() {
        tap.finish().context("failed to write the captures")?;
    }
    report(air.ledger(), arguments.ledger)
}

/// Gets a byte for each SIGINT and SIGTERM.
fn signals() -> std::io::Result<UnixStream> {
    let (read, write) = UnixStream::pair()?;
    pipe::register(SIGINT, write.try_clone()?)?;
    pipe::register(SIGTERM, write)?;
    Ok(read)
}

fn report(ledger: &Ledger, entries: bool) -> anyhow::Result<()> {
    if entries {
        for entry in ledger.entries() {
            say(&serde_json::to_string(entry).context("failed to print an entry")?);
        }
        return Ok(());
    }
    for (id, kind, direction, totals) in ledger.all_totals() {
        let way = match direction {
            Direction::HostToController => "from host",
            Direction::ControllerToHost => "to host",
        };
        let number = id.index();
        let (packets, bytes) = (totals.packets, totals.bytes);
        say(&format!(
            "controller {number} {way} {kind:?}: {packets} packets, {bytes} bytes"
        ));
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "results go to stdout")]
fn say(line: &str) {
    println!("{line}");
}
