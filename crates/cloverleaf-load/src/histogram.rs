//! Latencies in buckets of equal relative width.
//!
//! Each power of two has 64 buckets, so a quantile is at most 1.6 % above the true one. Recording
//! costs one shift and one addition.

use std::time::Duration;

const SUB_BITS: u32 = 6;
const SUB_BUCKETS: u64 = 1 << SUB_BITS;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) << SUB_BITS;

/// How many latencies fell into each bucket.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    largest: u64,
}

impl Histogram {
    /// A histogram that has seen nothing.
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            total: 0,
            largest: 0,
        }
    }

    /// Adds one latency.
    pub(crate) fn record(&mut self, latency: Duration) {
        let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket_of(nanoseconds)] += 1;
        self.total += 1;
        self.largest = self.largest.max(nanoseconds);
    }

    /// How many latencies there are.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// The largest latency, in nanoseconds, exactly.
    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }

    /// The latency, in nanoseconds, that `permille` of all latencies do not exceed; 0 without any.
    pub(crate) fn quantile(&self, permille: u64) -> u64 {
        let rank = (self.total * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_bound(bucket).min(self.largest);
            }
        }
        self.largest
    }
}

fn bucket_of(value: u64) -> usize {
    let shift = (64 - value.leading_zeros()).saturating_sub(SUB_BITS + 1);
    let sub = value >> shift;
    let bucket = u64::from(shift) * SUB_BUCKETS + sub;
    usize::try_from(bucket)
        .unwrap_or(BUCKETS - 1)
        .min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / SUB_BUCKETS).saturating_sub(1);
    let sub = bucket - shift * SUB_BUCKETS;
    ((sub + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_below_the_bound_of_its_bucket_and_near_it() {
        let mut value: u64 = 1;
        while value < 1 << 40 {
            for probe in [value - 1, value, value + value / 3] {
                let bound = upper_bound(bucket_of(probe));
                assert!(bound >= probe, "{probe} lies above {bound}");
                assert!(
                    bound - probe <= probe / 32 + 1,
                    "{bound} is far from {probe}"
                );
            }
            value *= 2;
        }
    }

    #[test]
    fn quantiles_of_one_to_a_thousand_are_themselves_within_the_bucket_width() {
        let mut histogram = Histogram::new();
        for microseconds in 1..=1000 {
            histogram.record(Duration::from_micros(microseconds));
        }
        for permille in [1, 500, 990, 1000] {
            let exact = permille * 1000;
            let found = histogram.quantile(permille);
            assert!(
                found >= exact && found <= exact + exact / 32,
                "{permille}: {found}"
            );
        }
        assert_eq!(histogram.largest(), 1_000_000);
        assert_eq!(histogram.total(), 1000);
    }

    #[test]
    fn an_empty_histogram_answers_zero() {
        assert_eq!(Histogram::new().quantile(500), 0);
    }
}
