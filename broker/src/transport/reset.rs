//! Lets a broker that was killed and started again tell the others at once that their
//! connections are gone; without it they wait until the idle time is over.
//!
//! Both keys come from the private key: a restart does not change it, and nobody else has it.

use std::sync::Arc;

use aws_lc_rs::hmac;
use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;

use crate::transport::plane::Plane;

/// The purposes of a plane's two keys.
const fn labels(plane: Plane) -> [&'static [u8]; 2] {
    match plane {
        Plane::Client => [b"quorate stateless reset", b"quorate connection ids"],
        Plane::Peer => [
            b"quorate peer stateless reset",
            b"quorate peer connection ids",
        ],
    }
}

/// Makes connection ids of an earlier life recognisable, and resets of this life believable.
pub(crate) fn outlive_restart(config: &mut EndpointConfig, plane: Plane, private_key: &[u8]) {
    let [resets, connection_ids] = labels(plane);
    let reset = derive(private_key, resets);
    config.reset_key(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref())));
    let ids = derive(private_key, connection_ids);
    let key = ids
        .as_ref()
        .iter()
        .take(8)
        .fold(0, |key, byte| key << 8 | u64::from(*byte));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
}

fn derive(private_key: &[u8], label: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, private_key), label)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_purpose_and_each_broker_has_keys_of_its_own() {
        let mut tags = Vec::new();
        for key in [b"one", b"two"] {
            for plane in [Plane::Client, Plane::Peer] {
                tags.extend(labels(plane).map(|label| derive(key, label).as_ref().to_vec()));
            }
        }
        let again = derive(b"one", labels(Plane::Client)[0]);
        assert_eq!(tags[0], again.as_ref());
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), 8);
    }
}
