//! Histograms of durations with fixed buckets.
//!
//! Bounds are powers of two in microseconds, so that finding a bucket is one instruction and every
//! histogram of every release can be compared with every other.

use std::sync::atomic::{AtomicU64, Ordering};

/// The first bound is 2⁵ = 32 µs: nothing that crosses a socket is faster.
const FIRST_EXPONENT: u32 = 5;

/// Bounds from 32 µs to 2²⁶ µs = 67 s: longer than any time limit is usually set.
pub const BUCKETS: usize = 22;

/// The upper bound of a bucket, in microseconds.
#[must_use]
pub const fn bound_micros(bucket: usize) -> u64 {
    32 << bucket
}

/// The bucket whose bound is the first that is not below `micros`; [`BUCKETS`] if none is.
fn bucket_of(micros: u64) -> usize {
    // Bits of (micros - 1): 32 → 5 bits → bucket 0, 33 → 6 bits → bucket 1.
    let bits = u64::BITS - micros.saturating_sub(1).leading_zeros();
    usize::try_from(bits.saturating_sub(FIRST_EXPONENT)).unwrap_or(BUCKETS).min(BUCKETS)
}

/// Who adds to a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writers {
    /// One thread and no other: a plain addition, which costs a tenth of an atomic one.
    One,
    /// Anybody.
    Many,
}

impl Writers {
    /// Adds. Readers may come at any time, in both cases.
    pub fn add(self, counter: &AtomicU64, amount: u64) {
        match self {
            Writers::One => counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed),
            Writers::Many => {
                counter.fetch_add(amount, Ordering::Relaxed);
            }
        }
    }
}

/// A histogram that tasks add to.
#[derive(Debug, Default)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS + 1],
    sum_micros: AtomicU64,
}

impl Histogram {
    /// Adds one duration.
    pub fn observe(&self, micros: u64, writers: Writers) {
        if let Some(count) = self.counts.get(bucket_of(micros)) {
            writers.add(count, 1);
            writers.add(&self.sum_micros, micros);
        }
    }

    /// What is in it now.
    #[must_use]
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut snapshot = HistogramSnapshot::default();
        for (into, from) in snapshot.counts.iter_mut().zip(&self.counts) {
            *into = from.load(Ordering::Relaxed);
        }
        snapshot.sum_micros = self.sum_micros.load(Ordering::Relaxed);
        snapshot
    }
}

/// A histogram's contents at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// Durations in each bucket by itself; the last one has those above all bounds.
    pub counts: [u64; BUCKETS + 1],
    /// All durations together.
    pub sum_micros: u64,
}

impl HistogramSnapshot {
    /// How many durations there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds another one's contents.
    pub fn add(&mut self, other: &Self) {
        for (into, from) in self.counts.iter_mut().zip(&other.counts) {
            *into += from;
        }
        self.sum_micros += other.sum_micros;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_on_a_bound_belongs_below_it() {
        for bucket in 0..BUCKETS {
            assert_eq!(bucket_of(bound_micros(bucket)), bucket);
            assert_eq!(bucket_of(bound_micros(bucket) + 1), bucket + 1);
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS);
    }

    #[test]
    fn snapshots_add_up() {
        let histogram = Histogram::default();
        [1, 40, 100_000_000].into_iter().for_each(|micros| histogram.observe(micros, Writers::Many));
        let mut twice = histogram.snapshot();
        twice.add(&histogram.snapshot());
        assert_eq!((twice.count(), twice.sum_micros), (6, 200_000_082));
        assert_eq!((twice.counts[0], twice.counts[1], twice.counts[BUCKETS]), (2, 2, 2));
    }
}
