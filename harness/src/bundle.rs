//! A replay bundle: everything that is needed to do one case again, in one folder.
//!
//! ```text
//! bundle.json     kernel and image by hash, QEMU's command line, how the guest came to be
//! scenario.json   what was done
//! agent objects/  what was pushed
//! initramfs.cpio  the image; the kernel itself is found by its hash, in the cache or the archive
//! result.json     what it came to, with all evidence
//! hci*.btsnoop    what crossed each controller's boundary, if the guest could still send it
//! console.txt     last lines of the console
//! usbN.pcap       what crossed the bus of each controller on USB, for Wireshark
//! usbmon.pcap     the same, all of them, as the guest's kernel saw it
//! ```

use crate::case::{Capture, CaseResult, MEMORY_MIB, Setting, Start};
use crate::drive::{Image, Payload};
use crate::machine::Accel;
use crate::saves;
use anyhow::{Context as _, ensure};
use evidence::Scenario;
use kernels::KernelId;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Name of the folder of bundles in a report.
pub const FOLDER: &str = "bundles";
/// Version of `bundle.json`.
pub const SCHEMA: &str = "bluetooth-metrics.bundle/1";

const ABOUT: &str = "bundle.json";
const SCENARIO: &str = "scenario.json";
const AGENT: &str = "agent";
const OBJECTS: &str = "objects";
const INITRAMFS: &str = "initramfs.cpio";
const RESULT: &str = "result.json";
const CONSOLE: &str = "console.txt";

/// A file by what is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    /// Its name.
    pub name: String,
    /// SHA-256 of its bytes, hexadecimal.
    pub sha256: String,
}

/// What `bundle.json` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// [`SCHEMA`].
    pub schema: String,
    /// The kernel's name in kernels.toml.
    pub kernel: KernelId,
    /// `uname -r` under it.
    pub release: String,
    /// The file that QEMU boots.
    pub kernel_file: FileHash,
    /// The image beside this file.
    pub initramfs: FileHash,
    /// Who executed the guest.
    pub accel: Accel,
    /// Was the guest booted for this case, or restored?
    pub boot: bool,
    /// Arguments of the agent besides those that every run has.
    pub agent_arguments: Vec<String>,
    /// QEMU's command line, but for its descriptors.
    pub qemu: Vec<String>,
    /// Object files, as they were pushed.
    pub objects: Vec<String>,
}

/// A bundle that was read, ready to be run.
#[derive(Debug)]
pub struct Replay {
    /// What it says of itself.
    pub bundle: Bundle,
    /// What to do.
    pub scenario: Scenario,
    /// What to push.
    pub payload: Payload,
    /// The image, checked.
    pub initramfs: PathBuf,
}

/// The name of a case's bundle.
#[must_use]
pub fn name(kernel: &KernelId, scenario: &str) -> String {
    format!("{}--{scenario}", kernel.file_stem())
}

/// Writes the bundle of a case into `folder`, in place of an older one of the same name.
///
/// # Errors
/// A file cannot be read or written.
pub fn write(
    folder: &Path,
    image: &Image,
    scenario: &Scenario,
    setting: Setting<'_>,
    result: &CaseResult,
) -> anyhow::Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    let made = tempfile::Builder::new()
        .prefix(".making-")
        .tempdir_in(folder)
        .with_context(|| format!("failed to write in {}", folder.display()))?;
    let at = |file: &str| made.path().join(file);
    fs::create_dir(at(OBJECTS))?;
    for (object, bytes) in &setting.payload.objects {
        fs::write(at(OBJECTS).join(file_name(object)?), bytes)?;
    }
    fs::write(at(AGENT), &setting.payload.agent)?;
    fs::write(at(SCENARIO), serde_json::to_vec_pretty(scenario)?)?;
    fs::write(at(RESULT), serde_json::to_vec_pretty(result)?)?;
    fs::write(at(CONSOLE), result.evidence.console.join("\n"))?;
    for Capture { name, bytes } in &result.captures {
        fs::write(at(file_name(name)?), bytes)?;
    }
    // A link costs nothing; to another disk it takes a copy.
    if fs::hard_link(&image.initramfs, at(INITRAMFS)).is_err() {
        fs::copy(&image.initramfs, at(INITRAMFS))?;
    }
    let about = describe(image, setting, result)?;
    fs::write(at(ABOUT), serde_json::to_vec_pretty(&about)?)?;
    let place = folder.join(name(&result.kernel, &result.scenario));
    replace(made, &place).with_context(|| format!("failed to write {}", place.display()))?;
    Ok(place)
}

fn describe(image: &Image, setting: Setting<'_>, result: &CaseResult) -> anyhow::Result<Bundle> {
    let spec = saves::spec(image, setting.accel, MEMORY_MIB);
    let boot = spec.boot_arguments();
    let boot = boot.iter().map(|word| word.to_string_lossy().into_owned());
    let payload = setting.payload;
    Ok(Bundle {
        schema: SCHEMA.to_owned(),
        kernel: result.kernel.clone(),
        release: image.release.clone(),
        kernel_file: hash(&image.kernel)?,
        initramfs: hash(&image.initramfs)?,
        accel: setting.accel,
        boot: matches!(setting.start, Start::Boot),
        agent_arguments: payload.agent_arguments.clone(),
        qemu: spec.machine_arguments().into_iter().chain(boot).collect(),
        objects: payload
            .objects
            .iter()
            .map(|(name, _)| name.clone())
            .collect(),
    })
}

