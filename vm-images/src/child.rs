//! Child processes that do not outlive this one.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

const POLL: Duration = Duration::from_millis(20);
/// As much as is kept of what a child says.
const MOST_ERROR_BYTES: u64 = 64 << 10;
/// How long a child's own children may keep its standard error open after its end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Builds a command that the kernel ends together with the calling thread, where `setpriv` is installed (Debian: always).
///
/// Messages are in English, since they are searched for causes.
pub(crate) fn command(program: &str) -> Command {
    let mut command = if std::path::Path::new("/usr/bin/setpriv").exists() {
        let mut command = Command::new("/usr/bin/setpriv");
        command.args(["--pdeathsig", "KILL", "--", program]);
        command
    } else {
        Command::new(program)
    };
    command.env("LC_ALL", "C");
    command
}

/// A running child, killed when dropped.
pub(crate) struct Running(Child);

impl Running {
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        command.spawn().map(Self)
    }

    /// Listens to standard error, if it is piped. A file would not do: the disk may be full, and that be the message.
    pub(crate) fn errors(&mut self) -> Errors {
        let (sender, receiver) = channel();
        if let Some(stderr) = self.0.stderr.take() {
            thread::spawn(move || {
                let mut said = Vec::new();
                let mut stderr = stderr;
                let _ = stderr
                    .by_ref()
                    .take(MOST_ERROR_BYTES)
                    .read_to_end(&mut said);
                // Nobody may be listening any more, and what follows must not make the child wait.
                let _ = sender.send(said);
                let _ = io::copy(&mut stderr, &mut io::sink());
            });
        }
        Errors(receiver)
    }

    /// Waits for the end, and calls `tick` meanwhile; when it returns false, the child is killed.
    pub(crate) fn wait(mut self, mut tick: impl FnMut() -> bool) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status);
            }
            if !tick() {
                self.0.kill()?;
            }
            thread::sleep(POLL);
        }
    }
}

/// What a child says on standard error.
pub(crate) struct Errors(Receiver<Vec<u8>>);

impl Errors {
    /// All of it, up to a limit, once the child has ended.
    pub(crate) fn text(self) -> String {
        let said = self.0.recv_timeout(LAST_WORDS).unwrap_or_default();
        String::from_utf8_lossy(&said).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail if the child has ended and been waited for, which is the usual case.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a child that is not wanted any more is killed and waited for.
    #[test]
    fn child_refused_by_tick_is_killed() {
        let status = Running::spawn(command("sleep").arg("600"))
            .unwrap()
            .wait(|| false)
            .unwrap();
        assert!(!status.success());
    }

    /// Check that what a child says is heard, and that one that says very much is not kept waiting.
    #[test]
    fn errors_of_child_are_heard_up_to_a_limit() {
        let script = "echo first >&2; head -c 1000000 /dev/zero >&2";
        let mut child = command("sh");
        child
            .args(["-c", script])
            .stderr(std::process::Stdio::piped());
        let mut running = Running::spawn(&mut child).unwrap();
        let errors = running.errors();
        assert!(running.wait(|| true).unwrap().success());
        let text = errors.text();
        assert!(text.starts_with("first\n"));
        assert_eq!(text.len() as u64, MOST_ERROR_BYTES);
    }

    /// Check that the exit status of a child comes through.
    #[test]
    fn child_that_ends_gives_its_status() {
        let status = Running::spawn(command("sh").args(["-c", "exit 7"]))
            .unwrap()
            .wait(|| true)
            .unwrap();
        assert_eq!(status.code(), Some(7));
    }
}
