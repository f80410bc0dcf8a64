//! An HTTP server for one page.
//!
//! Small on purpose: GET and HEAD, one request a connection, and a bound on everything that a
//! client decides: how many connections there are, how long one may last, how much it may say.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use metrics::Snapshot;
use metrics::text::{Format, encode};

use crate::head::{self, Asked};

/// Where values come from.
pub trait Source: Send + Sync {
    /// Reads all values now; the error is what a client is told.
    ///
    /// # Errors
    ///
    /// Says why there are none.
    fn scrape(&self) -> Result<Snapshot, String>;
}

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time; further ones are told to come again.
    pub connections: usize,
    /// How long one may take, from its first byte to its last.
    pub time: Duration,
    /// Bytes of a request's head.
    pub head_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16,
            time: Duration::from_secs(10),
            head_bytes: 8192,
        }
    }
}

/// A server that runs, until this value goes.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves what `source` gives to whoever connects.
    ///
    /// # Errors
    ///
    /// The listener does not say where it listens, or there is no thread.
    pub fn start(
        listener: TcpListener,
        limits: Limits,
        source: Arc<dyn Source>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let accepting = thread::Builder::new()
            .name("accept".to_owned())
            .spawn(move || accept(&listener, limits, &source, &stopped))?;
        Ok(Self {
            address,
            stop,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        // Wakes the thread that waits in accept(2). If it cannot be reached, it has ended.
        let woken = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        if let (Ok(_), Some(accepting)) = (woken, self.accepting.take()) {
            let _panicked = accepting.join();
        }
    }
}

/// Pause after accept(2) fails, as it does while there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(50);

fn accept(
    listener: &TcpListener,
    limits: Limits,
    source: &Arc<dyn Source>,
    stop: &Arc<AtomicBool>,
) {
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = listener.accept();
        if stop.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => admit(stream, limits, source, &open),
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection");
                thread::sleep(PAUSE);
            }
        }
    }
}

/// Has a thread of its own answer, unless there are too many.
fn admit(stream: TcpStream, limits: Limits, source: &Arc<dyn Source>, open: &Arc<AtomicUsize>) {
    let place = Place::take(open, limits.connections);
    let source = Arc::clone(source);
    let Some(place) = place else {
        // Never waits: what does not fit into the socket's buffer is left out.
        let _told = stream
            .set_nonblocking(true)
            .and_then(|()| (&stream).write_all(Answer::busy().head().as_bytes()));
        return;
    };
    let answer = move || {
        let _place = place;
        if let Err(error) = converse(&stream, limits, &*source) {
            tracing::debug!(%error, "a client went away");
        }
        let _gone = stream.shutdown(Shutdown::Both);
    };
    if let Err(error) = thread::Builder::new()
        .name("client".to_owned())
        .spawn(answer)
    {
        tracing::warn!(%error, "failed to start a thread");
    }
}

/// One of the connections that may be open, given back with this value.
#[derive(Debug)]
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let place = Self(Arc::clone(open));
        // Dropped at once if it is too much, which gives it back.
        (open.fetch_add(1, Ordering::AcqRel) < limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Reads a request and answers it, both within the time.
fn converse(stream: &TcpStream, limits: Limits, source: &dyn Source) -> io::Result<()> {
    let deadline = Instant::now() + limits.time;
    let answer = match read_head(stream, limits, deadline)? {
        Some(head) => answer(&head, source),
        None => Answer::plain(
            "431 Request Header Fields Too Large",
            "the request is too long\n",
        ),
    };
    let mut rest = answer.head().into_bytes();
    if !answer.head_only {
        rest.extend(answer.body.into_bytes());
    }
    let mut rest = rest.as_slice();
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(deadline)?))?;
        let mut stream = stream;
        match stream.write(rest)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => rest = &rest[n..],
        }
    }
    Ok(())
}

/// Everything up to the empty line; `None` if it is too long.
fn read_head(stream: &TcpStream, limits: Limits, deadline: Instant) -> io::Result<Option<Vec<u8>>> {
    const END: &[u8] = b"\r\n\r\n";
    let mut head = Vec::new();
    let mut chunk = [0; 1024];
    loop {
        stream.set_read_timeout(Some(left(deadline)?))?;
        let mut stream = stream;
        let n = stream.read(&mut chunk)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // The end may lie across two reads.
        let from = head.len().saturating_sub(END.len());
        head.extend_from_slice(&chunk[..n]);
        let end = head[from..]
            .windows(END.len())
            .position(|window| window == END);
        if let Some(end) = end {
            head.truncate(from + end);
            return Ok((head.len() <= limits.head_bytes).then_some(head));
        }
        if head.len() > limits.head_bytes {
            return Ok(None);
        }
    }
}

/// The time that is left.
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}

/// What a client gets.
struct Answer {
    status: &'static str,
    content_type: &'static str,
    extra: &'static str,
    body: String,
    head_only: bool,
}

impl Answer {
    fn plain(status: &'static str, body: &str) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            extra: "",
            body: body.to_owned(),
            head_only: false,
        }
    }

    fn busy() -> Self {
        Self {
            extra: "Retry-After: 1\r\n",
            ..Self::plain("503 Service Unavailable", "")
        }
    }

    fn head(&self) -> String {
        format!(
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\n{}Connection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len(),
            self.extra
        )
    }
}

const INDEX: &str = "<!doctype html><title>btmetrics</title><p>Bluetooth metrics: \
                     <a href=\"/metrics\">/metrics</a>\n";

fn answer(head: &[u8], source: &dyn Source) -> Answer {
    match head::read(head) {
        Asked::Metrics { format, head_only } => Answer {
            head_only,
            ..metrics_page(format, source)
        },
        Asked::Index { head_only } => Answer {
            content_type: "text/html; charset=utf-8",
            head_only,
            ..Answer::plain("200 OK", INDEX)
        },
        Asked::NotFound => Answer::plain("404 Not Found", "the metrics are at /metrics\n"),
        Asked::Method => Answer {
            extra: "Allow: GET, HEAD\r\n",
            ..Answer::plain("405 Method Not Allowed", "only GET and HEAD\n")
        },
        Asked::Garbage => Answer::plain("400 Bad Request", "this is no HTTP/1 request\n"),
    }
}

fn metrics_page(format: Format, source: &dyn Source) -> Answer {
    match source.scrape() {
        Ok(snapshot) => Answer {
            content_type: format.content_type(),
            ..Answer::plain("200 OK", &encode(&snapshot, format))
        },
        Err(error) => Answer::plain("500 Internal Server Error", &format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests;
