//! Counts of things that end or fail, by reason.
//!
//! A lock and a map: such things happen once for a connection, not once for a transaction. Bounded, since
//! reasons are words of the program's own text.

use std::collections::BTreeMap;

use parking_lot::Mutex;

/// Counts by reason.
#[derive(Debug, Default)]
pub struct WordCounts(Mutex<BTreeMap<&'static str, u64>>);

impl WordCounts {
    /// Counts one.
    pub fn count(&self, reason: &'static str) {
        *self.0.lock().entry(reason).or_default() += 1;
    }

    /// All counts; reasons that never came are absent.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
        self.0.lock().iter().map(|(reason, count)| (*reason, *count)).collect()
    }
}
