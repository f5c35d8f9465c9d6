//! Reads fields of fixed width from the front of shared bytes.

use bytes::Buf;
use bytes::Bytes;

use crate::message::DecodeError;

/// Bytes not read yet. Reading behind their end is an error.
pub(crate) struct Cursor {
    what: &'static str,
    left: Bytes,
}

impl Cursor {
    /// Reads `left`, which is called `what` in errors.
    pub(crate) const fn new(what: &'static str, left: Bytes) -> Self {
        Self { what, left }
    }

    /// How many bytes are left.
    pub(crate) const fn len(&self) -> usize {
        self.left.len()
    }

    /// The bytes left, to take something from their front.
    pub(crate) const fn left(&mut self) -> &mut Bytes {
        &mut self.left
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array().map(u8::from_le_bytes)
    }

    /// The next two bytes.
    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes.
    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes.
    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count of items that take at least `least` bytes each, refused if they cannot be there.
    pub(crate) fn count(&mut self, least: usize) -> Result<usize, DecodeError> {
        let count = self.u32()? as usize;
        if count > self.len() / least.max(1) {
            return Err(self.malformed("it announces more than it holds"));
        }
        Ok(count)
    }

    /// Refuses bytes that are left over.
    pub(crate) fn end(&self) -> Result<(), DecodeError> {
        if self.left.is_empty() {
            return Ok(());
        }
        Err(self.malformed("bytes follow its end"))
    }

    /// The error for bytes that are not of the layout.
    pub(crate) const fn malformed(&self, why: &'static str) -> DecodeError {
        let what = self.what;
        DecodeError::Malformed { what, why }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let array = self.left.first_chunk().copied();
        let array = array.ok_or_else(|| self.malformed("the bytes end inside a field"))?;
        self.left.advance(N);
        Ok(array)
    }
}
