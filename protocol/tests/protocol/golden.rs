//! Bytes that were once written can be read for ever.
//!
//! `tests/wire` holds a smallest and a largest case of each layout. `QUORATE_ADD_WIRE_FILES=1`
//! adds files that are missing; an existing file is never touched.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use bytes::Bytes;
use bytes::BytesMut;
use quorate_protocol::*;

use crate::samples::OwnedRecord;
use crate::samples::Sample;
use crate::samples::Source;
use crate::samples::WIRE_TYPES;
use crate::samples::draft_of;
use crate::samples::message_of;
use crate::samples::records_of;

const LIMITS: Limits = Limits {
    batch_bytes_max: 1024 * 1024,
    established: true,
};

struct Case {
    name: String,
    bytes: Vec<u8>,
    text: String,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/wire")
}

/// The file's bytes; adds the file first if that was asked for.
fn stored(case: &Case) -> Vec<u8> {
    let path = folder().join(format!("{}.bin", case.name));
    if std::env::var_os("QUORATE_ADD_WIRE_FILES").is_some() && !path.exists() {
        for (extension, content) in [("bin", &case.bytes[..]), ("txt", case.text.as_bytes())] {
            let mut file = fs::File::create_new(path.with_extension(extension)).unwrap();
            file.write_all(content).unwrap();
        }
    }
    assert!(
        path.with_extension("txt").exists(),
        "{} has no text",
        case.name
    );
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn frame(kind: Kind, version: u16, body: &[u8]) -> Vec<u8> {
    let header = FrameHeader {
        body_len: u32::try_from(body.len()).unwrap(),
        kind,
        flags: Flags::CRITICAL,
        version,
    };
    [&header.encode()[..], body].concat()
}

fn message_cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for wire_type in WIRE_TYPES {
        for (case, mut source) in [("min", Source::smallest()), ("max", Source::largest())] {
            let (body, text) = (wire_type.make)(&mut source);
            let name = format!("{}.v{}.{case}", wire_type.name, wire_type.version);
            let bytes = match wire_type.kind {
                Some(kind) => frame(kind, wire_type.version, &body),
                None => body,
            };
            cases.push(Case { name, bytes, text });
        }
    }
    cases
}

fn producer_batch(count: usize, ids: bool, mut source: Source<'_>) -> RecordBatch {
    let records: Vec<_> = (0..count)
        .map(|_| OwnedRecord::sample(&mut source))
        .collect();
    let draft = draft_of(&records, ids, Sample::sample(&mut source));
    draft.stamp(Sample::sample(&mut source))
}

fn batch_text(batch: &RecordBatch) -> String {
    format!("{batch:#?}\n{:#?}\n", records_of(batch))
}

fn batch_cases() -> Vec<Case> {
    let control = |record| control_batch(&record, Sample::sample(&mut Source::largest())).unwrap();
    let trim = ControlRecord::Trim {
        up_to: LogIndex::new(u64::MAX),
    };
    let data_loss = ControlRecord::DataLoss {
        from: Offset::new(1),
    };
    let batches = [
        ("min", producer_batch(1, false, Source::smallest())),
        ("max", producer_batch(2, false, Source::largest())),
        ("ids", producer_batch(2, true, Source::largest())),
        ("blank", control(ControlRecord::Blank)),
        (
            "membership",
            control(ControlRecord::Membership(Bytes::from_static(b"change"))),
        ),
        ("trim", control(trim)),
        ("data_loss", control(data_loss)),
        (
            "metadata",
            control(ControlRecord::Metadata(Bytes::from_static(b"command"))),
        ),
    ];
    let case = |(case, batch): (&str, RecordBatch)| Case {
        name: format!("batch.v1.{case}"),
        text: batch_text(&batch),
        bytes: batch.into_bytes().to_vec(),
    };
    batches.into_iter().map(case).collect()
}

fn publish_case(case: &str, header: PublishHeader, ids: bool, mut source: Source<'_>) -> Case {
    let record = OwnedRecord::sample(&mut source);
    let draft = draft_of(&[record], ids, Sample::sample(&mut source));
    let text = format!("{header:#?}\n{draft:#?}\n");
    let prefix = header.frame_prefix(u32::try_from(draft.len()).unwrap());
    Case {
        name: format!("publish.v1.{case}"),
        bytes: [&prefix[..], &draft.into_bytes()].concat(),
        text,
    }
}

