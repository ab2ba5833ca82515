//! Who may use which server, when: the ledger of one pool.
//!
//! ```text
//!             grant                    check-in (clean)
//!   idle ───────────────▶ leased ───────────────────────▶ idle, or straight to the first who waits
//!    ▲                      │ discard
//!    │ connected            ▼
//! connecting ◀──────── room for one more, somebody waits
//! ```
//!
//! Owns: counts, the order of those who wait, ages and time limits, the pause after failed connects. Does
//! not own: sockets and tasks: servers and waiters are opaque here, and what has to be done comes out as
//! [`Action`]s. The tenant is no part of a pool's identity, sharing servers between tenants is what the proxy is
//! for; it decides who is next ([`queue`]) and how much one may take ([`share`], [`Admission`]).

mod admission;
mod control;
mod queue;
mod quota;
mod share;
mod table;

use std::collections::VecDeque;
use std::time::Duration;

pub use admission::{Account, AccountCounts, Admission, Membership};
pub use control::Hold;
pub use queue::Seat;
pub use quota::{Fairness, Limits, Party, Quota, TimeLimits};

use queue::Queue;

use crate::fault::{Code, Fault};
use crate::time::Moment;

/// The limits of one pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLimits {
    /// Servers at most; at least 1.
    pub size: usize,
    /// Servers kept even when idle.
    pub size_min: usize,
    /// Someone waits so long for a server.
    pub wait_timeout: Duration,
    /// So many may wait.
    pub waiting_max: usize,
    /// A server older than this is closed when it is not in use.
    pub server_lifetime: Duration,
    /// A server idle for longer is closed, down to `size_min`.
    pub server_idle_timeout: Duration,
    /// A server idle for longer is asked for a sign of life before use.
    pub server_check_delay: Duration,
    /// Servers that may stay with their clients beyond a transaction; `None` = all.
    pub pins_max: Option<usize>,
    /// Longest pause between attempts to connect.
    pub connect_backoff_max: Duration,
}

/// First pause after a failed attempt to connect; doubled with each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

/// Idle servers looked at for one that suits: it is looked for under the pool's lock.
const LOOKED_AT_MAX: usize = 16;

/// A server as the pool sees it.
#[derive(Debug)]
pub struct Pooled<S> {
    /// The server itself.
    pub server: S,
    /// When it was connected.
    pub connected_at: Moment,
}

#[derive(Debug)]
struct Idle<S> {
    pooled: Pooled<S>,
    since: Moment,
}

/// One wait, to be given up by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// What is to be done with a server before its use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// Nothing: it comes straight from another client, or was connected just now.
    Nothing,
    /// It was idle: see whether it has closed meanwhile.
    Silence,
    /// It was idle for long: ask it for a sign of life.
    Life,
}

/// Something the driver has to do for the pool.
#[derive(Debug)]
pub enum Action<S, W> {
    /// Give this server to that waiter.
    Grant {
        /// Who gets it.
        waiter: W,
        /// What it gets.
        pooled: Pooled<S>,
        /// What is to be done before its use.
        check: Check,
    },
    /// Tell that waiter that there is no server.
    Refuse {
        /// Who is told.
        waiter: W,
        /// What it is told.
        fault: Fault,
    },
    /// Connect one more server; answer with [`Pool::connected`] or [`Pool::connect_failed`].
    Connect,
    /// Close this server.
    Close(S),
}

/// What became of a request.
#[derive(Debug)]
pub enum Requested<S> {
    /// A server at once.
    Granted {
        /// The server.
        pooled: Pooled<S>,
        /// What is to be done before its use.
        check: Check,
    },
    /// A place in the queue.
    Queued(Ticket),
    /// No place in the queue.
    Refused(Fault),
}

/// Counts, for SHOW and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Servers not in use.
    pub idle: usize,
    /// Servers on loan.
    pub leased: usize,
    /// Of these, servers that stay with their clients beyond a transaction.
    pub pinned: usize,
    /// Servers being connected.
    pub connecting: usize,
    /// Who waits.
    pub waiting: usize,
}

