//! This run against an older one.

use crate::error::BenchError;
use crate::report::Comparison;
use crate::report::Report;
use crate::report::Verdict;

/// Compares rates and latencies; what changes by less than `threshold` percent is the same.
///
/// # Errors
/// The runs had different parameters.
pub fn compare(old: &Report, new: &Report, threshold: f64) -> Result<Vec<Comparison>, BenchError> {
    if without_command(old) != without_command(new) {
        return Err(BenchError::Compare(
            "the two runs had different parameters".to_owned(),
        ));
    }
    let mut metrics = vec![row(
        "msgs_per_s",
        old.results.msgs_per_s,
        new.results.msgs_per_s,
        1.0,
        threshold,
    )];
    let pairs = [
        (
            "ack_latency_us",
            &old.results.ack_latency_us,
            &new.results.ack_latency_us,
        ),
        (
            "e2e_latency_us",
            &old.results.e2e_latency_us,
            &new.results.e2e_latency_us,
        ),
    ];
    for (name, old, new) in pairs {
        if let (Some(old), Some(new)) = (old, new) {
            let quantiles = [("p50", old.p50, new.p50), ("p99", old.p99, new.p99)];
            for (quantile, old, new) in quantiles {
                metrics.push(row(
                    &format!("{name}.{quantile}"),
                    float(old),
                    float(new),
                    -1.0,
                    threshold,
                ));
            }
        }
    }
    Ok(metrics)
}

fn without_command(report: &Report) -> serde_json::Value {
    let mut params = report.params.clone();
    if let Some(fields) = params.as_object_mut() {
        fields.remove("command");
        fields.remove("topic");
    }
    params
}

#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of latency are far below 2^53"
)]
fn float(value: u64) -> f64 {
    value as f64
}

fn row(metric: &str, old: f64, new: f64, good: f64, threshold: f64) -> Comparison {
    let change_percent = if old == 0.0 {
        0.0
    } else {
        (new - old) / old * 100.0
    };
    let verdict = match change_percent * good {
        gain if gain > threshold => Verdict::Better,
        gain if gain < -threshold => Verdict::Worse,
        _ => Verdict::Same,
    };
    Comparison {
        metric: metric.to_owned(),
        old,
        new,
        change_percent,
        verdict,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_better_for_rates_and_worse_for_latency() {
        assert_eq!(
            row("rate", 100.0, 120.0, 1.0, 10.0).verdict,
            Verdict::Better
        );
        assert_eq!(
            row("latency", 100.0, 120.0, -1.0, 10.0).verdict,
            Verdict::Worse
        );
        assert_eq!(
            row("latency", 100.0, 105.0, -1.0, 10.0).verdict,
            Verdict::Same
        );
    }
}