/// An object's name must be that of a file, as it is joined to a folder.
fn file_name(name: &str) -> anyhow::Result<&str> {
    let plain = Path::new(name).file_name().and_then(|file| file.to_str()) == Some(name);
    ensure!(plain, "an object cannot be called {name:?}");
    Ok(name)
}

fn replace(made: tempfile::TempDir, place: &Path) -> io::Result<()> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(made.path(), place)?;
    // What was temporary is the bundle now.
    let _ = made.keep();
    fs::set_permissions(place, std::os::unix::fs::PermissionsExt::from_mode(0o755))
}

/// The hash of a file.
///
/// # Errors
/// It cannot be read.
pub fn hash(path: &Path) -> anyhow::Result<FileHash> {
    let mut file =
        File::open(path).with_context(|| format!("failed to open {}", path.display()))?;
    let mut digest = Sha256::new();
    io::copy(&mut file, &mut digest)
        .with_context(|| format!("failed to read {}", path.display()))?;
    let sha256 = digest.finalize();
    let name = path.file_name().unwrap_or_default();
    Ok(FileHash {
        name: name.to_string_lossy().into_owned(),
        sha256: sha256.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Reads a bundle and checks its image.
///
/// # Errors
/// A file is missing, is not what it should be, or the image has changed.
pub fn read(folder: &Path) -> anyhow::Result<Replay> {
    let load = |file: &str| {
        let path = folder.join(file);
        fs::read(&path).with_context(|| format!("failed to read {}", path.display()))
    };
    let bundle: Bundle = serde_json::from_slice(&load(ABOUT)?)
        .with_context(|| format!("{ABOUT} of {} cannot be understood", folder.display()))?;
    ensure!(
        bundle.schema == SCHEMA,
        "{} is a {:?}; this version understands {SCHEMA}",
        folder.display(),
        bundle.schema
    );
    let scenario = serde_json::from_slice(&load(SCENARIO)?)
        .with_context(|| format!("{SCENARIO} of {} cannot be understood", folder.display()))?;
    let mut objects = Vec::new();
    for object in &bundle.objects {
        let bytes = load(&format!("{OBJECTS}/{}", file_name(object)?))?;
        objects.push((object.clone(), bytes));
    }
    let initramfs = folder.join(INITRAMFS);
    ensure!(
        hash(&initramfs)?.sha256 == bundle.initramfs.sha256,
        "{} has changed since the bundle was made",
        initramfs.display()
    );
    let payload = Payload {
        agent: load(AGENT)?,
        objects,
        agent_arguments: bundle.agent_arguments.clone(),
    };
    Ok(Replay {
        bundle,
        scenario,
        payload,
        initramfs,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::scenarios;

    struct Made {
        folder: tempfile::TempDir,
        place: PathBuf,
        payload: Payload,
    }

    fn made() -> Made {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = folder.path().join(name);
            fs::write(&path, name).unwrap();
            path
        };
        let image = Image {
            kernel: file("vmlinux"),
            initramfs: file("image"),
            release: "6.1.0-1-amd64".to_owned(),
            config: None,
        };
        let payload = Payload {
            agent: b"agent".to_vec(),
            objects: vec![("socket.bpf.o".to_owned(), b"object".to_vec())],
            agent_arguments: vec!["--attach".to_owned(), "kprobe".to_owned()],
        };
        let setting = Setting {
            accel: Accel::Tcg,
            start: Start::Boot,
            payload: &payload,
            line: &|_| {},
            keep: None,
            captures: false,
        };
        let kernel = "debian:6.1".parse().unwrap();
        let mut result = CaseResult::bare(&kernel, "l2cap-seqpacket", Outcome::Cancelled);
        result.captures = vec![Capture {
            name: "hci0.btsnoop".to_owned(),
            bytes: b"btsnoop\0".to_vec(),
        }];
        let scenario = &scenarios::all()[0];
        let bundles = folder.path().join(FOLDER);
        let mut place = PathBuf::new();
        for _again in 0..2 {
            place = write(&bundles, &image, scenario, setting, &result).unwrap();
        }
        Made {
            folder,
            place,
            payload,
        }
    }

    /// Check that a bundle written, twice, is read back as it was, alone in its folder.
    #[test]
    fn bundle_read_back_is_the_same() {
        let made = made();
        let replay = read(&made.place).unwrap();
        assert_eq!(replay.scenario, scenarios::all()[0]);
        assert_eq!(replay.payload.agent, made.payload.agent);
        assert_eq!(replay.payload.objects, made.payload.objects);
        assert_eq!(replay.payload.agent_arguments, ["--attach", "kprobe"]);
        assert!(replay.bundle.boot && replay.bundle.qemu.contains(&"-kernel".to_owned()));
        let capture = fs::read(made.place.join("hci0.btsnoop")).unwrap();
        assert_eq!(capture, b"btsnoop\0");
        let bundles = fs::read_dir(made.folder.path().join(FOLDER)).unwrap();
        assert_eq!(bundles.count(), 1);
    }

    /// Check that a bundle whose image was changed is refused rather than run.
    #[test]
    fn bundle_with_changed_image_is_refused() {
        let made = made();
        fs::remove_file(made.place.join(INITRAMFS)).unwrap();
        fs::write(made.place.join(INITRAMFS), "other").unwrap();
        let error = read(&made.place).unwrap_err().to_string();
        assert!(error.contains("has changed"), "{error}");
    }

    /// Check that an object's name cannot lead out of the bundle.
    #[test]
    fn object_name_with_a_path_is_refused() {
        assert!(file_name("../../etc/passwd").is_err());
        assert!(file_name("..").is_err());
    }
}
