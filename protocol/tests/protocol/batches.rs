//! A batch read back is the batch that was built, and any other bytes are refused.
use bytes::Bytes;
use bytes::BytesMut;
use quorate_protocol::BATCH_BYTES_MAX;
use quorate_protocol::BatchBuilder;
use quorate_protocol::BatchIdentity;
use quorate_protocol::Codec;
use quorate_protocol::ControlRecord;
use quorate_protocol::DraftBatch;
use quorate_protocol::GroupId;
use quorate_protocol::HybridTime;
use quorate_protocol::LogIndex;
use quorate_protocol::MessageId;
use quorate_protocol::Offset;
use quorate_protocol::ProducerEpoch;
use quorate_protocol::ProducerId;
use quorate_protocol::RecordBatch;
use quorate_protocol::RecordDraft;
use quorate_protocol::Sequence;
use quorate_protocol::Stamp;
use quorate_protocol::Term;
use quorate_protocol::control_batch;
use quorate_protocol::crc32c;
use quorate_protocol::records;

const IDENTITY: BatchIdentity = BatchIdentity {
    producer_id: ProducerId::new(7),
    epoch: ProducerEpoch::new(3),
    base_sequence: Sequence::new(100),
    topic_hash: 0xdead_beef,
};

const STAMP: Stamp = Stamp {
    base_offset: Offset::new(5000),
    term: Term::new(12),
    append_time: HybridTime::from_parts(1_700_000_000_000_000, 5),
    group: GroupId::new(9),
};

fn value(value: &[u8]) -> RecordDraft<'_> {
    RecordDraft {
        key: None,
        value: Some(value),
        headers: &[],
        timestamp_us: 1_700_000_000_000_000,
        id: None,
    }
}

fn built(with_ids: bool) -> DraftBatch {
    let mut builder = BatchBuilder::new(1024);
    for n in 0..3u8 {
        let content = [n; 200];
        let record = RecordDraft {
            key: (n > 0).then_some(b"key".as_slice()),
            value: (n != 1).then_some(content.as_slice()),
            headers: &[("name", Some(b"value")), ("empty", None)],
            timestamp_us: 1000 - u64::from(n),
            id: with_ids.then_some(MessageId::new(u128::from(n) + 1)),
        };
        builder.push(&record).unwrap();
    }
    let len = builder.len();
    let draft = builder.finish(IDENTITY);
    assert_eq!(draft.len(), len);
    draft
}

