//! Loading the probes, or saying clearly why not.

use std::path::Path;

use anyhow::{Context as _, bail};
use exporter::{Collector, Objects, check_privilege};
use probes::{Options, Preference};

use super::{Attach, ProbeOptions, complain, explain};

/// Loads everything that can be loaded, and says what is missing.
///
/// # Errors
///
/// There is no privilege, no object, or no BTF.
pub(super) fn load(options: &ProbeOptions) -> anyhow::Result<Collector> {
    check_privilege()?;
    let objects = Objects::find(options.objects.as_deref())?;
    if !objects.missing.is_empty() {
        let names: Vec<_> = objects
            .missing
            .iter()
            .map(|f| probes::object_name(*f))
            .collect();
        let folder = objects.folder.display();
        complain(&format!("warning: {folder} has no {}", names.join(", ")));
    }
    let btf = match &options.btf {
        Some(given) => Some(given.clone()),
        None => probes::external_btf(&objects.folder),
    };
    if let Some(given) = &options.btf {
        std::fs::metadata(given)
            .with_context(|| format!("failed to find the BTF {}", given.display()))?;
    }
    if btf.is_none() && !Path::new("/sys/kernel/btf/vmlinux").exists() {
        bail!(
            "this kernel describes its types to nobody (no /sys/kernel/btf/vmlinux, \
             CONFIG_DEBUG_INFO_BTF is off); give a BTF of it with --btf"
        );
    }
    let attach = match options.attach {
        Attach::Auto => Preference::Auto,
        Attach::Kprobe => Preference::Kprobe,
    };
    let probes = probes::load(&objects.files, &Options { attach, btf });
    let collector = Collector::new(probes);
    explain::say_what_is_missing(&collector);
    Ok(collector)
}
