//! From bytes in BPF maps to values of metrics.

mod buffer;
mod credits;
mod drops;
mod hci;
mod latency;
mod socket;
mod times;
pub(crate) mod urb;

use thiserror::Error;

pub(crate) use buffer::{buffer, full_times};
pub(crate) use credits::{pools, slots};
pub(crate) use drops::drops;
pub(crate) use hci::hci;
pub(crate) use latency::latency;
pub(crate) use socket::{failures, successes};

/// One entry of a map: its key, and its value on each CPU, or its one value.
pub(crate) type Entry = (Vec<u8>, Vec<Vec<u8>>);

/// Why an entry is not what the program writes.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[non_exhaustive]
pub(crate) enum DecodeError {
    /// It is too short.
    #[error("{length} bytes end before the field at byte {at}")]
    Short { length: usize, at: usize },
    /// A field has a value that the program never writes.
    #[error("{field} is {value}")]
    Value { field: &'static str, value: u64 },
}

/// A field of fixed width at a byte offset, in this machine's byte order.
fn field<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], DecodeError> {
    let chunk = bytes.get(at..).and_then(|rest| rest.first_chunk::<N>());
    chunk.copied().ok_or(DecodeError::Short {
        length: bytes.len(),
        at,
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Result<u16, DecodeError> {
    field(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, DecodeError> {
    field(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Result<u64, DecodeError> {
    field(bytes, at).map(u64::from_ne_bytes)
}

/// Sum of the same field over all CPUs.
fn sum_at(values: &[Vec<u8>], at: usize) -> Result<u64, DecodeError> {
    values.iter().try_fold(0_u64, |sum, value| {
        Ok(sum.saturating_add(u64_at(value, at)?))
    })
}

/// Name of a device by its number, if the kernel can have given it.
fn hci_name(index: usize) -> Result<String, DecodeError> {
    let name = u16::try_from(index).map(|index| format!("hci{index}"));
    name.or(Err(DecodeError::Value {
        field: "hci",
        value: index as u64,
    }))
}

/// Name at a place in a table that is in the order of an enumeration of the program.
fn name_of(
    table: &[&'static str],
    index: u8,
    field: &'static str,
) -> Result<&'static str, DecodeError> {
    let name = table.get(usize::from(index)).copied();
    name.ok_or(DecodeError::Value {
        field,
        value: index.into(),
    })
}
