//! The times of one session's leases.
//!
//! ```text
//!   asked ──────▶ leased ═══ busy ═══▶ answered ── (client thinks) ── sent ═══ busy ═══▶ answered ▶ returned
//!     └── wait ────┘ └─── scope ──┘
//! ```
//!
//! The moment of the last answer is also that of the server's return, so a transaction of one statement
//! costs two looks at the clock. Owns: which times are measured. Does not own: the clock.

use std::sync::Arc;

use super::tally::{Count, Tally};
use super::tenants::TenantShare;
use super::traffic::{ShardNumber, Traffic};
use crate::time::Moment;

/// What a session's server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// There is none, and none was asked for.
    None,
    /// One was asked for, and came or did not come at the second moment.
    Asked(Moment, Moment),
    /// One is on loan and owes answers since then.
    Busy(Moment),
    /// One is on loan and waits for its client since then.
    Quiet(Moment),
}

/// One session's meter.
#[derive(Debug)]
pub struct Meter {
    traffic: Arc<Traffic>,
    tenant: Option<TenantShare>,
    state: State,
    leased_at: Moment,
    wait_micros: u64,
    scope_micros: Option<u64>,
}

impl Meter {
    /// For a session on this database, of this tenant.
    #[must_use]
    pub const fn new(traffic: Arc<Traffic>, tenant: Option<TenantShare>) -> Self {
        Self { traffic, tenant, state: State::None, leased_at: Moment::START, wait_micros: 0, scope_micros: None }
    }

    /// A server is asked for. Asked again (the one that came was dead), the wait goes on.
    pub const fn asked(&mut self, now: Moment) {
        if !matches!(self.state, State::Asked(..)) {
            self.state = State::Asked(now, now);
        }
    }

    /// The wait is over, well or not. Not said of a server that was free.
    pub const fn waited(&mut self, now: Moment) {
        if let State::Asked(asked, _) = self.state {
            self.state = State::Asked(asked, now);
        }
    }

    /// A server has come.
    pub fn leased(&mut self) {
        let State::Asked(asked, came) = self.state else { return };
        self.wait_micros = micros(asked, came);
        self.leased_at = came;
        self.scope_micros = None;
        self.state = State::Busy(came);
    }

    /// None came, or none is wanted any more. Such a wait counts as a refusal, if at all.
    pub const fn gave_up(&mut self) {
        if matches!(self.state, State::Asked(..)) {
            self.state = State::None;
        }
    }

    /// Whether [`Meter::sent`] has something to learn.
    #[must_use]
    pub const fn is_quiet(&self) -> bool {
        matches!(self.state, State::Quiet(_))
    }

    /// A server that owed nothing got something to do.
    pub const fn sent(&mut self, now: Moment) {
        if self.is_quiet() {
            self.state = State::Busy(now);
        }
    }

    /// Whether [`Meter::answered`] has something to learn: the server owes nothing more, or the tenant was
    /// confirmed for the first time on this lease.
    #[must_use]
    pub fn wants_answer(&self, owes: bool, tally: &Tally) -> bool {
        matches!(self.state, State::Busy(_)) && (!owes || self.is_scope_new(tally))
    }

    /// Something came from the server; `owes`: more is to come.
    pub fn answered(&mut self, now: Moment, owes: bool, tally: &mut Tally) {
        if self.is_scope_new(tally) {
            self.scope_micros = Some(micros(self.leased_at, now));
        }
        if let (State::Busy(since), false) = (self.state, owes) {
            tally.add(Count::BusyMicros, micros(since, now));
            self.state = State::Quiet(now);
        }
    }

    fn is_scope_new(&self, tally: &Tally) -> bool {
        self.scope_micros.is_none() && tally.read(Count::Scopes) > 0
    }

