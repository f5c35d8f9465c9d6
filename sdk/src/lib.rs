//! The Rust client of the Quorate message broker: producer, consumer, reader, admin.
//!
//! ```no_run
//! # async fn start() -> quorate::Result<()> {
//! use quorate::{Client, Start};
//!
//! let client = Client::connect("quorate://localhost:4747").await?;
//! client.publish("orders", "3 apples").key("customer-1").await?;
//!
//! let mut orders = client.subscribe("orders").from(Start::Earliest).await?;
//! if let Some(record) = orders.next().await {
//!     println!("{:?}", record?.text());
//! }
//! # Ok(()) }
//! ```
//!
//! The identity comes from files: `client.ca_file`, `client.cert_file` and `client.key_file`, set
//! with [`Client::builder`] or as `QUORATE_CLIENT__CA_FILE` and so on.

#![forbid(unsafe_code)]

mod admin;
mod backoff;
mod client;
mod clock;
mod codec;
mod config;
mod connection;
mod consumer;
mod core;
mod error;
mod event;
mod level;
mod message;
mod pool;
mod position;
mod producer;
mod reader;
mod record;
mod rfc3339;
mod stats;
mod topology;

pub use admin::Admin;
pub use admin::Broker;
pub use admin::Cluster;
pub use admin::CreateTopic;
pub use admin::CreatedTopic;
pub use admin::DeleteTopic;
pub use admin::PartitionDescription;
pub use admin::TopicDescription;
pub use admin::TopicSettings;
pub use admin::TopicSummary;
pub use client::Client;
pub use client::ClientBuilder;
pub use client::CloseReport;
pub use config::Compression;
pub use config::Flush;
pub use config::OnTruncated;
pub use config::Partitioner;
pub use config::Storage;
pub use config::WhenSlow;
pub use consumer::Subscribe;
pub use consumer::Subscription;
pub use error::Error;
pub use error::ErrorKind;
pub use error::Result;
pub use event::Event;
pub use event::Events;
pub use level::AckLevel;
pub use message::Message;
pub use pool::State;
pub use position::End;
pub use position::Start;
pub use producer::BatchReceipt;
pub use producer::Delivery;
pub use producer::Permit;
pub use producer::Producer;
pub use producer::ProducerBuilder;
pub use producer::Publish;
pub use producer::TrySendError;
pub use quorate_protocol::BrokerId;
pub use quorate_protocol::ErrorCode;
pub use quorate_protocol::HybridTime;
pub use quorate_protocol::MessageId;
pub use quorate_protocol::Offset;
pub use quorate_protocol::Outcome;
pub use quorate_protocol::PartitionId;
pub use quorate_protocol::Term;
pub use quorate_protocol::TopicId;
pub use reader::Read;
pub use reader::ReadStream;
pub use record::Cursor;
pub use record::Gap;
pub use record::GapReason;
pub use record::Headers;
pub use record::Page;
pub use record::Receipt;
pub use record::Record;
pub use stats::Stats;
