//! What people see while it runs: bars on a terminal, plain lines elsewhere. All on stderr.

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Duration;

/// Where progress is shown.
#[derive(Debug, Clone)]
pub struct Progress {
    bars: Option<MultiProgress>,
    shown: bool,
}

/// One thing that goes on.
#[derive(Debug)]
pub struct Task {
    name: String,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Bars if stderr is a terminal.
    #[must_use]
    pub fn on_stderr() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let bars = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self {
            bars,
            shown: terminal,
        }
    }

    /// Nothing is shown.
    #[must_use]
    pub fn hidden() -> Self {
        Self {
            bars: Some(MultiProgress::with_draw_target(ProgressDrawTarget::hidden())),
            shown: false,
        }
    }

    /// Something begins.
    #[must_use]
    pub fn task(&self, name: &str) -> Task {
        let bar = self.bars.as_ref().map(|bars| {
            let style = ProgressStyle::with_template("{spinner} {elapsed:>4} {prefix} {wide_msg}");
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(style.expect("the template is well formed"));
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Task {
            name: name.to_owned(),
            bar,
        }
    }

    /// Leaves the terminal to somebody else meanwhile. Tasks may go on; `MultiProgress::suspend` would have them wait, and so `meanwhile`
    /// wait for itself.
    pub fn pause(&self, meanwhile: impl FnOnce()) {
        if let Some(bars) = &self.bars {
            // What cannot be cleared stays on the screen.
            let _ = bars.clear();
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
        meanwhile();
        if let Some(bars) = &self.bars {
            bars.set_draw_target(self.target());
        }
    }

    fn target(&self) -> ProgressDrawTarget {
        if self.shown {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        }
    }

    /// A line that stays.
    pub fn line(&self, text: &str) {
        match &self.bars {
            // A bar that cannot be drawn is no reason to stop.
            Some(bars) => drop(bars.println(text)),
            None => print_line(text),
        }
    }
}

impl Task {
    /// What it is at. Shown on a terminal only: elsewhere it would be a flood.
    pub fn at(&self, what: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(what.to_owned());
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[expect(
    clippy::print_stderr,
    reason = "progress without a terminal is lines on stderr"
)]
fn print_line(text: &str) {
    eprintln!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that whoever has the terminal may tell what it is at: it would wait for itself for ever.
    #[test]
    fn task_goes_on_while_bars_pause() {
        let progress = Progress::hidden();
        let task = progress.task("a case");
        let mut called = false;
        progress.pause(|| {
            task.at("a shell");
            called = true;
        });
        assert!(called);
    }
}
