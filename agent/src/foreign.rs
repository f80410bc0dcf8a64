//! Controllers that are not this project's: BlueZ's btvirt, for comparison. It keeps no ledger and takes no orders.
//!
//! Among the pushed files are the program, the dynamic loader and the library that it needs, and modules: it has the kernel encrypt.

use crate::bluetooth::device::DeviceControl;
use crate::sys;
use anyhow::{Context as _, bail};
use controller::{Action, Profile};
use evidence::{PacketCounts, Sight};
use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// btvirt and the devices that it made.
#[derive(Debug)]
pub(crate) struct Foreign {
    child: Child,
    control: DeviceControl,
    devices: Vec<u16>,
}

const LOADER: &str = "ld.so";
const PROGRAM: &str = "btvirt";
/// How long it may take until all devices are there.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

impl Foreign {
    /// Starts btvirt, which lies in `folder`, with as many controllers as there are profiles. It knows no profile but BR/EDR with LE, and LE
    /// alone.
    ///
    /// # Errors
    /// It cannot be started, or its devices do not come.
    pub(crate) fn start(folder: &Path, profiles: &[Profile]) -> anyhow::Result<Self> {
        let control = DeviceControl::open().context("failed to open an HCI socket")?;
        insert_modules(folder)?;
        let loader = folder.join(LOADER);
        fs::set_permissions(&loader, Permissions::from_mode(0o755))
            .with_context(|| format!("failed to make {} executable", loader.display()))?;
        let le_only = profiles.iter().any(|profile| !profile.has_bredr());
        let mut command = Command::new(loader);
        command.arg("--library-path").arg(folder);
        command.arg(folder.join(PROGRAM));
        command.args(le_only.then_some("-L"));
        command.arg(format!("-l{}", profiles.len()));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().context("failed to start btvirt")?;
        let mut foreign = Self {
            child,
            control,
            devices: Vec::new(),
        };
        foreign.await_devices(profiles.len())?;
        Ok(foreign)
    }

    fn await_devices(&mut self, number: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            self.devices = self.control.list()?;
            if self.devices.len() >= number {
                self.devices.sort_unstable();
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("btvirt ended: {status}");
            }
            sleep(PAUSE);
        }
        bail!("btvirt has not made {number} devices within {PATIENCE:?}")
    }

    /// Which hciN its n-th controller is.
    ///
    /// # Errors
    /// It has fewer.
    pub(crate) fn hci(&self, number: usize) -> anyhow::Result<u16> {
        let device = self.devices.get(number).copied();
        device.with_context(|| format!("btvirt has no controller {number}"))
    }

    /// What a controller is told to do; this one gives its buffers back at once as it is.
    ///
    /// # Errors
    /// It is something else than giving buffers back.
    pub(crate) fn act(&self, action: &Action) -> anyhow::Result<()> {
        match action {
            Action::FlushAcks(_) => Ok(()),
            other => bail!("btvirt cannot be told to {other:?}"),
        }
    }

    /// How far everything is, as the kernel counts.
    ///
    /// # Errors
    /// A device is gone.
    pub(crate) fn look(&self) -> anyhow::Result<Sight> {
        let counts = self.devices.iter().map(|hci| self.counts(*hci));
        let counts: Vec<PacketCounts> = counts.collect::<anyhow::Result<_>>()?;
        let sum = |c: &PacketCounts| {
            c.commands + c.events + c.acl_sent + c.acl_received + c.sco_sent + c.sco_received
        };
        let crossed = counts.iter().map(sum).sum::<u32>();
        Ok(Sight {
            now_ns: 0,
            crossed: usize::try_from(crossed).unwrap_or(usize::MAX),
            counts,
            voice_ready: Vec::new(),
        })
    }

    fn counts(&self, hci: u16) -> anyhow::Result<PacketCounts> {
        let kernel = self.control.counters(hci)?;
        Ok(PacketCounts {
            commands: kernel.commands_sent,
            events: kernel.events_received,
            acl_sent: kernel.acl_sent,
            acl_received: kernel.acl_received,
            sco_sent: kernel.sco_sent,
            sco_received: kernel.sco_received,
        })
    }
}

/// Inserts the modules in the folder in the order of their names.
fn insert_modules(folder: &Path) -> anyhow::Result<()> {
    let files = fs::read_dir(folder).context("failed to list what was pushed")?;
    let paths = files.flatten().map(|file| file.path());
    let modules: BTreeSet<_> = paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "ko"))
        .collect();
    for path in modules {
        File::open(&path)
            .and_then(|file| sys::insert_module(&file))
            .with_context(|| format!("failed to insert {}", path.display()))?;
    }
    Ok(())
}

impl Drop for Foreign {
    fn drop(&mut self) {
        // It is gone already, or goes now; either way it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
