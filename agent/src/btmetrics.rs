//! The command `btmetrics` in the guest: it loads probes of its own, and what it serves is judged in place of what ours say.

use crate::scrape;
use crate::sys;
use anyhow::{Context as _, bail, ensure};
use evidence::Scrape;
use metrics::catalogue::{SLOTS_CAPACITY, SLOTS_FREE};
use metrics::text::{Format, parse};
use metrics::{Snapshot, Value};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where it comes with the objects, and where it runs from.
const PUSHED: &str = "btmetrics";
const PROGRAM: &str = "/btmetrics";
/// Where it serves by default.
const ADDRESS: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 9559);
/// How long loading may take.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// `btmetrics serve`. It ends with this value.
#[derive(Debug)]
pub(crate) struct Btmetrics {
    child: Child,
    objects: PathBuf,
}

impl Btmetrics {
    /// Starts it, and waits until its probes are attached.
    ///
    /// # Errors
    /// It was not pushed, ends, or does not begin to serve.
    pub(crate) fn start(objects: &Path) -> anyhow::Result<Self> {
        sys::bring_up_loopback().context("failed to bring lo up")?;
        fs::copy(objects.join(PUSHED), PROGRAM).context("failed to copy btmetrics")?;
        fs::set_permissions(PROGRAM, fs::Permissions::from_mode(0o755))?;
        let child = command(objects)
            .arg("serve")
            .args(["--objects".as_ref(), objects.as_os_str()])
            .spawn()
            .context("failed to start btmetrics")?;
        let mut started = Self {
            child,
            objects: objects.to_owned(),
        };
        started.await_service()?;
        Ok(started)
    }

    /// It listens before it loads, and answers once it has loaded.
    fn await_service(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("btmetrics serve ended with {status}");
            }
            let answered = TcpStream::connect(ADDRESS).is_ok() && self.scrape().is_ok();
            if answered {
                return Ok(());
            }
            sleep(PAUSE);
        }
        bail!("btmetrics serve did not serve within {PATIENCE:?}")
    }

    /// What it serves now, in both formats, and the values.
    ///
    /// # Errors
    /// It does not answer with metrics.
    pub(crate) fn read(&self) -> anyhow::Result<(Snapshot, Vec<Scrape>)> {
        let scrapes = self.scrape()?;
        let first = scrapes.first().context("nothing was scraped")?;
        let snapshot = parse(&first.text).context("btmetrics serves what is no metric")?;
        self.check_once(&snapshot)?;
        Ok((snapshot, scrapes))
    }

    fn scrape(&self) -> anyhow::Result<Vec<Scrape>> {
        let formats = [Format::Prometheus, Format::OpenMetrics].into_iter();
        formats
            .map(|format| scrape::get(SocketAddr::from(ADDRESS), format))
            .collect()
    }

    /// `btmetrics --once` reads the same state of all devices, with a third set of probes.
    fn check_once(&self, served: &Snapshot) -> anyhow::Result<()> {
        let output = command(&self.objects)
            .args(["--once", "--for", "0"])
            .args(["--objects".as_ref(), self.objects.as_os_str()])
            .output()
            .context("failed to run btmetrics --once")?;
        ensure!(
            output.status.success(),
            "btmetrics --once ended with {}",
            output.status
        );
        let text = String::from_utf8(output.stdout).context("it writes what is no text")?;
        let once = parse(&text).context("it writes what is no metric")?;
        for metric in [&SLOTS_FREE, &SLOTS_CAPACITY] {
            let series = |snapshot: &Snapshot| -> Vec<(String, Value)> {
                let all = snapshot.series_of(metric);
                all.map(|(labels, value)| (labels.to_string(), value.clone()))
                    .collect()
            };
            let (once, served) = (series(&once), series(served));
            ensure!(!served.is_empty(), "no {} is served", metric.name);
            ensure!(
                once == served,
                "{}: served {served:?}, once {once:?}",
                metric.name
            );
        }
        Ok(())
    }
}

/// What it says goes to the console.
fn command(objects: &Path) -> Command {
    let mut command = Command::new(PROGRAM);
    command.current_dir(objects).stdin(Stdio::null());
    command
}

impl Drop for Btmetrics {
    fn drop(&mut self) {
        let _gone_already = self.child.kill();
        let _gone_already = self.child.wait();
    }
}
