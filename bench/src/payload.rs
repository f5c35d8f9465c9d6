//! Payloads that carry their number and their intended time, so that a receiver can account for each.

use std::time::Duration;

use bytes::Bytes;

/// Bytes taken by run, number and time at the front of a payload.
pub(crate) const STAMP_BYTES: usize = 24;

/// What a payload says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// Which run sent it.
    pub(crate) run: u64,
    /// Position in the run's schedule.
    pub(crate) number: u64,
    /// When it was meant to be sent, on the run's clock.
    pub(crate) intended: Duration,
}

/// A payload of `size` bytes; short ones carry no stamp.
pub(crate) fn write(stamp: Stamp, size: usize) -> Bytes {
    let mut body = vec![0x5a; size];
    if let Some(front) = body.first_chunk_mut::<STAMP_BYTES>() {
        let nanos = u64::try_from(stamp.intended.as_nanos()).unwrap_or(u64::MAX);
        let words = [stamp.run, stamp.number, nanos];
        for (place, word) in front.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
    }
    body.into()
}

/// The stamp of a payload, if it is long enough to carry one.
pub(crate) fn read(body: &[u8]) -> Option<Stamp> {
    let front = body.first_chunk::<STAMP_BYTES>()?;
    let (words, _) = front.as_chunks::<8>();
    let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
    Some(Stamp {
        run: words.next()?,
        number: words.next()?,
        intended: Duration::from_nanos(words.next()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_returns_its_stamp() {
        let stamp = Stamp {
            run: 3,
            number: 7,
            intended: Duration::from_micros(42),
        };
        assert_eq!(read(&write(stamp, 128)), Some(stamp));
        assert_eq!(write(stamp, 128).len(), 128);
        assert_eq!(read(&write(stamp, 8)), None);
    }
}
