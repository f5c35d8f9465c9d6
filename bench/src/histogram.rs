//! Latency distributions: 1 µs to 60 s, three digits.

use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Serializer;
use hdrhistogram::serialization::V2DeflateSerializer;

use crate::error::BenchError;
use crate::report::Latency;

const LOWEST_US: u64 = 1;
const HIGHEST_US: u64 = 60_000_000;
const DIGITS: u8 = 3;

/// A distribution of latencies.
#[derive(Clone, Debug)]
pub(crate) struct Latencies {
    histogram: Histogram<u64>,
}

impl Latencies {
    pub(crate) fn new() -> Result<Self, BenchError> {
        let histogram = Histogram::new_with_bounds(LOWEST_US, HIGHEST_US, DIGITS)
            .map_err(|error| BenchError::Histogram(error.to_string()))?;
        Ok(Self { histogram })
    }

    /// Counts one; above a minute it counts as a minute.
    pub(crate) fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(micros.max(LOWEST_US));
    }

    pub(crate) fn quantile_us(&self, quantile: f64) -> u64 {
        self.histogram.value_at_quantile(quantile)
    }

    pub(crate) fn max_us(&self) -> u64 {
        self.histogram.max()
    }

    pub(crate) fn count(&self) -> u64 {
        self.histogram.len()
    }

    pub(crate) fn clear(&mut self) {
        self.histogram.reset();
    }

    /// The summary of a report, with the whole distribution in HDR's V2 encoding, deflated.
    pub(crate) fn summary(&self) -> Result<Latency, BenchError> {
        let mut encoded = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.histogram, &mut encoded)
            .map_err(|error| BenchError::Histogram(error.to_string()))?;
        Ok(Latency {
            min: self.histogram.min(),
            mean: self.histogram.mean(),
            p50: self.quantile_us(0.5),
            p90: self.quantile_us(0.9),
            p99: self.quantile_us(0.99),
            p99_9: self.quantile_us(0.999),
            p99_99: self.quantile_us(0.9999),
            max: self.max_us(),
            hdr: BASE64_STANDARD.encode(&encoded),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_come_from_all_recorded_values() {
        let mut latencies = Latencies::new().unwrap();
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let summary = latencies.summary().unwrap();
        assert!(
            (499_000..=502_000).contains(&summary.p50),
            "{}",
            summary.p50
        );
        assert!(summary.max >= 1_000_000 && latencies.count() == 1000);
        assert!(summary.hdr.starts_with("HISTF"), "{}", &summary.hdr[..8]);
    }
}
