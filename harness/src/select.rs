//! Which part of the matrix to run: names with wildcards, partitions, and how much at a time.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Does `name` fit `pattern`, in which `*` stands for any characters and `?` for one?
#[must_use]
pub fn glob_matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last star does not fit: the star, and one character more.
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((after_star, taken)) = star else {
                    return false;
                };
                star = Some((after_star, taken + 1));
                p = after_star;
                n = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Is this a name with wildcards?
#[must_use]
pub fn is_glob(word: &str) -> bool {
    word.contains(['*', '?'])
}

/// One of several equal parts of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Partition {
    number: usize,
    of: usize,
}

/// A word that is no partition.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is no partition; write M/N with 1 ≤ M ≤ N, such as 2/5")]
pub struct NoPartition(String);

impl Partition {
    /// Part `number`, counted from 1, of `of`.
    #[must_use]
    pub fn new(number: usize, of: usize) -> Option<Self> {
        (1..=of).contains(&number).then_some(Self { number, of })
    }

    /// Its part of `count` things. Neighbors stay together: as the matrix goes kernel by kernel,
    /// each part needs few kernels. The parts differ in size by one at most.
    #[must_use]
    pub fn range(self, count: usize) -> Range<usize> {
        let edge = |part: usize| part * count / self.of;
        edge(self.number - 1)..edge(self.number)
    }
}

impl FromStr for Partition {
    type Err = NoPartition;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (number, of) = word.split_once('/')?;
            // More parts than this would overflow `range`, and nobody has so many machines.
            let of: u16 = of.parse().ok()?;
            Self::new(number.parse().ok()?, usize::from(of))
        };
        parse().ok_or_else(|| NoPartition(word.to_owned()))
    }
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

/// What a machine takes besides its guest's memory, MiB: QEMU itself, and its buffer of
/// translated code.
const QEMU_MIB: u64 = 192;

/// How many machines of `guest_mib` to run at a time: two for each processor, since a guest waits as long as it works (for acknowledgements,
/// quiet, the kernel's timers); fewer if memory is short.
#[must_use]
pub fn default_jobs(processors: usize, available_mib: Option<u64>, guest_mib: u32) -> usize {
    let by_memory = available_mib.map_or(usize::MAX, |mib| {
        usize::try_from(mib / (u64::from(guest_mib) + QEMU_MIB)).unwrap_or(usize::MAX)
    });
    processors.saturating_mul(2).min(by_memory).max(1)
}

/// Memory that can be had without swapping, MiB, from the text of `/proc/meminfo`.
#[must_use]
pub fn available_mib(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
    use rstest::rstest;

    /// Check what a pattern takes and what it leaves.
    #[rstest]
    #[case("l2cap-*", "l2cap-seqpacket", true)]
    #[case("*seq*", "l2cap-seqpacket", true)]
    #[case("*a*a*t", "l2cap-seqpacket", true)]
    #[case("l2cap", "l2cap-seqpacket", false)]
    #[case("debian:6.?", "debian:6.1", true)]
    #[case("debian:6.?", "debian:6.12", false)]
    #[case("*", "", true)]
    #[case("", "x", false)]
    fn glob_takes_what_fits(#[case] pattern: &str, #[case] name: &str, #[case] fits: bool) {
        assert_eq!(glob_matches(pattern, name), fits);
    }

    /// Check that a word that is no partition is refused.
    #[rstest]
    #[case("0/5")]
    #[case("6/5")]
    #[case("1/0")]
    #[case("2")]
    #[case("a/b")]
    #[case("1/99999999999999999999")]
    fn partition_out_of_range_is_refused(#[case] word: &str) {
        assert!(word.parse::<Partition>().is_err());
    }

    /// Check that memory bounds the default, and that one machine always runs.
    #[rstest]
    #[case(8, Some(64_000), 16)]
    #[case(8, Some(2_200), 3)]
    #[case(8, Some(100), 1)]
    #[case(2, None, 4)]
    fn jobs_fit_processors_and_memory(
        #[case] processors: usize,
        #[case] mib: Option<u64>,
        #[case] jobs: usize,
    ) {
        assert_eq!(default_jobs(processors, mib, 512), jobs);
    }

    /// Check that memory is read from what the kernel writes.
    #[test]
    fn meminfo_gives_available_memory() {
        let text = "MemTotal:       24576000 kB\nMemAvailable:    2048000 kB\n";
        assert_eq!(available_mib(text), Some(2000));
        assert_eq!(available_mib("MemAvailable: lots"), None);
    }

    proptest! {
        /// Check that the parts of a matrix are the whole, in order, each thing in one part.
        #[test]
        fn partitions_cover_everything_once(count in 0_usize..500, of in 1_usize..40) {
            let all: Vec<usize> = (1..=of)
                .flat_map(|number| Partition::new(number, of).expect("in range").range(count))
                .collect();
            prop_assert_eq!(all, (0..count).collect::<Vec<_>>());
        }

        /// Check that no pattern and no name make matching fail or take long.
        #[test]
        fn glob_of_anything_ends(pattern in "[*?ab]{0,40}", name in "[ab]{0,60}", word in any::<String>()) {
            let _either = glob_matches(&pattern, &name);
            prop_assert!(glob_matches("*", &word));
            let _either: Result<Partition, _> = word.parse();
        }
    }
}
