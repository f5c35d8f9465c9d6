//! Reading pages of a partition's history.

use std::future::IntoFuture;
use std::ops::Bound;
use std::ops::RangeBounds;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use quorate_protocol::Body;
use quorate_protocol::BrokerId;
use quorate_protocol::ErrorCode;
use quorate_protocol::Kind;
use quorate_protocol::Offset;
use quorate_protocol::PartitionId;
use quorate_protocol::ReadEnd;
use quorate_protocol::ReadParams;
use quorate_protocol::RecordBatch;
use quorate_protocol::StreamAccept;
use quorate_protocol::StreamOpen;
use quorate_protocol::StreamType;
use quorate_protocol::TopicId;
use quorate_protocol::Until;
use tokio::time::timeout;

use crate::client::Handle;
use crate::config::Options;
use crate::config::ReadOptions;
use crate::connection::Frame;
use crate::connection::Link;
use crate::connection::PRIORITY_READ;
use crate::connection::Rejected;
use crate::connection::milliseconds;
use crate::consumer::BatchReader;
use crate::consumer::Source;
use crate::error::Error;
use crate::error::Result;
use crate::position::End;
use crate::position::Start;
use crate::record::Cursor;
use crate::record::Page;
use crate::record::Record;
use crate::retry::Retry;
use crate::topology::Spot;
use crate::topology::Tried;
use crate::topology::partition;

/// The most bytes of batches one page asks for.
const PAGE_BYTES_MAX: u32 = 16 << 20;
const PAGE_BYTES_MAX_USIZE: usize = 16 << 20;

/// Reads one page when awaited; methods are named like the `read.*` options.
///
/// ```no_run
/// # async fn page(client: quorate::Client) -> quorate::Result<()> {
/// let page = client.read("orders").offsets(100..).limit(50).await?;
/// for record in &page.records {
///     println!("{} {:?}", record.offset, record.text());
/// }
/// if let Some(next) = page.next {
///     let more = client.read("orders").after(next).limit(50).await?;
///     println!("{} more", more.records.len());
/// }
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until it is awaited"]
pub struct Read {
    handle: Arc<Handle>,
    topic: String,
    options: ReadOptions,
    wrong: Option<Error>,
}

impl Read {
    pub(crate) fn new(handle: &Arc<Handle>, topic: &str) -> Self {
        let read = Self {
            options: handle.core.options.read.clone(),
            handle: Arc::clone(handle),
            topic: topic.to_owned(),
            wrong: None,
        };
        read.at_cursor()
    }

    /// Starts where the cursor among the options says.
    fn at_cursor(mut self) -> Self {
        match self.options.cursor.take().map(|cursor| cursor.parse()) {
            Some(Ok(cursor)) => self.after(cursor),
            Some(Err(why)) => {
                self.wrong.get_or_insert_with(|| Error::invalid(why));
                self
            }
            None => self,
        }
    }

