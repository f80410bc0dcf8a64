//! Sitting in a guest: a shell, or one command, on its serial console.

use crate::drive::Guest;
use crate::evidence::Ending;
use crate::sys::RawTerminal;
use anyhow::{Context as _, anyhow, ensure};
use evidence::ExitStatus;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;
use std::{env, fs, io, thread};

/// The tools of somebody who sits in a guest: one static program.
#[derive(Debug, Clone)]
pub struct Toolbox(Vec<u8>);

const TOOLBOX_PATH: &str = "/bin/busybox";
/// Says that a command has said all: ASCII's record separator.
const END: u8 = 0x1e;
/// How long what a command said may be on its way after its end.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// How often the keyboard looks whether the shell has ended.
const KEYBOARD_POLL: Duration = Duration::from_millis(100);

impl Toolbox {
    /// BusyBox as this machine has it.
    ///
    /// # Errors
    /// There is none on the path, or it needs libraries, which guests have not.
    pub fn find() -> anyhow::Result<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let place: PathBuf = env::split_paths(&path)
            .map(|folder| folder.join("busybox"))
            .find(|place| place.is_file())
            .context("there is no busybox on the path; install Debian's busybox-static")?;
        let program =
            fs::read(&place).with_context(|| format!("failed to read {}", place.display()))?;
        ensure!(
            is_static(&program),
            "{} needs libraries, which a guest has not; install Debian's busybox-static",
            place.display()
        );
        Ok(Self(program))
    }
}

