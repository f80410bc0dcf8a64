//! A controller that lives in the harness's process as a device on `/dev/vhci`: its packets come over a virtio-serial port of its own, as an
//! H4 stream.

use crate::bluetooth::wait_readable;
use anyhow::{Context as _, ensure};
use controller::transport::vhci::{DEFAULT_PATH, VhciPort};
use controller::transport::{H4Stream, Port as _, Received};
use evidence::relay_port_name;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

const CLASS: &str = "/sys/class/virtio-ports";
/// How long the kernel may take to find the port.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(10);
/// More than any scenario takes.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// Joins the n-th controller to a new device, until this process ends; says which hciN it is.
///
/// # Errors
/// There is no such port, or no `/dev/vhci`.
pub(crate) fn start(number: usize) -> anyhow::Result<u16> {
    let path = find(&relay_port_name(number))?;
    let port = OpenOptions::new().read(true).write(true).open(&path);
    let port = port.with_context(|| format!("failed to open {}", path.display()))?;
    let to_harness = port.try_clone().context("failed to copy a descriptor")?;
    let device = VhciPort::open(Path::new(DEFAULT_PATH))?;
    let hci = device.index().0;
    let device = Arc::new(Mutex::new(device));
    let other = Arc::clone(&device);
    thread::spawn(move || end(number, from_kernel(&device, to_harness)));
    thread::spawn(move || end(number, to_kernel(port, &other)));
    Ok(hci)
}

/// What ends a relay is seen by whoever waits for its packets; why, on the console.
fn end(number: usize, result: anyhow::Result<()>) {
    if let Err(error) = result {
        // Without a console there is nobody to tell.
        let _ = fs::write(
            "/dev/kmsg",
            format!("relay of controller {number}: {error:#}"),
        );
    }
}

fn from_kernel(device: &Mutex<VhciPort>, mut to_harness: File) -> anyhow::Result<()> {
    let readable = lock(device).as_fd().try_clone_to_owned()?;
    loop {
        wait_readable(readable.as_fd(), LONGEST_WAIT)?;
        loop {
            let mut device = lock(device);
            let packet = match device.receive().context("failed to read from vhci")? {
                Received::Packet(packet) | Received::Lost(packet) => packet.to_vec(),
                Received::Nothing => break,
                Received::Closed => return Ok(()),
            };
            drop(device);
            let sent = to_harness.write_all(&packet);
            sent.context("failed to write to the port")?;
        }
    }
}

fn to_kernel(mut from_harness: File, device: &Mutex<VhciPort>) -> anyhow::Result<()> {
    let mut stream = H4Stream::default();
    let mut chunk = [0; 4096];
    loop {
        let read = from_harness.read(&mut chunk);
        let read = read.context("failed to read from the port")?;
        ensure!(read > 0, "the harness has gone");
        stream.push(chunk.get(..read).unwrap_or_default());
        while let Some(packet) = stream.packet()? {
            let sent = lock(device).send(&packet);
            sent.context("failed to write to vhci")?;
        }
    }
}

/// A panic elsewhere while the lock was held leaves the port usable.
fn lock(device: &Mutex<VhciPort>) -> MutexGuard<'_, VhciPort> {
    device.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for the device node of the port with this name. The name arrives after the port does.
fn find(name: &str) -> anyhow::Result<PathBuf> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ports = fs::read_dir(CLASS).with_context(|| format!("failed to list {CLASS}"))?;
        for port in ports.flatten() {
            let node = Path::new("/dev").join(port.file_name());
            let named = fs::read_to_string(port.path().join("name"));
            if named.is_ok_and(|named| named.trim_end() == name) && node.exists() {
                return Ok(node);
            }
        }
        ensure!(
            Instant::now() < deadline,
            "no port named {name} within {PATIENCE:?}"
        );
        thread::sleep(PAUSE);
    }
}