/// The ledger of one pool.
#[derive(Debug)]
pub struct Pool<S, W> {
    limits: PoolLimits,
    /// Most recently used last: it is used first, so that surplus servers grow old.
    idle: Vec<Idle<S>>,
    queue: Queue<W>,
    leased: usize,
    pinned: usize,
    connecting: usize,
    failures: u32,
    /// Not before this moment is another connection attempted.
    retry_at: Option<Moment>,
    is_closing: bool,
    /// Nothing is lent.
    hold: Hold,
    /// Time before this does not count as waiting: the pool was on hold.
    resumed_at: Moment,
    /// Servers connected by then are closed instead of being used again.
    renewed_at: Option<Moment>,
    actions: VecDeque<Action<S, W>>,
}

impl<S, W> Pool<S, W> {
    /// An empty pool.
    #[must_use]
    pub fn new(limits: PoolLimits, fairness: Fairness) -> Self {
        Self {
            queue: Queue::new(limits.size, fairness),
            limits,
            idle: Vec::new(),
            leased: 0,
            pinned: 0,
            connecting: 0,
            failures: 0,
            retry_at: None,
            is_closing: false,
            hold: Hold::default(),
            resumed_at: Moment::START,
            renewed_at: None,
            actions: VecDeque::new(),
        }
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action<S, W>> {
        self.actions.pop_front()
    }

    /// Counts.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        PoolCounts {
            idle: self.idle.len(),
            leased: self.leased,
            pinned: self.pinned,
            connecting: self.connecting,
            waiting: self.queue.len(),
        }
    }

    /// Servers at most.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.limits.size
    }

    /// Whether the last attempt to connect failed.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// A client comes. Its seat is valid until it leaves.
    pub fn join(&mut self, membership: &Membership) -> Seat {
        self.queue.join(membership)
    }

    /// A client leaves, after it has given up its waits and given back its servers.
    pub fn leave(&mut self, seat: Seat) {
        self.queue.leave(seat);
    }

    /// Asks for a server. `waiter` is made only if it has to wait.
    pub fn request(&mut self, seat: Seat, now: Moment, waiter: impl FnOnce() -> W) -> Requested<S> {
        self.request_one(seat, now, |_| true, waiter)
    }

    /// The same; among servers that are idle, one that `suits` comes first. Whether there is one at all, and for whom,
    /// does not depend on it.
    pub fn request_one(
        &mut self,
        seat: Seat,
        now: Moment,
        suits: impl Fn(&S) -> bool,
        waiter: impl FnOnce() -> W,
    ) -> Requested<S> {
        if !self.idle.is_empty()
            && self.queue.try_take(seat, self.free(), now)
            && let Some(idle) = self.take_idle(suits)
        {
            self.leased += 1;
            let check = self.check(&idle, now).max(Check::Silence);
            return Requested::Granted { pooled: idle.pooled, check };
        }
        if self.is_closing {
            return Requested::Refused(Fault::of(Code::ShuttingDown));
        }
        if self.queue.len() >= self.limits.waiting_max {
            return Requested::Refused(Fault::of(Code::QueueFull));
        }
        match self.queue.push(seat, waiter, now) {
            Ok(ticket) => {
                self.dispatch(now);
                Requested::Queued(ticket)
            }
            Err(fault) => Requested::Refused(fault),
        }
    }

    /// A waiter gave up.
    pub fn give_up(&mut self, ticket: Ticket) -> Option<W> {
        self.queue.remove(ticket)
    }

    /// Who has a server acts for another from now on: it counts as that one's.
    ///
    /// # Errors
    /// That one has as many as it may; nothing is changed then.
    pub fn transfer(&mut self, from: Seat, to: Seat, now: Moment) -> Result<(), Fault> {
        self.queue.transfer(from, to, now)
    }

    /// A leased server comes back, clean.
    pub fn check_in(&mut self, seat: Seat, pooled: Pooled<S>, now: Moment) {
        self.leased = self.leased.saturating_sub(1);
        self.queue.release(seat);
        self.take_in(pooled, now);
    }

    /// A leased server was closed.
    pub fn discarded(&mut self, seat: Seat, now: Moment) {
        self.leased = self.leased.saturating_sub(1);
        self.queue.release(seat);
        self.dispatch(now);
    }

    /// A leased server is to stay with its client beyond its transaction.
    ///
    /// # Errors
    /// As many do as may.
    pub fn pin(&mut self) -> Result<(), Fault> {
        let most = self.limits.pins_max.unwrap_or(usize::MAX);
        if self.pinned >= most {
            let detail = format!("{} of {most} servers stay with their clients already.", self.pinned);
            return Err(Fault::of(Code::PoolPins).with_detail(detail));
        }
        self.pinned += 1;
        Ok(())
    }

    /// It does not stay any more.
    pub fn unpin(&mut self) {
        self.pinned = self.pinned.saturating_sub(1);
    }

    /// A server was connected.
    pub fn connected(&mut self, pooled: Pooled<S>, now: Moment) {
        self.connecting = self.connecting.saturating_sub(1);
        self.failures = 0;
        self.retry_at = None;
        self.take_in(pooled, now);
    }

    /// A server could not be connected. Where the pool has no server at all, those who wait are told.
    pub fn connect_failed(&mut self, fault: &Fault, now: Moment) {
        self.connecting = self.connecting.saturating_sub(1);
        let pause = BACKOFF_FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(16);
        self.retry_at = Some(now.after(pause.min(self.limits.connect_backoff_max)));
        if self.total() == 0 && !self.is_held() {
            self.refuse_all(fault);
        }
    }

    /// Time has passed: waits that took too long, servers too old or idle for too long, attempts that are due.
    pub fn sweep(&mut self, now: Moment) {
        self.queue.sweep(now);
        while !self.is_held()
            && let Some((waiter, held_back)) = self.queue.pop_late(now, self.limits.wait_timeout, self.resumed_at)
        {
            let fault = held_back.unwrap_or_else(|| self.wait_fault());
            self.actions.push_back(Action::Refuse { waiter, fault });
        }
        self.retire_idle(now);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        self.dispatch(now);
    }

    /// No more servers are lent to newcomers, and none is kept.
    pub fn close(&mut self) {
        self.is_closing = true;
        for idle in self.idle.drain(..) {
            self.actions.push_back(Action::Close(idle.pooled.server));
        }
        self.refuse_all(&Fault::of(Code::ShuttingDown));
    }

    /// The most recently used one that suits, or else the most recently used one.
    fn take_idle(&mut self, suits: impl Fn(&S) -> bool) -> Option<Idle<S>> {
        let looked_at = self.idle.iter().enumerate().rev().take(LOOKED_AT_MAX);
        let mut suitable = looked_at.filter(|(_, idle)| suits(&idle.pooled.server)).map(|(index, _)| index);
        match suitable.next() {
            Some(index) => Some(self.idle.remove(index)),
            None => self.idle.pop(),
        }
    }

    fn refuse_all(&mut self, fault: &Fault) {
        while let Some(waiter) = self.queue.pop_any() {
            self.actions.push_back(Action::Refuse { waiter, fault: fault.clone() });
        }
    }

    /// Servers that may be lent, those included that would have to be connected first.
    fn free(&self) -> usize {
        self.limits.size.saturating_sub(self.leased)
    }

    /// Gives idle servers to those who are next, and connects more where that does not do.
    fn dispatch(&mut self, now: Moment) {
        while !self.idle.is_empty()
            && let Some(waiter) = self.queue.pop_next(self.free())
            && let Some(idle) = self.idle.pop()
        {
            self.leased += 1;
            let check = self.check(&idle, now);
            self.actions.push_back(Action::Grant { waiter, pooled: idle.pooled, check });
        }
        self.connect_if_wanted(now);
    }

    fn wait_fault(&self) -> Fault {
        let counts = self.counts();
        Fault::of(Code::WaitTimeout).with_detail(format!(
            "Waited {} ms; {} of {} servers are in use.",
            self.limits.wait_timeout.as_millis(),
            counts.leased,
            self.limits.size
        ))
    }

    fn take_in(&mut self, pooled: Pooled<S>, now: Moment) {
        let is_old = self.is_old(pooled.connected_at, now);
        if self.is_closing || self.is_held() || is_old || self.total() >= self.limits.size {
            self.actions.push_back(Action::Close(pooled.server));
        } else {
            self.idle.push(Idle { pooled, since: now });
        }
        self.dispatch(now);
    }

    fn total(&self) -> usize {
        self.idle.len() + self.leased + self.connecting
    }

    /// Whether a server is not used again: by its age, or because all are being replaced.
    fn is_old(&self, connected_at: Moment, now: Moment) -> bool {
        is_older(connected_at, self.renewed_at, self.limits.server_lifetime, now)
    }

    fn check(&self, idle: &Idle<S>, now: Moment) -> Check {
        match now.since(idle.since) {
            Duration::ZERO => Check::Nothing,
            since if since > self.limits.server_check_delay => Check::Life,
            _ => Check::Silence,
        }
    }

    /// As many attempts as somebody waits for (or the minimum wants) and the size allows; after a failure
    /// one at a time, when the pause is over.
    fn connect_if_wanted(&mut self, now: Moment) {
        if self.is_closing || self.is_held() || self.retry_at.is_some_and(|at| at > now) {
            return;
        }
        let attempts_max = if self.failures > 0 { 1 } else { self.limits.size };
        while self.connecting < attempts_max && self.total() < self.limits.size && self.wants_more() {
            self.connecting += 1;
            self.actions.push_back(Action::Connect);
        }
    }

    fn wants_more(&self) -> bool {
        let has_none_idle = self.idle.is_empty() && self.queue.ready_count() > self.connecting;
        has_none_idle || self.total() < self.limits.size_min
    }

    fn retire_idle(&mut self, now: Moment) {
        let mut kept = Vec::with_capacity(self.idle.len());
        let mut left = self.total();
        let (renewed_at, lifetime) = (self.renewed_at, self.limits.server_lifetime);
        for idle in self.idle.drain(..) {
            let is_old = is_older(idle.pooled.connected_at, renewed_at, lifetime, now);
            let is_surplus = left > self.limits.size
                || now.since(idle.since) > self.limits.server_idle_timeout && left > self.limits.size_min;
            if is_old || is_surplus {
                left = left.saturating_sub(1);
                self.actions.push_back(Action::Close(idle.pooled.server));
            } else {
                kept.push(idle);
            }
        }
        self.idle = kept;
    }
}

