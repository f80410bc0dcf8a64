//! What must be installed, and installing it.

use anyhow::{Context as _, bail};
use std::env;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// What is to be done, as far as it decides what must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Needs {
    /// Read and write files: the harness must build.
    Files,
    /// Ask the archive besides.
    Archive,
    /// Build what goes into guests, and run them.
    Guests,
    /// Sit in one.
    Shell,
}

impl Needs {
    /// Are there guests?
    pub(crate) fn has_guests(self) -> bool {
        self >= Self::Guests
    }
}

/// Something that a build or a run needs.
#[derive(Debug)]
struct Need {
    /// It is needed for this, and for what comes after.
    from: Needs,
    /// A program on the path, or a file.
    evidence: Evidence,
    /// Debian's package that has it.
    package: &'static str,
}

#[derive(Debug, Clone, Copy)]
enum Evidence {
    Program(&'static str),
    /// A file below one of the [`LIBRARY_FOLDERS`].
    Library(&'static str),
    File(&'static str),
}

/// Where Debian and its kin keep static libraries.
const LIBRARY_FOLDERS: [&str; 3] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib"];

const NEEDS: [Need; 12] = [
    // The guests.
    Need {
        from: Needs::Guests,
        evidence: Evidence::Program("qemu-system-x86_64"),
        package: "qemu-system-x86",
    },
    // Compiles the eBPF programs.
    Need {
        from: Needs::Guests,
        evidence: Evidence::Program("clang"),
        package: "clang",
    },
    // libbpf is built from its crate: make, pkg-config, a C compiler, libelf and zlib, static.
    Need {
        from: Needs::Guests,
        evidence: Evidence::Program("make"),
        package: "make",
    },
    Need {
        from: Needs::Files,
        evidence: Evidence::Program("gcc"),
        package: "gcc",
    },
    Need {
        from: Needs::Guests,
        evidence: Evidence::Program("pkg-config"),
        package: "pkg-config",
    },
    Need {
        from: Needs::Guests,
        evidence: Evidence::Library("libelf.a"),
        package: "libelf-dev",
    },
    Need {
        from: Needs::Guests,
        evidence: Evidence::Library("libz.a"),
        package: "zlib1g-dev",
    },
    // The agent is linked statically.
    Need {
        from: Needs::Guests,
        evidence: Evidence::Library("libc.a"),
        package: "libc6-dev",
    },
    // Checks the signature of the archive's index.
    Need {
        from: Needs::Archive,
        evidence: Evidence::Program("gpgv"),
        package: "gpgv",
    },
    // Checks the signatures of modules that no signed index vouches for.
    Need {
        from: Needs::Archive,
        evidence: Evidence::Program("openssl"),
        package: "openssl",
    },
    Need {
        from: Needs::Archive,
        evidence: Evidence::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
        package: "debian-archive-keyring",
    },
    // Goes into a guest in which somebody wants to sit. Only the static one can.
    Need {
        from: Needs::Shell,
        evidence: Evidence::Program("busybox"),
        package: "busybox-static",
    },
];

/// Makes sure that everything is there that is needed for this: installs it if `install` and if we may, else stops with
/// the command to run.
///
/// # Errors
/// Something is missing and was not installed.
pub(crate) fn provide(shell: &Shell, needs: Needs, install: bool) -> anyhow::Result<()> {
    let missing = missing_packages(needs, present);
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let by_hand = format!("apt-get install --no-install-recommends {packages}");
    let Some(prefix) = privilege().filter(|_| install && on_path("apt-get")) else {
        bail!("missing: {packages}; install with: sudo {by_hand}");
    };
    eprintln!("installing what is missing through apt: {packages}");
    apt(shell, prefix, &missing)
        .with_context(|| format!("failed to install; try by hand: sudo {by_hand}"))?;
    let still = missing_packages(needs, present);
    if !still.is_empty() {
        bail!("still missing after installing: {}", still.join(" "));
    }
    Ok(())
}

fn missing_packages(needs: Needs, present: impl Fn(Evidence) -> bool) -> Vec<&'static str> {
    let absent = NEEDS
        .iter()
        .filter(|need| need.from <= needs && !present(need.evidence));
    absent.map(|need| need.package).collect()
}

fn present(evidence: Evidence) -> bool {
    match evidence {
        Evidence::Program(name) => on_path(name),
        Evidence::File(path) => Path::new(path).exists(),
        Evidence::Library(name) => LIBRARY_FOLDERS
            .iter()
            .any(|folder| Path::new(folder).join(name).exists()),
    }
}

fn on_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder: PathBuf| folder.join(program).is_file())
}

/// What to put before apt-get; `None` if we may not install. A password is only asked for on a
/// terminal.
fn privilege() -> Option<&'static [&'static str]> {
    let shell = Shell::new().ok()?;
    if cmd!(shell, "id -u")
        .quiet()
        .read()
        .is_ok_and(|id| id == "0")
    {
        return Some(&[]);
    }
    let without_password = || {
        cmd!(shell, "sudo -n true")
            .quiet()
            .ignore_stderr()
            .run()
            .is_ok()
    };
    let may_ask = std::io::stdin().is_terminal();
    (on_path("sudo") && (may_ask || without_password())).then_some(&["sudo"])
}

/// A fresh machine has no package lists: fetch them only when the first try fails.
fn apt(shell: &Shell, prefix: &[&str], packages: &[&str]) -> anyhow::Result<()> {
    let options = ["-y", "-q", "--no-install-recommends"];
    let words: Vec<&str> = prefix.iter().copied().chain(["apt-get"]).collect();
    let (program, rest) = words.split_first().context("no program")?;
    let install = || {
        let command = cmd!(
            shell,
            "{program} {rest...} install {options...} {packages...}"
        );
        command
            .env("DEBIAN_FRONTEND", "noninteractive")
            .quiet()
            .run()
    };
    if install().is_err() {
        cmd!(shell, "{program} {rest...} update -q").quiet().run()?;
        install()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that exactly the packages of what is absent are named.
    #[test]
    fn missing_packages_names_what_is_absent() {
        let has_all_but_two = |evidence: Evidence| {
            !matches!(
                evidence,
                Evidence::Program("clang") | Evidence::Library("libelf.a")
            )
        };
        let missing = |needs| missing_packages(needs, has_all_but_two);
        assert_eq!(missing(Needs::Guests), ["clang", "libelf-dev"]);
        assert!(missing(Needs::Files).is_empty());
        assert!(missing_packages(Needs::Shell, |_| true).is_empty());
        let all_for_files = missing_packages(Needs::Files, |_| false);
        assert_eq!(all_for_files, ["gcc"]);
    }
}
