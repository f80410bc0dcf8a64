//! Choosing who executes the guests, by trying.
//!
//! A `/dev/kvm` that opens, even one that creates virtual machines, can still hang every stock
//! kernel (nested virtualization). So KVM is used only if a guest really comes up under it. The
//! finding is kept until the machine restarts or QEMU changes.

use crate::drive::{Guest, Image, Watch};
use crate::machine::{Accel, QEMU, Vm, VmSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Who executes, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// Who.
    pub accel: Accel,
    /// Why, in words.
    pub reason: String,
}

/// Under a KVM that works a guest speaks within half a second, and QEMU's firmware before that.
const CANARY_PATIENCE: Duration = Duration::from_secs(5);
const CANARY_MEMORY_MIB: u32 = 256;
/// So much of what a guest said last goes into the reason.
const LAST_SAID_CHARACTERS: usize = 80;

/// Chooses: what the user wants, else what was found before, else by booting `canary` under KVM.
#[must_use]
pub fn choose(
    wanted: Option<Accel>,
    canary: &Image,
    cache: &Path,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Choice {
    if let Some(accel) = wanted {
        return Choice {
            accel,
            reason: "as asked".to_owned(),
        };
    }
    if let Err(error) = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
    {
        return tcg(&format!("/dev/kvm cannot be opened: {error}"));
    }
    let file = cache.join(format!("accel-{}.json", machine_key()));
    if let Some(found) = fs::read(&file)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
    {
        return found;
    }
    let choice = try_kvm(canary, cancelled);
    if !cancelled() {
        remember(&file, &choice);
    }
    choice
}

fn tcg(reason: &str) -> Choice {
    Choice {
        accel: Accel::Tcg,
        reason: reason.to_owned(),
    }
}

/// What the finding depends on: this boot of this machine, and this QEMU.
fn machine_key() -> String {
    let boot = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let version = Command::new(QEMU).arg("--version").output();
    let version = version.map(|output| output.stdout).unwrap_or_default();
    let digest = Sha256::new()
        .chain_update(boot)
        .chain_update(version)
        .finalize();
    digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn try_kvm(canary: &Image, cancelled: &(dyn Fn() -> bool + Sync)) -> Choice {
    let spec = VmSpec {
        accel: Accel::Kvm,
        memory_mib: CANARY_MEMORY_MIB,
        kernel: canary.kernel.clone(),
        initramfs: canary.initramfs.clone(),
    };
    let watch = Watch {
        patience: CANARY_PATIENCE,
        cancelled,
        progress: &|_| {},
    };
    let vm = match Vm::start(&spec) {
        Ok(vm) => vm,
        Err(error) => return tcg(&format!("QEMU did not start under KVM: {error}")),
    };
    let mut guest = Guest::new(vm, watch);
    match guest.boot() {
        Ok(()) => Choice {
            accel: Accel::Kvm,
            reason: "a guest came up under it".to_owned(),
        },
        Err(_) => {
            guest.finish(Duration::ZERO);
            let said = guest
                .evidence
                .console
                .last()
                .map_or("nothing", String::as_str);
            let said: String = said.chars().take(LAST_SAID_CHARACTERS).collect();
            tcg(&format!(
                "/dev/kvm opens, but no guest comes up under it (last said: {said})"
            ))
        }
    }
}

/// A finding that cannot be kept is found again next time.
fn remember(file: &Path, choice: &Choice) {
    let json = serde_json::to_vec(choice).expect("no maps with strange keys in it");
    let kept = file.parent().is_some_and(|folder| {
        fs::create_dir_all(folder).is_ok()
            && tempfile::NamedTempFile::new_in(folder)
                .and_then(|temporary| {
                    fs::write(temporary.path(), json)?;
                    temporary.persist(file).map_err(|error| error.error)
                })
                .is_ok()
    });
    if !kept {
        tracing::debug!(file = %file.display(), "the accelerator finding was not kept");
    }
}
