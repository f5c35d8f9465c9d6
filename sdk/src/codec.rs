//! Compression of a batch's records.
//!
//! Invariant: what a batch claims is checked before memory is taken, and the result has exactly
//! the claimed length.

use bytes::Bytes;
use quorate_protocol::Codec;
use quorate_protocol::ErrorCode;
use quorate_protocol::UNCOMPRESSED_BYTES_MAX;

use crate::error::Error;
use crate::error::Result;

/// Compressed bytes may stand for at most this many times as many.
const RATIO_MAX: usize = 1_000;

/// Compresses records.
pub(crate) fn pack(plain: &[u8]) -> Vec<u8> {
    lz4_flex::block::compress(plain)
}

/// The records of a batch as they were before compression.
pub(crate) fn unpack(packed: Bytes, codec: Codec, claimed: u32) -> Result<Bytes> {
    let claimed = usize::try_from(claimed).unwrap_or(usize::MAX);
    match codec {
        Codec::NONE => Ok(packed),
        Codec::LZ4 => unpack_lz4(&packed, claimed),
        codec => {
            let message = format!("this client cannot read batches compressed with {codec:?}");
            Err(Error::new(ErrorCode::UNSUPPORTED_CODEC, message))
        }
    }
}

fn unpack_lz4(packed: &[u8], claimed: usize) -> Result<Bytes> {
    let corrupt = |why: String| Error::new(ErrorCode::CORRUPT_BATCH, why);
    let max = usize::try_from(UNCOMPRESSED_BYTES_MAX).unwrap_or(usize::MAX);
    if claimed > max || claimed / RATIO_MAX > packed.len() {
        let len = packed.len();
        return Err(corrupt(format!("{len} bytes claim to stand for {claimed}")));
    }
    let mut plain = vec![0; claimed];
    let len = lz4_flex::block::decompress_into(packed, &mut plain)
        .map_err(|error| corrupt(format!("the records do not decompress: {error}")))?;
    if len != claimed {
        return Err(corrupt(format!(
            "{len} bytes came out where {claimed} were claimed"
        )));
    }
    Ok(Bytes::from(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_compression() {
        let plain = b"abcabcabcabcabcabc".repeat(100);
        let packed = Bytes::from(pack(&plain));
        let claimed = u32::try_from(plain.len()).unwrap();
        assert_eq!(unpack(packed, Codec::LZ4, claimed).unwrap(), plain);
    }

    #[test]
    fn a_bomb_is_refused_before_memory_is_taken() {
        let packed = Bytes::from(pack(&[0; 100_000]));
        for claimed in [u32::MAX, 64 << 20, 99_999, 100_001] {
            let refused = unpack(packed.clone(), Codec::LZ4, claimed).unwrap_err();
            assert_eq!(refused.code(), ErrorCode::CORRUPT_BATCH, "{claimed}");
        }
    }
}