/// Is this a 64-bit ELF program without an interpreter? Source: gABI, program header.
fn is_static(program: &[u8]) -> bool {
    const PT_INTERP: u32 = 3;
    let number = |at: usize, bytes: usize| {
        let field = program.get(at..at.checked_add(bytes)?)?;
        let mut value = [0; 8];
        value.get_mut(..bytes)?.copy_from_slice(field);
        usize::try_from(u64::from_le_bytes(value)).ok()
    };
    let interpreter = || {
        let (table, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
        let kinds = (0..count).map(|nth| number(table.checked_add(nth * size)?, 4));
        let kinds: Vec<usize> = kinds.collect::<Option<_>>()?;
        Some(kinds.contains(&(PT_INTERP as usize)))
    };
    program.starts_with(b"\x7fELF\x02") && interpreter() == Some(false)
}

/// A shell on this process's terminal, until it ends. Its prompt shows `name`.
///
/// # Errors
/// The guest ends before, or something fails out here.
pub fn shell(guest: &mut Guest<'_>, tools: &Toolbox, name: &str) -> anyhow::Result<ExitStatus> {
    let keyboard = guest.vm().keyboard()?;
    guest.vm().console().listen(Some(Box::new(|bytes| {
        // Whoever closed our output does not want to see more.
        let _ = out(bytes);
    })));
    let terminal = RawTerminal::enter(io::stdin()).ok();
    let size = terminal.as_ref().and_then(RawTerminal::size);
    let ended = Arc::new(AtomicBool::new(false));
    let typing = Arc::clone(&ended);
    let typist = thread::spawn(move || type_along(keyboard, &typing));
    let status = run(guest, tools, &interactive(name, size));
    ended.store(true, Ordering::Relaxed);
    guest.vm().console().listen(None);
    drop(terminal);
    // A typist that panicked has nothing more to say.
    let _ = typist.join();
    status
}

/// One command; what it says goes to standard output.
///
/// # Errors
/// The guest ends before, or something fails out here.
pub fn command(
    guest: &mut Guest<'_>,
    tools: &Toolbox,
    command: &str,
) -> anyhow::Result<ExitStatus> {
    let (said_all, all_said) = mpsc::channel();
    let listener = move |bytes: &[u8]| relay(bytes, &said_all);
    guest.vm().console().listen(Some(Box::new(listener)));
    let status = run(guest, tools, &scripted(command));
    // The console and the record of the end go different ways.
    let _ = all_said.recv_timeout(LAST_WORDS);
    guest.vm().console().listen(None);
    status
}

/// Passes on what a terminal would show, up to the end.
fn relay(bytes: &[u8], said_all: &Sender<()>) {
    let text = bytes.split(|byte| *byte == END).next().unwrap_or_default();
    let text: Vec<u8> = text.iter().copied().filter(|byte| *byte != b'\r').collect();
    // Whoever closed our output, or waits no longer, does not want to know.
    let _ = out(&text);
    if bytes.contains(&END) {
        let _ = said_all.send(());
    }
}

fn out(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

fn run(guest: &mut Guest<'_>, tools: &Toolbox, script: &str) -> anyhow::Result<ExitStatus> {
    let argv = [TOOLBOX_PATH, "sh", "-c", script].map(str::to_owned);
    let files = [(TOOLBOX_PATH, 0o755, tools.0.as_slice())];
    guest
        .sit(&files, argv.into())
        .map_err(|ending| match ending {
            Ending::Closed(Ok(())) | Ending::Unreachable(_) => anyhow!("the guest has ended"),
            other => anyhow!("the guest has ended: {other:?}"),
        })
}

/// What comes before a shell or a command.
const SET_UP: &str = "/bin/busybox --install -s /bin\n\
     export PATH=/bin HOME=/run PWD\n\
     cd /run/payload 2>/dev/null || cd /run\n";

fn interactive(name: &str, size: Option<(u16, u16)>) -> String {
    let size = size.map_or_else(String::new, |(rows, columns)| {
        format!("stty rows {rows} cols {columns} </dev/ttyS0\n")
    });
    let prompt = quoted(&format!("{name} \\w # "));
    format!(
        "{SET_UP}{size}export PS1={prompt} TERM=xterm\n\
         exec setsid -c sh -i </dev/ttyS0 >/dev/ttyS0 2>&1"
    )
}

fn scripted(command: &str) -> String {
    let command = quoted(command);
    format!(
        "{SET_UP}exec </dev/null >/dev/ttyS0 2>&1\n\
         sh -c {command}\nstatus=$?\nprintf '\\036'\nexit $status"
    )
}

/// A text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Passes on what is typed; the end of the input is typed as Ctrl-D.
fn type_along(mut keyboard: UnixStream, ended: &AtomicBool) {
    const CONTROL_D: u8 = 4;
    let mut buffer = [0; 1024];
    while !ended.load(Ordering::Relaxed) {
        match crate::sys::wait_readable(&io::stdin(), KEYBOARD_POLL) {
            Ok(false) => continue,
            Ok(true) => {}
            Err(_) => return,
        }
        let typed = io::stdin().read(&mut buffer);
        let (bytes, more): (&[u8], _) = match typed {
            Ok(n @ 1..) => (&buffer[..n], true),
            _ => (&[CONTROL_D], false),
        };
        if keyboard.write_all(bytes).is_err() || !more {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop, proptest};

    /// Check that a program that needs an interpreter is told from one that does not, and that
    /// what is no program is neither.
    #[test]
    fn dynamic_program_is_not_static() {
        let mut program = vec![0; 64 + 56];
        program[..5].copy_from_slice(b"\x7fELF\x02");
        program[32] = 64;
        program[54] = 56;
        program[56] = 1;
        assert!(is_static(&program));
        program[64] = 3;
        assert!(!is_static(&program));
        assert!(!is_static(b"#!/bin/sh"));
        assert!(!is_static(&program[..70]));
    }

    /// Check that a command's own quotes cannot end the word that it stands in.
    #[test]
    fn scripted_command_is_one_word() {
        let script = scripted("echo 'a b'; exit 3");
        assert!(
            script.contains(r"sh -c 'echo '\''a b'\''; exit 3'"),
            "{script}"
        );
    }

    proptest! {
        /// Check that no bytes make looking at a program fail.
        #[test]
        fn is_static_of_any_bytes_answers(mut bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _answer = is_static(&bytes);
            bytes.splice(0..0, *b"\x7fELF\x02");
            let _answer = is_static(&bytes);
        }
    }
}
