//! Machines that were booted once, saved, and are restored for each case.
//!
//! A restored machine begins where a boot left it: stage 0 waits for its next order. That takes a
//! tenth of the time of a boot, and no case sees what another left.

mod state;

pub use state::damaged;

use crate::drive::{Guest, Image, Payload, Watch};
use crate::evidence::{Ending, Evidence};
use crate::machine::{QEMU, RestoreError, Vm, VmSpec};
use crate::splats;
use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use vm_images::{Cache, Entry, Kind, Progress as ImageProgress, SaveError, forget_saved, saved};

/// How far a machine had come when it was saved.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Stage 0 waits for orders; nothing of Bluetooth is loaded.
    Bare,
    /// The Bluetooth modules are loaded, and there is no controller.
    Bluetooth,
    /// The modules for Bluetooth over USB are loaded besides.
    Usb,
}

impl Stage {
    /// Its name, in keys and for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Bluetooth => MODULES,
            Self::Usb => USB_MODULES,
        }
    }
}

/// A point that machines are saved at.
#[derive(Debug, Clone, Copy)]
pub struct Point<'a> {
    /// How far the machine had come.
    pub stage: Stage,
    /// What was then pushed, and started: the probes are attached, and the agent waits for a scenario. `None`: nothing was.
    pub ready: Option<&'a Payload>,
}

impl Point<'_> {
    /// Nothing is pushed yet.
    #[must_use]
    pub fn before_push(stage: Stage) -> Self {
        Self { stage, ready: None }
    }

    fn is_packed(self) -> bool {
        self.ready.is_none() && self.stage.is_packed()
    }
}

impl fmt::Display for Point<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ready {
            None => write!(f, "{}", self.stage),
            Some(_) => write!(f, "{} and probes", self.stage),
        }
    }
}

impl Stage {
    /// Is its state packed? Unpacking costs more time than reading the rest, so it is not where
    /// every case begins.
    fn is_packed(self) -> bool {
        self == Self::Bare
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The list of modules that makes a bare machine one with Bluetooth.
pub const MODULES: &str = "bluetooth";
/// The list of modules that makes one with Bluetooth one with USB.
pub const USB_MODULES: &str = "usb";

/// Where saved machines are kept, and what they depend on besides themselves.
#[derive(Debug)]
pub struct Saves {
    cache: Cache,
    qemu_version: Vec<u8>,
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

    /// A guest that has come so far, restored. If there is no save it is made first; one that
    /// turns out to be broken is made anew, once, and `line` is told.
    ///
    /// # Errors
    /// See [`NoGuest`].
    pub fn guest<'a>(
        &self,
        spec: &VmSpec,
        point: Point<'_>,
        watch: Watch<'a>,
        waiting: &dyn ImageProgress,
        line: &dyn Fn(&str),
    ) -> Result<Guest<'a>, NoGuest> {
        let key = self.key(spec, point).map_err(NoGuest::outside)?;
        match self.restored(&key, spec, point, watch, waiting, line) {
            Err(NotRestored::Broken(error)) => {
                line(&format!(
                    "a saved machine is of no use ({error:#}); making it anew"
                ));
                forget_saved(&self.cache, &key, waiting).map_err(NoGuest::outside)?;
                let again = self.restored(&key, spec, point, watch, waiting, line);
                again.map_err(NotRestored::into_no_guest)
            }
            other => other.map_err(NotRestored::into_no_guest),
        }
    }

