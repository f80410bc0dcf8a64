//! What must be installed, and installing it.

use anyhow::{Context as _, bail};
use std::env;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use xshell::{Shell, cmd};

/// Something that a build or a run needs.
#[derive(Debug)]
struct Need {
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

const NEEDS: [Need; 11] = [
    // The guests.
    Need {
        evidence: Evidence::Program("qemu-system-x86_64"),
        package: "qemu-system-x86",
    },
    // Compiles the eBPF programs.
    Need {
        evidence: Evidence::Program("clang"),
        package: "clang",
    },
    // libbpf is built from its crate: make, pkg-config, a C compiler, libelf and zlib, static.
    Need {
        evidence: Evidence::Program("make"),
        package: "make",
    },
    Need {
        evidence: Evidence::Program("gcc"),
        package: "gcc",
    },
    Need {
        evidence: Evidence::Program("pkg-config"),
        package: "pkg-config",
    },
    Need {
        evidence: Evidence::Library("libelf.a"),
        package: "libelf-dev",
    },
    Need {
        evidence: Evidence::Library("libz.a"),
        package: "zlib1g-dev",
    },
    // The agent is linked statically.
    Need {
        evidence: Evidence::Library("libc.a"),
        package: "libc6-dev",
    },
    // Checks the signature of the archive's index.
    Need {
        evidence: Evidence::Program("gpgv"),
        package: "gpgv",
    },
    // Checks the signatures of modules that no signed index vouches for.
    Need {
        evidence: Evidence::Program("openssl"),
        package: "openssl",
    },
    Need {
        evidence: Evidence::File("/usr/share/keyrings/debian-archive-keyring.gpg"),
        package: "debian-archive-keyring",
    },
];

/// Makes sure that everything is there: installs it if `install` and if we may, else stops with
/// the command to run.
///
/// # Errors
/// Something is missing and was not installed.
pub(crate) fn provide(shell: &Shell, install: bool) -> anyhow::Result<()> {
    let missing = missing_packages(present);
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
    let still = missing_packages(present);
    if !still.is_empty() {
        bail!("still missing after installing: {}", still.join(" "));
    }
    Ok(())
}

fn missing_packages(present: impl Fn(Evidence) -> bool) -> Vec<&'static str> {
    let absent = NEEDS.iter().filter(|need| !present(need.evidence));
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
        assert_eq!(missing_packages(has_all_but_two), ["clang", "libelf-dev"]);
        assert!(missing_packages(|_| true).is_empty());
    }
}
