//! Serves virtual Bluetooth controllers that hear each other on `/dev/vhci`, on unix sockets, and as USB dongles of QEMU guests.

#![forbid(unsafe_code)]

use std::fmt::Display;
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Parser;
use controller::transport::usbredir::{DongleSettings, UsbPort};
use controller::transport::vhci::{self, VhciPort};
use controller::transport::{H4Port, Port, Server};
use controller::{Air, BdAddr, BtsnoopFiles, Direction, Ledger, Profile};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Serves virtual Bluetooth controllers that hear each other, until SIGINT or SIGTERM.
///
/// Prints one line `hciN ADDRESS` or `PATH ADDRESS` for each on stdout when all are there, and the packets that have crossed at the end.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// How many controllers on vhci; 2 if there is none on a socket, else 0.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=16))]
    vhci: Option<u8>,
    /// A controller on a unix socket that carries an H4 stream, made at PATH. May be given several times.
    #[arg(long, value_name = "PATH")]
    h4: Vec<PathBuf>,
    /// A controller as a USB dongle of a QEMU guest, on a unix socket made at PATH; give QEMU
    /// `-chardev socket,id=bt0,path=PATH -device usb-redir,chardev=bt0`. May be given several times.
    #[arg(long, value_name = "PATH")]
    usbredir: Vec<PathBuf>,
    /// The vhci device.
    #[arg(long, value_name = "PATH", default_value = vhci::DEFAULT_PATH)]
    device: PathBuf,
    /// What the controllers are.
    #[arg(long, value_name = "PROFILE", value_enum, default_value_t = Kind::DualMode)]
    profile: Kind,
    /// Captures every controller into FOLDER/hci<n>.btsnoop, n counted from 0 as the controllers are.
    #[arg(long, value_name = "FOLDER")]
    capture: Option<PathBuf>,
    /// Prints every packet that has crossed, as JSON lines, instead of sums.
    #[arg(long)]
    ledger: bool,
}

/// What a controller is.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// BR/EDR and LE.
    DualMode,
    /// BR/EDR without LE.
    Bredr,
    /// LE without BR/EDR.
    LeOnly,
    /// BR/EDR and LE with few and short buffers.
    SmallBuffers,
}

impl Kind {
    fn profile(self, addr: BdAddr) -> Profile {
        match self {
            Self::DualMode => Profile::dual_mode(addr),
            Self::Bredr => Profile::bredr(addr),
            Self::LeOnly => Profile::le_only(addr),
            Self::SmallBuffers => Profile::small_buffers(addr),
        }
    }
}

const NO_VHCI: &str = "failed to add a controller on vhci, which needs root and the module hci_vhci (--usbredir and --h4 need neither)";
/// Controllers on vhci if nothing is said.
const DEFAULT_COUNT: u8 = 2;
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
    let ports = open_ports(arguments, &mut air)?;
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

/// Opens all ports, adds a controller for each, and prints where it is.
fn open_ports(arguments: &Arguments, air: &mut Air) -> anyhow::Result<Vec<Box<dyn Port>>> {
    let default = if arguments.h4.is_empty() && arguments.usbredir.is_empty() {
        DEFAULT_COUNT
    } else {
        0
    };
    let mut ports: Vec<Box<dyn Port>> = Vec::new();
    let mut add = |port: Box<dyn Port>, place: &dyn Display| -> anyhow::Result<()> {
        let number = u8::try_from(ports.len() + 1).context("too many controllers")?;
        let addr = BdAddr::from_wire([number, 0x53, 0x00, 0x5e, 0x00, 0x00]);
        say(&format!("{place} {addr}"));
        air.add(arguments.profile.profile(addr));
        ports.push(port);
        Ok(())
    };
    for _ in 0..arguments.vhci.unwrap_or(default) {
        let port = VhciPort::open(&arguments.device).context(NO_VHCI)?;
        let index = port.index().0;
        add(Box::new(port), &format_args!("hci{index}"))?;
    }
    for path in &arguments.h4 {
        let port = H4Port::bind(path);
        let port = port.with_context(|| format!("failed to listen at {}", path.display()))?;
        add(Box::new(port), &path.display())?;
    }
    for path in &arguments.usbredir {
        let port = UsbPort::bind(path, DongleSettings::default());
        let port = port.with_context(|| format!("failed to listen at {}", path.display()))?;
        add(Box::new(port), &path.display())?;
    }
    Ok(ports)
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
