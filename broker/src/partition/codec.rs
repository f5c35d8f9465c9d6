//! Strict little-endian fields and varints of checkpoints: every value has one encoding, and
//! whatever is left over, short or padded is an error.

/// Why the bytes of a checkpoint were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum CodecError {
    /// The bytes end inside a field.
    #[error("the state ends inside a field")]
    Truncated,
    /// Bytes follow the last field.
    #[error("{0} bytes follow the last field of the state")]
    Trailing(usize),
    /// A variable-length number is padded or larger than its type.
    #[error("a number in the state is not in its shortest form or too large")]
    Number,
    /// A count or length is above its limit.
    #[error("the state holds {actual} {what}, more than the limit of {limit}")]
    TooMany {
        /// What is counted.
        what: &'static str,
        /// The count found.
        actual: u64,
        /// The largest count allowed.
        limit: u64,
    },
    /// Fields contradict each other.
    #[error("the state contradicts itself: {0}")]
    Invalid(&'static str),
    /// A version this build does not read.
    #[error("the state has format version {0}, which this build does not read")]
    Version(u16),
}

/// Appends fields to a buffer.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u128(&mut self, value: u128) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(low_seven_bits(value) | 0x80);
            value >>= 7;
        }
        self.bytes.push(low_seven_bits(value));
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.varint(u64::try_from(count).unwrap_or(u64::MAX));
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

fn low_seven_bits(value: u64) -> u8 {
    value.to_le_bytes().first().map_or(0, |byte| byte & 0x7f)
}

/// Takes fields from a buffer in the order they were written.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, CodecError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, CodecError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, CodecError> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, CodecError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(CodecError::Number);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let padded = byte == 0 && shift > 0;
                return if padded {
                    Err(CodecError::Number)
                } else {
                    Ok(value)
                };
            }
        }
        Err(CodecError::Number)
    }

    /// A count of items, checked against its limit before anything is allocated for them.
    pub(crate) fn count(&mut self, what: &'static str, limit: usize) -> Result<usize, CodecError> {
        let actual = self.varint()?;
        match usize::try_from(actual) {
            Ok(count) if count <= limit => Ok(count),
            _ => {
                let limit = u64::try_from(limit).unwrap_or(u64::MAX);
                Err(CodecError::TooMany {
                    what,
                    actual,
                    limit,
                })
            }
        }
    }

    pub(crate) fn varint_u32(&mut self) -> Result<u32, CodecError> {
        u32::try_from(self.varint()?).map_err(|_| CodecError::Number)
    }

    pub(crate) fn text(&mut self, what: &'static str, limit: usize) -> Result<&'a str, CodecError> {
        let length = self.count(what, limit)?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| CodecError::Invalid("a text is not UTF-8"))
    }

    /// Ends the reading: nothing may be left.
    pub(crate) fn finish(self) -> Result<(), CodecError> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(CodecError::Trailing(self.rest.len()))
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (head, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], CodecError> {
        let (head, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_number_comes_back(values in proptest::collection::vec(any::<u64>(), 0..20)) {
            let mut writer = Writer::default();
            for value in &values {
                writer.varint(*value);
            }
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes);
            for value in &values {
                prop_assert_eq!(reader.varint(), Ok(*value));
            }
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn a_padded_number_is_refused() {
        assert_eq!(Reader::new(&[0x80, 0x00]).varint(), Err(CodecError::Number));
        assert_eq!(Reader::new(&[0xff; 10]).varint(), Err(CodecError::Number));
    }

    #[test]
    fn a_count_above_its_limit_is_refused_before_its_items() {
        let mut writer = Writer::default();
        writer.varint(11);
        let refused = CodecError::TooMany {
            what: "ids",
            actual: 11,
            limit: 10,
        };
        assert_eq!(
            Reader::new(&writer.into_bytes()).count("ids", 10),
            Err(refused)
        );
    }

    #[test]
    fn short_and_trailing_bytes_are_refused() {
        assert_eq!(Reader::new(&[1, 2]).u32(), Err(CodecError::Truncated));
        assert_eq!(Reader::new(&[1]).finish(), Err(CodecError::Trailing(1)));
    }
}
