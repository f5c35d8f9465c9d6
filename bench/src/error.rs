//! Why a run could not be made.

use thiserror::Error;

/// Why a run could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BenchError {
    /// A parameter is out of its range.
    #[error("{name} is out of range: it takes {range}")]
    Parameter {
        /// The flag.
        name: &'static str,
        /// What it takes.
        range: &'static str,
    },
    /// The broker or the connection failed.
    #[error(transparent)]
    Client(#[from] quorate::Error),
    /// The operating system refused a timer, or a file could not be written.
    #[error("the load generator needs a timer of the operating system: {0}")]
    Timer(#[from] std::io::Error),
    /// A histogram could not be made or encoded.
    #[error("the latency histogram could not be encoded: {0}")]
    Histogram(String),
    /// A report to compare with is unusable.
    #[error("{0}")]
    Compare(String),
}
