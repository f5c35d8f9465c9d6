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

    /// An upper bound of the bytes this message takes in a batch.
    pub(crate) fn cost(&self) -> usize {
        let headers: usize = self
            .headers
            .iter()
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, Bytes::len) + 20)
            .sum();
        let key = self.key.as_ref().map_or(0, Bytes::len);
        self.value_bytes().len() + key + headers + RECORD_OVERHEAD_MAX
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
