//! The server's settings: file, environment and flags, merged and checked once.
//!
//! Every key stands in one table ([`key`]): ranges, defaults, the printed configuration and the
//! example file come from it. Knows no other room.

mod error;
mod example;
mod files;
mod key;
mod merge;
mod nearest;
mod print;
mod settings;
mod toml_file;
mod value;

pub use crate::config::error::ConfigError;
pub use crate::config::example::example_toml;
pub use crate::config::files::FileError;
pub use crate::config::files::TlsMaterial;
pub use crate::config::merge::Source;
pub use crate::config::settings::Config;
pub use crate::config::settings::Limits;
pub use crate::config::settings::Listeners;
pub use crate::config::settings::LogFormat;
pub use crate::config::settings::LogLevel;
pub use crate::config::settings::Logging;
pub use crate::config::settings::Node;
pub use crate::config::settings::Raft;
pub use crate::config::settings::Storage;
pub use crate::config::settings::TlsFiles;
