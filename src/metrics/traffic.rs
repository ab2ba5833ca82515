//! One database's counts, added to by all its sessions.
//!
//! Sharded by thread: a thread that is alone in its shard adds without atomic read-modify-write, and never meets
//! another one on a cache line; readers add the shards up.

use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::{Histogram, HistogramSnapshot, Writers};
use super::tally::{Count, Tally};

/// Shards of one thread each; more threads than this share the last one. A shard is about a kilobyte.
const SHARDS_OWN: usize = 16;

/// Which shard a thread adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardNumber(usize);

impl ShardNumber {
    /// The shard of the thread with this number, which no other thread may ever have had.
    #[must_use]
    pub const fn of_thread(number: usize) -> Self {
        Self(if number < SHARDS_OWN { number } else { SHARDS_OWN })
    }

    /// The shard that anybody may add to.
    pub const SHARED: Self = Self(SHARDS_OWN);
}

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
    shards: [Shard; SHARDS_OWN + 1],
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

    /// Servers lent and come back.
    #[must_use]
    pub fn leases(&self) -> u64 {
        self.transaction.count()
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
    fn shard(&self, number: ShardNumber) -> Option<(&Shard, Writers)> {
        let writers = if number == ShardNumber::SHARED { Writers::Many } else { Writers::One };
        self.shards.get(number.0).map(|shard| (shard, writers))
    }

    /// Adds a session's own counts and sets them to zero.
    pub fn add(&self, number: ShardNumber, tally: &mut Tally) {
        let Some((shard, writers)) = self.shard(number) else { return };
        for (into, amount) in shard.counts.iter().zip(tally.take()) {
            if amount > 0 {
                writers.add(into, amount);
            }
        }
    }

    /// A server came back.
    pub fn observe_lease(&self, number: ShardNumber, lease_micros: u64, wait_micros: u64, scope_micros: Option<u64>) {
        let Some((shard, writers)) = self.shard(number) else { return };
        shard.transaction.observe(lease_micros, writers);
        shard.wait.observe(wait_micros, writers);
        if let Some(micros) = scope_micros {
            shard.scope.observe(micros, writers);
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
        for number in (0..20).map(ShardNumber::of_thread) {
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
