//! Nanoseconds as decimal seconds and back, without rounding.

const NANOSECONDS: u128 = 1_000_000_000;
const DECIMALS: usize = 9;

/// Writes nanoseconds as seconds: `1500000000` is `1.5`, `1000` is `0.000001`.
pub(super) fn seconds(nanoseconds: i128) -> String {
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let (whole, rest) = (
        nanoseconds.unsigned_abs() / NANOSECONDS,
        nanoseconds.unsigned_abs() % NANOSECONDS,
    );
    if rest == 0 {
        return format!("{sign}{whole}");
    }
    let decimals = format!("{rest:09}");
    format!("{sign}{whole}.{}", decimals.trim_end_matches('0'))
}

/// Reads what [`seconds`] writes. Fewer than a nanosecond is refused.
pub(super) fn nanoseconds(text: &str) -> Option<i128> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, decimals) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(whole) || !all_digits(decimals) || decimals.len() > DECIMALS {
        return None;
    }
    let rest: i128 = format!("{decimals:0<9}").parse().ok()?;
    let whole: i128 = whole.parse().ok()?;
    let value = whole
        .checked_mul(NANOSECONDS.try_into().ok()?)?
        .checked_add(rest)?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Check that seconds are written without needless digits and read back exactly.
    #[rstest]
    #[case(0, "0")]
    #[case(1, "0.000000001")]
    #[case(1_500_000_000, "1.5")]
    #[case(-250_000_000, "-0.25")]
    #[case(18_446_744_073_709_551_615, "18446744073.709551615")]
    fn seconds_come_back_exactly(#[case] value: i128, #[case] text: &str) {
        assert_eq!(seconds(value), text);
        assert_eq!(nanoseconds(text), Some(value));
    }

    /// Check that what is no such number is refused.
    #[rstest]
    fn nanoseconds_of_anything_else_are_refused(
        #[values("", ".", "1.", ".5", "1e3", "+1", "0.0000000001", "--1", "NaN")] text: &str,
    ) {
        assert_eq!(nanoseconds(text), None);
    }
}
