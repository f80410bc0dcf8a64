//! Carrying out orders, one after the other.

use crate::{kmsg, modules, sys};
use evidence::{
    AGENT_PORT_FD, ExitStatus, FrameKind, FrameReader, FrameWriter, Order, PROTOCOL_VERSION,
    Sender, Stage0Record,
};
use std::error::Error;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

/// Bytes of a file in one frame.
const CHUNK_BYTES: usize = 1 << 20;

/// Both directions of the port.
struct Line {
    orders: FrameReader<File>,
    records: FrameWriter<File>,
    port: File,
}

/// Says hello, then obeys until *power off* or the end of the stream.
///
/// # Errors
/// The port fails, or what comes over it is no order.
pub(crate) fn serve(port: File) -> Result<(), Box<dyn Error>> {
    let mut line = Line {
        orders: FrameReader::new(port.try_clone()?),
        records: FrameWriter::new(port.try_clone()?, Sender::Stage0),
        port,
    };
    line.send(&hello())?;
    while let Some(order) = line.next_order()? {
        if order == Order::PowerOff {
            break;
        }
        if let Err(error) = line.obey(&order) {
            let order = format!("{order:?}");
            line.send(&Stage0Record::Refused {
                order,
                error: error.to_string(),
            })?;
        }
    }
    Ok(())
}

fn hello() -> Stage0Record {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Stage0Record::Hello {
        protocol: PROTOCOL_VERSION,
        release: release.trim_end().to_owned(),
        boottime_ns: sys::boottime_ns(),
    }
}

impl Line {
    fn send(&mut self, record: &Stage0Record) -> io::Result<()> {
        self.records
            .write(FrameKind::Record, &serde_json::to_vec(record)?)
    }

    fn next_order(&mut self) -> Result<Option<Order>, Box<dyn Error>> {
        let Some(frame) = self.orders.read()? else {
            return Ok(None);
        };
        if frame.kind != FrameKind::Record {
            return Err("a chunk came where an order was due".into());
        }
        Ok(Some(serde_json::from_slice(&frame.payload)?))
    }

    fn obey(&mut self, order: &Order) -> Result<(), Box<dyn Error>> {
        match order {
            Order::LoadModules { set } => self.load_modules(set),
            Order::Store { path, mode, bytes } => self.store(path, *mode, *bytes),
            Order::Fetch { path } => self.fetch(path),
            Order::Run { argv } => self.run(argv),
            Order::PowerOff => Ok(()),
        }
    }

    fn load_modules(&mut self, set: &str) -> Result<(), Box<dyn Error>> {
        let start_ns = sys::boottime_ns();
        modules::load_set(set, &mut |name, outcome| {
            self.send(&Stage0Record::Module {
                name: name.to_owned(),
                outcome,
            })
        })?;
        let elapsed_ns = sys::boottime_ns().saturating_sub(start_ns);
        self.send(&Stage0Record::ModulesLoaded {
            set: set.to_owned(),
            elapsed_ns,
        })?;
        Ok(())
    }

    /// All chunks are taken from the port even when the file cannot be written: the next order
    /// stands behind them.
    fn store(&mut self, path: &str, mode: u32, bytes: u64) -> Result<(), Box<dyn Error>> {
        let mut file = create(path, mode);
        let mut left = bytes;
        while left > 0 {
            let frame = self
                .orders
                .read()?
                .ok_or("the stream ended inside a file")?;
            let length = u64::try_from(frame.payload.len())?;
            if frame.kind != FrameKind::Chunk || length > left || length == 0 {
                return Err(format!("{path}: {left} bytes were due, another frame came").into());
            }
            if let Ok(open) = &mut file {
                open.write_all(&frame.payload)?;
            }
            left -= length;
        }
        file.map_err(|error| format!("{path}: {error}"))?;
        self.send(&Stage0Record::Stored {
            path: path.to_owned(),
        })?;
        Ok(())
    }

    fn fetch(&mut self, path: &str) -> Result<(), Box<dyn Error>> {
        let content = fs::read(path).map_err(|error| format!("{path}: {error}"))?;
        self.send(&Stage0Record::File {
            path: path.to_owned(),
            bytes: u64::try_from(content.len())?,
        })?;
        for chunk in content.chunks(CHUNK_BYTES) {
            self.records.write(FrameKind::Chunk, chunk)?;
        }
        Ok(())
    }

    /// While the program runs it alone writes to the port; stage 0 only waits.
    fn run(&mut self, argv: &[String]) -> Result<(), Box<dyn Error>> {
        let (program, arguments) = argv.split_first().ok_or("no program")?;
        let mut command = Command::new(program);
        command.args(arguments);
        sys::pass_fd(&mut command, self.port.as_fd(), AGENT_PORT_FD);
        self.send(&Stage0Record::Started {
            argv: argv.to_vec(),
        })?;
        let status = command
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?
            .wait()?;
        for complaint in kmsg::complaints() {
            self.send(&complaint)?;
        }
        let status = match (status.code(), status.signal()) {
            (Some(code), _) => ExitStatus::Code(code),
            (None, signal) => ExitStatus::Signal(signal.unwrap_or(0)),
        };
        self.send(&Stage0Record::Exited { status })?;
        Ok(())
    }
}

fn create(path: &str, mode: u32) -> io::Result<File> {
    if let Some(parent) = Path::new(path).parent() {
        fs::create_dir_all(parent)?;
    }
    let file = File::create(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}
