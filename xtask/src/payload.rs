//! Building what goes into a guest: static stage 0, static agent, probe objects.

use crate::{compile, external_btf};
use anyhow::Context as _;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;
use xshell::{Shell, cmd};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds everything and puts it into one folder: `stage0`, `agent`, `objects/*.bpf.o`.
///
/// # Errors
/// A build fails, or its products cannot be copied.
pub(crate) fn build(shell: &Shell) -> anyhow::Result<PathBuf> {
    // One package a build: in one, stage 0 would be given the features that the agent asks for.
    let stage0 = build_package(shell, "stage0")?;
    let agent = build_package(shell, "agent")?;
    let folder = target_folder(shell)?.join("payload");
    shell.create_dir(&folder)?;
    shell.copy_file(executable(&stage0, "stage0")?, folder.join("stage0"))?;
    shell.copy_file(executable(&agent, "agent")?, folder.join("agent"))?;
    let objects = folder.join("objects");
    let headers = out_dir(&agent, "libbpf-sys")?.join("include");
    compile_objects(&crate::root().join("probes"), &headers, &objects)?;
    for file in shell.read_dir(external_btf::FOLDER)? {
        if file.extension().is_some_and(|extension| extension == "btf") {
            shell.copy_file(&file, &objects)?;
        }
    }
    Ok(folder)
}

/// Builds everything and the command btmetrics too, which only tests need.
///
/// # Errors
/// As [`build`].
pub(crate) fn build_for_tests(shell: &Shell) -> anyhow::Result<PathBuf> {
    let folder = build(shell)?;
    let exporter = build_package(shell, "exporter")?;
    shell.copy_file(
        executable(&exporter, "btmetrics")?,
        folder.join("btmetrics"),
    )?;
    Ok(folder)
}

/// Compiles the eBPF programs, all of them if a source is newer than an object; nothing else
/// depends on them.
fn compile_objects(package: &Path, headers: &Path, objects: &Path) -> anyhow::Result<()> {
    let sources = [package.join("bpf"), package.join("build")];
    let newest = sources.iter().filter_map(|folder| newest(folder)).max();
    let finished = objects.join(FINISHED);
    let made = modified(&finished);
    if made.is_some() && made > newest.or_else(|| modified(headers)) {
        return Ok(());
    }
    if objects.exists() {
        fs::remove_dir_all(objects).context("failed to remove old objects")?;
    }
    fs::create_dir_all(objects).context("failed to create the folder for objects")?;
    let setting = compile::Setting {
        package,
        headers,
        architecture: std::env::consts::ARCH,
    };
    compile::all(setting, objects).map_err(anyhow::Error::msg)?;
    fs::write(finished, "").context("failed to write in the folder for objects")
}

/// Stands beside the objects when all of them are there.
const FINISHED: &str = ".finished";

/// When the newest file below a folder was changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let paths = entries.map(|entry| entry.path());
    // A folder changes when a file in it comes or goes.
    let times = paths.filter_map(|path| {
        if path.is_dir() {
            newest(&path)
        } else {
            modified(&path)
        }
    });
    times.chain(modified(folder)).max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// Cargo's messages about one static build.
fn build_package(shell: &Shell, package: &str) -> anyhow::Result<Vec<Value>> {
    let messages = cmd!(
        shell,
        "cargo build --package {package} --profile guest --target {TARGET}
         --message-format json-render-diagnostics"
    )
    .env("RUSTFLAGS", "-C target-feature=+crt-static")
    .env("BT_PROBE_OBJECTS", "apart")
    .quiet()
    .read()
    .with_context(|| format!("failed to build {package}"))?;
    messages
        .lines()
        .map(|line| serde_json::from_str(line).context("cargo printed a line that is no message"))
        .collect()
}

/// The path of a binary that cargo says it made.
fn executable(messages: &[Value], name: &str) -> anyhow::Result<PathBuf> {
    messages
        .iter()
        .filter(|message| message["target"]["name"] == name)
        .find_map(|message| message["executable"].as_str())
        .map(PathBuf::from)
        .with_context(|| format!("cargo named no executable {name}"))
}

/// Where the build script of a package put its products.
fn out_dir(messages: &[Value], package: &str) -> anyhow::Result<PathBuf> {
    // `path+file:///…/probes#0.1.0`, `registry+…#libbpf-sys@1.7.0`
    let of_package =
        |id: &str| id.contains(&format!("/{package}#")) || id.contains(&format!("#{package}@"));
    messages
        .iter()
        .filter(|message| message["reason"] == "build-script-executed")
        .filter(|message| message["package_id"].as_str().is_some_and(of_package))
        .find_map(|message| message["out_dir"].as_str())
        .map(PathBuf::from)
        .with_context(|| format!("cargo named no build script of {package}"))
}

/// Cargo's target folder, wherever the user has put it.
pub(crate) fn target_folder(shell: &Shell) -> anyhow::Result<PathBuf> {
    let metadata = cmd!(shell, "cargo metadata --format-version 1 --no-deps")
        .quiet()
        .read()?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let folder = metadata["target_directory"]
        .as_str()
        .context("cargo named no target folder")?;
    Ok(Path::new(folder).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Check that products are found in cargo's messages by name, not by position.
    #[test]
    fn products_are_found_in_messages() {
        let messages = [
            json!({"reason": "build-script-executed", "package_id": "registry+x#libbpf-sys@1", "out_dir": "/a"}),
            json!({"reason": "build-script-executed", "package_id": "path+file:///r/probes#0.1.0", "out_dir": "/b"}),
            json!({"reason": "compiler-artifact", "target": {"name": "agent"}, "executable": "/t/agent"}),
        ];
        assert_eq!(out_dir(&messages, "probes").unwrap(), Path::new("/b"));
        assert_eq!(
            executable(&messages, "agent").unwrap(),
            Path::new("/t/agent")
        );
        assert_eq!(out_dir(&messages, "libbpf-sys").unwrap(), Path::new("/a"));
        assert!(out_dir(&messages, "metrics").is_err());
    }
}
