//! Whole numbers of a small unit as decimals of a large one and back, without rounding.

/// Decimals of nanoseconds in seconds.
pub(super) const NANO: u32 = 9;
/// Decimals of percent in a ratio.
pub(super) const CENTI: u32 = 2;

/// Writes a number with its last `decimals` digits after the point: with 9, `1500000000` is `1.5`.
pub(super) fn scaled(value: i128, decimals: u32) -> String {
    let sign = if value < 0 { "-" } else { "" };
    let one = 10_u128.pow(decimals);
    let (whole, rest) = (value.unsigned_abs() / one, value.unsigned_abs() % one);
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    let digits = format!("{rest:0width$}", width = decimals as usize);
    format!("{sign}{whole}.{}", digits.trim_end_matches('0'))
}

/// Reads what [`scaled`] writes. More decimals are refused.
pub(super) fn unscaled(text: &str, decimals: u32) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, rest) = digits.split_once('.').unwrap_or((digits, "0"));
    let width = decimals as usize;
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(rest) || rest.len() > width {
        return None;
    }
    let rest: i128 = format!("{rest:0<width$}").parse().ok()?;
    let whole: i128 = whole.parse().ok()?;
    let value = whole
        .checked_mul(10_i128.pow(decimals))?
        .checked_add(rest)?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Check that numbers are written without needless digits and read back exactly.
    #[rstest]
    #[case(0, NANO, "0")]
    #[case(1, NANO, "0.000000001")]
    #[case(1_500_000_000, NANO, "1.5")]
    #[case(-250_000_000, NANO, "-0.25")]
    #[case(18_446_744_073_709_551_615, NANO, "18446744073.709551615")]
    #[case(5, CENTI, "0.05")]
    #[case(110, CENTI, "1.1")]
    fn scaled_numbers_come_back_exactly(
        #[case] value: i128,
        #[case] decimals: u32,
        #[case] text: &str,
    ) {
        assert_eq!(scaled(value, decimals), text);
        assert_eq!(unscaled(text, decimals), Some(value));
    }

    /// Check that what is no such number is refused.
    #[rstest]
    fn unscaled_of_anything_else_is_refused(
        #[values("", ".", "1.", ".5", "1e3", "+1", "0.0000000001", "--1", "NaN")] text: &str,
    ) {
        assert_eq!(unscaled(text, NANO), None);
    }
}
