//! Inserting the modules of one list of the image.

use crate::sys;
use evidence::ModuleOutcome;
use std::fs::File;
use std::{fs, io};

/// Inserts all modules of `/modules/list.<set>`, one absolute path a line in load order, telling
/// `report` after each.
///
/// A module that the kernel refuses is reported and does not stop the others.
///
/// # Errors
/// The list cannot be read, or `report` fails.
pub(crate) fn load_set(
    set: &str,
    report: &mut dyn FnMut(&str, ModuleOutcome) -> io::Result<()>,
) -> Result<(), String> {
    let list = format!("/modules/list.{set}");
    let paths = fs::read_to_string(&list).map_err(|error| format!("{list}: {error}"))?;
    for path in paths.lines().filter(|line| !line.is_empty()) {
        let outcome = insert(path);
        report(&module_name(path), outcome).map_err(|error| format!("report: {error}"))?;
    }
    Ok(())
}

fn insert(path: &str) -> ModuleOutcome {
    match File::open(path).and_then(|file| sys::insert_module(&file)) {
        Ok(()) => ModuleOutcome::Inserted,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => ModuleOutcome::Present,
        Err(error) => ModuleOutcome::Failed {
            errno: error.raw_os_error().unwrap_or(0),
            error: error.to_string(),
        },
    }
}

/// `/modules/012-hci_vhci.ko` → `hci_vhci`, as the kernel spells it.
fn module_name(path: &str) -> String {
    let file_name = path.rsplit('/').next().unwrap_or(path);
    let stem = file_name.strip_suffix(".ko").unwrap_or(file_name);
    let name = match stem.split_once('-') {
        Some((number, rest)) if number.bytes().all(|b| b.is_ascii_digit()) => rest,
        _ => stem,
    };
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::module_name;

    /// Check that the number in front of a file goes, and that dashes become underscores.
    #[test]
    fn module_name_of_numbered_file_is_the_kernels() {
        assert_eq!(module_name("/modules/012-hci_vhci.ko"), "hci_vhci");
        assert_eq!(
            module_name("/modules/003-crc16-generic.ko"),
            "crc16_generic"
        );
        assert_eq!(module_name("bluetooth.ko"), "bluetooth");
    }
}