fn publish_cases() -> Vec<Case> {
    let least = PublishHeader {
        level: AckLevel::NONE,
        flags: 0,
        deadline_ms: 0,
        expect_offset: None,
    };
    let most = PublishHeader {
        level: AckLevel::QUORUM,
        flags: 0,
        deadline_ms: u32::MAX,
        expect_offset: Some(Offset::new(u64::MAX - 1)),
    };
    vec![
        publish_case("min", least, false, Source::smallest()),
        publish_case("max", most, true, Source::largest()),
    ]
}

fn records_cases() -> Vec<Case> {
    let one = vec![producer_batch(1, false, Source::smallest())];
    let two = vec![
        producer_batch(1, true, Source::largest()),
        producer_batch(2, false, Source::largest()),
    ];
    let case = |(case, batches): (&str, Vec<RecordBatch>)| {
        let body = batches
            .iter()
            .flat_map(|batch| batch.bytes().to_vec())
            .collect::<Vec<_>>();
        let header = records_header(u32::try_from(body.len()).unwrap());
        Case {
            name: format!("records.v1.{case}"),
            bytes: [&header[..], &body].concat(),
            text: batches.iter().map(batch_text).collect(),
        }
    };
    [("min", one), ("max", two)].into_iter().map(case).collect()
}

/// One envelope per type of message, and one that has all of them.
fn envelope_cases() -> Vec<Case> {
    let all = |mut source: Source<'_>| -> Vec<PeerMessage> {
        (0..10).map(|kind| message_of(kind, &mut source)).collect()
    };
    let mut source = Source::largest();
    let long = OwnedRecord {
        key: None,
        value: Some(vec![7; 5000]),
        headers: Vec::new(),
        timestamp_us: 1,
    };
    let long = PeerEntry {
        kind: 3,
        batch: draft_of(&[long], false, Sample::sample(&mut source))
            .stamp(Sample::sample(&mut source)),
    };
    let mut most = all(Source::largest());
    most.extend(all(Source::largest()));
    for message in &mut most {
        if let PeerBody::Append { entries, .. } = &mut message.body {
            entries.insert(1, long.clone());
        }
    }
    let cases = [
        ("empty", 0, Vec::new()),
        ("min", 0, all(Source::smallest())),
        ("max", u8::MAX, most),
        ("forgetful", 1, vec![message_of(10, &mut Source::largest())]),
    ];
    let case = |(case, channel, messages): (&str, u8, Vec<PeerMessage>)| {
        let envelope = Envelope { channel, messages };
        Case {
            name: format!("envelope.v1.{case}"),
            bytes: envelope.encode().concat(),
            text: format!("{envelope:#?}\n"),
        }
    };
    cases.into_iter().map(case).collect()
}

fn chunk_cases() -> Vec<Case> {
    let case = |(case, mut source): (&str, Source<'_>)| {
        let chunk = SnapshotChunk::sample(&mut source);
        Case {
            name: format!("snapshot_chunk.v1.{case}"),
            bytes: [&chunk.frame_prefix()[..], &chunk.bytes].concat(),
            text: format!("{chunk:#?}\n"),
        }
    };
    [("min", Source::smallest()), ("max", Source::largest())]
        .into_iter()
        .map(case)
        .collect()
}

fn split_frame(frame: &[u8]) -> (FrameHeader, &[u8]) {
    let (header, body) = frame.split_first_chunk().unwrap();
    let header = FrameHeader::parse(header, &LIMITS).unwrap();
    assert_eq!(header.body_len_usize(), body.len());
    (header, body)
}

#[test]
fn stored_messages_read_and_write_back_unchanged() {
    for (case, pair) in message_cases()
        .iter()
        .zip(WIRE_TYPES.iter().flat_map(|t| [t, t]))
    {
        let stored = stored(case);
        assert_eq!(
            stored, case.bytes,
            "{} is written differently now",
            case.name
        );
        let body = match pair.kind {
            Some(kind) => {
                let (header, body) = split_frame(&stored);
                assert_eq!((header.kind, header.version), (kind, pair.version));
                body
            }
            None => &stored,
        };
        let (again, text) = (pair.read)(body).unwrap();
        assert_eq!(again, body, "{}", case.name);
        assert_eq!(text, case.text, "{}", case.name);
        for len in 0..body.len() {
            assert!(
                (pair.read)(&body[..len]).is_err(),
                "{} cut at {len}",
                case.name
            );
        }
        assert!(
            (pair.read)(&[body, &[0]].concat()).is_err(),
            "{} and a byte",
            case.name
        );
    }
}

