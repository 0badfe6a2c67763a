//! What one window of load came to, as one line of JSON.

use std::fmt;
use std::time::Duration;

use crate::histogram::Histogram;

/// The generator calls itself saturated when it was busy for this share of a window, in per mille.
const SATURATED_PERMILLE: u64 = 950;

/// The figures of one window.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// The latency of every operation.
    pub(crate) latency: Histogram,
    /// From the first message to the last answer.
    pub(crate) wall: Duration,
    /// What the generator itself used of its core in that time.
    pub(crate) cpu: Duration,
    /// How often the generator waited for events.
    pub(crate) waits: u64,
}

impl Outcome {
    fn busy_permille(&self) -> u64 {
        let wall = nanoseconds(self.wall).max(1);
        (nanoseconds(self.cpu).saturating_mul(1000) / wall).min(1000)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let busy = self.busy_permille();
        write!(
            formatter,
            "{{\"operations\": {}, \"wall_ns\": {}, \"generator_cpu_ns\": {}, \"waits\": {}, ",
            self.latency.total(),
            nanoseconds(self.wall),
            nanoseconds(self.cpu),
            self.waits,
        )?;
        write!(
            formatter,
            "\"generator_busy_permille\": {busy}, \"generator_saturated\": {}, ",
            busy >= SATURATED_PERMILLE,
        )?;
        write!(
            formatter,
            "\"latency_ns\": {{\"p50\": {}, \"p90\": {}, \"p99\": {}, \"p999\": {}, \"max\": {}}}}}",
            self.latency.quantile(500),
            self.latency.quantile(900),
            self.latency.quantile(990),
            self.latency.quantile(999),
            self.latency.largest(),
        )
    }
}

/// What a window of work in this process came to.
#[derive(Debug)]
pub(crate) struct Work {
    /// How many operations were done.
    pub(crate) operations: usize,
    /// What they used of this process's core.
    pub(crate) cpu: Duration,
    /// From the first to the last.
    pub(crate) wall: Duration,
}

impl fmt::Display for Work {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{{\"operations\": {}, \"cpu_ns\": {}, \"wall_ns\": {}}}",
            self.operations,
            nanoseconds(self.cpu),
            nanoseconds(self.wall),
        )
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generator_that_was_never_idle_says_so() {
        let mut outcome = Outcome {
            latency: Histogram::new(),
            wall: Duration::from_millis(100),
            cpu: Duration::from_millis(99),
            waits: 7,
        };
        outcome.latency.record(Duration::from_micros(3));
        let text = outcome.to_string();
        assert!(
            text.contains("\"operations\": 1, \"wall_ns\": 100000000"),
            "{text}"
        );
        assert!(text.contains("\"generator_saturated\": true"), "{text}");
        assert!(text.contains("\"p50\": 3000"), "{text}");
        outcome.cpu = Duration::from_millis(50);
        assert!(
            outcome
                .to_string()
                .contains("\"generator_saturated\": false")
        );
    }
}
