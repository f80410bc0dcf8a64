//! Bytes as hexadecimal digits in JSON.

use serde::{Deserialize as _, Deserializer, Serializer, de};

/// Two digits a byte.
///
/// # Errors
/// What the serializer says.
pub(crate) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16).expect("four bits are one digit");
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
    to.serialize_str(&digits.collect::<String>())
}

/// Two digits a byte, of either case.
///
/// # Errors
/// Not a text of digits in pairs.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    let text = String::deserialize(from)?;
    decode(&text).ok_or_else(|| de::Error::custom("not pairs of hexadecimal digits"))
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let byte = |pair: &[u32]| match pair {
        [high, low] => u8::try_from(high << 4 | low).ok(),
        _ => None,
    };
    digits?.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::decode;
    use crate::AgentRecord;
    use rstest::rstest;

    /// Check that bytes survive the way through JSON.
    #[test]
    fn capture_written_as_json_is_read_back() {
        let record = AgentRecord::UsbMonitor {
            pcap: vec![0, 1, 0xab, 0xff],
        };
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.contains("\"0001abff\""), "{json}");
        assert_eq!(serde_json::from_str::<AgentRecord>(&json).unwrap(), record);
    }

    /// Check that what is not digits in pairs is refused.
    #[rstest]
    #[case::odd("abc")]
    #[case::letters("xy")]
    #[case::wide("ä0")]
    fn hex_of_no_digits_is_refused(#[case] text: &str) {
        assert_eq!(decode(text), None);
    }
}
