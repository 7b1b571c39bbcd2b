//! Times, and their summary.

use serde_json::{Value, json};

/// Durations in microseconds.
#[derive(Debug, Default)]
pub struct Latencies(Vec<u32>);

impl Latencies {
    /// Notes a duration in nanoseconds.
    pub fn note_nanos(&mut self, nanos: u64) {
        self.0.push(u32::try_from(nanos / 1_000).unwrap_or(u32::MAX));
    }

    /// Their percentiles in microseconds, as JSON; null where there is none.
    pub fn summary(&mut self) -> Value {
        self.0.sort_unstable();
        let Some(max) = self.0.last() else { return Value::Null };
        json!({ "p50": self.percentile(50), "p90": self.percentile(90), "p99": self.percentile(99), "max": max })
    }

    fn percentile(&self, percent: usize) -> u32 {
        let index = (self.0.len() * percent / 100).min(self.0.len().saturating_sub(1));
        self.0.get(index).copied().unwrap_or(0)
    }
}