#[test]
fn stored_batches_read_back_unchanged() {
    for case in batch_cases() {
        let stored = stored(&case);
        assert_eq!(
            stored, case.bytes,
            "{} is written differently now",
            case.name
        );
        let batch = RecordBatch::parse(Bytes::from(stored.clone())).unwrap();
        assert_eq!(batch_text(&batch), case.text, "{}", case.name);
        for len in 0..stored.len() {
            let cut = Bytes::copy_from_slice(&stored[..len]);
            assert!(
                RecordBatch::parse(cut).is_err(),
                "{} cut at {len}",
                case.name
            );
        }
    }
}

#[test]
fn stored_publishes_read_back_unchanged() {
    for case in publish_cases() {
        let stored = stored(&case);
        assert_eq!(
            stored, case.bytes,
            "{} is written differently now",
            case.name
        );
        let (header, body) = split_frame(&stored);
        assert_eq!(header.kind, Kind::PUBLISH);
        let publish = PublishHeader::parse(body).unwrap();
        let (front, batch) = body.split_at(PUBLISH_HEADER_LEN);
        assert_eq!(publish.encode(), front);
        let draft = DraftBatch::parse(BytesMut::from(batch)).unwrap();
        assert_eq!(format!("{publish:#?}\n{draft:#?}\n"), case.text);
        assert_eq!(draft.into_bytes(), batch);
        for len in 0..batch.len() {
            assert!(DraftBatch::parse(BytesMut::from(&batch[..len])).is_err());
        }
    }
}

#[test]
fn stored_records_read_back_unchanged() {
    for case in records_cases() {
        let stored = stored(&case);
        assert_eq!(
            stored, case.bytes,
            "{} is written differently now",
            case.name
        );
        let (header, body) = split_frame(&stored);
        assert_eq!(header.kind, Kind::RECORDS);
        let (mut left, mut text) = (Bytes::copy_from_slice(body), String::new());
        while !left.is_empty() {
            text += &batch_text(&RecordBatch::split_first(&mut left).unwrap());
        }
        assert_eq!(text, case.text);
    }
}

#[test]
fn stored_envelopes_and_chunks_read_back_unchanged() {
    type Read = fn(&[u8]) -> Result<String, DecodeError>;
    let envelope: Read = |body| {
        let body = Bytes::copy_from_slice(body);
        Envelope::decode(body).map(|envelope| format!("{envelope:#?}\n"))
    };
    let chunk: Read = |body| {
        let body = Bytes::copy_from_slice(body);
        SnapshotChunk::decode(body).map(|chunk| format!("{chunk:#?}\n"))
    };
    for (cases, kind, read) in [
        (envelope_cases(), Kind::ENVELOPE, envelope),
        (chunk_cases(), Kind::SNAPSHOT_CHUNK, chunk),
    ] {
        for case in cases {
            let name = &case.name;
            let stored = stored(&case);
            assert_eq!(stored, case.bytes, "{name} is written differently now");
            let (header, body) = split_frame(&stored);
            assert_eq!((header.kind, header.version), (kind, 1));
            assert_eq!(read(body).unwrap(), case.text, "{name}");
            for len in 0..body.len() {
                assert!(read(&body[..len]).is_err(), "{name} cut at {len}");
            }
            assert!(read(&[body, &[0]].concat()).is_err(), "{name} and a byte");
        }
    }
}

#[test]
fn every_stored_file_belongs_to_a_case() {
    let cases = [
        message_cases(),
        batch_cases(),
        publish_cases(),
        records_cases(),
        envelope_cases(),
        chunk_cases(),
    ];
    let known: BTreeSet<String> = cases
        .iter()
        .flatten()
        .flat_map(|case| [format!("{}.bin", case.name), format!("{}.txt", case.name)])
        .collect();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(known.contains(&name), "{name} is read by no test");
    }
}
