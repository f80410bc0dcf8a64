//! `btmetrics serve`.

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use exporter::{Collector, Limits, Server, Source};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::{ProbeOptions, complain, explain, load};

/// Options of `serve`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// Where to listen; port 0 takes any
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9559")]
    listen: SocketAddr,
    #[command(flatten)]
    probes: ProbeOptions,
}

/// How often to look whether modules came or went.
const LOOK: Duration = Duration::from_secs(1);
/// How soon a signal is heeded.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until SIGINT or SIGTERM.
///
/// # Errors
///
/// Something that is needed is missing, or the address is taken.
pub(super) fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))
            .context("failed to handle signals")?;
    }
    let listener = TcpListener::bind(options.listen).with_context(|| {
        let address = options.listen;
        format!("failed to listen on {address}; choose another address with --listen")
    })?;
    let collector = Arc::new(load::load(&options.probes)?);
    let source: Arc<dyn Source> = Arc::<Collector>::clone(&collector);
    let server =
        Server::start(listener, Limits::default(), source).context("failed to start the server")?;
    complain(&format!("listening on http://{}/metrics", server.address()));
    if !server.address().ip().is_loopback() {
        complain("warning: this address can be reached from other machines");
    }
    let looks = LOOK.as_millis() / PAUSE.as_millis();
    for pauses in (0..looks).cycle() {
        thread::sleep(PAUSE);
        if stop.load(Ordering::Relaxed) {
            break;
        }
        if pauses == 0 && collector.refresh() {
            complain("modules came or went");
            explain::say_what_is_missing(&collector);
        }
    }
    Ok(ExitCode::SUCCESS)
}
