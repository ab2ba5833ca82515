//! What one session tells the proxy's counters and its list of refusals.
//!
//! Owns: looking at the clock as seldom as the [`Meter`] needs, and nothing else on the way of a transaction.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::clock::Clock;
use super::handshake::HandshakeFault;
use super::registry::{ClientFacts, ClientSlot};
use crate::admin::{Denial, DenialRow, Denials, Observations};
use crate::auth::PeerAddress;
use crate::fault::Code;
use crate::guard::Observed;
use crate::metrics::{Meter, Metrics, MetricsSettings, ShardNumber, Tally};
use crate::session::{CloseReason, Session};
use crate::tenant::TenantId;
use crate::time::Moment;

/// Numbers given to threads.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Never given twice, so a thread is alone in its shard.
    static SHARD: ShardNumber = ShardNumber::of_thread(THREADS.fetch_add(1, Ordering::Relaxed));
}

fn shard() -> ShardNumber {
    SHARD.with(|shard| *shard)
}

/// Of a user name that nobody has proven, so much is remembered: PostgreSQL's own limit.
const USER_CHARS_MAX: usize = 63;

/// Everything that is counted and remembered, shared by all.
#[derive(Clone, Debug)]
pub struct Gauge {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The latest refusals.
    pub denials: Arc<Denials>,
    /// What would have been refused.
    pub observations: Arc<Observations>,
    /// The clock.
    pub clock: Clock,
}

impl Gauge {
    /// Nothing counted yet.
    #[must_use]
    pub fn new(settings: MetricsSettings, clock: Clock) -> Self {
        Self {
            metrics: Arc::new(Metrics::new(settings, clock.now())),
            denials: Arc::default(),
            observations: Arc::default(),
            clock,
        }
    }

    /// A session has begun.
    pub fn logged_in(&self, accepted_at: Moment) {
        let taken = self.clock.now().since(accepted_at);
        self.metrics.logged_in(u64::try_from(taken.as_micros()).unwrap_or(u64::MAX));
    }

    /// A client got no session.
    pub fn turned_away(&self, fault: &HandshakeFault, address: PeerAddress) {
        let (code, user) = match fault {
            HandshakeFault::Refused(fault) => (fault.reply().and_then(|reply| reply.code), fault.user()),
            HandshakeFault::Timeout(_) => (Some(Code::LoginTimeout), None),
            HandshakeFault::TooManyClients => (Some(Code::TooManyClients), None),
            HandshakeFault::Left | HandshakeFault::Io(_) | HandshakeFault::Tls(_) | HandshakeFault::Random => return,
        };
        if let Some(code) = code {
            let login: String = user.unwrap_or_default().chars().take(USER_CHARS_MAX).collect();
            self.refused(code, Denial::of(&login.into(), None, address), "login");
        }
    }

    /// Something was not refused, as refusals are only observed.
    pub fn observed(&self, facts: &ClientFacts, observed: Observed, sql: &[u8]) {
        self.metrics.observed(observed.code);
        self.observations.count(&facts.login, observed, sql, self.clock.now());
    }

    /// Something was refused to somebody.
    pub fn refused(&self, code: Code, who: Denial, class: &'static str) {
        self.metrics.refused(code);
        self.denials.push(DenialRow { at: self.clock.now(), who, code, class });
    }
}

/// One session's part in it. Small: an idle client has one, too.
#[derive(Debug)]
pub struct SessionGauge {
    meter: Meter,
}

impl SessionGauge {
    /// For a session of this client.
    #[must_use]
    pub fn new(shared: &Gauge, facts: &ClientFacts) -> Self {
        let tenant = facts.tenant().map(|tenant| shared.metrics.tenants().join(tenant));
        Self { meter: Meter::new(shared.metrics.database(&facts.database), tenant) }
    }

    /// What follows is this tenant's.
    pub fn on_acting(&mut self, shared: &Gauge, tenant: Option<&TenantId>, tally: &mut Tally) {
        self.meter.change(tenant.map(|tenant| shared.metrics.tenants().join(tenant)), tally, shard());
    }

    /// A server is asked for.
    pub const fn on_asked(&mut self, now: Moment) {
        self.meter.asked(now);
    }

    /// The answer to a wait has come: what was asked at once needs no second look at the clock.
    pub fn on_waited(&mut self, clock: &Clock) {
        self.meter.waited(clock.now());
    }

    /// A server is taken.
    pub fn on_leased(&mut self) {
        self.meter.leased();
    }

    /// None is wanted any more.
    pub const fn on_gave_up(&mut self) {
        self.meter.gave_up();
    }

    /// Something was written to the server.
    pub fn on_server_written(&mut self, clock: &Clock) {
        if self.meter.is_quiet() {
            self.meter.sent(clock.now());
        }
    }

    /// Something was read from the server, and handled.
    pub fn on_server_read(&mut self, session: &mut Session, clock: &Clock) {
        let owes = session.owes_replies();
        if self.meter.wants_answer(owes, session.tally_mut()) {
            self.meter.answered(clock.now(), owes, session.tally_mut());
        }
    }

    /// The server goes back or is closed.
    pub fn on_returned(&mut self, tally: &mut Tally, clock: &Clock) {
        self.meter.returned(|| clock.now(), tally, shard());
    }

    /// Something was refused.
    pub fn on_refused(&self, shared: &Gauge, slot: &ClientSlot, code: Code, class: &'static str) {
        self.meter.refused();
        let facts = slot.facts();
        shared.refused(code, Denial::of(&facts.login, slot.tenant().as_ref(), facts.address), class);
    }

    /// The session is over.
    pub fn on_end(&mut self, shared: &Gauge, reason: CloseReason, tally: &mut Tally) {
        self.meter.flush(tally, shard());
        shared.metrics.endings.count(reason.words());
    }
}
