//! Reading and writing of little-endian fields, and the macro that makes a packet out of them.

use crate::types::{BdAddr, ConnHandle, Opcode, Role, Status};

/// The bytes end too early, go on too long, or hold a value that the field cannot have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What is left of a packet that is being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next `N` bytes.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = tail;
        Ok(*head)
    }

    /// Everything that is left.
    pub(crate) fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.0)
    }

    /// That nothing is left.
    pub(crate) fn finish(self) -> Result<(), Malformed> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Malformed)
        }
    }
}

/// A value with a fixed encoding.
pub(crate) trait Wire: Sized {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed>;
    fn encode(&self, out: &mut Vec<u8>);

    /// The value that `r` holds, to the last byte.
    fn decode_all(mut r: Reader<'_>) -> Result<Self, Malformed> {
        let value = Self::decode(&mut r)?;
        r.finish()?;
        Ok(value)
    }
}

impl Wire for () {
    fn decode(_: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(())
    }

    fn encode(&self, _: &mut Vec<u8>) {}
}

macro_rules! wire_integer {
    ($($t:ty),*) => {$(
        impl Wire for $t {
            fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
                r.array().map(Self::from_le_bytes)
            }

            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

wire_integer!(u8, i8, u16, u32, u64);

impl<const N: usize> Wire for [u8; N] {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        r.array()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }
}

impl Wire for BdAddr {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        r.array().map(Self::from_wire)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.to_wire().encode(out);
    }
}

impl Wire for ConnHandle {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        u16::decode(r).map(Self::from_low_bits)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.get().encode(out);
    }
}

impl Wire for Opcode {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        u16::decode(r).map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Wire for Status {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        u8::decode(r).map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl Wire for Role {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        match u8::decode(r)? {
            0 => Ok(Self::Central),
            1 => Ok(Self::Peripheral),
            _ => Err(Malformed),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        (*self as u8).encode(out);
    }
}

/// Bytes to the end of the packet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Rest(pub(crate) Vec<u8>);

impl Wire for Rest {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self(r.rest().to_vec()))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

/// A one-byte count and that many items. Items beyond 255 are not encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Counted<T>(pub(crate) Vec<T>);

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Wire> Wire for Counted<T> {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        let count = u8::decode(r)?;
        (0..count)
            .map(|_| T::decode(r))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let count = u8::try_from(self.0.len()).unwrap_or(u8::MAX);
        count.encode(out);
        self.0
            .iter()
            .take(count.into())
            .for_each(|item| item.encode(out));
    }
}

/// A block of `N` bytes that is zero unless set; arrays of that size have no `Default` of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> Default for Block<N> {
    fn default() -> Self {
        Self([0; N])
    }
}

impl<const N: usize> Wire for Block<N> {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        r.array().map(Self)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn decode(r: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok((A::decode(r)?, B::decode(r)?))
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
        self.1.encode(out);
    }
}

/// Structs whose fields are encoded one after the other, in the order they are written.
macro_rules! wire_struct {
    ($($(#[$meta:meta])* struct $name:ident { $($(#[$field_meta:meta])* $field:ident: $t:ty),+ $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub(crate) struct $name { $($(#[$field_meta])* pub(crate) $field: $t),+ }

        impl $crate::hci::wire::Wire for $name {
            fn decode(
                r: &mut $crate::hci::wire::Reader<'_>,
            ) -> Result<Self, $crate::hci::wire::Malformed> {
                Ok(Self { $($field: <$t as $crate::hci::wire::Wire>::decode(r)?),+ })
            }

            fn encode(&self, out: &mut Vec<u8>) {
                $($crate::hci::wire::Wire::encode(&self.$field, out);)+
            }
        }
    )*};
}

pub(crate) use wire_struct;

#[cfg(test)]
mod tests {
    use super::*;

    wire_struct! {
        #[derive(Default)]
        struct Sample { a: u8, b: u16, c: Counted<u32>, d: Rest }
    }

    /// Check that fields are little-endian and in order, and decode to what was encoded.
    #[test]
    fn wire_struct_round_trips() {
        let sample = Sample {
            a: 1,
            b: 0x0203,
            c: Counted(vec![4, 5]),
            d: Rest(vec![6]),
        };
        let mut bytes = Vec::new();
        sample.encode(&mut bytes);
        assert_eq!(bytes, [1, 3, 2, 2, 4, 0, 0, 0, 5, 0, 0, 0, 6]);
        assert_eq!(Sample::decode_all(Reader::new(&bytes)), Ok(sample));
    }

    /// Check that missing and left-over bytes are both malformed.
    #[test]
    fn decode_all_wrong_length_is_malformed() {
        assert_eq!(u16::decode_all(Reader::new(&[1])), Err(Malformed));
        assert_eq!(u16::decode_all(Reader::new(&[1, 2, 3])), Err(Malformed));
        assert_eq!(
            Counted::<u16>::decode_all(Reader::new(&[2, 0, 0, 0])),
            Err(Malformed)
        );
    }
}
