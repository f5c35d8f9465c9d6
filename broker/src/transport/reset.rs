//! Lets a broker that was killed and started again tell its clients at once that their
//! connections are gone; without it they wait until the idle time is over.
//!
//! Both keys come from the private key: a restart does not change it, and nobody else has it.

use std::sync::Arc;

use aws_lc_rs::hmac;
use quinn::EndpointConfig;
use quinn_proto::HashedConnectionIdGenerator;

const RESET_LABEL: &[u8] = b"quorate stateless reset";
const CONNECTION_ID_LABEL: &[u8] = b"quorate connection ids";

/// Makes connection ids of an earlier life recognisable, and resets of this life believable.
pub(crate) fn outlive_restart(config: &mut EndpointConfig, private_key: &[u8]) {
    let reset = derive(private_key, RESET_LABEL);
    config.reset_key(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, reset.as_ref())));
    let ids = derive(private_key, CONNECTION_ID_LABEL);
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
        let tags = [
            derive(b"one", RESET_LABEL),
            derive(b"one", CONNECTION_ID_LABEL),
            derive(b"two", RESET_LABEL),
        ];
        assert_ne!(tags[0].as_ref(), tags[1].as_ref());
        assert_ne!(tags[0].as_ref(), tags[2].as_ref());
        assert_eq!(tags[0].as_ref(), derive(b"one", RESET_LABEL).as_ref());
    }
}
