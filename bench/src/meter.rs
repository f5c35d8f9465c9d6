//! Counts of a run: totals while measuring, and one row a second.

use std::time::Duration;

use crate::error::BenchError;
use crate::histogram::Latencies;
use crate::report::Second;

/// What a run counts. Events outside the measured time are left out.
#[derive(Debug)]
pub(crate) struct Meter {
    from: Duration,
    until: Duration,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) received: u64,
    pub(crate) errors: u64,
    pub(crate) acks: Latencies,
    pub(crate) deliveries: Latencies,
    second: Latencies,
    at_second_start: [u64; 3],
    pub(crate) series: Vec<Second>,
    pub(crate) last_ack: Duration,
    pub(crate) first_error: Option<String>,
}

impl Meter {
    /// Measures what is intended in `[from, until)`.
    pub(crate) fn new(from: Duration, until: Duration) -> Result<Self, BenchError> {
        Ok(Self {
            from,
            until,
            sent: 0,
            acked: 0,
            received: 0,
            errors: 0,
            acks: Latencies::new()?,
            deliveries: Latencies::new()?,
            second: Latencies::new()?,
            at_second_start: [0; 3],
            series: Vec::new(),
            last_ack: from,
            first_error: None,
        })
    }

    fn counts(&self, intended: Duration) -> bool {
        self.from <= intended && intended < self.until
    }

    pub(crate) fn sent(&mut self, intended: Duration) {
        self.sent += u64::from(self.counts(intended));
    }

    pub(crate) fn acked(&mut self, intended: Duration, now: Duration) {
        if self.counts(intended) {
            self.acked += 1;
            self.acks.record(now.saturating_sub(intended));
            self.second.record(now.saturating_sub(intended));
            self.last_ack = now;
        }
    }

    pub(crate) fn received(&mut self, intended: Duration, now: Duration) {
        if self.counts(intended) {
            self.received += 1;
            self.deliveries.record(now.saturating_sub(intended));
        }
    }

    pub(crate) fn failed(&mut self, intended: Duration, error: &quorate::Error) {
        if self.counts(intended) {
            self.errors += 1;
            self.first_error.get_or_insert_with(|| error.to_string());
        }
    }

    /// Closes the rows of all whole seconds before `now`.
    pub(crate) fn roll(&mut self, now: Duration) {
        let Some(measured) = now.checked_sub(self.from) else {
            return;
        };
        while u64::try_from(self.series.len()).unwrap_or(u64::MAX) < measured.as_secs() {
            let totals = [self.sent, self.acked, self.received];
            let [sent, acked, received] = std::array::from_fn(|i| {
                totals.get(i).unwrap_or(&0) - self.at_second_start.get(i).unwrap_or(&0)
            });
            let t_s = u64::try_from(self.series.len()).unwrap_or(u64::MAX);
            self.series.push(Second {
                t_s,
                sent,
                acked,
                received,
                ack_p50_us: self.second.quantile_us(0.5),
                ack_p99_us: self.second.quantile_us(0.99),
                ack_max_us: self.second.max_us(),
            });
            self.second.clear();
            self.at_second_start = totals;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_is_left_out_and_seconds_add_up() {
        let second = Duration::from_secs(1);
        let mut meter = Meter::new(second, 3 * second).unwrap();
        for ms in 0..3000 {
            let at = Duration::from_millis(ms);
            meter.roll(at);
            meter.sent(at);
            meter.acked(at, at + Duration::from_millis(2));
        }
        meter.roll(3 * second);
        assert_eq!((meter.sent, meter.acked), (2000, 2000));
        assert_eq!(
            meter.series.iter().map(|row| row.acked).collect::<Vec<_>>(),
            [1000, 1000]
        );
        assert_eq!(meter.acks.quantile_us(0.5), 2000);
    }
}
