//! A frame: its header, then an envelope or a chunk of a snapshot.
//!
//! With a version other than 1 checksums of batches and chunks are made to match, so that the
//! input reaches what lies behind them.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use quorate_protocol::*;

const LIMITS: Limits = Limits {
    batch_bytes_max: 1024 * 1024,
    established: true,
};

/// What every batch has at bytes 36 to 39.
const MAGIC: [u8; 4] = [0x51, 0x42, 1, 0];

fn write(bytes: &mut [u8], at: usize, value: u32) {
    if let Some(room) = bytes.get_mut(at..at + 4) {
        room.copy_from_slice(&value.to_le_bytes());
    }
}

/// Makes the checksums of everything that looks like a batch match.
fn repair_batches(body: &mut [u8]) {
    let places: Vec<usize> = body
        .windows(4)
        .enumerate()
        .filter(|(_, window)| *window == MAGIC)
        .filter_map(|(at, _)| at.checked_sub(36))
        .collect();
    for at in places {
        let Some(len) = body
            .get(at + 28..at + 32)
            .and_then(|len| len.try_into().ok())
        else {
            continue;
        };
        let end = at + 40 + u32::from_le_bytes(len) as usize;
        let Some(batch) = body.get_mut(at..end).filter(|batch| batch.len() >= 96) else {
            continue;
        };
        let checksum = crc32c(&batch[44..]);
        write(batch, 40, checksum);
        let checksum = crc32c(&[&batch[..24], &batch[28..40]].concat());
        write(batch, 24, checksum);
    }
}

fn envelope(body: &[u8]) {
    let Ok(envelope) = Envelope::decode(Bytes::copy_from_slice(body)) else {
        return;
    };
    let frame = envelope.encode().concat();
    assert_eq!(frame[FRAME_HEADER_LEN..], *body);
    let lens = envelope.messages.iter().map(Envelope::encoded_len);
    assert_eq!(lens.sum::<usize>() + 8, body.len());
}

fn chunk(body: &[u8]) {
    let Ok(chunk) = SnapshotChunk::decode(Bytes::copy_from_slice(body)) else {
        return;
    };
    let again = [&chunk.frame_prefix()[FRAME_HEADER_LEN..], &chunk.bytes].concat();
    assert_eq!(again, body);
}

fuzz_target!(|input: &[u8]| {
    let Some((header, body)) = input.split_first_chunk() else {
        return;
    };
    let Ok(header) = FrameHeader::parse(header, &LIMITS) else {
        return;
    };
    let mut body = body.to_vec();
    let repair = header.version != 1;
    if header.kind == Kind::ENVELOPE {
        if repair {
            repair_batches(&mut body);
        }
        envelope(&body);
    } else {
        let checksum = crc32c(body.get(16..).unwrap_or_default());
        if repair {
            write(&mut body, 4, checksum);
        }
        chunk(&body);
    }
});
