//! Room taken before the message exists.

use std::sync::Arc;

use quorate_protocol::PartitionId;

use crate::error::Error;
use crate::error::Result;
use crate::message::Message;
use crate::message::MessageRef;
use crate::producer::Delivery;
use crate::producer::Producer;
use crate::producer::batcher::Terms;
use crate::producer::delivery::Place;
use crate::producer::refusal;

/// Room for one message; dropped unused, it goes back.
#[derive(Debug)]
#[must_use = "a permit holds room in the producer's buffers"]
pub struct Permit {
    producer: Producer,
    bytes: usize,
}

pub(super) async fn reserve(producer: &Producer, bytes: usize) -> Result<Permit> {
    let shared = &producer.shared;
    let cost = MessageRef::default().cost().saturating_add(bytes);
    if cost > shared.record_bytes_max {
        return Err(shared.too_large(cost));
    }
    shared.common.room.take(cost).await?;
    Ok(Permit {
        producer: producer.clone(),
        bytes: cost,
    })
}

impl Permit {
    /// Sends a message that is no larger than what was reserved; a larger one fails at once.
    pub fn send(mut self, message: impl Into<Message>) -> Delivery {
        let message = message.into();
        let (room, shared) = (self.bytes, Arc::clone(&self.producer.shared));
        let sent = message.lend(|message| {
            let cost = message.cost();
            if cost > room {
                let why = format!("a message of about {cost} bytes exceeds the permit of {room}");
                return Err(Error::invalid(why));
            }
            let terms = Terms {
                prepaid: true,
                ..shared.terms(shared.timeout)
            };
            let pushed = shared.accept(message, terms).map_err(refusal)?;
            self.bytes = room - cost;
            Ok(Delivery::new(pushed.state, pushed.index))
        });
        sent.unwrap_or_else(|error| {
            let partition = PartitionId::new(message.partition.unwrap_or_default());
            let place = Place::new(Arc::clone(&shared.topic), partition, None);
            Delivery::failed(&place, error)
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.producer.shared.common.room.give(self.bytes);
    }
}
