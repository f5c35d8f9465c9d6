//! A message to be published.

use bytes::Bytes;
use quorate_protocol::MessageId;

/// One message: a value, and what else the application says about it.
///
/// ```
/// use quorate::Message;
/// let message = Message::new("3 apples").key("customer-1").header("origin", "till-7");
/// assert_eq!(message.value_bytes(), b"3 apples");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub(crate) value: Option<Bytes>,
    pub(crate) key: Option<Bytes>,
    pub(crate) headers: Vec<(String, Option<Bytes>)>,
    pub(crate) id: Option<MessageId>,
    pub(crate) partition: Option<u32>,
    pub(crate) timestamp_us: Option<u64>,
}

/// What one record may cost besides key, value and headers.
const RECORD_OVERHEAD_MAX: usize = 64;

impl Message {
    /// A message with this value.
    #[must_use]
    pub fn new(value: impl Into<Bytes>) -> Self {
        Self {
            value: Some(value.into()),
            ..Self::default()
        }
    }

    /// A message without a value; with a key it says that the key is gone.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Messages of the same key go to the same partition, in order.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Adds a header; a name may be repeated.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// The application's identity of this message: a second one with the same id within the
    /// topic's window is not stored, its receipt names the first.
    #[must_use]
    pub fn id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// Sends to this partition, whatever the key is.
    #[must_use]
    pub fn partition(mut self, partition: u32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The producer's time in microseconds since 1970; otherwise the time of sending.
    #[must_use]
    pub fn timestamp_us(mut self, micros: u64) -> Self {
        self.timestamp_us = Some(micros);
        self
    }

    /// The value, empty if there is none.
    #[must_use]
    pub fn value_bytes(&self) -> &[u8] {
        self.value.as_deref().unwrap_or_default()
    }

    /// Lends the parts; allocates for headers only.
    #[inline]
    pub(crate) fn lend<T>(&self, use_it: impl FnOnce(&MessageRef<'_>) -> T) -> T {
        let plain = MessageRef {
            value: self.value.as_deref(),
            key: self.key.as_deref(),
            headers: &[],
            id: self.id,
            partition: self.partition,
            timestamp_us: self.timestamp_us,
        };
        if self.headers.is_empty() {
            return use_it(&plain);
        }
        let headers = self.headers.iter();
        let headers: Vec<_> = headers
            .map(|(name, value)| (name.as_str(), value.as_deref()))
            .collect();
        use_it(&MessageRef {
            headers: &headers,
            ..plain
        })
    }
}

/// A message whose parts lie elsewhere; they are copied once, into the batch it is sent in.
///
/// ```
/// use quorate::MessageRef;
/// let line = b"3 apples\n";
/// let message = MessageRef { value: Some(&line[..8]), ..MessageRef::default() };
/// assert_eq!(message.value, Some(b"3 apples".as_slice()));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct MessageRef<'a> {
    /// The value; none with a key says that the key is gone.
    pub value: Option<&'a [u8]>,
    /// See [`Message::key`].
    pub key: Option<&'a [u8]>,
    /// Names with values, in order.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
    /// See [`Message::id`].
    pub id: Option<MessageId>,
    /// See [`Message::partition`].
    pub partition: Option<u32>,
    /// See [`Message::timestamp_us`].
    pub timestamp_us: Option<u64>,
}

impl MessageRef<'_> {
    /// An upper bound of the bytes this message takes in a batch.
    #[inline]
    pub(crate) fn cost(&self) -> usize {
        let length = |field: Option<&[u8]>| field.map_or(0, <[u8]>::len);
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| name.len() + length(*value) + 20)
            .sum();
        length(self.value) + length(self.key) + headers + RECORD_OVERHEAD_MAX
    }
}

macro_rules! from_value {
    ($($value:ty),+) => {$(
        impl From<$value> for Message {
            fn from(value: $value) -> Self {
                Self::new(value)
            }
        }
    )+};
}

from_value!(Bytes, Vec<u8>, String, &'static str, &'static [u8]);
