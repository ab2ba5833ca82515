//! What an operator does to a pool: hold it, replace its servers, change its limits.
//!
//! ```text
//!          pause                        kill
//!   None ─────────▶ Paused       any ─────────▶ Killed         resume: any ──▶ None
//! ```
//!
//! On hold nothing is lent and no server is kept: what is idle is closed at once, what is on loan when it
//! comes back. Whoever asks waits, and that time does not count towards `wait_timeout`: a pause longer than
//! it (PostgreSQL is being restarted) must fail nobody. A kill also refuses those who wait already.
//!
//! Owns: these changes. Does not own: ending the sessions that hold servers, which the driver does.

use super::{Action, Fairness, Pool, PoolLimits};
use crate::fault::{Code, Fault};
use crate::time::Moment;

/// Whether a pool lends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// It does.
    #[default]
    None,
    /// Not until it is resumed; what is on loan comes back by itself.
    Paused,
    /// Not until it is resumed; everybody was dropped.
    Killed,
}

impl<S, W> Pool<S, W> {
    /// Lends no more, and closes every server as soon as it is free.
    pub fn pause(&mut self) {
        if self.hold == Hold::None {
            self.hold = Hold::Paused;
        }
        self.close_idle();
    }

    /// As a pause, and those who wait now are refused.
    pub fn kill(&mut self) {
        self.hold = Hold::Killed;
        self.close_idle();
        self.refuse_all(&Fault::of(Code::Killed));
    }

    /// Ends a pause or a kill; whether there was one.
    pub fn resume(&mut self, now: Moment) -> bool {
        if self.hold == Hold::None {
            return false;
        }
        self.hold = Hold::None;
        self.resumed_at = now;
        // Whatever kept connections from being made may be over: that is what a pause is for.
        self.failures = 0;
        self.retry_at = None;
        self.connect_if_wanted(now);
        true
    }

    /// Every server that is connected by now is closed as soon as it is free.
    pub fn reconnect(&mut self, now: Moment) {
        self.renewed_at = Some(now);
        self.failures = 0;
        self.retry_at = None;
        self.close_idle();
        self.connect_if_wanted(now);
    }

    /// Other limits from now on: a larger size counts at once, a smaller one as servers come free. `fairness` says
    /// how they are shared out.
    pub fn set_limits(&mut self, limits: PoolLimits, fairness: Fairness, now: Moment) {
        self.queue.set(limits.size, fairness);
        self.limits = limits;
        self.retire_idle(now);
        self.dispatch(now);
    }

    /// Whether it lends.
    #[must_use]
    pub const fn hold(&self) -> Hold {
        self.hold
    }

    /// Its limits.
    #[must_use]
    pub const fn limits(&self) -> &PoolLimits {
        &self.limits
    }

    /// Whether it is on hold and has no server any more.
    #[must_use]
    pub fn is_at_rest(&self) -> bool {
        self.is_held() && self.total() == 0
    }

    /// Whether it has been closed: nothing is lent ever again.
    #[must_use]
    pub const fn is_closing(&self) -> bool {
        self.is_closing
    }

    /// Whether a server connected then is closed as soon as it is free.
    #[must_use]
    pub fn is_close_needed(&self, connected_at: Moment, now: Moment) -> bool {
        self.is_closing || self.is_held() || self.is_old(connected_at, now)
    }

    pub(super) fn is_held(&self) -> bool {
        self.hold != Hold::None
    }

