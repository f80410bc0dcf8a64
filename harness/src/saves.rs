//! Machines that were booted once, saved, and are restored for each case.
//!
//! A restored machine begins where a boot left it: stage 0 waits for its next order. That takes a
//! tenth of the time of a boot, and no case sees what another left.

use crate::drive::{Guest, Image, Watch};
use crate::evidence::{Ending, Evidence};
use crate::machine::{QEMU, RestoreError, Talk, Vm, VmSpec};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use vm_images::{Cache, Progress as ImageProgress, SaveError, forget_saved, saved};

/// The state that is saved: these modules are loaded.
pub const MODULES: &str = "bluetooth";

/// Where saved machines are kept, and what they depend on besides themselves.
#[derive(Debug)]
pub struct Saves {
    cache: Cache,
    qemu_version: Vec<u8>,
}

/// What is written beside a state.
#[derive(Debug, Serialize, Deserialize)]
struct Notes {
    talk: Talk,
    evidence: Evidence,
}

/// Why there is no restored machine.
#[derive(Debug)]
pub enum NoGuest {
    /// The machine that was to be saved died on the way.
    Died(Box<(Ending, Evidence)>),
    /// Something outside the guest failed.
    Outside(anyhow::Error),
}

impl Saves {
    /// Saves in this cache.
    ///
    /// # Errors
    /// QEMU cannot be run.
    pub fn new(cache: Cache) -> io::Result<Self> {
        let qemu_version = Command::new(QEMU).arg("--version").output()?.stdout;
        Ok(Self {
            cache,
            qemu_version,
        })
    }

    /// A guest with Bluetooth loaded, restored. If there is no save it is made first; one that
    /// turns out to be broken is made anew, once, and `line` is told.
    ///
    /// # Errors
    /// See [`NoGuest`].
    pub fn guest<'a>(
        &self,
        spec: &VmSpec,
        watch: Watch<'a>,
        waiting: &dyn ImageProgress,
        line: &dyn Fn(&str),
    ) -> Result<Guest<'a>, NoGuest> {
        let key = self.key(spec).map_err(NoGuest::outside)?;
        match self.restored(&key, spec, watch, waiting) {
            Err(NoGuest::Outside(error)) => {
                line(&format!(
                    "a saved machine is of no use ({error:#}); making it anew"
                ));
                forget_saved(&self.cache, &key, waiting).map_err(NoGuest::outside)?;
                self.restored(&key, spec, watch, waiting)
            }
            other => other,
        }
    }

    fn restored<'a>(
        &self,
        key: &str,
        spec: &VmSpec,
        watch: Watch<'a>,
        waiting: &dyn ImageProgress,
    ) -> Result<Guest<'a>, NoGuest> {
        let make = |folder: &Path| save_new(spec, watch, folder);
        let folder = saved(&self.cache, key, waiting, make).map_err(|error| match error {
            SaveError::Make(no_guest) => no_guest,
            other => NoGuest::outside(other),
        })?;
        let start = Instant::now();
        let notes = fs::read(folder.join(NOTES)).map_err(NoGuest::outside)?;
        let notes: Notes = serde_json::from_slice(&notes).map_err(NoGuest::outside)?;
        let state = File::open(folder.join(STATE)).map_err(NoGuest::outside)?;
        let vm = Vm::restore(spec, &state, notes.talk).map_err(NoGuest::outside)?;
        Ok(Guest::restored(vm, watch, notes.evidence, start.elapsed()))
    }

    /// Everything that decides what a saved machine is.
    fn key(&self, spec: &VmSpec) -> io::Result<String> {
        let mut digest = Sha256::new();
        digest.update(&self.qemu_version);
        digest.update(MODULES);
        digest.update(evidence::PROTOCOL_VERSION.to_le_bytes());
        for word in spec.machine_arguments() {
            digest.update(word);
            digest.update([0]);
        }
        for word in spec.boot_arguments() {
            digest.update(word.as_encoded_bytes());
            digest.update([0]);
        }
        for file in [&spec.kernel, &spec.initramfs] {
            let meta = fs::metadata(file)?;
            let (seconds, nanoseconds) = (meta.mtime(), meta.mtime_nsec());
            digest.update(format!("{} {seconds} {nanoseconds}", meta.len()));
        }
        Ok(digest
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect())
    }
}

impl NoGuest {
    fn outside(error: impl Into<anyhow::Error>) -> Self {
        Self::Outside(error.into())
    }
}

const STATE: &str = "state";
const NOTES: &str = "notes.json";

/// Boots a machine, loads the modules, and saves it into an empty folder.
fn save_new(spec: &VmSpec, watch: Watch<'_>, folder: &Path) -> Result<(), NoGuest> {
    let vm = Vm::start(spec).map_err(|error| NoGuest::outside(RestoreError::Start(error)))?;
    let mut guest = Guest::new(vm, watch);
    if let Err(ending) = guest.boot().and_then(|()| guest.load_modules(MODULES)) {
        guest.finish(Duration::ZERO);
        return Err(NoGuest::Died(Box::new((ending, guest.evidence))));
    }
    guest.tell("saving");
    let talk = guest.save(&folder.join(STATE)).map_err(NoGuest::outside)?;
    let notes = Notes {
        talk,
        evidence: guest.evidence,
    };
    let json = serde_json::to_vec(&notes).map_err(NoGuest::outside)?;
    fs::write(folder.join(NOTES), json).map_err(NoGuest::outside)
}

/// The machine of an image.
#[must_use]
pub fn spec(image: &Image, accel: crate::machine::Accel, memory_mib: u32) -> VmSpec {
    VmSpec {
        accel,
        memory_mib,
        kernel: image.kernel.clone(),
        initramfs: image.initramfs.clone(),
    }
}
