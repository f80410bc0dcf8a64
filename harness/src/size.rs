//! Sizes as people write them.

use std::fmt;
use std::str::FromStr;

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size {
    /// How many.
    pub bytes: u64,
}

/// A word that is no size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is no size; write a number with K, M, G or T, such as 20G")]
pub struct NoSize(String);

/// Binary units, smallest first.
const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];

impl FromStr for Size {
    type Err = NoSize;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let upper = word.trim().to_ascii_uppercase();
            let number = upper.strip_suffix("IB").or(upper.strip_suffix('B'));
            let number = number.unwrap_or(&upper);
            let unit = UNITS.iter().find(|(letter, _)| number.ends_with(*letter));
            let digits = number.trim_end_matches(|c: char| c.is_ascii_uppercase());
            // A unit is one letter, and nothing else is in front of it.
            if number.len() - digits.len() != usize::from(unit.is_some()) {
                return None;
            }
            let factor = 1_u64 << unit.map_or(0, |(_, shift)| *shift);
            let bytes = digits.parse::<u64>().ok()?.checked_mul(factor)?;
            Some(Self { bytes })
        };
        parse().ok_or_else(|| NoSize(word.to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS
            .iter()
            .rev()
            .find(|(_, shift)| self.bytes >> shift > 0);
        let text = match unit {
            None => format!("{} B", self.bytes),
            Some((letter, shift)) => {
                // Tenths, rounded down; a tenth of a unit may be no whole number of bytes.
                let tenths = (u128::from(self.bytes) * 10) >> shift;
                format!("{}.{} {letter}iB", tenths / 10, tenths % 10)
            }
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::proptest;
    use rstest::rstest;

    /// Check what is a size and what is none.
    #[rstest]
    #[case("0", Some(0))]
    #[case("512", Some(512))]
    #[case("20G", Some(20 << 30))]
    #[case("20 g", None)]
    #[case("20gib", Some(20 << 30))]
    #[case("3MB", Some(3 << 20))]
    #[case("2T", Some(2 << 40))]
    #[case("1.5G", None)]
    #[case("G", None)]
    #[case("1KG", None)]
    #[case("99999999999G", None)]
    fn size_is_a_number_with_a_unit(#[case] word: &str, #[case] bytes: Option<u64>) {
        let size = word.parse::<Size>().ok();
        assert_eq!(size.map(|size| size.bytes), bytes);
    }

    /// Check what people read.
    #[rstest]
    #[case(0, "0 B")]
    #[case(1023, "1023 B")]
    #[case(1536, "1.5 KiB")]
    #[case((5 << 30) - 1, "4.9 GiB")]
    #[case(u64::MAX, "16777215.9 TiB")]
    fn size_is_shown_in_the_largest_unit(#[case] bytes: u64, #[case] shown: &str) {
        assert_eq!(Size { bytes }.to_string(), shown);
    }

    proptest! {
        /// Check that no word makes parsing fail.
        #[test]
        fn size_of_any_word_parses_or_not(word in "\\PC{0,12}") {
            let _size = word.parse::<Size>();
        }
    }
}