    fn close_idle(&mut self) {
        for idle in self.idle.drain(..) {
            self.actions.push_back(Action::Close(idle.pooled.server));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, limits, pooled, seat, words};
    use super::super::{PoolCounts, Requested, Seat};
    use super::*;

    fn sized(size: usize) -> PoolLimits {
        PoolLimits { size, ..limits() }
    }

    /// A pool with server 1 idle and server 2 on loan.
    fn busy() -> (Pool<u32, &'static str>, Seat) {
        let mut pool = Pool::new(sized(2), Fairness::Tenants);
        let seat = seat(&mut pool);
        for (server, who) in [(1, "a"), (2, "b")] {
            assert!(matches!(pool.request(seat, at(0), || who), Requested::Queued(_)));
            pool.connected(pooled(server, 1), at(1));
        }
        pool.check_in(seat, pooled(1, 1), at(1));
        words(&mut pool);
        (pool, seat)
    }

    #[test]
    fn a_wait_through_a_pause_ends_in_time_behind_it() {
        let (mut pool, seat) = busy();
        pool.pause();
        assert!(matches!(pool.request(seat, at(2), || "c"), Requested::Queued(_)));
        pool.check_in(seat, pooled(2, 1), at(3));
        assert!(pool.resume(at(100)));
        words(&mut pool);
        pool.sweep(Moment::from_micros(104_999_999));
        assert_eq!(words(&mut pool), Vec::<String>::new(), "a moment too early");
        pool.sweep(at(105));
        assert_eq!(words(&mut pool), ["refuse c TG050 53300"]);
    }

    #[test]
    fn a_pause_closes_what_is_free_and_lends_nothing() {
        let (mut pool, seat) = busy();
        pool.pause();
        assert_eq!(words(&mut pool), ["close 1"]);
        assert!(!pool.is_at_rest());
        assert!(matches!(pool.request(seat, at(2), || "c"), Requested::Queued(_)));
        pool.check_in(seat, pooled(2, 1), at(3));
        assert_eq!(words(&mut pool), ["close 2"]);
        assert!(pool.is_at_rest());
        pool.sweep(at(100));
        assert_eq!(words(&mut pool), Vec::<String>::new(), "a pause fails nobody");
        assert!(pool.resume(at(100)) && !pool.resume(at(100)));
        assert_eq!(words(&mut pool), ["connect"]);
        pool.sweep(Moment::from_micros(104_999_999));
        assert_eq!(words(&mut pool), Vec::<String>::new(), "the whole time counts anew");
        pool.connected(pooled(3, 104), at(104));
        assert_eq!(words(&mut pool), ["grant 3 to c"]);
    }

    #[test]
    fn a_server_that_was_being_connected_is_closed_on_hold() {
        let mut pool: Pool<u32, &str> = Pool::new(sized(1), Fairness::Tenants);
        let seat = seat(&mut pool);
        assert!(matches!(pool.request(seat, at(0), || "a"), Requested::Queued(_)));
        pool.pause();
        assert!(!pool.is_at_rest());
        pool.connected(pooled(1, 0), at(1));
        assert_eq!(words(&mut pool), ["connect", "close 1"]);
        assert!(pool.is_at_rest());
        pool.resume(at(2));
        assert_eq!(words(&mut pool), ["connect"]);
        pool.pause();
        pool.connect_failed(&Fault::of(Code::ServerUnreachable), at(3));
        assert_eq!(words(&mut pool), Vec::<String>::new(), "on hold nobody is told");
    }

    #[test]
    fn a_kill_refuses_who_waits_and_newcomers_wait() {
        let (mut pool, seat) = busy();
        assert!(matches!(pool.request(seat, at(1), || "c"), Requested::Granted { .. }));
        assert!(matches!(pool.request(seat, at(1), || "d"), Requested::Queued(_)));
        pool.kill();
        assert_eq!(words(&mut pool), ["refuse d TG071 57P01"]);
        pool.discarded(seat, at(2));
        pool.discarded(seat, at(2));
        assert!(pool.is_at_rest());
        assert!(matches!(pool.request(seat, at(3), || "e"), Requested::Queued(_)));
        pool.pause();
        assert_eq!((words(&mut pool), pool.hold()), (vec![], Hold::Killed));
        pool.resume(at(4));
        assert_eq!(words(&mut pool), ["connect"]);
    }

    #[test]
    fn servers_are_replaced_as_they_come_free() {
        let (mut pool, seat) = busy();
        pool.reconnect(at(5));
        assert_eq!(words(&mut pool), ["close 1"]);
        assert!(pool.is_close_needed(at(1), at(5)) && !pool.is_close_needed(at(6), at(6)));
        assert!(matches!(pool.request(seat, at(6), || "c"), Requested::Queued(_)));
        assert_eq!(words(&mut pool), ["connect"]);
        // An attempt that began before, too: it went the old way.
        pool.connected(pooled(3, 5), at(6));
        assert_eq!(words(&mut pool), ["close 3", "connect"]);
        pool.connected(pooled(4, 6), at(7));
        pool.check_in(seat, pooled(2, 1), at(7));
        assert_eq!(words(&mut pool), ["grant 4 to c", "close 2"]);
    }

    #[test]
    fn a_new_size_grows_at_once_and_shrinks_as_servers_come_free() {
        let mut pool: Pool<u32, &str> = Pool::new(sized(1), Fairness::Tenants);
        let seat = seat(&mut pool);
        for name in ["a", "b", "c"] {
            assert!(matches!(pool.request(seat, at(0), || name), Requested::Queued(_)));
        }
        assert_eq!(words(&mut pool), ["connect"]);
        pool.set_limits(sized(3), Fairness::Tenants, at(0));
        assert_eq!(words(&mut pool), ["connect", "connect"]);
        for server in [1, 2, 3] {
            pool.connected(pooled(server, 0), at(0));
        }
        words(&mut pool);
        pool.check_in(seat, pooled(1, 0), at(1));
        pool.set_limits(sized(1), Fairness::Tenants, at(1));
        assert_eq!(words(&mut pool), ["close 1"]);
        pool.check_in(seat, pooled(2, 0), at(1));
        assert_eq!(words(&mut pool), ["close 2"]);
        pool.check_in(seat, pooled(3, 0), at(1));
        let counts = PoolCounts { idle: 1, leased: 0, pinned: 0, connecting: 0, waiting: 0 };
        assert_eq!((words(&mut pool), pool.counts()), (vec![], counts));
    }
}
