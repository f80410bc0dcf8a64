//! BTF from outside of a kernel, for kernels whose modules have none.
//!
//! Debian's 5.10 describes the types of vmlinux and not those of its modules. The debugging
//! information of its packages does; `cargo xtask external-btf` makes a BTF of it with pahole, and
//! cuts it with [`cut`].

use crate::btf::{Btf, BtfError};
use crate::hooks::STRUCTS;
use crate::reduce::reduce_whole;

/// First parts of names of structures that belong to Bluetooth.
const PREFIXES: [&str; 9] = [
    "hci_", "l2cap_", "sco_", "iso_", "rfcomm_", "bt_", "mgmt_", "btusb_", "smp_",
];

/// Keeps the structures of Bluetooth, those that programs read, what they hold by value, and the
/// enumerators of flags.
///
/// # Errors
///
/// The bytes are no BTF that stands alone.
pub fn cut(bytes: Vec<u8>) -> Result<Vec<u8>, BtfError> {
    let btf = Btf::parse(bytes, None)?;
    let is_wanted = |name: &str| {
        STRUCTS.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let wanted = btf.named(is_wanted, |flag| flag.starts_with("HCI_"));
    let types: Vec<_> = wanted.into_iter().map(|id| (&btf, id)).collect();
    Ok(reduce_whole(&types))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::FAMILIES;
    use crate::hooks::hooks_of;

    /// Check that the BTFs that are kept describe every structure that some program needs of a module,
    /// and the flags of devices; that each says where it came from; and that they stay small.
    #[test]
    fn kept_btfs_describe_what_programs_need() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("btf");
        let needed: HashSet<&str> = FAMILIES
            .iter()
            .flat_map(|family| hooks_of(*family))
            .filter(|hook| hook.module == "bluetooth")
            .flat_map(|hook| hook.structs.iter().copied())
            .chain(["HCI_USER_CHANNEL"])
            .collect();
        let mut kept = 0;
        for file in fs::read_dir(&folder).unwrap().flatten() {
            let path = file.path();
            if path.extension().is_some_and(|extension| extension == "btf") {
                let bytes = fs::read(&path).unwrap();
                assert!(bytes.len() < 200_000, "{}", path.display());
                let names = Btf::parse(bytes, None).unwrap().names(&needed);
                let found = names.structs.keys().chain(names.enumerators.keys());
                let found: HashSet<&str> = found.map(String::as_str).collect();
                assert_eq!(found, needed, "{}", path.display());
                assert!(path.with_extension("toml").is_file(), "{}", path.display());
                kept += 1;
            }
        }
        assert!(kept >= 2, "{}", folder.display());
    }
}
