//! Trying each program of an object alone, as plain libbpf would load it.
//!
//! Nothing here knows hooks or families: any object can be tried. It is the kernel's own answer,
//! which static verdicts are compared with.

use libbpf_rs::{Object, ObjectBuilder, OpenObject};
use metrics::{Trial, Try};

use crate::attach::{one_line, program};
use crate::log::Capture;

/// Size given to a map whose user space would give it one.
const UNSIZED_MAP_ENTRIES: u32 = 64;
/// Bytes given to the values of such a map.
const UNSIZED_MAP_VALUE_BYTES: u32 = 8;

/// Loads each program of an object alone, attaches it where its section says, takes it away again, and
/// tells what became of it.
///
/// A program that loads only beside others fails here. Needs what [`load`](crate::load) needs, and like
/// it must not run beside other threads that load programs through libbpf.
///
/// # Errors
/// The object cannot be opened, so that its programs are not known; in one line.
pub fn try_each(object: &str, bytes: &[u8], mut tried: impl FnMut(Trial)) -> Result<(), String> {
    let capture = Capture::start();
    let opened = open(bytes)?;
    let names = opened
        .progs()
        .map(|prog| prog.name().to_string_lossy().into_owned());
    let names: Vec<String> = names.collect();
    drop(opened);
    for prog in names {
        let (load, attach) = try_one(bytes, &prog, &capture);
        tried(Trial {
            object: object.to_owned(),
            prog,
            load,
            attach,
        });
    }
    Ok(())
}

fn open(bytes: &[u8]) -> Result<OpenObject, String> {
    ObjectBuilder::default()
        .open_memory(bytes)
        .map_err(one_line)
}

fn try_one(bytes: &[u8], prog: &str, capture: &Capture) -> (Try, Option<Try>) {
    capture.clear();
    let object = match load_alone(bytes, prog) {
        Ok(object) => object,
        Err(reason) => return (refused(reason, capture), None),
    };
    capture.clear();
    let attached = program(&object, prog).ok_or_else(|| "it is gone".to_owned());
    let attach = match attached.and_then(|program| program.attach().map_err(one_line)) {
        // The link goes at once.
        Ok(_) => Try::Accepted,
        Err(reason) => refused(reason, capture),
    };
    (Try::Accepted, Some(attach))
}

fn load_alone(bytes: &[u8], wanted: &str) -> Result<Object, String> {
    let mut open = open(bytes)?;
    for mut prog in open.progs_mut() {
        let is_wanted = prog.name() == wanted;
        prog.set_autoload(is_wanted);
    }
    give_sizes(&mut open)?;
    open.load().map_err(one_line)
}

/// Maps without a size are sized by the tools that bring them; any size shows whether they can be made.
fn give_sizes(open: &mut OpenObject) -> Result<(), String> {
    let wants_entries = |kind| {
        use libbpf_rs::MapType;
        // Storage takes no size; arrays of events take one by themselves, per processor.
        !matches!(
            kind,
            MapType::SkStorage
                | MapType::InodeStorage
                | MapType::TaskStorage
                | MapType::PerfEventArray
                | MapType::StructOps
        )
    };
    for mut map in open.maps_mut() {
        let kind = map.map_type();
        if map.max_entries() == 0 && wants_entries(kind) {
            map.set_max_entries(UNSIZED_MAP_ENTRIES).map_err(one_line)?;
        }
        let wants_value = !matches!(
            kind,
            libbpf_rs::MapType::RingBuf | libbpf_rs::MapType::UserRingBuf
        );
        if map.value_size() == 0 && wants_value {
            map.set_value_size(UNSIZED_MAP_VALUE_BYTES)
                .map_err(one_line)?;
        }
    }
    Ok(())
}

fn refused(reason: String, capture: &Capture) -> Try {
    Try::Refused {
        reason,
        log: capture.tail(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that what is no object is an error in one line, not a list of failures.
    #[test]
    fn try_each_of_no_object_is_an_error() {
        let error = try_each("x", b"no object", |_| {}).unwrap_err();
        assert!(!error.contains('\n'), "{error}");
    }
}
