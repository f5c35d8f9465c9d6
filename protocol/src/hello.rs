//! The first frames of a client connection.

use serde::Deserialize;
use serde::Serialize;

use crate::bounded::Bounded;
use crate::bounded::Text;
use crate::error_code::ErrorCode;
use crate::ids::BrokerId;
use crate::ids::HybridTime;
use crate::ids::InstanceId;
use crate::ids::SessionId;
use crate::kind::Kind;
use crate::message::DecodeError;
use crate::message::Message;
use crate::message::decode_fields;
use crate::message::encode_fields;
use crate::message::messages;

/// The protocol version this build speaks.
pub const PROTOCOL_VERSION: u16 = 1;

/// What a connection's first body begins with.
const MAGIC: [u8; 4] = *b"QRT1";

/// A client introduces itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Oldest protocol version the client speaks.
    pub min_version: u16,
    /// Newest protocol version the client speaks.
    pub max_version: u16,
    /// Optional features the client knows, one bit each.
    pub features: u64,
    /// Name and version of the client library.
    pub sdk: Text<64>,
    /// What the application calls itself.
    pub client_name: Text<128>,
    /// This run of the client process.
    pub instance_id: InstanceId,
    /// The cluster the client means to reach.
    pub cluster: Option<Text<128>>,
    /// The largest frame body the client accepts.
    pub max_frame: u32,
    /// Frame kinds the client knows, each with its newest version.
    pub kinds: Bounded<(Kind, u16), 128>,
}

/// The broker accepts the connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAck {
    /// The protocol version both speak from here on.
    pub version: u16,
    /// Features both know.
    pub features: u64,
    /// Kinds both know, each with the version to use.
    pub kinds: Bounded<(Kind, u16), 128>,
    /// The cluster's name.
    pub cluster: Text<128>,
    /// The answering broker.
    pub broker: BrokerId,
    /// This connection.
    pub session_id: SessionId,
    /// Who the client is, by its certificate.
    pub principal: Text<256>,
    /// The connection must be replaced within this time.
    pub session_deadline_ms: u64,
    /// The largest frame body the broker accepts.
    pub max_frame: u32,
    /// Streams the client may have open.
    pub max_streams: u32,
    /// How often the client proves it is alive.
    pub keepalive_ms: u32,
    /// The broker's picture of the cluster.
    pub topology_epoch: u64,
    /// The cluster's brokers.
    pub brokers: Bounded<BrokerInfo, 64>,
    /// The broker's clock.
    pub now: HybridTime,
}

/// Where a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokerInfo {
    /// The broker.
    pub id: BrokerId,
    /// Its name, which its certificate carries.
    pub name: Text<128>,
    /// Host and port for clients.
    pub client_address: Text<256>,
}

/// The broker refuses the connection. Its layout is the same in every protocol version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HelloReject {
    /// Why.
    pub code: ErrorCode,
    /// Oldest protocol version the broker speaks.
    pub min_version: u16,
    /// Newest protocol version the broker speaks.
    pub max_version: u16,
    /// When to try again; 0 = no advice.
    pub retry_after_ms: u32,
    /// For people.
    pub text: Text<255>,
}

messages! {
    HelloAck: HELLO_ACK v 1,
}

impl Message for Hello {
    const KIND: Kind = Kind::HELLO;
    const VERSION: u16 = 1;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        encode_fields(self, out);
    }

    fn decode_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let fields = bytes.strip_prefix(&MAGIC).ok_or(DecodeError::Malformed {
            what: "Hello",
            why: "it does not begin with QRT1",
        })?;
        decode_fields("Hello", fields)
    }
}

impl Message for HelloReject {
    const KIND: Kind = Kind::HELLO_REJECT;
    const VERSION: u16 = 1;

    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.code.get().to_le_bytes());
        out.extend_from_slice(&self.min_version.to_le_bytes());
        out.extend_from_slice(&self.max_version.to_le_bytes());
        out.extend_from_slice(&self.retry_after_ms.to_le_bytes());
        let text = self.text.as_str();
        out.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(text.as_bytes());
    }

    fn decode_prefix(bytes: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        let malformed = |why| DecodeError::Malformed {
            what: "HelloReject",
            why,
        };
        let cut = malformed("the bytes end inside a field");
        let (fixed, rest) = bytes.split_first_chunk::<11>().ok_or(cut)?;
        let [c0, c1, l0, l1, h0, h1, r0, r1, r2, r3, text_len] = *fixed;
        let (text, rest) = rest.split_at_checked(usize::from(text_len)).ok_or(cut)?;
        let text = std::str::from_utf8(text).map_err(|_| malformed("the text is not UTF-8"))?;
        let reject = Self {
            code: ErrorCode::new(u16::from_le_bytes([c0, c1])),
            min_version: u16::from_le_bytes([l0, l1]),
            max_version: u16::from_le_bytes([h0, h1]),
            retry_after_ms: u32::from_le_bytes([r0, r1, r2, r3]),
            text: Text::clipped(text),
        };
        Ok((reject, rest))
    }
}
