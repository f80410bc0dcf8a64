//! Can a kernel preempt its own code?

use super::{Kconfig, Surface};

/// Whether a task can be interrupted by another one while it is in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// It cannot, but where it asks for it.
    Never,
    /// It can.
    Tasks,
    /// It can, and so can what runs in softirq context: a real-time kernel.
    RealTime,
    /// Chosen at boot, and not known here.
    Unknown,
}

impl Surface {
    /// What the kernel does. `mode` is what a running one was told: `none`, `voluntary`, `full` or `lazy`.
    #[must_use]
    pub fn preemption(&self, mode: Option<&str>) -> Preemption {
        let built = self.kconfig.as_ref().map(of_config);
        // /proc/version, and so the banner, has the build's own words behind the number of the build.
        let built = built.unwrap_or_else(|| of_banner(&self.banner));
        match (built, mode) {
            (Preemption::RealTime, _) => Preemption::RealTime,
            (_, Some("none" | "voluntary")) => Preemption::Never,
            (_, Some("full" | "lazy")) => Preemption::Tasks,
            (built, _) => built,
        }
    }
}

/// The mode that a kernel boots in unless its command line says otherwise.
/// Kernel: v6.12 kernel/Kconfig.preempt, v5.15 for the names with `_BEHAVIOUR`.
fn of_config(config: &Kconfig) -> Preemption {
    let any = |names: &[&str]| names.iter().any(|name| config.is_yes(name));
    if config.is_yes("PREEMPT_RT") {
        Preemption::RealTime
    } else if any(&[
        "PREEMPT_NONE",
        "PREEMPT_VOLUNTARY",
        "PREEMPT_NONE_BEHAVIOUR",
        "PREEMPT_VOLUNTARY_BEHAVIOUR",
    ]) {
        Preemption::Never
    } else if any(&["PREEMPT", "PREEMPT_LAZY"]) {
        Preemption::Tasks
    } else {
        Preemption::Unknown
    }
}

fn of_banner(banner: &str) -> Preemption {
    // `#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2`
    let Some((_, build)) = banner.rsplit_once(" #") else {
        return Preemption::Unknown;
    };
    let flag = build
        .split_ascii_whitespace()
        .find(|word| word.starts_with("PREEMPT"));
    match flag {
        None => Preemption::Never,
        Some("PREEMPT_RT") => Preemption::RealTime,
        Some("PREEMPT_DYNAMIC") => Preemption::Unknown,
        Some(_) => Preemption::Tasks,
    }
}

#[cfg(test)]
mod tests {
    use super::{Kconfig, Preemption, of_banner, of_config};
    use rstest::rstest;

    /// Check that the build's options say in which mode the kernel boots.
    #[rstest]
    #[case("CONFIG_PREEMPT_VOLUNTARY=y\n", Preemption::Never)]
    #[case(
        "CONFIG_PREEMPT_VOLUNTARY=y\nCONFIG_PREEMPT_DYNAMIC=y\nCONFIG_PREEMPTION=y\n",
        Preemption::Never
    )]
    #[case(
        "CONFIG_PREEMPT=y\nCONFIG_PREEMPT_NONE_BEHAVIOUR=y\n",
        Preemption::Never
    )]
    #[case("CONFIG_PREEMPT_LAZY=y\nCONFIG_PREEMPT_DYNAMIC=y\n", Preemption::Tasks)]
    #[case("CONFIG_PREEMPT=y\n", Preemption::Tasks)]
    #[case("CONFIG_PREEMPT_RT=y\nCONFIG_PREEMPT_LAZY=y\n", Preemption::RealTime)]
    #[case("CONFIG_HZ=250\n", Preemption::Unknown)]
    fn config_tells_the_mode(#[case] text: &str, #[case] expected: Preemption) {
        assert_eq!(of_config(&Kconfig::parse(text)), expected);
    }

    /// Check what the banner alone tells.
    #[rstest]
    #[case("Linux version 5.10 (gcc) #1 SMP Debian 5.10.218-1", Preemption::Never)]
    #[case(
        "Linux version 6.1 (gcc) #1 SMP PREEMPT_DYNAMIC Debian",
        Preemption::Unknown
    )]
    #[case("Linux version 6.1 (gcc) #1 SMP PREEMPT Debian", Preemption::Tasks)]
    #[case(
        "Linux version 6.1 (gcc) #1 SMP PREEMPT_RT Debian",
        Preemption::RealTime
    )]
    #[case("", Preemption::Unknown)]
    fn banner_tells_the_build(#[case] banner: &str, #[case] expected: Preemption) {
        assert_eq!(of_banner(banner), expected);
    }
}
