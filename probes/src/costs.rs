//! What programs and maps cost, as the kernel counts it; and loading as anyone would with libbpf.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use libbpf_rs::{Link, MapCore, Object, ObjectBuilder};
use metrics::{MapCost, ProgramCost};

use crate::attach::{one_line, program};
use crate::load::Probes;
use crate::sys::{enable_run_stats, prog_info};

impl Probes {
    /// Runs and time of each attached program, and the memory of each map. The kernel counts runs
    /// only while [`count_runs`] asks it to.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn costs(&self) -> io::Result<(Vec<ProgramCost>, Vec<MapCost>)> {
        let mut programs = Vec::new();
        let mut maps = Vec::new();
        for loaded in &self.loaded {
            let family = loaded.family.as_str();
            for (_, _, attached) in &loaded.attached {
                let prog = attached.prog.as_str();
                if let Some(program) = program(&loaded.object, prog) {
                    programs.push(program_cost(family, prog, program.as_fd())?);
                }
            }
            if !loaded.is_late {
                maps.extend(map_costs(family, &loaded.object)?);
            }
        }
        Ok((programs, maps))
    }
}

/// Has the kernel count runs and times of all programs, while the descriptor is open.
///
/// # Errors
///
/// What the kernel says; before 5.8 it cannot.
pub fn count_runs() -> io::Result<OwnedFd> {
    enable_run_stats()
}

/// An object that was loaded by libbpf alone: no choice, no help with types or targets.
#[derive(Debug)]
pub struct Plain {
    // The links go before the programs.
    links: Vec<Link>,
    object: Object,
}

impl Plain {
    /// Opens an object and loads every program of it that libbpf loads by default.
    ///
    /// # Errors
    ///
    /// What libbpf says, in one line.
    pub fn load(path: &Path) -> Result<Self, String> {
        let mut builder = ObjectBuilder::default();
        let open = builder.open_file(path).map_err(one_line)?;
        let object = open.load().map_err(one_line)?;
        let links = Vec::new();
        Ok(Self { links, object })
    }

    /// Attaches every program that libbpf attaches by default.
    ///
    /// # Errors
    ///
    /// What libbpf says of the first that it cannot attach.
    pub fn attach(&mut self) -> Result<(), String> {
        for program in self.object.progs_mut() {
            let name = program.name().to_string_lossy().into_owned();
            let link = program.attach();
            self.links
                .push(link.map_err(|error| format!("{name}: {}", one_line(error)))?);
        }
        Ok(())
    }

    /// What its programs and maps cost.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn costs(&self, family: &str) -> io::Result<(Vec<ProgramCost>, Vec<MapCost>)> {
        let programs = self.object.progs().map(|program| {
            let name = program.name().to_string_lossy().into_owned();
            program_cost(family, &name, program.as_fd())
        });
        let programs = programs.collect::<io::Result<_>>()?;
        Ok((programs, map_costs(family, &self.object)?))
    }
}

const INSTRUCTION_BYTES: u32 = 8;

fn program_cost(family: &str, prog: &str, fd: BorrowedFd<'_>) -> io::Result<ProgramCost> {
    let info = prog_info(fd)?;
    Ok(ProgramCost {
        family: family.to_owned(),
        prog: prog.to_owned(),
        runs: info.run_cnt,
        ns: info.run_time_ns,
        instructions: info.xlated_prog_len / INSTRUCTION_BYTES,
        verified_instructions: info.verified_insns,
        jited_bytes: info.jited_prog_len,
    })
}

fn map_costs(family: &str, object: &Object) -> io::Result<Vec<MapCost>> {
    let cost = |map: libbpf_rs::Map<'_>| {
        let fd = map.as_fd().as_raw_fd();
        let text = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
        Ok(MapCost {
            family: family.to_owned(),
            map: map.name().to_string_lossy().into_owned(),
            bytes: memory_of(&text),
        })
    };
    object.maps().map(cost).collect()
}

/// Reads a map's `fdinfo`: `memlock:\t4096`.
fn memory_of(fdinfo: &str) -> u64 {
    let line = fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"));
    line.and_then(|number| number.trim().parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::memory_of;

    /// Check that the memory of a map is found among the other lines.
    #[test]
    fn memory_of_map_is_the_line_memlock() {
        assert_eq!(
            memory_of("pos:\t0\nmap_type:\t1\nmemlock:\t94208\nmap_id:\t3\n"),
            94_208
        );
        assert_eq!(memory_of(""), 0);
    }
}
