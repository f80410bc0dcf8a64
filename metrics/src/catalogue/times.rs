//! What the histograms of times have in common.

use super::Kind;

/// Nanoseconds: 1, 2 and 5 of each power of ten from 10 µs to 10 s.
pub(super) const TIMES: Kind = Kind::Histogram {
    bounds: &[
        10_000,
        20_000,
        50_000,
        100_000,
        200_000,
        500_000,
        1_000_000,
        2_000_000,
        5_000_000,
        10_000_000,
        20_000_000,
        50_000_000,
        100_000_000,
        200_000_000,
        500_000_000,
        1_000_000_000,
        2_000_000_000,
        5_000_000_000,
        10_000_000_000,
    ],
};
