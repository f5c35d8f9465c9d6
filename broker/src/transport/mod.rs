//! The QUIC endpoints: mutual TLS, admission, framed streams. Knows no topics.
//!
//! A connection leaves this room only with a verified certificate and a parsed principal; a frame
//! only after its length was compared with its kind's maximum. There is no plaintext mode, no
//! early data and no session resumption.

mod admission;
mod assembly;
mod bind;
mod connection;
mod door;
mod handshake;
mod listener;
mod lost;
mod pace;
mod peer;
mod plane;
mod quic;
mod receiver;
mod report;
mod reset;
mod runtime;
mod sender;
mod settings;
mod socket;
mod tls;
mod verifier;

pub use crate::transport::assembly::Frame;
pub use crate::transport::bind::BindError;
pub use crate::transport::bind::Parts;
pub use crate::transport::connection::Connection;
pub use crate::transport::connection::ConnectionStats;
pub use crate::transport::listener::Listener;
pub use crate::transport::lost::ConnectionLost;
pub use crate::transport::peer::DialError;
pub use crate::transport::peer::PeerConfig;
pub use crate::transport::peer::PeerConnection;
pub use crate::transport::peer::PeerEndpoint;
pub use crate::transport::peer::Traffic;
pub use crate::transport::peer::WeakPeerConnection;
pub use crate::transport::receiver::FrameReceiver;
pub use crate::transport::receiver::ReceiveError;
pub use crate::transport::report::Sampler;
pub use crate::transport::sender::FrameSender;
pub use crate::transport::sender::SendError;
pub use crate::transport::settings::Config;
pub use crate::transport::settings::Limits;
pub use crate::transport::settings::Timings;
pub use crate::transport::tls::Crypto;
pub use crate::transport::tls::TlsError;
pub use crate::transport::tls::valid_until;
