//! Latency distributions: 1 µs to 60 s, three digits.

use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::Serializer;
use hdrhistogram::serialization::V2Serializer;

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

    /// The summary of a report, with the whole distribution in HDR's V2 encoding.
    pub(crate) fn summary(&self) -> Result<Latency, BenchError> {
        let mut encoded = Vec::new();
        V2Serializer::new()
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
            hdr: base64(&encoded),
        })
    }
}

/// RFC 4648 base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word = group
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte))
            << (8 * (3 - group.len()));
        for position in 0..4_usize {
            let index = usize::try_from(word >> (18 - 6 * position) & 63).unwrap_or_default();
            let letter = ALPHABET.get(index).copied().unwrap_or(b'=');
            text.push(char::from(if position <= group.len() {
                letter
            } else {
                b'='
            }));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_the_standard_vectors() {
        let cases = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (plain, encoded) in cases {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

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
