//! Variable-length integers inside a batch's records: 7 bits per byte, low bits first.

/// The longest encoding of a `u64`.
pub(crate) const VARINT_LEN_MAX: usize = 10;

/// Bytes that [`Scratch::append_to`] may take for a moment.
pub(crate) const SCRATCH_LEN: usize = 32;

/// Bytes that `value` takes.
pub(crate) const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

/// Reads one integer and moves `input` behind it.
///
/// `None`: the input ends inside the integer, or the integer does not fit 64 bits.
#[inline]
pub(crate) fn read_varint(input: &mut &[u8]) -> Option<u64> {
    let (&first, rest) = input.split_first()?;
    if first < 0x80 {
        *input = rest;
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    let mut shift = 7;
    let mut left = rest;
    loop {
        let (&byte, rest) = left.split_first()?;
        left = rest;
        if shift == 63 && byte > 1 {
            return None;
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            *input = left;
            return Some(value);
        }
        shift += 7;
    }
}

/// Maps small differences of either sign to small numbers.
pub(crate) const fn zigzag(delta: i64) -> u64 {
    (delta << 1 ^ delta >> 63).cast_unsigned()
}

/// Undoes [`zigzag`].
pub(crate) const fn unzigzag(raw: u64) -> i64 {
    (raw >> 1).cast_signed() ^ -(raw & 1).cast_signed()
}

/// A short run of bytes collected on the stack, to be appended at once.
///
/// It is long enough for the numbers between two byte strings of a record.
#[derive(Debug)]
pub(crate) struct Scratch {
    bytes: [u8; SCRATCH_LEN],
    len: usize,
}

impl Scratch {
    #[inline]
    pub(crate) const fn new() -> Self {
        Self {
            bytes: [0; SCRATCH_LEN],
            len: 0,
        }
    }

    #[inline]
    pub(crate) fn byte(&mut self, byte: u8) {
        debug_assert!(self.len < SCRATCH_LEN, "scratch space is sized for its use");
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = byte;
            self.len += 1;
        }
    }

    #[inline]
    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.byte(value.to_le_bytes()[0]);
    }

    /// Appends the run to `out`.
    ///
    /// All of the array is copied and the rest cut off again: a copy of fixed length is cheaper
    /// than a short one of any length.
    #[inline]
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.len;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn written(value: u64) -> Vec<u8> {
        let mut scratch = Scratch::new();
        scratch.varint(value);
        let mut out = Vec::new();
        scratch.append_to(&mut out);
        out
    }

    #[test]
    fn lengths_change_at_powers_of_128() {
        for (value, len) in [
            (0, 1),
            (127, 1),
            (128, 2),
            (16_383, 2),
            (16_384, 3),
            (u64::MAX, 10),
        ] {
            assert_eq!(varint_len(value), len);
            assert_eq!(written(value).len(), len);
        }
    }

    #[test]
    fn overlong_and_cut_integers_are_refused() {
        let mut eleven = &[0x80; 11][..];
        assert_eq!(read_varint(&mut eleven), None);
        let mut too_big = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02][..];
        assert_eq!(read_varint(&mut too_big), None);
        let mut cut = &[0x80][..];
        assert_eq!(read_varint(&mut cut), None);
        assert_eq!(read_varint(&mut &[][..]), None);
    }

    proptest! {
        #[test]
        fn integers_round_trip(value: u64, delta: i64) {
            let bytes = written(value);
            prop_assert_eq!(bytes.len(), varint_len(value));
            let mut input = &bytes[..];
            prop_assert_eq!(read_varint(&mut input), Some(value));
            prop_assert!(input.is_empty());
            prop_assert_eq!(unzigzag(zigzag(delta)), delta);
        }
    }
}
