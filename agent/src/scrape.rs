//! Scraping our own probes as Prometheus would: over loopback, from the exporter's own server.

use crate::sys;
use anyhow::{Context as _, ensure};
use evidence::Scrape;
use exporter::{Collector, Limits, Server, Source};
use metrics::text::Format;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

/// Scrapes in both formats.
///
/// # Errors
/// There is no loopback, or the server does not answer with metrics.
pub(crate) fn scrape(collector: &Arc<Collector>) -> anyhow::Result<Vec<Scrape>> {
    sys::bring_up_loopback().context("failed to bring lo up")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("failed to listen")?;
    let source: Arc<dyn Source> = Arc::<Collector>::clone(collector);
    let server =
        Server::start(listener, Limits::default(), source).context("failed to start the server")?;
    [Format::Prometheus, Format::OpenMetrics]
        .into_iter()
        .map(|format| get(server.address(), format))
        .collect()
}

/// One GET.
///
/// # Errors
/// Nobody answers there, or not with metrics.
pub(crate) fn get(address: SocketAddr, format: Format) -> anyhow::Result<Scrape> {
    let mut stream = TcpStream::connect(address).context("failed to connect")?;
    let accept = format.content_type();
    let request = format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, text) = answer
        .split_once("\r\n\r\n")
        .context("the answer has no head")?;
    ensure!(
        head.starts_with("HTTP/1.1 200 "),
        "the server answered: {head}"
    );
    let mut lines = head.lines();
    let content_type = lines.find_map(|line| line.strip_prefix("Content-Type: "));
    Ok(Scrape {
        content_type: content_type.unwrap_or_default().to_owned(),
        text: text.to_owned(),
    })
}
