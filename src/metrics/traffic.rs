//! One database's counts, added to by all its sessions.
//!
//! Sharded: sessions add to the shard their number leads to, so that threads seldom meet on a cache line;
//! readers add the shards up.

use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::{Histogram, HistogramSnapshot};
use super::tally::{Count, Tally};

/// Threads rarely outnumber this; a shard is about a kilobyte.
const SHARDS: usize = 8;

/// Aligned so that two shards never share a cache line (128: lines are fetched in pairs).
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    counts: [AtomicU64; Count::LEN],
    transaction: Histogram,
    wait: Histogram,
    scope: Histogram,
}

/// A database's counts.
#[derive(Debug, Default)]
pub struct Traffic {
    shards: [Shard; SHARDS],
}

/// A database's counts at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    counts: [u64; Count::LEN],
    /// How long servers were on loan, each time.
    pub transaction: HistogramSnapshot,
    /// How long clients waited for a server, each time they got one; a free server is a wait of zero.
    pub wait: HistogramSnapshot,
    /// From the moment a server had work to the confirmation of the tenant, once for each loan.
    pub scope: HistogramSnapshot,
}

impl Totals {
    /// One count.
    #[must_use]
    pub fn read(&self, count: Count) -> u64 {
        self.counts.get(count.index()).copied().unwrap_or_default()
    }

    /// Adds another one's counts.
    pub fn add(&mut self, other: &Self) {
        for (into, from) in self.counts.iter_mut().zip(&other.counts) {
            *into += from;
        }
        self.transaction.add(&other.transaction);
        self.wait.add(&other.wait);
        self.scope.add(&other.scope);
    }
}

impl Traffic {
    fn shard(&self, number: usize) -> Option<&Shard> {
        self.shards.get(number % SHARDS)
    }

    /// Adds a session's own counts and sets them to zero.
    pub fn add(&self, number: usize, tally: &mut Tally) {
        let Some(shard) = self.shard(number) else { return };
        for (into, amount) in shard.counts.iter().zip(tally.take()) {
            if amount > 0 {
                into.fetch_add(amount, Ordering::Relaxed);
            }
        }
    }

    /// A server came back.
    pub fn observe_lease(&self, number: usize, lease_micros: u64, wait_micros: u64, scope_micros: Option<u64>) {
        let Some(shard) = self.shard(number) else { return };
        shard.transaction.observe(lease_micros);
        shard.wait.observe(wait_micros);
        if let Some(micros) = scope_micros {
            shard.scope.observe(micros);
        }
    }

    /// All shards together.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in &self.shards {
            for (into, from) in totals.counts.iter_mut().zip(&shard.counts) {
                *into += from.load(Ordering::Relaxed);
            }
            totals.transaction.add(&shard.transaction.snapshot());
            totals.wait.add(&shard.wait.snapshot());
            totals.scope.add(&shard.scope.snapshot());
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_added_up_and_a_tally_is_added_once() {
        let traffic = Traffic::default();
        for number in 0..20 {
            let mut tally = Tally::default();
            tally.add(Count::Statements, 2);
            traffic.add(number, &mut tally);
            traffic.add(number, &mut tally);
            traffic.observe_lease(number, 100, 0, Some(50));
        }
        let totals = traffic.totals();
        assert_eq!(totals.read(Count::Statements), 40);
        assert_eq!(totals.read(Count::Transactions), 0);
        assert_eq!((totals.transaction.count(), totals.wait.count(), totals.scope.sum_micros), (20, 20, 1000));
    }
}
