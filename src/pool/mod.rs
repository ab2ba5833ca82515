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
//! [`Action`]s. The tenant is no part of it: sharing servers between tenants is what the proxy is for.

mod control;

use std::collections::VecDeque;
use std::time::Duration;

pub use control::Hold;

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
    /// Longest pause between attempts to connect.
    pub connect_backoff_max: Duration,
}

/// First pause after a failed attempt to connect; doubled with each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);

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

#[derive(Debug)]
struct Waiting<W> {
    ticket: Ticket,
    waiter: W,
    since: Moment,
}

/// One wait, to be given up by its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket(u64);

/// Something the driver has to do for the pool.
#[derive(Debug)]
pub enum Action<S, W> {
    /// Give this server to that waiter. `needs_check`: it was idle for long.
    Grant {
        /// Who gets it.
        waiter: W,
        /// What it gets.
        pooled: Pooled<S>,
        /// Whether a sign of life is wanted first.
        needs_check: bool,
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
        /// Whether a sign of life is wanted first.
        needs_check: bool,
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
    waiting: VecDeque<Waiting<W>>,
    leased: usize,
    connecting: usize,
    next_ticket: u64,
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
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            idle: Vec::new(),
            waiting: VecDeque::new(),
            leased: 0,
            connecting: 0,
            next_ticket: 0,
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
            connecting: self.connecting,
            waiting: self.waiting.len(),
        }
    }

    /// Asks for a server. `waiter` is made only if it has to wait.
    pub fn request(&mut self, now: Moment, waiter: impl FnOnce() -> W) -> Requested<S> {
        if self.waiting.is_empty()
            && let Some(idle) = self.idle.pop()
        {
            self.leased += 1;
            let needs_check = self.needs_check(&idle, now);
            return Requested::Granted { pooled: idle.pooled, needs_check };
        }
        if self.is_closing {
            return Requested::Refused(Fault::of(Code::ShuttingDown));
        }
        if self.waiting.len() >= self.limits.waiting_max {
            return Requested::Refused(Fault::of(Code::QueueFull));
        }
        let ticket = Ticket(self.next_ticket);
        self.next_ticket = self.next_ticket.wrapping_add(1);
        self.waiting.push_back(Waiting { ticket, waiter: waiter(), since: now });
        self.connect_if_wanted(now);
        Requested::Queued(ticket)
    }

    /// A waiter gave up.
    pub fn give_up(&mut self, ticket: Ticket) {
        self.waiting.retain(|waiting| waiting.ticket != ticket);
    }

    /// A leased server comes back, clean.
    pub fn check_in(&mut self, pooled: Pooled<S>, now: Moment) {
        self.leased = self.leased.saturating_sub(1);
        self.take_in(pooled, now);
    }

    /// A leased server was closed.
    pub fn discarded(&mut self, now: Moment) {
        self.leased = self.leased.saturating_sub(1);
        self.connect_if_wanted(now);
    }

    /// A server was connected.
    pub fn connected(&mut self, pooled: Pooled<S>, now: Moment) {
        self.connecting = self.connecting.saturating_sub(1);
        self.failures = 0;
        self.retry_at = None;
        self.take_in(pooled, now);
        self.connect_if_wanted(now);
    }

    /// A server could not be connected. Where the pool has no server at all, those who wait are told.
    pub fn connect_failed(&mut self, fault: &Fault, now: Moment) {
        self.connecting = self.connecting.saturating_sub(1);
        let pause = BACKOFF_FIRST.saturating_mul(1_u32.checked_shl(self.failures).unwrap_or(u32::MAX));
        self.failures = self.failures.saturating_add(1).min(16);
        self.retry_at = Some(now.after(pause.min(self.limits.connect_backoff_max)));
        if self.total() == 0 && !self.is_held() {
            for waiting in self.waiting.drain(..) {
                self.actions.push_back(Action::Refuse { waiter: waiting.waiter, fault: fault.clone() });
            }
        }
    }

    /// Time has passed: waits that took too long, servers too old or idle for too long, attempts that are due.
    pub fn sweep(&mut self, now: Moment) {
        while let Some(front) = self.waiting.front() {
            if self.is_held() || self.waited(front.since, now) < self.limits.wait_timeout {
                break;
            }
            let Some(late) = self.waiting.pop_front() else { break };
            self.actions.push_back(Action::Refuse { waiter: late.waiter, fault: self.wait_fault() });
        }
        self.retire_idle(now);
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        self.connect_if_wanted(now);
    }

    /// When [`Pool::sweep`] is needed at the latest for those who wait.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Moment> {
        let front = self.waiting.front().filter(|_| !self.is_held())?;
        Some(front.since.max(self.resumed_at).after(self.limits.wait_timeout))
    }

    /// No more servers are lent to newcomers, and none is kept.
    pub fn close(&mut self) {
        self.is_closing = true;
        for idle in self.idle.drain(..) {
            self.actions.push_back(Action::Close(idle.pooled.server));
        }
        for waiting in self.waiting.drain(..) {
            self.actions.push_back(Action::Refuse { waiter: waiting.waiter, fault: Fault::of(Code::ShuttingDown) });
        }
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
            self.connect_if_wanted(now);
            return;
        }
        match self.waiting.pop_front() {
            Some(first) => {
                self.leased += 1;
                self.actions.push_back(Action::Grant { waiter: first.waiter, pooled, needs_check: false });
            }
            None => self.idle.push(Idle { pooled, since: now }),
        }
    }

    fn total(&self) -> usize {
        self.idle.len() + self.leased + self.connecting
    }

    /// Whether a server is not used again: by its age, or because all are being replaced.
    fn is_old(&self, connected_at: Moment, now: Moment) -> bool {
        is_older(connected_at, self.renewed_at, self.limits.server_lifetime, now)
    }

    fn needs_check(&self, idle: &Idle<S>, now: Moment) -> bool {
        now.since(idle.since) > self.limits.server_check_delay
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
        self.waiting.len() > self.connecting || self.total() < self.limits.size_min
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
mod tests {
    use super::*;

    fn limits() -> PoolLimits {
        PoolLimits {
            size: 2,
            size_min: 0,
            wait_timeout: Duration::from_secs(5),
            waiting_max: 3,
            server_lifetime: Duration::from_secs(3600),
            server_idle_timeout: Duration::from_secs(60),
            server_check_delay: Duration::from_secs(30),
            connect_backoff_max: Duration::from_secs(1),
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_micros(seconds * 1_000_000)
    }

    fn pooled(server: u32, seconds: u64) -> Pooled<u32> {
        Pooled { server, connected_at: at(seconds) }
    }

    fn words(pool: &mut Pool<u32, &'static str>) -> Vec<String> {
        std::iter::from_fn(|| pool.poll_action())
            .map(|action| match action {
                Action::Grant { waiter, pooled, .. } => format!("grant {} to {waiter}", pooled.server),
                Action::Refuse { waiter, fault } => format!("refuse {waiter} {}", fault.sqlstate.as_str()),
                Action::Connect => "connect".to_owned(),
                Action::Close(server) => format!("close {server}"),
            })
            .collect()
    }

    #[test]
    fn servers_are_connected_as_wanted_and_served_in_order() {
        let mut pool = Pool::new(limits());
        for name in ["a", "b", "c"] {
            assert!(matches!(pool.request(at(0), || name), Requested::Queued(_)));
        }
        assert!(matches!(pool.request(at(0), || "d"), Requested::Refused(_)));
        assert_eq!(words(&mut pool), ["connect", "connect"]);
        pool.connected(pooled(1, 0), at(0));
        pool.connected(pooled(2, 0), at(0));
        assert_eq!(words(&mut pool), ["grant 1 to a", "grant 2 to b"]);
        pool.check_in(pooled(2, 0), at(1));
        assert_eq!(words(&mut pool), ["grant 2 to c"]);
        pool.check_in(pooled(1, 0), at(1));
        assert!(matches!(pool.request(at(2), || "e"), Requested::Granted { needs_check: false, .. }));
        pool.check_in(pooled(1, 0), at(2));
        assert!(matches!(pool.request(at(40), || "e"), Requested::Granted { needs_check: true, .. }));
    }

    #[test]
    fn a_wait_ends_in_time_and_a_waiter_may_give_up() {
        let mut pool: Pool<u32, &str> = Pool::new(limits());
        let Requested::Queued(ticket) = pool.request(at(0), || "a") else { panic!("no ticket") };
        assert!(matches!(pool.request(at(1), || "b"), Requested::Queued(_)));
        words(&mut pool);
        pool.give_up(ticket);
        assert_eq!(pool.next_timeout(), Some(at(6)));
        pool.sweep(at(5));
        assert_eq!(words(&mut pool), Vec::<String>::new());
        pool.sweep(at(6));
        assert_eq!(words(&mut pool), ["refuse b 53300"]);
    }

    #[test]
    fn failed_connects_are_told_and_retried_after_a_pause() {
        let mut pool: Pool<u32, &str> = Pool::new(limits());
        assert!(matches!(pool.request(at(0), || "a"), Requested::Queued(_)));
        assert_eq!(words(&mut pool), ["connect"]);
        pool.connect_failed(&Fault::of(Code::ServerUnreachable), at(0));
        assert_eq!(words(&mut pool), ["refuse a 08006"]);
        assert!(matches!(pool.request(at(0), || "b"), Requested::Queued(_)));
        assert_eq!(words(&mut pool), Vec::<String>::new());
        pool.sweep(at(1));
        assert_eq!(words(&mut pool), ["connect"]);
    }

    #[test]
    fn old_and_idle_servers_are_retired_down_to_the_minimum() {
        let mut pool: Pool<u32, &str> = Pool::new(PoolLimits { size_min: 1, ..limits() });
        pool.sweep(at(0));
        assert_eq!(words(&mut pool), ["connect"]);
        pool.connected(pooled(1, 0), at(0));
        assert!(matches!(pool.request(at(0), || "a"), Requested::Granted { .. }));
        assert!(matches!(pool.request(at(0), || "b"), Requested::Queued(_)));
        pool.connected(pooled(2, 0), at(0));
        words(&mut pool);
        pool.check_in(pooled(1, 0), at(1));
        pool.check_in(pooled(2, 0), at(1));
        pool.sweep(at(100));
        assert_eq!(words(&mut pool), ["close 1"]);
        pool.sweep(at(3700));
        assert_eq!(words(&mut pool), ["close 2", "connect"]);
    }

    #[test]
    fn a_discarded_server_makes_room_for_one_who_waits() {
        let mut pool: Pool<u32, &str> = Pool::new(PoolLimits { size: 1, ..limits() });
        assert!(matches!(pool.request(at(0), || "a"), Requested::Queued(_)));
        pool.connected(pooled(1, 0), at(0));
        assert!(matches!(pool.request(at(0), || "b"), Requested::Queued(_)));
        words(&mut pool);
        pool.discarded(at(1));
        assert_eq!(words(&mut pool), ["connect"]);
    }
}
