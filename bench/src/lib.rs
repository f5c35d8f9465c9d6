//! Load generator: fixed schedules, latency from the intended time, HDR histograms.
//!
//! It drives a broker through the public client only, and never reports a figure it did not measure: warm-up is left
//! out, a schedule that was not kept is called saturated, and what was not received is counted as lost.

#![forbid(unsafe_code)]

mod clock;
mod compare;
mod error;
mod histogram;
mod host;
mod meter;
mod params;
mod payload;
mod report;
mod schedule;
mod tracker;
mod workload;

pub use compare::compare;
pub use error::BenchError;
pub use params::Mode;
pub use params::Params;
pub use report::ClusterFacts;
pub use report::Comparison;
pub use report::Host;
pub use report::Latency;
pub use report::Report;
pub use report::Results;
pub use report::Second;
pub use report::Tool;
pub use report::Verdict;
pub use workload::run;
