//! Which modules guests need, and why: the only place where they are listed.
//!
//! A guest has no `modprobe`, so what a kernel would load on demand has to be inserted beforehand. That is mostly cryptography, which
//! kernels build in or not as they like and rename now and then.

/// A module that a guest needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Root {
    /// Its name, with `_` for `-`.
    pub name: &'static str,
    /// Whether a kernel can do without it.
    pub need: Need,
    /// What it is for.
    pub why: &'static str,
}

/// Whether a kernel can do without a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A kernel that has it neither as a module nor built in cannot be tested.
    Always,
    /// Kernels may lack it: it has another name there, or is not needed.
    WhereItExists,
}

/// A state in which a guest is saved. Each set begins with the one before it, in the load order too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ModuleSet {
    /// The serial port to the harness and nothing else.
    Bare,
    /// Bluetooth with controllers behind `/dev/vhci`.
    Bluetooth,
    /// Bluetooth with controllers on the USB bus too.
    Usb,
}

const fn always(name: &'static str, why: &'static str) -> Root {
    Root {
        name,
        need: Need::Always,
        why,
    }
}

const fn where_it_exists(name: &'static str, why: &'static str) -> Root {
    Root {
        name,
        need: Need::WhereItExists,
        why,
    }
}

const BARE: &[Root] = &[
    always(
        "virtio_pci",
        "the bus that the serial port is on; a module up to 6.1",
    ),
    always(
        "virtio_console",
        "the serial port to the harness; a module up to 6.1",
    ),
];

const BLUETOOTH: &[Root] = &[
    // bluetooth.ko computes ECDH keys in a self-test when it is loaded; they need random numbers, and those a generator and its parts.
    // Without it the self-test fails with a stack trace, and pairing with it.
    where_it_exists("hmac", "part of drbg"),
    where_it_exists("sha256_generic", "part of drbg; sha256 from 6.16 on"),
    where_it_exists("sha512_generic", "part of drbg; sha512 from 6.16 on"),
    where_it_exists(
        "sha3_generic",
        "conditions the noise of jitterentropy_rng from 6.8 on",
    ),
    where_it_exists("sha3", "the name of sha3_generic in newer kernels"),
    where_it_exists("jitterentropy_rng", "seeds drbg"),
    where_it_exists("drbg", "random numbers for ECDH keys"),
    where_it_exists(
        "ecdh_generic",
        "ECDH keys of the Security Manager; a dependency of bluetooth already",
    ),
    // The Security Manager allocates these when a controller is powered on.
    where_it_exists(
        "aes_generic",
        "the cipher below cmac and ecb; aes in newer kernels",
    ),
    where_it_exists("aes", "the name of aes_generic in newer kernels"),
    where_it_exists("cmac", "AES-CMAC of the Security Manager"),
    where_it_exists(
        "ecb",
        "AES of the Security Manager up to 5.16 and of resolvable addresses",
    ),
    where_it_exists(
        "ctr",
        "CTR mode, which drbg and ccm ask for where they are built to",
    ),
    where_it_exists("ccm", "AES-CCM, the cipher of encrypted LE links"),
    always("bluetooth", "HCI, L2CAP, SCO and ISO sockets"),
    always("hci_vhci", "/dev/vhci, where virtual controllers come in"),
    always("rfcomm", "RFCOMM sockets"),
    always("bnep", "network over L2CAP: sends from a kernel thread"),
    always("hidp", "input over L2CAP: sends from a kernel thread"),
];

const USB: &[Root] = &[
    always("usbcore", "USB; a dependency of xhci_pci already"),
    always(
        "xhci_hcd",
        "the USB host controller; a dependency of xhci_pci already",
    ),
    always("xhci_pci", "finds the USB host controller"),
    always("usbmon", "a witness of USB transfers that is not ours"),
    always("btusb", "drives Bluetooth controllers on the USB bus"),
];

impl ModuleSet {
    /// All sets, smallest first.
    pub const ALL: [Self; 3] = [Self::Bare, Self::Bluetooth, Self::Usb];

    /// Its name in files and reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Bluetooth => "bluetooth",
            Self::Usb => "usb",
        }
    }

    /// The modules of the set in the order in which to ask for them.
    pub fn roots(self) -> impl Iterator<Item = &'static Root> {
        let parts: &[&[Root]] = match self {
            Self::Bare => &[BARE],
            Self::Bluetooth => &[BARE, BLUETOOTH],
            Self::Usb => &[BARE, BLUETOOTH, USB],
        };
        parts.iter().copied().flatten()
    }

    /// The names of [`roots`](Self::roots).
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.roots().map(|root| root.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Check that each set begins with the one before it.
    #[test]
    fn module_sets_begin_with_the_one_before() {
        for pair in ModuleSet::ALL.windows(2) {
            let [smaller, larger] = [pair[0], pair[1]].map(|set| set.names().collect::<Vec<_>>());
            assert!(larger.starts_with(&smaller) && larger.len() > smaller.len());
        }
    }

    /// Check that no module is listed twice and that names are spelled as the kernel compares them.
    #[test]
    fn module_names_are_normal_and_unique() {
        let names: Vec<&str> = ModuleSet::Usb.names().collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
        assert!(names.iter().all(|name| !name.contains('-')));
    }
}