    /// The server goes back, or is closed: everything is added up. `now` is asked only of a server that
    /// still owed answers.
    pub fn returned(&mut self, now: impl FnOnce() -> Moment, tally: &mut Tally, shard: ShardNumber) {
        let ended = match self.state {
            State::None | State::Asked(..) => return,
            State::Quiet(at) => at,
            State::Busy(since) => {
                let now = now();
                tally.add(Count::BusyMicros, micros(since, now));
                now
            }
        };
        self.state = State::None;
        let lease = micros(self.leased_at, ended);
        self.traffic.observe_lease(shard, lease, self.wait_micros, self.scope_micros.take());
        if let Some(tenant) = &self.tenant {
            tenant.add(tally, lease, self.wait_micros);
        }
        self.traffic.add(shard, tally);
    }

    /// Adds what was counted without a server to everybody's.
    pub fn flush(&self, tally: &mut Tally, shard: ShardNumber) {
        if let Some(tenant) = &self.tenant {
            tenant.add(tally, 0, 0);
        }
        self.traffic.add(shard, tally);
    }

    /// Another tenant from now on. What was counted for one before is that one's; its lease goes to the last.
    pub fn change(&mut self, tenant: Option<TenantShare>, tally: &mut Tally, shard: ShardNumber) {
        if self.tenant.is_some() {
            self.flush(tally, shard);
        }
        self.tenant = tenant;
    }

    /// A refusal, where there is a tenant to count it for.
    pub fn refused(&self) {
        if let Some(tenant) = &self.tenant {
            tenant.refused();
        }
    }
}

fn micros(from: Moment, to: Moment) -> u64 {
    to.as_micros().saturating_sub(from.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Moment {
        Moment::from_micros(micros)
    }

    fn meter() -> (Arc<Traffic>, Meter) {
        let traffic = Arc::new(Traffic::default());
        (Arc::clone(&traffic), Meter::new(traffic, None))
    }

    #[test]
    fn wait_scope_busy_and_lease_are_told_apart() {
        let (traffic, mut meter) = meter();
        let mut tally = Tally::default();
        meter.asked(at(100));
        meter.waited(at(150));
        meter.leased();
        tally.add(Count::Scopes, 1);
        assert!(meter.wants_answer(true, &tally));
        meter.answered(at(170), true, &mut tally);
        assert!(!meter.wants_answer(true, &tally));
        meter.answered(at(250), false, &mut tally);
        meter.sent(at(1250));
        meter.answered(at(1300), false, &mut tally);
        meter.returned(|| panic!("the clock is not needed"), &mut tally, ShardNumber::SHARED);
        let totals = traffic.totals();
        assert_eq!(totals.wait.sum_micros, 50);
        assert_eq!(totals.read(Count::BusyMicros), 150);
        assert_eq!(totals.transaction.sum_micros, 1150);
        assert_eq!(totals.leases(), 1);
        assert_eq!((totals.scope.sum_micros, totals.scope.count()), (20, 1));
        assert!(tally.is_empty());
    }

    #[test]
    fn a_server_that_dies_is_measured_until_then() {
        let (traffic, mut meter) = meter();
        let mut tally = Tally::default();
        meter.asked(at(0));
        meter.leased();
        meter.returned(|| at(70), &mut tally, ShardNumber::SHARED);
        meter.returned(|| at(90), &mut tally, ShardNumber::SHARED);
        assert_eq!((traffic.totals().read(Count::BusyMicros), traffic.totals().transaction.count()), (70, 1));
    }

    #[test]
    fn a_wait_goes_on_over_a_second_question_and_counts_only_if_a_server_came() {
        let (traffic, mut meter) = meter();
        let mut tally = Tally::default();
        meter.asked(at(0));
        meter.gave_up();
        meter.leased();
        meter.asked(at(10));
        meter.asked(at(20));
        meter.waited(at(50));
        meter.leased();
        meter.returned(|| at(60), &mut tally, ShardNumber::of_thread(0));
        let totals = traffic.totals();
        assert_eq!((totals.wait.sum_micros, totals.wait.count(), totals.transaction.sum_micros), (40, 1, 10));
    }
}
