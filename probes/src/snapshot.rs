//! Reading the values.

use std::os::fd::AsFd;

use libbpf_rs::{MapCore, MapFlags, MapImpl, Object, ProgramInput};
use metrics::catalogue::{PROBE_INFO, PROBE_MISSED};
use metrics::{Family, Snapshot};
use thiserror::Error;

use crate::attach::{Attached, one_line, program};
use crate::decode::{self, DecodeError, Entry};
use crate::find::Target;
use crate::hooks::{GIVEBACK, MISSES_NOTHING};
use crate::load::{Loaded, Probes};
use crate::sys::recursion_misses;
use metrics::AttachKind;

/// Why values could not be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// A map is not in the object, or the kernel refused to read it.
    #[error("failed to read map {map}: {reason}")]
    Map {
        /// Name of the map.
        map: String,
        /// What libbpf says.
        reason: String,
    },
    /// A map holds what its program never writes: object and loader do not belong together.
    #[error("map {map} does not hold what this loader expects: {reason}")]
    Foreign {
        /// Name of the map.
        map: String,
        /// What is wrong.
        reason: String,
    },
    /// A program that is run to read values failed.
    #[error("failed to run {prog}: {reason}")]
    Run {
        /// Name of the program.
        prog: String,
        /// What the kernel says.
        reason: String,
    },
}

/// How often the list of devices is walked again after devices came or went meanwhile.
const WALKS: usize = 8;

impl Probes {
    /// Reads all values, and what the probes say of themselves.
    ///
    /// Counters run on meanwhile: values of one snapshot belong to one moment only if there is no
    /// traffic. Series of a device disappear with the device.
    ///
    /// # Errors
    ///
    /// Fails if a map cannot be read or holds what this loader does not understand.
    pub fn snapshot(&self) -> Result<Snapshot, SnapshotError> {
        let mut snapshot = Snapshot::new();
        for report in self.reports() {
            let labels = [
                ("family", report.family.as_str()),
                ("prog", report.prog.as_str()),
                ("attach", report.attach.as_str()),
                ("state", report.state.as_str()),
            ];
            snapshot.set(&PROBE_INFO, &labels, 1);
        }
        for loaded in &self.loaded {
            loaded.read(&mut snapshot)?;
        }
        Ok(snapshot)
    }
}

impl Loaded {
    fn read(&self, snapshot: &mut Snapshot) -> Result<(), SnapshotError> {
        if !self.is_late {
            self.read_maps(snapshot)?;
        }
        self.read_slots(snapshot)?;
        self.read_missed(snapshot)
    }

    /// What the programs have counted, those of later objects of the family too.
    fn read_maps(&self, snapshot: &mut Snapshot) -> Result<(), SnapshotError> {
        self.read_map("drops", |entries| {
            decode::drops(self.family, entries, snapshot)
        })?;
        match self.family {
            Family::Socket => {
                self.read_map("socket_successes", |entries| {
                    decode::successes(entries, snapshot)
                })?;
                self.read_map("socket_failures", |entries| {
                    decode::failures(entries, snapshot)
                })?;
            }
            Family::Buffer => {
                self.read_map("buffer_counts", |entries| decode::buffer(entries, snapshot))?;
                self.read_map("buffer_full_times", |entries| {
                    decode::full_times(entries, snapshot)
                })?;
            }
            Family::Credits => {
                self.read_map("credits_pools", |entries| decode::pools(entries, snapshot))?;
            }
            Family::Latency => {
                self.read_map("latency_times", |entries| {
                    decode::latency(entries, snapshot)
                })?;
            }
            Family::Hci => {
                self.read_map("hci_devices", |entries| decode::hci(entries, snapshot))?;
            }
            Family::Urb => self.read_urbs(snapshot)?,
            Family::Probe => {}
        }
        Ok(())
    }

    fn read_urbs(&self, snapshot: &mut Snapshot) -> Result<(), SnapshotError> {
        let sees_ends = |(_, _, attached): &(AttachKind, Target, Attached)| {
            is_of_event(&attached.prog, GIVEBACK)
        };
        let sees_ends = self.attached.iter().any(sees_ends);
        let mut devices = decode::urb::Devices::new();
        self.read_map("urb_devices", |entries| {
            devices = decode::urb::devices(entries)?;
            Ok(())
        })?;
        self.read_map("urb_counts", |entries| {
            decode::urb::counts(entries, &devices, sees_ends, snapshot)
        })?;
        self.read_map("urb_flights", |entries| {
            decode::urb::flights(entries, &devices, snapshot)
        })
    }

    /// Runs the program that learns which devices there are already, if the family has one.
    pub(crate) fn learn_devices(&self) {
        let learns = |(kind, _, _): &&(AttachKind, Target, Attached)| {
            self.family == Family::Urb && *kind == AttachKind::Run
        };
        for (_, target, attached) in self.attached.iter().filter(learns) {
            if let Err(error) = run(&self.object, &attached.prog, target.address) {
                tracing::warn!(%error, "devices that are there already are not known");
            }
        }
    }