    /// Sets a `read.*` option by its name; a mistake is told when the builder is awaited.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        let mut options = Options {
            read: self.options.clone(),
            ..Options::default()
        };
        match options.set(name, value) {
            Ok(()) => self.options = options.read,
            Err(error) => {
                self.wrong.get_or_insert(error);
            }
        }
        self.at_cursor()
    }

    /// Which partition.
    pub fn partition(mut self, partition: u32) -> Self {
        self.options.partition = partition;
        self
    }

    /// Where to start.
    pub fn from(mut self, start: Start) -> Self {
        self.options.from = start;
        self
    }

    /// Where to end.
    pub fn until(mut self, end: End) -> Self {
        self.options.until = end;
        self
    }

    /// These offsets, such as `100..200` or `100..`.
    pub fn offsets(mut self, offsets: impl RangeBounds<u64>) -> Self {
        self.options.from = match offsets.start_bound() {
            Bound::Included(offset) => Start::Offset(*offset),
            Bound::Excluded(offset) => Start::Offset(offset.saturating_add(1)),
            Bound::Unbounded => Start::Earliest,
        };
        self.options.until = match offsets.end_bound() {
            Bound::Included(offset) => End::Offset(offset.saturating_add(1)),
            Bound::Excluded(offset) => End::Offset(*offset),
            Bound::Unbounded => End::Tail,
        };
        self
    }

    /// What was appended in this time.
    pub fn times(mut self, times: impl RangeBounds<SystemTime>) -> Self {
        self.options.from = match times.start_bound() {
            Bound::Included(time) | Bound::Excluded(time) => Start::Time(*time),
            Bound::Unbounded => Start::Earliest,
        };
        self.options.until = match times.end_bound() {
            Bound::Included(time) | Bound::Excluded(time) => End::Time(*time),
            Bound::Unbounded => End::Tail,
        };
        self
    }

    /// The last `count` records.
    pub fn last(mut self, count: u64) -> Self {
        self.options.from = Start::Last(count);
        self.options.until = End::Tail;
        self
    }

    /// Where an earlier page ended.
    pub fn after(mut self, cursor: Cursor) -> Self {
        self.options.partition = cursor.partition.get();
        self.options.from = Start::Offset(cursor.offset.get());
        self
    }

    /// How many records at most.
    pub fn limit(mut self, records: u32) -> Self {
        self.options.limit = records;
        self
    }

    /// All pages one after the other, as records; the limit is that of one page.
    #[must_use]
    pub fn stream(self) -> ReadStream {
        ReadStream {
            next: Some(self),
            records: Vec::new().into_iter(),
        }
    }

    async fn page(self) -> Result<Page> {
        if let Some(error) = self.wrong {
            return Err(error);
        }
        let limit = self.handle.core.options.client.request_timeout;
        let mut refused = None;
        if let Ok(page) = timeout(limit, self.retrying(&mut refused)).await {
            return page;
        }
        Err(refused.unwrap_or_else(|| {
            let message = format!("`{}` was not read within {limit:?}", self.topic);
            Error::new(ErrorCode::TIMEOUT, message)
        }))
    }

    /// Tries again while that may help; the caller bounds the time, and is left the last refusal.
    async fn retrying(&self, refused: &mut Option<Error>) -> Result<Page> {
        let core = &self.handle.core;
        let mut retry = Retry::new(core.options.client.reconnect_max);
        loop {
            let mut attempt = Attempt::default();
            let Rejected { error, leader } = match self.attempt(&mut attempt).await {
                Ok(page) => return Ok(page),
                Err(rejected) => rejected,
            };
            let error = error.at(format_args!("{}/{}", self.topic, self.options.partition));
            if !error.is_retryable() {
                return Err(error);
            }
            *refused = Some(error.clone());
            let spot = self.spot(attempt.topic);
            core.before_next(spot, &attempt.tried, &error, leader, &mut retry)
                .await;
        }
    }

    fn spot(&self, topic: TopicId) -> Spot<'_> {
        Spot {
            name: &self.topic,
            topic,
            partition: PartitionId::new(self.options.partition),
        }
    }

    async fn attempt(&self, attempt: &mut Attempt) -> Result<Page, Rejected> {
        let core = &self.handle.core;
        let topic = core.topic(&self.topic, false).await?;
        attempt.topic = topic.id;
        let id = PartitionId::new(self.options.partition);
        if partition(&topic, id).is_none() {
            let message = format!("there is no partition {id} of `{}`", self.topic);
            return Err(Error::new(ErrorCode::UNKNOWN_PARTITION, message).into());
        }
        attempt.tried = core.topology.attempt(self.spot(topic.id));
        let Some(leader) = attempt.tried.leader else {
            return Err(Error::new(ErrorCode::LEADER_UNKNOWN, "it has no leader now").into());
        };
        let reading = self.read_from(topic.id, leader);
        let read = core.while_led(self.spot(topic.id), leader, reading).await;
        read.map_err(Rejected::unless_behind)
    }

    async fn read_from(&self, topic: TopicId, leader: BrokerId) -> Result<Page, Rejected> {
        let id = PartitionId::new(self.options.partition);
        let (link, _slot) = self.handle.core.pool.place(Some(leader)).await?;
        let open = self.stream_open(topic, id);
        let (mut sender, mut receiver) = link.open_raw(&open, PRIORITY_READ).await?;
        sender.finish();
        let mut pages = Pages::new(self, id, &link);
        loop {
            let Some(frame) = receiver.next().await? else {
                return Err(link.end_error().into());
            };
            if let Some(page) = pages.take(frame, &link)? {
                return Ok(page);
            }
        }
    }

    fn stream_open(&self, topic: TopicId, partition: PartitionId) -> StreamOpen {
        let core = &self.handle.core;
        let wall_micros = core.clock.wall_micros();
        let params = ReadParams {
            from: self.options.from.on_the_wire(wall_micros),
            until: self.options.until.on_the_wire(wall_micros),
            records_max: self.options.limit,
            bytes_max: PAGE_BYTES_MAX,
        };
        StreamOpen {
            stream: StreamType::READ,
            topic,
            partition,
            topology_epoch: core.topology.epoch(),
            deadline_ms: milliseconds(core.options.client.request_timeout),
            on_behalf_of: None,
            params: params.to_blob().unwrap_or_default(),
        }
    }
}

impl IntoFuture for Read {
    type Output = Result<Page>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.page())
    }
}

