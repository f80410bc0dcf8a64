//! What a scenario needs of a kernel, and whether the kernel's configuration has it.
//!
//! The kernel answers, never its version number. A scenario that a kernel cannot carry out is not
//! applicable there, with the reason; one that it should carry out and does not is a failure.

use evidence::{Scenario, Service, Step};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

/// A kernel option, and what it is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// The option, with `CONFIG_`.
    pub option: &'static str,
    /// What does not exist without it.
    pub what: &'static str,
}

const ALWAYS: [Need; 2] = [
    Need {
        option: "CONFIG_BT",
        what: "Bluetooth",
    },
    Need {
        option: "CONFIG_BT_HCIVHCI",
        what: "virtual controllers (/dev/vhci)",
    },
];

const BREDR: Need = Need {
    option: "CONFIG_BT_BREDR",
    what: "connections over BR/EDR",
};

const LE: Need = Need {
    option: "CONFIG_BT_LE",
    what: "connections over LE",
};

const RFCOMM: Need = Need {
    option: "CONFIG_BT_RFCOMM",
    what: "RFCOMM sockets",
};

/// Everything that a scenario needs.
#[must_use]
pub fn needs(scenario: &Scenario) -> BTreeSet<Need> {
    let steps = scenario.steps.iter().flat_map(|step| match step {
        Step::Listen { service, .. } => of_service(*service),
        _ => &[],
    });
    ALWAYS.iter().chain(steps).copied().collect()
}

fn of_service(service: Service) -> &'static [Need] {
    match service {
        Service::Rfcomm { .. } => &[BREDR, RFCOMM],
        service if service.is_le() => &[LE],
        _ => &[BREDR],
    }
}

/// The options that are `y` or `m` in a kernel's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelConfig {
    set: BTreeSet<String>,
}

impl KernelConfig {
    /// Reads `/boot/config-<release>` or `.config`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        fs::read(path).map(|text| Self::parse(&String::from_utf8_lossy(&text)))
    }

    /// Parses lines such as `CONFIG_BT=m`; passes over all else.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let options = text.lines().filter_map(|line| {
            let (name, value) = line.trim().split_once('=')?;
            (name.starts_with("CONFIG_") && matches!(value, "y" | "m")).then(|| name.to_owned())
        });
        Self {
            set: options.collect(),
        }
    }

    /// What the scenario needs and the kernel lacks, in words; `None`: it lacks nothing.
    #[must_use]
    pub fn lacks(&self, scenario: &Scenario) -> Option<String> {
        let missing: Vec<String> = needs(scenario)
            .iter()
            .filter(|need| !self.set.contains(need.option))
            .map(|need| format!("{} (no {})", need.what, need.option))
            .collect();
        (!missing.is_empty()).then(|| format!("this kernel has no {}", missing.join(", no ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenarios;
    use rstest::rstest;

    /// Check that what is off, commented out or missing is named, and nothing else.
    #[rstest]
    #[case::all("CONFIG_BT=m\nCONFIG_BT_HCIVHCI=m\nCONFIG_BT_BREDR=y\n", None)]
    #[case::off(
        "CONFIG_BT=m\nCONFIG_BT_HCIVHCI=m\n# CONFIG_BT_BREDR is not set\n",
        Some("this kernel has no connections over BR/EDR (no CONFIG_BT_BREDR)")
    )]
    #[case::two(
        "CONFIG_BT=y\nCONFIG_BT_BREDR=n\n",
        Some(
            "this kernel has no connections over BR/EDR (no CONFIG_BT_BREDR), no virtual controllers (/dev/vhci) (no CONFIG_BT_HCIVHCI)"
        )
    )]
    fn config_lacking_an_option_is_told(#[case] text: &str, #[case] expected: Option<&str>) {
        let scenario = &scenarios::all()[0];
        let lacks = KernelConfig::parse(text).lacks(scenario);
        assert_eq!(lacks.as_deref(), expected);
    }

    proptest::proptest! {
        /// Check that no file makes parsing fail.
        #[test]
        fn config_of_any_text_parses(text in "\\PC{0,200}") {
            let _config = KernelConfig::parse(&text);
        }
    }
}
