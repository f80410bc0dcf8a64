//! What a guest's serial console and QEMU itself print. Kept apart from the records.

use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// Older text than this many bytes is dropped.
const KEEP_BYTES: usize = 256 << 10;

#[derive(Default)]
struct Log {
    text: Vec<u8>,
    last_output: Option<Instant>,
    listener: Option<Listener>,
}

/// Is given everything that comes from now on.
pub type Listener = Box<dyn FnMut(&[u8]) + Send>;

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("bytes", &self.text.len())
            .field("last_output", &self.last_output)
            .finish_non_exhaustive()
    }
}

/// A growing log, shared with the threads that fill it.
#[derive(Debug, Clone, Default)]
pub struct Console {
    log: Arc<Mutex<Log>>,
}

impl Console {
    /// Reads `source` to its end in a thread of its own.
    pub(crate) fn follow(
        &self,
        origin: &'static str,
        mut source: impl Read + Send + 'static,
    ) -> thread::JoinHandle<()> {
        let console = self.clone();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(n @ 1..) = source.read(&mut buffer) {
                console.append(origin, &buffer[..n]);
            }
        })
    }

    fn append(&self, origin: &'static str, bytes: &[u8]) {
        tracing::trace!(target: "guest", origin, text = %String::from_utf8_lossy(bytes));
        let mut log = self.lock();
        log.last_output = Some(Instant::now());
        if let Some(listener) = &mut log.listener {
            listener(bytes);
        }
        log.text.extend_from_slice(bytes);
        let excess = log.text.len().saturating_sub(KEEP_BYTES);
        log.text.drain(..excess);
    }

    /// Has somebody listen, or nobody any more.
    pub fn listen(&self, listener: Option<Listener>) {
        self.lock().listener = listener;
    }

    /// When something was last printed.
    #[must_use]
    pub fn last_output(&self) -> Option<Instant> {
        self.lock().last_output
    }

    /// Everything that was kept, as lines without carriage returns.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock().text).replace('\r', "")
    }

    /// The last `lines` lines that are not blank.
    #[must_use]
    pub fn tail(&self, lines: usize) -> Vec<String> {
        let text = self.text();
        let mut tail: Vec<String> = text
            .lines()
            .rev()
            .filter(|line| !line.trim().is_empty())
            .take(lines)
            .map(str::to_owned)
            .collect();
        tail.reverse();
        tail
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that the end of a long log is kept, and that blank lines do not fill the tail.
    #[test]
    fn console_long_log_keeps_its_end() {
        let console = Console::default();
        let mut text = "old\r\n".repeat(KEEP_BYTES).into_bytes();
        text.extend_from_slice(b"\r\nlast but one\r\n\r\nlast\r\n");
        console
            .follow("guest", std::io::Cursor::new(text))
            .join()
            .unwrap();
        assert!(console.text().len() <= KEEP_BYTES);
        assert_eq!(console.tail(2), ["last but one", "last"]);
    }

    /// Check that a listener hears what comes while it listens, and nothing else.
    #[test]
    fn listener_hears_while_it_listens() {
        let console = Console::default();
        let say = |text: &'static str| {
            let source = std::io::Cursor::new(text.as_bytes());
            console.follow("guest", source).join().unwrap();
        };
        let heard = Arc::new(Mutex::new(Vec::new()));
        let ear = Arc::clone(&heard);
        say("before ");
        console.listen(Some(Box::new(move |bytes| {
            ear.lock().unwrap().extend_from_slice(bytes);
        })));
        say("while ");
        console.listen(None);
        say("after");
        assert_eq!(*heard.lock().unwrap(), b"while ");
        assert_eq!(console.text(), "before while after");
    }
}
