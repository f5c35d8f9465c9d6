//! Which partition a message goes to.
//!
//! The same in every client: `mix(CRC32C(key))` modulo the number of partitions, where `mix` is the
//! finalizer of MurmurHash3 (32 bits); without a key the same of the message id's 16 bytes,
//! big-endian as in its text. Without both, one partition is kept until its batch is full.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

use quorate_protocol::crc32c;

use crate::config::Partitioner;
use crate::error::Error;
use crate::error::Result;
use crate::message::MessageRef;

/// Chooses partitions of one topic.
#[derive(Debug)]
pub(super) struct Chooser {
    kind: Partitioner,
    partitions: u32,
    sticky: AtomicU32,
}

impl Chooser {
    /// `start` is where keyless messages begin, so that producers spread.
    pub(super) fn new(kind: Partitioner, partitions: u32, start: u32) -> Self {
        let partitions = partitions.max(1);
        Self {
            kind,
            partitions,
            sticky: AtomicU32::new(start % partitions),
        }
    }

    pub(super) fn choose(&self, message: &MessageRef<'_>) -> Result<u32> {
        if let Some(partition) = message.partition {
            if partition < self.partitions {
                return Ok(partition);
            }
            let count = self.partitions;
            return Err(Error::new(
                quorate_protocol::ErrorCode::UNKNOWN_PARTITION,
                format!("there is no partition {partition}; the topic has {count}"),
            ));
        }
        if self.partitions == 1 {
            return Ok(0);
        }
        Ok(match (self.kind, message.key, message.id) {
            (Partitioner::Hash, Some(key), _) => self.hashed(key),
            (Partitioner::Hash, None, Some(id)) => self.hashed(&id.get().to_be_bytes()),
            _ => self.sticky.load(Ordering::Relaxed),
        })
    }

    fn hashed(&self, bytes: &[u8]) -> u32 {
        mix(crc32c(bytes)) % self.partitions
    }

    /// A batch of `partition` is full: keyless messages move on.
    pub(super) fn batch_is_full(&self, partition: u32) {
        let next = (partition + 1) % self.partitions;
        // Another thread may have moved on already.
        let _moved = self
            .sticky
            .compare_exchange(partition, next, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok();
    }
}

/// Spreads the checksum's bits: those of short, similar keys differ too little.
fn mix(checksum: u32) -> u32 {
    let hash = (checksum ^ (checksum >> 16)).wrapping_mul(0x85eb_ca6b);
    let hash = (hash ^ (hash >> 13)).wrapping_mul(0xc2b2_ae35);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use quorate_protocol::MessageId;

    use super::*;
    use crate::message::Message;

    fn choose(chooser: &Chooser, message: &Message) -> Result<u32> {
        message.lend(|message| chooser.choose(message))
    }

    #[test]
    fn keys_go_where_every_client_sends_them() {
        let chooser = Chooser::new(Partitioner::Hash, 12, 0);
        let at = |key: &'static str| choose(&chooser, &Message::new("x").key(key)).unwrap();
        // CRC32C("123456789") is the algorithm's published check value.
        assert_eq!(at("123456789"), mix(0xe306_9283) % 12);
        assert_eq!(mix(0xe306_9283), 0xac70_81cc);
        assert_eq!(at("c1"), at("c1"));
    }

    #[test]
    fn a_keyless_message_with_an_id_always_meets_the_same_window() {
        let chooser = Chooser::new(Partitioner::Hash, 7, 3);
        let message = Message::new("x").id(MessageId::new(42));
        let first = choose(&chooser, &message).unwrap();
        chooser.batch_is_full(3);
        assert_eq!(choose(&chooser, &message).unwrap(), first);
    }

    #[test]
    fn keyless_messages_stay_until_the_batch_is_full() {
        let chooser = Chooser::new(Partitioner::Hash, 3, 2);
        let at = || choose(&chooser, &Message::new("x")).unwrap();
        assert_eq!((at(), at()), (2, 2));
        chooser.batch_is_full(2);
        assert_eq!(at(), 0);
        chooser.batch_is_full(2);
        assert_eq!(at(), 0);
    }

    #[test]
    fn an_explicit_partition_wins_and_must_exist() {
        let chooser = Chooser::new(Partitioner::Hash, 3, 0);
        let message = |partition| Message::new("x").key("k").partition(partition);
        assert_eq!(choose(&chooser, &message(2)).unwrap(), 2);
        assert!(choose(&chooser, &message(3)).is_err());
    }
}