fn is_older(connected_at: Moment, renewed_at: Option<Moment>, lifetime: Duration, now: Moment) -> bool {
    renewed_at.is_some_and(|at| connected_at <= at) || now.since(connected_at) > lifetime
}

#[cfg(test)]
mod fairness_tests;

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn limits() -> PoolLimits {
        PoolLimits {
            size: 2,
            size_min: 0,
            wait_timeout: Duration::from_secs(5),
            waiting_max: 3,
            server_lifetime: Duration::from_secs(3600),
            server_idle_timeout: Duration::from_secs(60),
            server_check_delay: Duration::from_secs(30),
            pins_max: None,
            connect_backoff_max: Duration::from_secs(1),
        }
    }

    pub(super) fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    pub(super) fn pooled(server: u32, seconds: u64) -> Pooled<u32> {
        Pooled { server, connected_at: at(seconds) }
    }

    pub(super) fn seat(pool: &mut Pool<u32, &'static str>) -> Seat {
        let membership = Admission::new(Limits::default()).admit(None, &"app".into()).unwrap();
        pool.join(&membership)
    }

    pub(super) fn words(pool: &mut Pool<u32, &'static str>) -> Vec<String> {
        std::iter::from_fn(|| pool.poll_action())
            .map(|action| match action {
                Action::Grant { waiter, pooled, .. } => format!("grant {} to {waiter}", pooled.server),
                Action::Refuse { waiter, fault } => {
                    format!("refuse {waiter} {} {}", fault.code.unwrap().row().name, fault.sqlstate.as_str())
                }
                Action::Connect => "connect".to_owned(),
                Action::Close(server) => format!("close {server}"),
            })
            .collect()
    }

    #[test]
    fn servers_are_connected_as_wanted_and_served_in_order() {
        let mut pool = Pool::new(limits(), Fairness::Tenants);
        let seat = seat(&mut pool);
        for name in ["a", "b", "c"] {
            assert!(matches!(pool.request(seat, at(0), || name), Requested::Queued(_)));
        }
        assert!(matches!(pool.request(seat, at(0), || "d"), Requested::Refused(_)));
        assert_eq!(words(&mut pool), ["connect", "connect"]);
        pool.connected(pooled(1, 0), at(0));
        pool.connected(pooled(2, 0), at(0));
        assert_eq!(words(&mut pool), ["grant 1 to a", "grant 2 to b"]);
        pool.check_in(seat, pooled(2, 0), at(1));
        assert_eq!(words(&mut pool), ["grant 2 to c"]);
        pool.check_in(seat, pooled(1, 0), at(1));
        assert!(matches!(pool.request(seat, at(2), || "e"), Requested::Granted { check: Check::Silence, .. }));
        pool.check_in(seat, pooled(1, 0), at(2));
        assert!(matches!(pool.request(seat, at(40), || "e"), Requested::Granted { check: Check::Life, .. }));
    }

    /// A wait may end because another server is gone, not because this one is back.
    #[test]
    fn a_server_that_was_idle_is_looked_at_whoever_gets_it() {
        let quota = Quota { leases_max: Some(1), ..Quota::default() };
        let membership = Admission::new(Limits { login: quota, ..Limits::default() }).admit(None, &"app".into());
        let mut pool: Pool<u32, &str> = Pool::new(PoolLimits { size_min: 2, ..limits() }, Fairness::Tenants);
        let seat = pool.join(&membership.unwrap());
        pool.sweep(at(0));
        assert_eq!(words(&mut pool), ["connect", "connect"]);
        pool.connected(pooled(1, 0), at(1));
        pool.connected(pooled(2, 0), at(1));
        for (moment, check) in [(1, Check::Nothing), (2, Check::Silence), (33, Check::Life)] {
            assert!(matches!(pool.request(seat, at(1), || "a"), Requested::Granted { check: Check::Silence, .. }));
            assert!(matches!(pool.request(seat, at(1), || "b"), Requested::Queued(_)));
            pool.discarded(seat, at(moment));
            let granted = std::iter::from_fn(|| pool.poll_action()).find_map(|action| match action {
                Action::Grant { check, .. } => Some(check),
                Action::Refuse { .. } | Action::Connect | Action::Close(_) => None,
            });
            assert_eq!(granted, Some(check), "{moment}");
            pool.discarded(seat, at(moment));
            pool.connected(pooled(3, 0), at(1));
            pool.connected(pooled(4, 0), at(1));
            words(&mut pool);
        }
    }

    #[test]
    fn a_wait_ends_in_time_and_a_waiter_may_give_up() {
        let mut pool: Pool<u32, &str> = Pool::new(limits(), Fairness::Tenants);
        let seat = seat(&mut pool);
        let Requested::Queued(ticket) = pool.request(seat, at(0), || "a") else { panic!("no ticket") };
        assert!(matches!(pool.request(seat, at(1), || "b"), Requested::Queued(_)));
        words(&mut pool);
        assert_eq!(pool.give_up(ticket), Some("a"));
        pool.sweep(Moment::from_micros(5_999_999));
        assert_eq!(words(&mut pool), Vec::<String>::new(), "a moment too early");
        pool.sweep(at(6));
        assert_eq!(words(&mut pool), ["refuse b TG050 53300"]);
    }

    #[test]
    fn failed_connects_are_told_and_retried_after_a_pause() {
        let mut pool: Pool<u32, &str> = Pool::new(limits(), Fairness::Tenants);
        let seat = seat(&mut pool);
        assert!(matches!(pool.request(seat, at(0), || "a"), Requested::Queued(_)));
        assert_eq!(words(&mut pool), ["connect"]);
        pool.connect_failed(&Fault::of(Code::ServerUnreachable), at(0));
        assert_eq!(words(&mut pool), ["refuse a TG052 08006"]);
        assert!(matches!(pool.request(seat, at(0), || "b"), Requested::Queued(_)));
        assert_eq!(words(&mut pool), Vec::<String>::new());
        pool.sweep(at(1));
        assert_eq!(words(&mut pool), ["connect"]);
    }

    #[test]
    fn old_and_idle_servers_are_retired_down_to_the_minimum() {
        let mut pool: Pool<u32, &str> = Pool::new(PoolLimits { size_min: 1, ..limits() }, Fairness::Tenants);
        let seat = seat(&mut pool);
        pool.sweep(at(0));
        assert_eq!(words(&mut pool), ["connect"]);
        pool.connected(pooled(1, 0), at(0));
        assert!(matches!(pool.request(seat, at(0), || "a"), Requested::Granted { .. }));
        assert!(matches!(pool.request(seat, at(0), || "b"), Requested::Queued(_)));
        pool.connected(pooled(2, 0), at(0));
        words(&mut pool);
        pool.check_in(seat, pooled(1, 0), at(1));
        pool.check_in(seat, pooled(2, 0), at(1));
        pool.sweep(at(100));
        assert_eq!(words(&mut pool), ["close 1"]);
        pool.sweep(at(3700));
        assert_eq!(words(&mut pool), ["close 2", "connect"]);
    }

    #[test]
    fn a_discarded_server_makes_room_for_one_who_waits() {
        let mut pool: Pool<u32, &str> = Pool::new(PoolLimits { size: 1, ..limits() }, Fairness::Tenants);
        let seat = seat(&mut pool);
        assert!(matches!(pool.request(seat, at(0), || "a"), Requested::Queued(_)));
        pool.connected(pooled(1, 0), at(0));
        assert!(matches!(pool.request(seat, at(0), || "b"), Requested::Queued(_)));
        words(&mut pool);
        pool.discarded(seat, at(1));
        assert_eq!(words(&mut pool), ["connect"]);
    }

    #[test]
    fn a_server_that_suits_comes_first_and_none_is_made_to_wait_for() {
        let mut pool = Pool::new(PoolLimits { size: 3, ..limits() }, Fairness::default());
        let seat = seat(&mut pool);
        for _ in 0..3 {
            assert!(matches!(pool.request(seat, at(0), || "a"), Requested::Queued(_)));
        }
        for server in 1..=3 {
            pool.connected(pooled(server, 0), at(0));
            assert!(!words(&mut pool).is_empty());
        }
        (1..=3).for_each(|server| pool.check_in(seat, pooled(server, 0), at(1)));
        let mut granted = |wanted: u32| match pool.request_one(seat, at(1), |server| *server == wanted, || "b") {
            Requested::Granted { pooled, .. } => pooled.server,
            Requested::Queued(_) | Requested::Refused(_) => panic!("idle servers are lent"),
        };
        assert_eq!([granted(1), granted(9), granted(9)], [1, 3, 2]);
    }
}
