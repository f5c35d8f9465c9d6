//! Reading a batch's records where they lie.
//!
//! Invariant: nothing is copied or allocated; a record's headers were checked before it is seen.

use std::iter::FusedIterator;

use crate::batch::layout::BatchError;
use crate::varint::read_varint;
use crate::varint::unzigzag;

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordView<'a> {
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The producer's clock, in microseconds since 1970.
    pub timestamp_us: u64,
    header_count: u64,
    header_bytes: &'a [u8],
}

/// Iterates over the records of a batch.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    left: &'a [u8],
    index: u32,
    count: u32,
    base_timestamp_us: u64,
}

/// Iterates over the headers of a record.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    left: &'a [u8],
    count: u64,
}

/// Iterates over uncompressed records; `count` and `base_timestamp_us` stand in the batch.
///
/// After an error there is no further item. Bytes behind the last record are an error.
pub const fn records(payload: &[u8], count: u32, base_timestamp_us: u64) -> Records<'_> {
    Records {
        left: payload,
        index: 0,
        count,
        base_timestamp_us,
    }
}

impl<'a> RecordView<'a> {
    /// The headers in order.
    pub const fn headers(&self) -> Headers<'a> {
        Headers {
            left: self.header_bytes,
            count: self.header_count,
        }
    }
}

impl<'a> Records<'a> {
    /// The bytes that are not yet read.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.left
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let index = self.index;
        if index == self.count {
            if self.left.is_empty() {
                return None;
            }
            let count = self.left.len() as u64;
            self.left = &[];
            return Some(Err(BatchError::Trailing { count }));
        }
        match read_record(&mut self.left, self.base_timestamp_us) {
            Ok(record) => {
                self.index += 1;
                Some(Ok(record))
            }
            Err(why) => {
                self.left = &[];
                self.index = self.count;
                Some(Err(BatchError::Record { index, why }))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.count - self.index) as usize;
        (usize::from(left > 0), Some(left.saturating_add(1)))
    }
}

impl FusedIterator for Records<'_> {}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        read_header(&mut self.left).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = usize::try_from(self.count).unwrap_or(usize::MAX);
        (left, Some(left))
    }
}

impl ExactSizeIterator for Headers<'_> {}
impl FusedIterator for Headers<'_> {}

#[inline]
fn read_record<'a>(input: &mut &'a [u8], base: u64) -> Result<RecordView<'a>, &'static str> {
    let len = read_varint(input).ok_or("its length is cut or too large")?;
    let mut record = take(input, len).ok_or("it is longer than the batch")?;
    if record.split_off_first() != Some(&0) {
        return Err("its attributes are not zero");
    }
    let delta = read_varint(&mut record).ok_or("its timestamp is cut or too large")?;
    let key = read_optional(&mut record).ok_or("its key is longer than the record")?;
    let value = read_optional(&mut record).ok_or("its value is longer than the record")?;
    let header_count = read_varint(&mut record).ok_or("its header count is cut or too large")?;
    let header_bytes = record;
    if header_count > 0 {
        check_headers(&mut record, header_count)?;
    }
    if !record.is_empty() {
        return Err("bytes follow its last field");
    }
    Ok(RecordView {
        key,
        value,
        timestamp_us: base.wrapping_add_signed(unzigzag(delta)),
        header_count,
        header_bytes,
    })
}

/// Each header takes at least two bytes, so the loop is bounded by the record.
fn check_headers(input: &mut &[u8], count: u64) -> Result<(), &'static str> {
    for _ in 0..count {
        read_header(input)?;
    }
    Ok(())
}

fn read_header<'a>(input: &mut &'a [u8]) -> Result<(&'a str, Option<&'a [u8]>), &'static str> {
    let len = read_varint(input).ok_or("a header name's length is cut or too large")?;
    let name = take(input, len).ok_or("a header name is longer than the record")?;
    let name = std::str::from_utf8(name).map_err(|_| "a header name is not UTF-8")?;
    let value = read_optional(input).ok_or("a header value is longer than the record")?;
    Ok((name, value))
}

/// Reads bytes whose length is stored plus one, so that zero can stand for none.
#[inline]
fn read_optional<'a>(input: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match read_varint(input)?.checked_sub(1) {
        None => Some(None),
        Some(len) => take(input, len).map(Some),
    }
}

#[inline]
fn take<'a>(input: &mut &'a [u8], len: u64) -> Option<&'a [u8]> {
    let (taken, rest) = input.split_at_checked(usize::try_from(len).ok()?)?;
    *input = rest;
    Some(taken)
}