    fn restored<'a>(
        &self,
        key: &str,
        spec: &VmSpec,
        point: Point<'_>,
        watch: Watch<'a>,
        waiting: &dyn ImageProgress,
        line: &dyn Fn(&str),
    ) -> Result<Guest<'a>, NotRestored> {
        let make = |folder: &Path| {
            self.make(spec, point, watch, waiting, line, folder)?;
            self.forget_older(key);
            Ok(())
        };
        let what = describe(spec, point);
        let folder =
            saved(&self.cache, key, &what, waiting, make).map_err(|error| match error {
                SaveError::Make(no_guest) => NotRestored::Given(no_guest),
                other => NotRestored::Given(NoGuest::outside(other)),
            })?;
        let start = Instant::now();
        let (notes, state) = state::open(&folder, point).map_err(NotRestored::Broken)?;
        match Vm::restore(spec, state, notes.talk) {
            Ok(vm) => Ok(Guest::restored(vm, watch, notes.evidence, start.elapsed())),
            Err(RestoreError::Killed) => Err(NotRestored::Given(NoGuest::killed(notes.evidence))),
            Err(error @ (RestoreError::State(_) | RestoreError::Feed(_))) => {
                Err(NotRestored::Broken(error.into()))
            }
            Err(error @ RestoreError::Start(_)) => Err(NotRestored::Given(NoGuest::outside(error))),
        }
    }

    /// Makes a machine of that stage, and saves it into an empty folder. One that stood still on the way, as on
    /// a machine that is too busy, is not saved: every case would begin with the kernel's complaint.
    fn make(
        &self,
        spec: &VmSpec,
        point: Point<'_>,
        watch: Watch<'_>,
        waiting: &dyn ImageProgress,
        line: &dyn Fn(&str),
        folder: &Path,
    ) -> Result<(), NoGuest> {
        let mut stalled = String::new();
        for _ in 0..MAKE_TRIES {
            let guest = self.arrived(spec, point, watch, waiting, line)?;
            let console = guest.vm().console().text();
            let Some(stall) = splats::stall(&console) else {
                return state::write(guest, point, folder);
            };
            let what = describe(spec, point);
            stalled = format!("{what}: it stood still before it was saved ({stall})");
            line(&format!("{stalled}; making it anew"));
        }
        Err(NoGuest::Outside(anyhow!("{stalled}, {MAKE_TRIES} times")))
    }

    /// A machine that has come to a point. One of a later stage is one of the stage before that has gone on.
    fn arrived<'a>(
        &self,
        spec: &VmSpec,
        point: Point<'_>,
        watch: Watch<'a>,
        waiting: &dyn ImageProgress,
        line: &dyn Fn(&str),
    ) -> Result<Guest<'a>, NoGuest> {
        let before = |stage| {
            let point = Point::before_push(stage);
            self.guest(spec, point, watch, waiting, line)
        };
        let (mut guest, arrived) = match (point.ready, point.stage) {
            (Some(payload), stage) => {
                let mut guest = before(stage)?;
                let arrived = guest.push(payload);
                let arrived =
                    arrived.and_then(|()| guest.start_agent(payload, stage == Stage::Usb));
                (guest, arrived)
            }
            (None, Stage::Bare) => {
                let vm = Vm::start(spec);
                let vm = vm.map_err(|error| NoGuest::outside(RestoreError::Start(error)))?;
                let mut guest = Guest::new(vm, watch);
                let arrived = guest.boot();
                (guest, arrived)
            }
            (None, Stage::Bluetooth) => {
                let mut guest = before(Stage::Bare)?;
                let arrived = guest.load_modules(MODULES);
                (guest, arrived)
            }
            (None, Stage::Usb) => {
                let mut guest = before(Stage::Bluetooth)?;
                let arrived = guest.load_modules(USB_MODULES);
                (guest, arrived)
            }
        };
        // An agent that ended instead of waiting has said why.
        let ended = guest.evidence.exited.is_some();
        let arrived = arrived.and(if ended { Err(Ending::Complete) } else { Ok(()) });
        if let Err(ending) = arrived {
            guest.finish(Duration::ZERO);
            return Err(NoGuest::Died(Box::new((ending, guest.evidence))));
        }
        Ok(guest)
    }

    /// Drops what was saved of the same machine with other payloads, but for the one that was used last: whoever edits probes would
    /// fill the disk with them.
    fn forget_older(&self, key: &str) {
        let Some((machine, _)) = key.split_once(PAYLOAD_MARK) else {
            return;
        };
        let entries = self.cache.entries().unwrap_or_default().into_iter();
        let of_machine = |entry: &Entry| {
            let of = entry.name.split_once(PAYLOAD_MARK);
            entry.kind == Kind::Save && entry.name != key && of.is_some_and(|(m, _)| m == machine)
        };
        let mut others: Vec<Entry> = entries.filter(of_machine).collect();
        others.sort_by_key(|entry| std::cmp::Reverse(entry.last_used));
        for entry in others.iter().skip(1) {
            if let Err(error) = self.cache.remove(entry) {
                tracing::debug!(%error, "an old saved machine stays");
            }
        }
    }

    /// Everything that decides what a saved machine is.
    fn key(&self, spec: &VmSpec, point: Point<'_>) -> io::Result<String> {
        let mut digest = Sha256::new();
        digest.update(FORMAT);
        digest.update(&self.qemu_version);
        digest.update(point.stage.as_str());
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
        let machine = hex(&digest.finalize());
        Ok(match point.ready {
            None => machine,
            Some(payload) => format!("{machine}{PAYLOAD_MARK}{}", hex(&digest_of(payload))),
        })
    }
}