/// What one attempt to read went by.
#[derive(Debug, Default)]
struct Attempt {
    topic: TopicId,
    tried: Tried,
}

/// Collects the answer to one read.
struct Pages {
    source: Source,
    from: Offset,
    until: Offset,
    until_us: u64,
    received: usize,
    limit: usize,
    records: Vec<Record>,
}

impl Pages {
    fn new(read: &Read, partition: PartitionId, link: &Link) -> Self {
        let until = match read.options.until {
            End::Offset(offset) => offset,
            _ => u64::MAX,
        };
        Self {
            source: Source {
                topic: Arc::from(read.topic.as_str()),
                partition,
                broker: Arc::clone(&link.name),
            },
            from: Offset::ZERO,
            until: Offset::new(until),
            until_us: until_us(read),
            received: 0,
            limit: usize::try_from(read.options.limit).unwrap_or(usize::MAX),
            records: Vec::new(),
        }
    }

    fn take(&mut self, frame: Frame, link: &Link) -> Result<Option<Page>, Rejected> {
        match frame.header.kind {
            Kind::STREAM_ACCEPT => {
                self.from = frame.decode::<StreamAccept>()?.start;
                Ok(None)
            }
            Kind::STREAM_REJECT => Err(link.rejection(&frame)),
            Kind::RECORDS => {
                self.take_records(frame.body)?;
                Ok(None)
            }
            Kind::READ_END => {
                let end: ReadEnd = frame.decode()?;
                if self.is_overtaken(&end) && self.records.is_empty() {
                    return Err(overtaken(&end).into());
                }
                Ok(Some(self.finish(&end)))
            }
            kind => {
                let message = format!("{kind:?} does not belong on a READ stream");
                Err(Error::new(ErrorCode::PROTOCOL_VIOLATION, message).into())
            }
        }
    }

    fn take_records(&mut self, mut body: Bytes) -> Result<()> {
        self.received = self.received.saturating_add(body.len());
        while !body.is_empty() && self.records.len() < self.limit {
            let batch = RecordBatch::split_first(&mut body).map_err(|error| {
                Error::new(ErrorCode::CORRUPT_BATCH, format!("damaged batch: {error}"))
            })?;
            let late = batch.append_time().micros() >= self.until_us;
            if batch.attributes().control || late {
                continue;
            }
            let mut reader = BatchReader::new(self.source.clone(), batch, self.from, self.until)?;
            while self.records.len() < self.limit
                && let Some(record) = reader.next()
            {
                self.records.push(record?);
            }
        }
        Ok(())
    }

    /// Whether retention took what was to be read next.
    fn is_overtaken(&self, end: &ReadEnd) -> bool {
        end.next < end.log_start && end.next < self.until && end.next < end.high_watermark
    }

    fn finish(&mut self, end: &ReadEnd) -> Page {
        let records = std::mem::take(&mut self.records);
        let full = records.len() >= self.limit;
        let cut = full || self.received >= PAGE_BYTES_MAX_USIZE || self.is_overtaken(end);
        let after = records.last().map(|record| record.offset.next());
        let next = match after {
            Some(after) if full => after,
            _ => end.next,
        };
        let stop = end.high_watermark.min(self.until);
        Page {
            next: (cut && next < stop).then_some(Cursor {
                partition: self.source.partition,
                offset: next,
            }),
            tail: end.high_watermark,
            records,
        }
    }
}

/// Retention was faster than this read.
fn overtaken(end: &ReadEnd) -> Error {
    let (start, tail) = (end.log_start, end.high_watermark);
    let message = format!(
        "offset {} is not in the log any more, which holds {start} up to {tail} (exclusive)",
        end.next
    );
    Error::new(ErrorCode::OFFSET_OUT_OF_RANGE, message).with_range(Some((start, tail)))
}

/// The end by time, in microseconds since 1970.
fn until_us(read: &Read) -> u64 {
    let wall_micros = read.handle.core.clock.wall_micros();
    match Until::try_from(read.options.until.on_the_wire(wall_micros)) {
        Ok(Until::Time(micros)) => micros,
        _ => u64::MAX,
    }
}

/// The records of page after page.
#[derive(Debug)]
pub struct ReadStream {
    next: Option<Read>,
    records: std::vec::IntoIter<Record>,
}

impl ReadStream {
    /// The next record; none at the end. After an error the stream is over.
    ///
    /// # Errors
    /// As an item: a page could not be read.
    pub async fn next(&mut self) -> Option<Result<Record>> {
        loop {
            if let Some(record) = self.records.next() {
                return Some(Ok(record));
            }
            let read = self.next.take()?;
            match read.clone().await {
                Ok(page) => {
                    self.next = page.next.map(|cursor| read.after(cursor));
                    self.records = page.records.into_iter();
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