#[test]
fn a_built_batch_reads_back() {
    for with_ids in [false, true] {
        let bytes = built(with_ids).into_bytes();
        let draft = DraftBatch::parse(BytesMut::from(&bytes[..])).unwrap();
        let stamped = draft.stamp(STAMP);
        let batch = RecordBatch::parse(stamped.into_bytes()).unwrap();
        assert_eq!(batch.base_offset(), Offset::new(5000));
        assert_eq!(batch.next_offset(), Offset::new(5003));
        assert_eq!(batch.term(), STAMP.term);
        assert_eq!(batch.append_time(), STAMP.append_time);
        assert_eq!(batch.group(), STAMP.group);
        assert_eq!(batch.producer_id(), IDENTITY.producer_id);
        assert_eq!(batch.producer_epoch(), IDENTITY.epoch);
        assert_eq!(batch.base_sequence(), IDENTITY.base_sequence);
        assert_eq!(batch.topic_hash(), IDENTITY.topic_hash);
        assert_eq!(
            (batch.base_timestamp_us(), batch.max_timestamp_us()),
            (1000, 1000)
        );
        let ids: Vec<_> = batch.message_ids().map(MessageId::get).collect();
        assert_eq!(ids, if with_ids { vec![1, 2, 3] } else { vec![] });
        let payload = batch.payload();
        let all = records(&payload, batch.record_count(), batch.base_timestamp_us());
        let all: Vec<_> = all.map(Result::unwrap).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(all[0].key, None);
        assert_eq!(all[1].value, None);
        assert_eq!(all[2].value, Some([2; 200].as_slice()));
        assert_eq!(all[2].timestamp_us, 998);
        let headers: Vec<_> = all[0].headers().collect();
        assert_eq!(
            headers,
            [("name", Some(b"value".as_slice())), ("empty", None)]
        );
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let bytes = built(true).stamp(STAMP).into_bytes();
    for at in 0..bytes.len() * 8 {
        let mut wrong = bytes.to_vec();
        wrong[at / 8] ^= 1 << (at % 8);
        assert!(RecordBatch::parse(Bytes::from(wrong)).is_err(), "bit {at}");
    }
}

#[test]
fn every_strict_prefix_is_refused() {
    let bytes = built(true).stamp(STAMP).into_bytes();
    for len in 0..bytes.len() {
        assert!(RecordBatch::parse(bytes.slice(..len)).is_err());
        assert!(RecordBatch::split_first(&mut bytes.slice(..len)).is_err());
    }
}

#[test]
fn a_producer_cannot_choose_its_place() {
    let stamped = built(false).stamp(STAMP).into_bytes();
    assert!(DraftBatch::parse(BytesMut::from(&stamped[..])).is_err());
}

#[test]
fn batches_split_one_after_another() {
    let one = built(false).stamp(STAMP).into_bytes();
    let two = built(true).stamp(STAMP).into_bytes();
    let mut both = Bytes::from([&one[..], &two[..]].concat());
    assert!(RecordBatch::parse(both.clone()).is_err());
    assert_eq!(RecordBatch::split_first(&mut both).unwrap().bytes(), &one);
    assert_eq!(RecordBatch::split_first(&mut both).unwrap().bytes(), &two);
    assert!(both.is_empty());
}

#[test]
fn compressed_records_keep_their_count_and_shrink() {
    let mut builder = BatchBuilder::new(1024);
    for _ in 0..10 {
        builder.push(&value(&[1; 100])).unwrap();
    }
    let plain_len = builder.len();
    let draft = builder.finish_with(IDENTITY, Codec::LZ4, |plain| {
        assert_eq!(plain.len() + 96, plain_len);
        plain[..50].to_vec()
    });
    let draft = DraftBatch::parse(BytesMut::from(&draft.into_bytes()[..])).unwrap();
    assert_eq!(draft.attributes().codec, Codec::LZ4);
    assert_eq!(draft.uncompressed_len() as usize, plain_len - 96);
    assert_eq!(draft.len(), 96 + 50);
}

#[test]
fn compression_that_does_not_help_is_dropped() {
    let mut builder = BatchBuilder::new(1024);
    builder.push(&value(b"x")).unwrap();
    let draft = builder.finish_with(IDENTITY, Codec::ZSTD, |plain| [plain, plain].concat());
    assert_eq!(draft.attributes().codec, Codec::NONE);
    DraftBatch::parse(BytesMut::from(&draft.into_bytes()[..])).unwrap();
}

#[test]
fn a_refused_record_leaves_the_batch_as_it_was() {
    let mut builder = BatchBuilder::new(1024);
    builder.push(&value(b"one")).unwrap();
    let len = builder.len();
    let huge = vec![0; 8 << 20];
    assert!(builder.push(&value(&huge)).is_err());
    let mut with_id = value(b"two");
    with_id.id = Some(MessageId::new(1));
    assert!(builder.push(&with_id).is_err());
    assert_eq!((builder.len(), builder.record_count()), (len, 1));
    DraftBatch::parse(BytesMut::from(&builder.finish(IDENTITY).into_bytes()[..])).unwrap();
}

#[test]
fn control_records_round_trip_and_take_no_offset() {
    for record in [
        ControlRecord::Blank,
        ControlRecord::Membership(Bytes::from_static(b"members")),
        ControlRecord::Trim {
            up_to: LogIndex::new(9),
        },
        ControlRecord::DataLoss {
            from: Offset::new(10),
        },
        ControlRecord::Metadata(Bytes::new()),
        ControlRecord::Duplicates(Bytes::from_static(b"numbers")),
    ] {
        let batch = control_batch(&record, STAMP).unwrap();
        let batch = RecordBatch::parse(batch.into_bytes()).unwrap();
        assert_eq!(batch.next_offset(), batch.base_offset());
        assert_eq!(ControlRecord::decode(&batch).unwrap(), record);
    }
    assert!(ControlRecord::decode(&built(false).stamp(STAMP)).is_err());
}

#[test]
fn fields_stand_where_the_format_says() {
    let mut builder = BatchBuilder::new(0);
    for timestamp_us in [0x0101, 0x0202] {
        let id = Some(MessageId::new(0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100));
        builder
            .push(&RecordDraft {
                id,
                timestamp_us,
                ..value(b"xyz")
            })
            .unwrap();
    }
    let bytes = builder.finish(IDENTITY).stamp(STAMP).into_bytes();
    let number = |at: usize, width: usize| {
        let field = bytes[at..at + width].iter().rev();
        field.fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    assert_eq!(number(0, 8), 5000);
    assert_eq!(number(8, 8), 12);
    assert_eq!(number(16, 8), 1_700_000_000_000_000 << 12 | 5);
    let header = [&bytes[0..24], &bytes[28..40]].concat();
    assert_eq!(number(24, 4), u64::from(crc32c(&header)));
    assert_eq!(number(28, 4), bytes.len() as u64 - 40);
    assert_eq!(number(32, 4), 9);
    assert_eq!(bytes[36..40], [0x51, 0x42, 1, 0]);
    assert_eq!(number(40, 4), u64::from(crc32c(&bytes[44..])));
    assert_eq!(number(44, 2), 1 << 4);
    assert_eq!(number(46, 2), 0);
    assert_eq!(number(48, 8), 7);
    assert_eq!(number(56, 4), 3);
    assert_eq!(number(60, 4), 2);
    assert_eq!(number(64, 8), 100);
    assert_eq!(number(72, 8), 0x0101);
    assert_eq!(number(80, 8), 0x0202);
    assert_eq!(number(88, 4), 19);
    assert_eq!(number(92, 4), 0xdead_beef);
    let ids: Vec<u8> = (0..16).chain(0..16).collect();
    assert_eq!(bytes[96..128], ids);
    assert_eq!(bytes[128..137], [8, 0, 0, 0, 4, b'x', b'y', b'z', 0]);
    assert_eq!(bytes[137..], [9, 0, 0x82, 0x04, 0, 4, b'x', b'y', b'z', 0]);
}

#[test]
fn a_batch_ends_at_its_greatest_number_of_records() {
    for (id, max) in [(None, 65_536), (Some(MessageId::new(1)), 4096)] {
        let mut builder = BatchBuilder::new(0);
        let record = RecordDraft { id, ..value(b"") };
        for _ in 0..max {
            builder.push(&record).unwrap();
        }
        assert!(builder.push(&record).is_err());
        let draft = builder.finish(IDENTITY);
        assert_eq!(draft.record_count(), max);
        DraftBatch::parse(BytesMut::from(&draft.into_bytes()[..])).unwrap();
    }
}

#[test]
fn a_batch_ends_at_its_greatest_length() {
    let mut builder = BatchBuilder::new(0);
    let content = vec![7; 100_000];
    while builder.push(&value(&content)).is_ok() {}
    let len = builder.len();
    assert!(len <= BATCH_BYTES_MAX && len > BATCH_BYTES_MAX - 100_100);
    let draft = builder.finish(IDENTITY);
    DraftBatch::parse(BytesMut::from(&draft.into_bytes()[..])).unwrap();
}

#[test]
fn records_of_any_size_keep_the_announced_length() {
    for len in [
        0, 1, 125, 126, 127, 128, 16_382, 16_383, 16_384, 2_097_151, 2_097_152,
    ] {
        let content = vec![9; len];
        let mut builder = BatchBuilder::new(0);
        let record = RecordDraft {
            key: Some(&content[..len.min(200)]),
            timestamp_us: u64::MAX,
            headers: &[("", None), ("", Some(b""))],
            ..value(&content)
        };
        builder
            .push(&RecordDraft {
                timestamp_us: 0,
                ..record
            })
            .unwrap();
        builder.push(&record).unwrap();
        let before = builder.len();
        let batch = builder.finish(IDENTITY).stamp(STAMP);
        assert_eq!(batch.len(), before);
        let payload = batch.payload();
        let all = records(&payload, 2, batch.base_timestamp_us());
        let all: Vec<_> = all.map(Result::unwrap).collect();
        assert_eq!(all[1].value.map(<[u8]>::len), Some(len));
        assert_eq!((all[0].timestamp_us, all[1].timestamp_us), (0, u64::MAX));
        assert_eq!(
            all[1].headers().collect::<Vec<_>>(),
            [("", None), ("", Some(&b""[..]))]
        );
    }
}
