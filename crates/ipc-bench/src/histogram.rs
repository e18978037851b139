//! Counts latencies in buckets whose width grows with the value.
//!
//! The gauge uses it. A bucket is at most 1/64 of its value wide (1.6 %), like HdrHistogram with
//! two digits, from a nanosecond to hours, in 30 KiB for any number of values. The maximum is
//! exact.

use std::time::Duration;

/// The number of buckets for each doubling, as a power of two.
const PARTS_BITS: u32 = 6;
const PARTS: u64 = 1 << PARTS_BITS;

/// Counts durations.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    /// An empty histogram.
    pub(crate) fn new() -> Self {
        let buckets = (u64::BITS - PARTS_BITS + 1) as usize * PARTS as usize;
        Histogram { counts: vec![0; buckets], total: 0, max: 0 }
    }

    /// Counts one duration.
    pub(crate) fn note(&mut self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.total += 1;
        self.max = self.max.max(nanos);
    }

    /// The duration that this fraction of all, 0 to 1, does not exceed, in microseconds; 0 if
    /// nothing was counted.
    pub(crate) fn quantile_micros(&self, part: f64) -> f64 {
        let rank = ((self.total as f64 * part).ceil() as u64).max(1);
        let mut counted = 0;
        for (index, count) in self.counts.iter().enumerate() {
            counted += count;
            if counted >= rank {
                return middle(index).min(self.max as f64) / 1000.0;
            }
        }
        0.0
    }

    /// The longest, in microseconds.
    pub(crate) fn max_micros(&self) -> f64 {
        self.max as f64 / 1000.0
    }
}

/// Values below `PARTS` have a bucket each; from there on each doubling has `PARTS` of them.
fn bucket(value: u64) -> usize {
    if value < PARTS {
        return value as usize;
    }
    let shift = value.ilog2() - PARTS_BITS;
    ((u64::from(shift) + 1) * PARTS + ((value >> shift) - PARTS)) as usize
}

/// The middle of a bucket.
fn middle(index: usize) -> f64 {
    let index = index as u64;
    if index < PARTS {
        return index as f64;
    }
    let shift = index / PARTS - 1;
    let first = (index % PARTS + PARTS) as f64 * (1_u64 << shift) as f64;
    first + ((1_u64 << shift) - 1) as f64 / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        let mut before = 0;
        for value in (0..100_000_u64).chain([1 << 40, u64::MAX - 1, u64::MAX]) {
            let index = bucket(value);
            assert!(index == before || index == before + 1 || value >= 1 << 40, "{value}");
            let error = (middle(index) - value as f64).abs() / (value.max(1) as f64);
            assert!(error <= 1.0 / 128.0 + 1e-9, "{value}: {error}");
            before = index;
        }
        assert!(bucket(u64::MAX) < Histogram::new().counts.len());
    }

    #[test]
    fn quantiles_are_those_of_what_was_counted() {
        let mut histogram = Histogram::new();
        for micros in 1..=1000 {
            histogram.note(Duration::from_micros(micros));
        }
        for (part, wanted) in [(0.0, 1.0), (0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let found = histogram.quantile_micros(part);
            assert!((found - wanted).abs() / wanted < 0.01, "{part}: {found}");
        }
        assert!((histogram.max_micros() - 1000.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_counted_is_zero() {
        assert_eq!(
            (Histogram::new().quantile_micros(0.5), Histogram::new().max_micros()),
            (0.0, 0.0)
        );
    }
}
