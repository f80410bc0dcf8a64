//! Attaching one program.

use std::path::Path;

use libbpf_rs::{Link, Object, ProgramMut, TracepointCategory};

use crate::find::Target;
use crate::sys::attach_kprobe_at;
use crate::tracefs::{ReturnProbe, Tracefs};
use metrics::AttachKind;

/// A program that is attached for as long as this value lives.
#[derive(Debug)]
pub(crate) struct Attached {
    /// Name of the program.
    pub(crate) prog: String,
    /// What holds it; `None` for a program that is run and not attached. Goes before the probe.
    _link: Option<Link>,
    /// The return probe that it is attached to, if tracefs made it.
    pub(crate) return_probe: Option<ReturnProbe>,
}

/// Attaches the program of that name; the error is one line.
pub(crate) fn attach(
    object: &Object,
    prog: &str,
    kind: AttachKind,
    target: &Target,
) -> Result<Attached, String> {
    let program =
        program(object, prog).ok_or_else(|| format!("the object has no program {prog}"))?;
    let (link, return_probe) = match kind {
        AttachKind::Run => (None, None),
        AttachKind::Fentry | AttachKind::Fexit => {
            (Some(program.attach_trace().map_err(one_line)?), None)
        }
        AttachKind::Kprobe => (Some(attach_kprobe(&program, false, target)?), None),
        AttachKind::Kretprobe => {
            let (link, probe) = attach_return(&program, prog, target)?;
            (Some(link), probe)
        }
    };
    Ok(Attached {
        prog: prog.to_owned(),
        _link: link,
        return_probe,
    })
}

/// The program of that name.
pub(crate) fn program<'obj>(object: &'obj Object, prog: &str) -> Option<ProgramMut<'obj>> {
    object.progs_mut().find(|program| program.name() == prog)
}

/// Attaches a program at a function's entry or return through perf: by its address if that is known. The
/// kernel looks names up symbol by symbol before 6.2 (60443c88f3a8 "kallsyms: Improve the performance of
/// `kallsyms_lookup_name()`"), a tenth of a second each under emulation.
fn attach_kprobe(
    program: &ProgramMut<'_>,
    is_return: bool,
    target: &Target,
) -> Result<Link, String> {
    match usize::try_from(target.address) {
        Ok(address) if address > 0 => attach_kprobe_at(program, is_return, address)
            .map_err(|error| format!("failed to attach kprobe at {}: {error}", target.spec)),
        _ => program
            .attach_kprobe(is_return, &target.spec)
            .map_err(one_line),
    }
}

/// Attaches a return probe: through tracefs, or where that is not mounted, through perf.
fn attach_return(
    program: &ProgramMut<'_>,
    prog: &str,
    target: &Target,
) -> Result<(Link, Option<ReturnProbe>), String> {
    let Some(tracefs) = Tracefs::find() else {
        let mount_point = Path::new("/sys/kernel/tracing").display();
        tracing::warn!(
            prog,
            "no tracefs at {mount_point}: few blocked calls at once can be followed"
        );
        return Ok((attach_kprobe(program, true, target)?, None));
    };
    let probe = ReturnProbe::create(&tracefs, prog, &target.place()).map_err(|error| {
        let spec = &target.spec;
        format!("failed to make a return probe at {spec}: {error}")
    })?;
    let category = TracepointCategory::Custom(probe.group.clone());
    let link = program
        .attach_tracepoint(category, &probe.event)
        .map_err(one_line)?;
    Ok((link, Some(probe)))
}

/// An error of libbpf-rs with its causes, in one line.
pub(crate) fn one_line(error: libbpf_rs::Error) -> String {
    format!("{error:#}")
}