    fn read_map(
        &self,
        map: &str,
        decode: impl FnOnce(&[Entry]) -> Result<(), DecodeError>,
    ) -> Result<(), SnapshotError> {
        let entries = entries(&self.object, map)?;
        decode(&entries).map_err(|error| foreign(map, &error))
    }

    /// Runs the program that walks the list of devices, and reads what it stored.
    fn read_slots(&self, snapshot: &mut Snapshot) -> Result<(), SnapshotError> {
        const MAP: &str = "credits_slots";
        if self.family != Family::Credits {
            return Ok(());
        }
        let mut runs = self
            .attached
            .iter()
            .filter(|(kind, _, _)| *kind == AttachKind::Run);
        let Some((_, target, attached)) = runs.next() else {
            return Ok(());
        };
        let devices = run(&self.object, &attached.prog, target.address)?;
        let map = find_map(&self.object, MAP)?;
        for index in 0..devices {
            let value = map
                .lookup(&index.to_ne_bytes(), MapFlags::ANY)
                .map_err(|e| unreadable(MAP, e))?;
            if let Some(value) = value {
                decode::slots(&value, snapshot).map_err(|error| foreign(MAP, &error))?;
            }
        }
        Ok(())
    }

    fn read_missed(&self, snapshot: &mut Snapshot) -> Result<(), SnapshotError> {
        for (_, _, attached) in &self.attached {
            let prog = attached.prog.as_str();
            let failed = |reason| SnapshotError::Run {
                prog: prog.to_owned(),
                reason,
            };
            let program =
                program(&self.object, prog).ok_or_else(|| failed("no such program".to_owned()))?;
            let skipped =
                recursion_misses(program.as_fd()).map_err(|error| failed(error.to_string()))?;
            let unseen = match &attached.return_probe {
                Some(probe) => probe.missed().map_err(|error| failed(error.to_string()))?,
                None => 0,
            };
            if MISSES_NOTHING.iter().any(|event| is_of_event(prog, event)) {
                continue;
            }
            let labels = [("family", self.family.as_str()), ("prog", prog)];
            snapshot.add(&PROBE_MISSED, &labels, skipped.saturating_add(unseen));
        }
        Ok(())
    }
}

/// Is it a program of that event, `<event>_<attach kind>`?
fn is_of_event(prog: &str, event: &str) -> bool {
    prog.rsplit_once('_').is_some_and(|(of, _)| of == event)
}

/// Runs a program with one argument until it says that it has seen all; how many entries it stored.
fn run(object: &Object, prog: &str, argument: u64) -> Result<u32, SnapshotError> {
    let failed = |reason: String| SnapshotError::Run {
        prog: prog.to_owned(),
        reason,
    };
    let program = program(object, prog).ok_or_else(|| failed("no such program".to_owned()))?;
    for _ in 0..WALKS {
        let mut context = argument.to_ne_bytes();
        let input = ProgramInput {
            context_in: Some(&mut context),
            ..ProgramInput::default()
        };
        let output = program
            .test_run(input)
            .map_err(|error| failed(one_line(error)))?;
        // A negative number says that the walk did not reach its end.
        if i32::try_from(output.return_value).is_ok() {
            return Ok(output.return_value);
        }
    }
    Err(failed(format!(
        "{WALKS} walks over the devices did not reach the end"
    )))
}

fn entries(object: &Object, name: &str) -> Result<Vec<Entry>, SnapshotError> {
    let map = find_map(object, name)?;
    let mut entries = Vec::new();
    for key in map.keys() {
        let values = if map.map_type().is_percpu() {
            map.lookup_percpu(&key, MapFlags::ANY)
        } else {
            map.lookup(&key, MapFlags::ANY)
                .map(|value| value.map(|value| vec![value]))
        };
        // An entry may be gone between the two calls.
        if let Some(values) = values.map_err(|error| unreadable(name, error))? {
            entries.push((key, values));
        }
    }
    Ok(entries)
}

fn find_map<'obj>(object: &'obj Object, name: &str) -> Result<MapImpl<'obj>, SnapshotError> {
    let map = object.maps().find(|map| map.name() == name);
    map.ok_or_else(|| SnapshotError::Map {
        map: name.to_owned(),
        reason: "no such map".to_owned(),
    })
}

fn unreadable(map: &str, error: libbpf_rs::Error) -> SnapshotError {
    SnapshotError::Map {
        map: map.to_owned(),
        reason: one_line(error),
    }
}

fn foreign(map: &str, error: &DecodeError) -> SnapshotError {
    SnapshotError::Foreign {
        map: map.to_owned(),
        reason: error.to_string(),
    }
}
