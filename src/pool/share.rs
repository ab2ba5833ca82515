//! How much of a pool one tenant may take while others are about.
//!
//! A tenant alone may take the whole pool. Beside others its *share* is the pool divided by the tenants that
//! asked for a server lately. Up to its share a tenant takes any free server. Beyond it, it takes only what is
//! not *promised*: as many servers as tenants have lately needed at once within their shares, less those they
//! have now. So under a flood of slow transactions a server stays free for the tenant that has just used one,
//! and the flood pays with no more than what the others need.
//!
//! Large pools keep one in sixteen free beyond that, so that a need that grows by one finds a server, too.
//!
//! The promise follows a rise at once and forgets by halves of two seconds, its last server after about nine seconds.
//!
//! Owns: this arithmetic. Does not own: who waits in which order ([`super::queue`]).

use std::time::Duration;

use crate::time::Moment;

/// Steps of forgetting. Twenty take half of what is no longer needed: long enough to bridge the pauses of an
/// ordinary client, short enough that a burst long ago does not idle the pool.
const FORGET_STEP: Duration = Duration::from_millis(100);

/// `1 - 0.5^(1/20)`, in 1/1024.
const FORGET_PER_STEP: u64 = 35;

/// The promise is kept in parts of a server.
const PARTS: u64 = 1024;

/// Less than a sixteenth of a server is no promise.
const PARTS_MIN: u64 = PARTS / 16;

/// One in so many servers stays free beyond what is promised.
const SPARE_ONE_IN: usize = 16;

/// After so long without a request a tenant does not count among those who share.
pub const ACTIVE: Duration = Duration::from_secs(10);

/// What one tenant has and wants of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Servers on loan to it.
    pub leases: usize,
    /// Its clients that wait and that no limit of its own holds back.
    pub waiting: usize,
    /// Servers it may have at most.
    pub leases_max: usize,
}

/// The shares of one pool.
#[derive(Debug)]
pub struct Share {
    size: usize,
    active: usize,
    /// The share of each tenant: the quotient of the two.
    each: usize,
    /// What tenants need now, each within its share.
    wanted: usize,
    /// What tenants have now, each within its share.
    held: usize,
    promised_parts: u64,
    forgotten_at: Moment,
}

impl Share {
    /// Of a pool of so many servers.
    #[must_use]
    pub const fn new(size: usize) -> Self {
        Self {
            size,
            active: 0,
            each: share_of(size, 0),
            wanted: 0,
            held: 0,
            promised_parts: 0,
            forgotten_at: Moment::START,
        }
    }

    /// The share of each tenant.
    #[must_use]
    pub const fn each(&self) -> usize {
        self.each
    }

    /// Whether a tenant beyond its share may take one of so many that are free.
    #[must_use]
    pub fn may_exceed(&self, free: usize) -> bool {
        free > self.promised().saturating_sub(self.held) + self.size / SPARE_ONE_IN
    }

    /// One tenant's use has changed.
    pub fn on_change(&mut self, before: Use, after: Use) {
        let each = self.each;
        self.wanted = self.wanted.saturating_sub(wanted(before, each)).saturating_add(wanted(after, each));
        self.held = self.held.saturating_sub(held(before, each)).saturating_add(held(after, each));
        self.raise();
    }

    /// The pool's size or the number of active tenants is another now; `uses` are those of all tenants. The
    /// promise stays as far above what is wanted as it was.
    pub fn restate(&mut self, size: usize, active: usize, uses: impl Iterator<Item = Use>) {
        let above = self.promised_parts.saturating_sub(parts(self.wanted.min(self.size)));
        let each = share_of(size, active);
        (self.size, self.active, self.each, self.wanted, self.held) = (size, active, each, 0, 0);
        for one in uses {
            self.wanted = self.wanted.saturating_add(wanted(one, each));
            self.held = self.held.saturating_add(held(one, each));
        }
        let most = parts(self.size);
        self.promised_parts = parts(self.wanted.min(self.size)).saturating_add(above).min(most);
    }

    /// So many tenants share now; the share of each is the same as before.
    pub fn set_active(&mut self, active: usize) {
        debug_assert_eq!(share_of(self.size, active), self.each);
        self.active = active;
    }

