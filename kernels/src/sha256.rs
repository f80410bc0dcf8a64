//! A SHA-256 hash: 64 hexadecimal digits in files, 32 bytes in memory.

use std::fmt::{self, Debug, Display, Formatter};
use std::io::{self, Read};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Digest;

/// A SHA-256 hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256([u8; 32]);

/// A text that is not 64 hexadecimal digits.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a SHA-256 hash in hexadecimal: {text:?}")]
pub struct ParseSha256Error {
    /// The text.
    pub text: String,
}

impl Sha256 {
    /// Hashes `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }

    /// Hashes all that `input` gives.
    ///
    /// # Errors
    ///
    /// It cannot be read.
    pub fn of_reader(mut input: impl Read) -> io::Result<Self> {
        let mut hasher = sha2::Sha256::new();
        let mut buffer = vec![0; 1 << 18];
        loop {
            match input.read(&mut buffer)? {
                0 => return Ok(Self(hasher.finalize().into())),
                count => hasher.update(&buffer[..count]),
            }
        }
    }

    /// The first 16 hexadecimal digits, enough to tell the entries of one cache apart.
    #[must_use]
    pub fn short(&self) -> String {
        self.0[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

impl Display for Sha256 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Debug for Sha256 {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

impl FromStr for Sha256 {
    type Err = ParseSha256Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseSha256Error {
            text: text.chars().take(80).collect(),
        };
        if text.len() != 64 {
            return Err(wrong());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let [high, low] = [pair[0], pair[1]].map(|digit| char::from(digit).to_digit(16));
            let (Some(high), Some(low)) = (high, low) else {
                return Err(wrong());
            };
            *byte = u8::try_from(high << 4 | low).expect("two hexadecimal digits fit in a byte");
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Sha256 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const OF_NOTHING: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Check that the hash of no bytes is the published one, and that text goes both ways.
    #[test]
    fn sha256_of_nothing_is_the_published_value() {
        assert_eq!(Sha256::of(b"").to_string(), OF_NOTHING);
        assert_eq!(OF_NOTHING.parse(), Ok(Sha256::of(b"")));
        let long = vec![7; 600_000];
        let read = Sha256::of_reader(long.as_slice()).unwrap();
        assert_eq!(read, Sha256::of(&long));
        assert_eq!(Sha256::of(b"").short(), "e3b0c44298fc1c14");
    }

    /// Check that what is not 64 hexadecimal digits is refused.
    #[rstest]
    #[case::short("e3b0")]
    #[case::not_hexadecimal(&"g".repeat(64))]
    #[case::not_ascii(&"é".repeat(32))]
    #[case::sign(&"+1".repeat(32))]
    fn sha256_from_other_text_is_refused(#[case] text: &str) {
        assert!(text.parse::<Sha256>().is_err());
    }
}