/// Why a machine was not restored.
enum NotRestored {
    /// The save is broken.
    Broken(anyhow::Error),
    /// It is not the save's fault.
    Given(NoGuest),
}

impl NotRestored {
    fn into_no_guest(self) -> NoGuest {
        match self {
            Self::Broken(error) => NoGuest::Outside(error),
            Self::Given(no_guest) => no_guest,
        }
    }
}

impl NoGuest {
    fn killed(evidence: Evidence) -> Self {
        let phase = "restoring".to_owned();
        Self::Died(Box::new((
            Ending::Closed(Ok(())),
            Evidence { phase, ..evidence },
        )))
    }

    fn outside(error: impl Into<anyhow::Error>) -> Self {
        Self::Outside(error.into())
    }
}

/// How often a machine is made that stands still before it is saved.
const MAKE_TRIES: usize = 3;
/// Changes when what is written beside a state does.
const FORMAT: &str = "4";
/// Between a machine's key and that of what was pushed.
const PAYLOAD_MARK: &str = "-with-";

/// Everything that decides what the agent and its probes are.
fn digest_of(payload: &Payload) -> [u8; 32] {
    let Payload {
        agent,
        objects,
        agent_arguments,
    } = payload;
    let mut digest = Sha256::new();
    let mut add = |bytes: &[u8]| {
        digest.update(bytes.len().to_le_bytes());
        digest.update(bytes);
    };
    add(agent);
    for (name, bytes) in objects {
        add(name.as_bytes());
        add(bytes);
    }
    for word in agent_arguments {
        add(word.as_bytes());
    }
    digest.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What people call a saved machine: the folder of its kernel begins with the release.
fn describe(spec: &VmSpec, point: Point<'_>) -> String {
    let tree = spec.kernel.parent().and_then(Path::file_name);
    let tree = tree.unwrap_or_default().to_string_lossy();
    format!("{tree}, {point}, {}", spec.accel)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Accel;
    use std::path::PathBuf;

    struct Made {
        folder: tempfile::TempDir,
        saves: Saves,
    }

    impl Made {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            for file in ["vmlinux", "other", "image"] {
                fs::write(folder.path().join(file), file).unwrap();
            }
            let saves = Saves {
                cache: Cache::open(Some(&folder.path().join("cache"))).unwrap(),
                qemu_version: b"QEMU 7.2".to_vec(),
            };
            Self { folder, saves }
        }

        fn at(&self, file: &str) -> PathBuf {
            self.folder.path().join(file)
        }

        fn spec(&self) -> VmSpec {
            VmSpec {
                accel: Accel::Tcg,
                memory_mib: 512,
                kernel: self.at("vmlinux"),
                initramfs: self.at("image"),
            }
        }
    }

    /// Check that whatever decides what a machine is makes another key, and nothing else does.
    #[test]
    fn key_follows_all_that_a_machine_is() {
        let made = Made::new();
        let key = |saves: &Saves, spec: &VmSpec, stage| {
            let point = Point::before_push(stage);
            saves.key(spec, point).unwrap()
        };
        let spec = made.spec();
        let first = key(&made.saves, &spec, Stage::Bluetooth);
        assert_eq!(first, key(&made.saves, &spec, Stage::Bluetooth));
        let newer = Saves {
            cache: made.saves.cache.clone(),
            qemu_version: b"QEMU 8.0".to_vec(),
        };
        let (kernel, accel, memory_mib) = (made.at("other"), Accel::Kvm, 256);
        let changed = [
            key(&made.saves, &spec, Stage::Bare),
            key(&newer, &spec, Stage::Bluetooth),
            key(
                &made.saves,
                &VmSpec {
                    kernel,
                    ..spec.clone()
                },
                Stage::Bluetooth,
            ),
            key(
                &made.saves,
                &VmSpec {
                    accel,
                    ..spec.clone()
                },
                Stage::Bluetooth,
            ),
            key(
                &made.saves,
                &VmSpec {
                    memory_mib,
                    ..spec.clone()
                },
                Stage::Bluetooth,
            ),
        ];
        assert!(!changed.contains(&first), "{changed:?}");
        fs::write(made.at("image"), "a new stage 0").unwrap();
        assert_ne!(first, key(&made.saves, &spec, Stage::Bluetooth));
    }

    /// Check that a machine with probes is another one for each change of what was pushed, and is known as one of the same machine.
    #[test]
    fn key_follows_what_was_pushed() {
        let made = Made::new();
        let spec = made.spec();
        let key = |payload: &Payload| {
            let stage = Stage::Bluetooth;
            let ready = Some(payload);
            made.saves.key(&spec, Point { stage, ready }).unwrap()
        };
        let payload = |agent: &[u8], object: &[u8], word: &str| Payload {
            agent: agent.to_vec(),
            objects: vec![("socket.bpf.o".to_owned(), object.to_vec())],
            agent_arguments: vec![word.to_owned()],
        };
        let first = key(&payload(b"agent", b"object", "--attach"));
        assert_eq!(first, key(&payload(b"agent", b"object", "--attach")));
        let changed = [
            key(&payload(b"Agent", b"object", "--attach")),
            key(&payload(b"agent", b"Object", "--attach")),
            key(&payload(b"agent", b"object", "")),
        ];
        assert!(!changed.contains(&first), "{changed:?}");
        let before = Point::before_push(Stage::Bluetooth);
        let machine = made.saves.key(&spec, before).unwrap();
        assert!(first.starts_with(&format!("{machine}{PAYLOAD_MARK}")));
    }

    /// Check that of one machine's saves with probes the newest and the one that was used last stay, and no other machine's goes.
    #[test]
    fn older_payloads_are_forgotten() {
        let made = Made::new();
        let names = ["a-with-1", "a-with-2", "a-with-3", "b-with-1", "a"];
        for name in names {
            saved(&made.saves.cache, name, name, &vm_images::Quiet, |_| {
                Ok::<(), NoGuest>(())
            })
            .unwrap();
        }
        // What this process made it uses; another one does not.
        let cache = Cache::open(Some(&made.at("cache"))).unwrap();
        let Made { folder, saves } = made;
        let qemu_version = saves.qemu_version.clone();
        drop(saves);
        let saves = Saves {
            cache,
            qemu_version,
        };
        saves.forget_older("a-with-3");
        let entries = saves.cache.entries().unwrap();
        let left: Vec<&str> = entries.iter().map(|entry| entry.name.as_str()).collect();
        assert!(left.contains(&"a-with-3") && left.contains(&"b-with-1") && left.contains(&"a"));
        assert_eq!(left.len(), 4, "{left:?}");
        drop(folder);
    }
}
