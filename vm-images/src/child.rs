//! Child processes that do not outlive this one.

use std::process::{Child, Command, ExitStatus};
use std::{io, thread, time::Duration};

const POLL: Duration = Duration::from_millis(20);

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
