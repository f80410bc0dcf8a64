//! BTF for a kernel whose modules have none: `cargo xtask external-btf`.
//!
//! Debian's debug package of a kernel holds the debugging information of its modules. pahole makes a
//! BTF of that of bluetooth.ko, which is cut to what programs may need and kept in `probes/btf`, with
//! where it came from beside it. Making one downloads 0.8 GB; using one takes nothing.

use anyhow::{Context as _, ensure};
use clap::Args;
use std::path::{Path, PathBuf};
use xshell::{Shell, TempDir, cmd};

/// Where they are kept.
pub(crate) const FOLDER: &str = "probes/btf";
/// Debian's key ring; apt checks the archive against it.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Options of `external-btf`.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The kernel: `uname -r` under it, as kernels.lock has it
    release: String,
    /// The suite that holds its debug package, as kernels.lock has it
    #[arg(long)]
    suite: String,
}

/// Makes the BTF of one kernel.
///
/// # Errors
/// The debug package is not in the suite any more, or a tool is missing or fails.
pub(crate) fn make(shell: &Shell, options: &Options) -> anyhow::Result<()> {
    let Options { release, suite } = options;
    let pahole = cmd!(shell, "pahole --version").quiet().read();
    let pahole = pahole.context("failed to run pahole; install it: apt-get install pahole")?;
    let work = shell.create_temp_dir()?;
    let package = format!("linux-image-{release}-dbg");
    let deb = download(shell, &work, &package, suite)?;
    let sha256 = sha256(shell, &deb)?;
    let version = cmd!(shell, "dpkg-deb --field {deb} Version")
        .quiet()
        .read()?;
    let module = format!("usr/lib/debug/lib/modules/{release}/kernel/net/bluetooth/bluetooth.ko");
    let unpacked = extract(shell, &work, &deb, &module)?;
    let whole = work.path().join("whole.btf");
    cmd!(shell, "pahole --btf_encode_detached={whole} {unpacked}")
        .quiet()
        .run()?;
    let cut = shell
        .current_dir()
        .join(FOLDER)
        .join(format!("{release}.btf"));
    cmd!(
        shell,
        "cargo run --quiet --package probes --example cut_btf -- {whole} {cut}"
    )
    .run()?;
    let btf_sha256 = self::sha256(shell, &cut)?;
    let origin = format!(
        "# Where {release}.btf came from; made by cargo xtask external-btf.\n\
         package = \"{package}\"\nversion = \"{version}\"\nsuite = \"{suite}\"\n\
         sha256 = \"{sha256}\"\nmodule = \"{module}\"\npahole = \"{pahole}\"\n\
         btf_sha256 = \"{btf_sha256}\"\n"
    );
    shell.write_file(cut.with_extension("toml"), origin)?;
    Ok(())
}

/// Has apt, with folders of its own, fetch the package from the mirror that this machine uses.
fn download(shell: &Shell, work: &TempDir, package: &str, suite: &str) -> anyhow::Result<PathBuf> {
    let folder = work.path();
    let archive = if suite.ends_with("-security") {
        "debian-security"
    } else {
        "debian"
    };
    let format = "$(REPO_URI)";
    let addresses = cmd!(shell, "apt-get indextargets --format {format}")
        .quiet()
        .read()?;
    let mirror = mirror(&addresses, archive);
    let mirror = mirror.with_context(|| format!("apt's sources name no mirror of {archive}"))?;
    for part in ["state/lists/partial", "cache/archives/partial", "parts"] {
        shell.create_dir(folder.join(part))?;
    }
    let source = format!("deb [signed-by={KEYS}] {mirror} {suite} main\n");
    shell.write_file(folder.join("sources.list"), source)?;
    let set = |name: &str, file: &str| format!("{name} \"{}\";\n", folder.join(file).display());
    let settings = [
        set("Dir::State", "state"),
        set("Dir::State::status", "status"),
        set("Dir::Cache", "cache"),
        set("Dir::Etc::sourcelist", "sources.list"),
        set("Dir::Etc::sourceparts", "parts"),
        "APT::Sandbox::User \"root\";\n".to_owned(),
    ];
    shell.write_file(folder.join("status"), "")?;
    let config = folder.join("apt.conf");
    shell.write_file(&config, settings.concat())?;
    let _here = shell.push_dir(folder);
    cmd!(shell, "apt-get update")
        .env("APT_CONFIG", &config)
        .quiet()
        .ignore_stdout()
        .run()?;
    cmd!(shell, "apt-get download {package}")
        .env("APT_CONFIG", &config)
        .quiet()
        .run()
        .with_context(|| format!("{suite} has no {package}"))?;
    let mut files = shell.read_dir(folder)?.into_iter();
    let deb = files.find(|file| file.extension().is_some_and(|extension| extension == "deb"));
    deb.context("apt downloaded nothing")
}

/// The mirror of an archive among the addresses that apt uses, one a line.
fn mirror<'a>(addresses: &'a str, archive: &str) -> Option<&'a str> {
    let folder = |address: &&str| address.trim_end_matches('/').rsplit('/').next() == Some(archive);
    addresses.lines().find(folder)
}

/// Unpacks one file of a package.
fn extract(shell: &Shell, work: &TempDir, deb: &Path, file: &str) -> anyhow::Result<PathBuf> {
    let tar = work.path().join("data.tar");
    let folder = work.path();
    let stream = std::fs::File::create(&tar).context("failed to create data.tar")?;
    let status = std::process::Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(stream)
        .status()
        .context("failed to run dpkg-deb")?;
    ensure!(status.success(), "dpkg-deb failed on {}", deb.display());
    let member = format!("./{file}");
    cmd!(shell, "tar -x -C {folder} -f {tar} {member}")
        .quiet()
        .run()?;
    Ok(folder.join(file))
}

fn sha256(shell: &Shell, file: &Path) -> anyhow::Result<String> {
    let line = cmd!(shell, "sha256sum {file}").quiet().read()?;
    let word = line.split_whitespace().next();
    word.map(str::to_owned).context("sha256sum said nothing")
}

#[cfg(test)]
mod tests {
    use super::mirror;

    /// Check that the mirror of an archive is told from that of another whose name begins alike.
    #[test]
    fn mirror_of_archive_is_found_by_its_folder() {
        let addresses = "http://m/debian-security/\nhttp://m/debian/\n";
        assert_eq!(mirror(addresses, "debian"), Some("http://m/debian/"));
        assert_eq!(
            mirror(addresses, "debian-security"),
            Some("http://m/debian-security/")
        );
        assert_eq!(mirror(addresses, "ubuntu"), None);
    }
}
