//! Essential names: what remains of a type's name without its flavor.

/// The part of a name before its flavor suffix: `hci_dev` for
/// `hci_dev___bt`. The suffix starts at the *last* `___` that has a character
/// other than `_` on both sides.
///
/// Source: libbpf `bpf_core_essential_name_len()`.
#[must_use]
pub fn essential_name(name: &str) -> &str {
    let bytes = name.as_bytes();
    let mut end = bytes.len();
    for window_start in (0..bytes.len().saturating_sub(4)).rev() {
        let window = &bytes[window_start..window_start + 5];
        if window[0] != b'_' && &window[1..4] == b"___" && window[4] != b'_' {
            end = window_start + 1;
            break;
        }
    }
    name.get(..end).unwrap_or(name)
}

/// Whether two names are equal without their flavors.
#[must_use]
pub fn names_match(a: &str, b: &str) -> bool {
    essential_name(a) == essential_name(b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    /// Check that only a flavor separator with text on both sides cuts.
    #[rstest]
    #[case::plain("hci_dev", "hci_dev")]
    #[case::flavor("hci_dev___bt", "hci_dev")]
    #[case::last_wins("a___b___c", "a___b")]
    #[case::four_underscores("a____b", "a____b")]
    #[case::leading("___b", "___b")]
    #[case::trailing("ab___", "ab___")]
    #[case::shortest("a___b", "a")]
    #[case::empty("", "")]
    fn essential_name_cuts_the_flavor(#[case] name: &str, #[case] essential: &str) {
        assert_eq!(essential_name(name), essential);
    }
}
