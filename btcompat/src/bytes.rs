//! Bounded reads of integers from byte slices, in either byte order.

use serde::{Deserialize, Serialize};

/// Byte order of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Endian {
    /// Least significant byte first.
    Little,
    /// Most significant byte first.
    Big,
}

impl Endian {
    /// Reads a `u16` at `at`; `None` past the end.
    #[must_use]
    pub fn u16(self, data: &[u8], at: usize) -> Option<u16> {
        let bytes = array::<2>(data, at)?;
        Some(match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        })
    }

    /// Reads a `u32` at `at`; `None` past the end.
    #[must_use]
    pub fn u32(self, data: &[u8], at: usize) -> Option<u32> {
        let bytes = array::<4>(data, at)?;
        Some(match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        })
    }

    /// Reads a `u64` at `at`; `None` past the end.
    #[must_use]
    pub fn u64(self, data: &[u8], at: usize) -> Option<u64> {
        let bytes = array::<8>(data, at)?;
        Some(match self {
            Self::Little => u64::from_le_bytes(bytes),
            Self::Big => u64::from_be_bytes(bytes),
        })
    }
}

fn array<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// The NUL-terminated text at `at`, without the NUL. `None` when it is not
/// terminated, not UTF-8, or starts past the end.
#[must_use]
pub fn c_str(data: &[u8], at: usize) -> Option<&str> {
    let rest = data.get(at..)?;
    let len = rest.iter().position(|&b| b == 0)?;
    std::str::from_utf8(&rest[..len]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Check that a read which would cross the end is refused, not wrapped.
    #[test]
    fn reads_past_the_end_are_none() {
        let data = [1, 2, 3];
        assert_eq!(Endian::Little.u16(&data, 1), Some(0x0302));
        assert_eq!(Endian::Big.u16(&data, 1), Some(0x0203));
        assert_eq!(Endian::Little.u32(&data, 0), None);
        assert_eq!(Endian::Little.u64(&data, usize::MAX), None);
    }

    /// Check that text without a NUL is not taken for a string.
    #[test]
    fn c_str_without_terminator_is_none() {
        assert_eq!(c_str(b"ab\0cd", 0), Some("ab"));
        assert_eq!(c_str(b"ab\0cd", 3), None);
        assert_eq!(c_str(b"\xff\0", 0), None);
    }
}
