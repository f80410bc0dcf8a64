//! What libbpf and the verifier say.
//!
//! libbpf has one callback for the whole process. It passes messages on to `tracing` (target
//! `libbpf`) and keeps the last ones while a [`Capture`] lives, for the report of a program that
//! failed.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use libbpf_rs::{PrintCallback, PrintLevel, set_print};

/// How many lines of a verifier log are kept: its end names the fault.
const MAX_LINES: usize = 40;
/// How many bytes of one line are kept.
const MAX_LINE_BYTES: usize = 240;

static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Collects messages of libbpf while it lives; another one waits until this one is gone.
pub(crate) struct Capture {
    previous: Option<(PrintLevel, PrintCallback)>,
    _turn: MutexGuard<'static, ()>,
}

impl Capture {
    /// Takes the callback.
    pub(crate) fn start() -> Self {
        let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let level = if tracing::enabled!(target: "libbpf", tracing::Level::DEBUG) {
            PrintLevel::Debug
        } else {
            PrintLevel::Info
        };
        Self {
            previous: set_print(Some((level, record))),
            _turn: turn,
        }
    }

    /// Forgets what was said so far.
    pub(crate) fn clear(&self) {
        lines().clear();
    }

    /// The last lines that were said since [`Self::clear`]; `None` if nothing was.
    pub(crate) fn tail(&self) -> Option<String> {
        let lines = lines();
        (!lines.is_empty()).then(|| Vec::from_iter(lines.iter().cloned()).join("\n"))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        set_print(self.previous);
        self.clear();
    }
}

fn lines() -> MutexGuard<'static, VecDeque<String>> {
    LINES.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(level: PrintLevel, message: String) {
    let text = message.trim_end();
    match level {
        PrintLevel::Debug => {
            tracing::debug!(target: "libbpf", "{text}");
            return;
        }
        PrintLevel::Info => tracing::info!(target: "libbpf", "{text}"),
        PrintLevel::Warn => tracing::warn!(target: "libbpf", "{text}"),
    }
    append(&mut lines(), text);
}

/// Adds the lines of a message, and drops the oldest ones beyond the limit.
fn append(kept: &mut VecDeque<String>, message: &str) {
    let count = message.lines().count();
    for line in message.lines().skip(count.saturating_sub(MAX_LINES)) {
        if kept.len() == MAX_LINES {
            kept.pop_front();
        }
        kept.push_back(line[..line.floor_char_boundary(MAX_LINE_BYTES)].to_owned());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that of a long log the end is kept, and long lines are cut between characters.
    #[test]
    fn append_of_long_log_keeps_its_end() {
        let mut kept = VecDeque::from(["before".to_owned()]);
        let log: Vec<_> = (0..100)
            .map(|n| format!("{n} {}", "é".repeat(200)))
            .collect();
        append(&mut kept, &log.join("\n"));
        assert_eq!(kept.len(), MAX_LINES);
        assert!(kept[0].starts_with("60 ") && kept[MAX_LINES - 1].starts_with("99 "));
        assert!(kept.iter().all(|line| line.len() <= MAX_LINE_BYTES));
    }
}
