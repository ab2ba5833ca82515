//! What all sessions have to notice: one number that every client's task reads at every wake-up.
//!
//! Owns: the stage and the newest generation's number. Does not own: waking anybody.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the proxy as a whole is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Serving.
    Serving,
    /// Sessions end when they are between transactions.
    Draining,
    /// Sessions end now.
    Stopping,
}

/// The stage in the lowest bits, the number of the newest generation above it.
#[derive(Debug, Default)]
pub struct Signal(AtomicU64);

const STAGE_BITS: u32 = 2;
const STAGE_MASK: u64 = (1 << STAGE_BITS) - 1;

impl Signal {
    /// The stage, and the number of the newest generation.
    #[must_use]
    pub fn read(&self) -> (Stage, u64) {
        let both = self.0.load(Ordering::Acquire);
        let stage = match both & STAGE_MASK {
            0 => Stage::Serving,
            1 => Stage::Draining,
            _ => Stage::Stopping,
        };
        (stage, both >> STAGE_BITS)
    }

    /// Moves on to a later stage, never back; whoever sleeps has to be woken to see it.
    pub fn advance(&self, stage: Stage) {
        let number = match stage {
            Stage::Serving => 0,
            Stage::Draining => 1,
            Stage::Stopping => 2,
        };
        self.change(|both| (both & !STAGE_MASK) | number.max(both & STAGE_MASK));
    }

    /// Another generation is in force; whoever sleeps has to be woken to see it.
    pub fn set_generation(&self, number: u64) {
        self.change(|both| (both & STAGE_MASK) | (number << STAGE_BITS));
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        let changed = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, |both| Some(change(both)));
        debug_assert!(changed.is_ok());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stage_and_generation_do_not_disturb_each_other() {
        let signal = Signal::default();
        assert_eq!(signal.read(), (Stage::Serving, 0));
        signal.set_generation(7);
        signal.advance(Stage::Draining);
        assert_eq!(signal.read(), (Stage::Draining, 7));
        signal.set_generation(8);
        signal.advance(Stage::Stopping);
        signal.advance(Stage::Draining);
        assert_eq!(signal.read(), (Stage::Stopping, 8));
    }
}
