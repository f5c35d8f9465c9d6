//! Little-endian fields of fixed layouts, and the CRC32C that guards them.

use crc_fast::{CrcAlgorithm, Digest};

/// CRC32C of one slice.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    narrow(crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, bytes))
}

/// CRC32C of two stretches, one behind the other, from those of each.
pub(crate) fn crc32c_joined(front: u32, back: u32, back_len: u64) -> u32 {
    let (front, back) = (u64::from(front), u64::from(back));
    narrow(crc_fast::checksum_combine(
        CrcAlgorithm::Crc32Iscsi,
        front,
        back,
        back_len,
    ))
}

/// CRC32C of bytes that arrive in parts.
#[derive(Debug, Clone)]
pub(crate) struct Crc(Digest);

impl Crc {
    pub(crate) fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(crate) fn value(&self) -> u32 {
        narrow(self.0.finalize())
    }
}

fn narrow(crc: u64) -> u32 {
    u32::try_from(crc & u64::from(u32::MAX)).unwrap_or_default()
}

/// A length or position as memory counts it; what does not fit is larger than any buffer.
pub(crate) fn in_memory(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Appends fields to a growing buffer.
#[derive(Debug, Default)]
pub(crate) struct FieldWriter(Vec<u8>);

impl FieldWriter {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    pub(crate) fn bytes(mut self, value: &[u8]) -> Self {
        self.0.extend_from_slice(value);
        self
    }

    pub(crate) fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    pub(crate) fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Appends the CRC32C of everything before it.
    pub(crate) fn crc(self) -> Self {
        let crc = crc32c(&self.0);
        self.u32(crc)
    }

    /// Zeros up to `len`.
    pub(crate) fn padded(mut self, len: usize) -> Vec<u8> {
        self.0.resize(len.max(self.0.len()), 0);
        self.0
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Takes fields off the front of a slice; `None` once it is too short.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Splits off the last four bytes as a CRC32C of the rest and checks it.
pub(crate) fn checked(bytes: &[u8]) -> Option<&[u8]> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    (crc32c(body) == u32::from_le_bytes(*crc)).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc32c() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        let mut parts = Crc::new();
        parts.update(b"1234");
        parts.update(b"56789");
        assert_eq!(parts.value(), 0xe306_9283);
        let joined = crc32c_joined(crc32c(b"1234"), crc32c(b"56789"), 5);
        assert_eq!(joined, 0xe306_9283);
        assert_eq!(crc32c_joined(crc32c(b"1"), crc32c(b""), 0), crc32c(b"1"));
    }

    #[test]
    fn a_short_slice_gives_no_field() {
        let mut fields = FieldReader::new(&[1, 0, 0, 0, 9]);
        assert_eq!(fields.u32(), Some(1));
        assert_eq!(fields.u16(), None);
        assert_eq!(fields.u8(), Some(9));
        assert!(fields.is_empty());
    }
}