    /// Time has passed: what is no longer needed is forgotten.
    pub fn forget(&mut self, now: Moment) {
        let steps = now.since(self.forgotten_at).as_micros() / FORGET_STEP.as_micros();
        if steps == 0 {
            return;
        }
        self.forgotten_at = now;
        let floor = parts(self.wanted.min(self.size));
        // After twenty halves nothing is left of a million servers.
        for _ in 0..steps.min(400) {
            let above = self.promised_parts.saturating_sub(floor);
            if above < PARTS_MIN {
                self.promised_parts = floor;
                return;
            }
            self.promised_parts = floor + (above - (above * FORGET_PER_STEP / PARTS).max(1));
        }
    }

    #[cfg(test)]
    pub(super) fn check_invariants(&self, uses: &[Use]) {
        assert_eq!(self.wanted, uses.iter().map(|one| wanted(*one, self.each)).sum::<usize>());
        assert_eq!(self.held, uses.iter().map(|one| held(*one, self.each)).sum::<usize>());
        assert!(self.promised_parts <= parts(self.size) && self.each == share_of(self.size, self.active));
    }

    /// Servers promised to tenants within their shares, those they have included.
    fn promised(&self) -> usize {
        usize::try_from(self.promised_parts.div_ceil(PARTS)).unwrap_or(self.size)
    }

    fn raise(&mut self) {
        self.promised_parts = self.promised_parts.max(parts(self.wanted.min(self.size)));
    }
}

/// The share of each of so many tenants: at least one server.
pub const fn share_of(size: usize, active: usize) -> usize {
    let size = if size == 0 { 1 } else { size };
    match size.checked_div(active) {
        Some(0) => 1,
        Some(each) => each,
        None => size,
    }
}

fn wanted(one: Use, each: usize) -> usize {
    one.leases.saturating_add(one.waiting).min(each).min(one.leases_max.max(one.leases))
}

fn held(one: Use, each: usize) -> usize {
    one.leases.min(each)
}

fn parts(servers: usize) -> u64 {
    u64::try_from(servers).unwrap_or(u64::MAX).saturating_mul(PARTS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_micros(millis * 1000)
    }

    fn usage(leases: usize, waiting: usize) -> Use {
        Use { leases, waiting, leases_max: usize::MAX }
    }

    /// A flood that holds all but one, and a tenant that has used one.
    fn flood_and_one() -> Share {
        let mut share = Share::new(20);
        share.restate(20, 2, [usage(19, 480), usage(1, 0)].into_iter());
        share.on_change(Use::default(), Use::default());
        share
    }

    #[test]
    fn alone_a_tenant_may_have_everything() {
        let mut share = Share::new(20);
        share.restate(20, 1, std::iter::empty());
        assert_eq!(share.each(), 20);
        share.on_change(usage(0, 0), usage(19, 500));
        assert!(19 < share.each());
    }

    #[test]
    fn a_server_just_used_stays_free_for_its_tenant_and_is_forgotten_in_time() {
        let mut share = flood_and_one();
        share.forget(at(1));
        share.on_change(usage(1, 0), usage(0, 0));
        assert_eq!(share.each(), 10);
        assert!(!share.may_exceed(2) && share.may_exceed(3), "one promised and one to spare");
        share.forget(at(4000));
        assert!(!share.may_exceed(2));
        share.forget(at(12_000));
        assert!(share.may_exceed(2));
    }

    #[test]
    fn a_burst_is_forgotten_by_halves() {
        let mut share = Share::new(15);
        share.restate(15, 15, std::iter::empty());
        for _ in 0..12 {
            share.on_change(usage(0, 0), usage(1, 0));
        }
        for _ in 0..12 {
            share.on_change(usage(1, 0), usage(0, 0));
        }
        assert!(!share.may_exceed(12) && share.may_exceed(13));
        share.forget(at(2000));
        assert!(!share.may_exceed(5) && share.may_exceed(7));
    }

    #[test]
    fn what_a_limit_forbids_is_promised_to_nobody() {
        let mut share = Share::new(20);
        share.restate(20, 2, std::iter::empty());
        share.on_change(Use::default(), Use { leases: 1, waiting: 300, leases_max: 1 });
        assert!(share.may_exceed(2));
    }
}
